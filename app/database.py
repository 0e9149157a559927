"""The one way to PostgreSQL: sessions for whole transactions, and single calls on the bare driver for hot paths."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.config import Settings
from app.errors import Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

MINIMUM_VERSION = 150000
SESSION_SETTINGS = {
    "application_name": "pain-diary",
    "jit": "off",  # every statement is short
    "plan_cache_mode": "force_generic_plan",  # and planned once: making a plan anew costs more than its best one saves
    "lock_timeout": "1400ms",  # after a wait for a connection: a refusal comes within three seconds
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "15s",
    "timezone": "UTC",
}
# Classes of SQLSTATE that say "not now": connection, resources (a full disk too), operator, system, and single
# codes for deadlock, serialisation, lock and statement timeout, read-only server.
PASSING = ("08", "53", "57", "58", "40P01", "40001", "55P03", "25006", "25P03")


class Database:
    """An engine for plain SQLAlchemy and a pool of bare driver connections, both as the serving role."""

    def __init__(self, settings: Settings) -> None:
        if settings.database_url is None:
            raise ValueError("DIARY_DATABASE_URL is not set and no embedded database was started")
        self.settings = settings
        self._url = settings.database_url.get_secret_value()
        self._connecting: dict[str, Any] = {
            "server_settings": SESSION_SETTINGS,
            "timeout": settings.database_wait_seconds,
        }
        self.engine = make_engine(
            self._url,
            self._connecting,
            pool_size=settings.database_pool_size,
            max_overflow=0,
            pool_timeout=settings.database_wait_seconds,
            pool_pre_ping=True,
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def start(self) -> None:
        """Opens the pool and refuses a server whose settings could lose what it acknowledged."""
        self._pool = await asyncpg.create_pool(
            driver_url(self._url),
            min_size=1,
            max_size=self.settings.database_pool_size,
            reset=_keep,
            **self._connecting,
        )
        try:
            await self._refuse_weakness()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Closes every connection, after the calls in flight."""
        if self._pool is not None:
            await self._pool.close()
        await self.engine.dispose()

    async def call(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one statement, which is its own transaction: durable once this returns."""
        assert self._pool is not None, "start() comes first"  # noqa: S101
        with passing_failures():
            async with self._pool.acquire(timeout=self.settings.database_wait_seconds) as connection:
                try:
                    return await connection.fetch(statement, *arguments)
                except BaseException:
                    connection.terminate()  # it may stand half-way through the protocol, and nothing resets it
                    raise

    @asynccontextmanager
    async def open_session(self) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: committed when the block ends, rolled back when it raises."""
        with passing_failures():
            async with self._sessions.begin() as session:
                yield session

    async def ready(self) -> bool:
        """Whether the database answers."""
        try:
            await self.call("SELECT 1")
        except Unavailable:
            return False
        return True

    async def _refuse_weakness(self) -> None:
        [row] = await self.call(
            "SELECT current_setting('server_version_num')::int AS version,"
            " current_setting('synchronous_commit') AS durability, current_setting('fsync') AS fsync,"
            # What it is, and whatever it could become by SET ROLE.
            " (SELECT bool_or(rolsuper OR rolbypassrls OR rolcreaterole OR rolname = 'diary_owner')"
            " FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')) AS mighty"
        )
        if row["version"] < MINIMUM_VERSION:
            raise RuntimeError("PostgreSQL 15 or newer is needed")
        if row["durability"] == "off" or row["fsync"] == "off":
            raise RuntimeError("synchronous_commit and fsync must be on: an acknowledged entry must survive a crash")
        if row["mighty"]:
            raise RuntimeError("the serving role must be a plain member of diary_app, not an owner or superuser")


@contextmanager
def passing_failures() -> Iterator[None]:
    """Turns a failure that will pass (no connection, no room, a time-out) into Unavailable; lets others through."""
    try:
        yield
    except (PoolTimeout, TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as failure:
        if isinstance(failure, ValueError):  # a URL that asyncpg cannot read, say: it would not pass
            raise
        raise Unavailable(retry_after=2) from failure
    except DBAPIError as failure:
        passing = failure.connection_invalidated or passes(getattr(failure.orig, "sqlstate", None))
        if passing or unaudited(failure):
            raise Unavailable(retry_after=2) from failure
        raise
    except asyncpg.PostgresError as failure:
        if passes(failure.sqlstate) or unaudited(failure):
            raise Unavailable(retry_after=2) from failure
        raise


def unaudited(failure: Exception) -> bool:
    """Whether it was the audit row that could not be written: then nothing is done or shown, until it can."""
    return "audit_events" in str(getattr(failure, "orig", failure))


def passes(sqlstate: str | None) -> bool:
    """Whether a SQLSTATE names a condition that ends by itself."""
    return sqlstate is not None and sqlstate.startswith(PASSING)


def driver_url(url: str) -> str:
    """The URL as asyncpg takes it."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def make_engine(url: str, connecting: dict[str, Any] | None = None, **options: Any) -> AsyncEngine:
    """An engine that leaves the URL to asyncpg: `?sslmode=` and the like mean the same wherever we connect."""
    connect = partial(asyncpg.connect, driver_url(url), **(connecting or {}))
    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **options)


@asynccontextmanager
async def owner_transaction(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction of its own for what an operator does, over a connection that nobody else has."""
    async with make_engine(url, poolclass=NullPool).begin() as connection:
        yield connection


def alembic_config(url: str) -> "Config":
    """Alembic's configuration for one database."""
    from alembic.config import Config  # a worker that serves does without: a tenth of its memory and of its start

    config = Config(Path(__file__).parent.parent / "alembic.ini")
    config.attributes["url"] = url
    return config


def migrate(url: str) -> None:
    """Brings the database to the newest migration."""
    from alembic import command

    command.upgrade(alembic_config(url), "head")


async def _keep(connection: Any) -> None:
    """Resets nothing between calls: each is one statement, and what it sets is local to it."""
