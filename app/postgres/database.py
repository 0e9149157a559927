"""The one way to PostgreSQL: SQLAlchemy for whole transactions, and single calls on the bare driver for hot paths."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import CursorResult, ExceptionContext, NullPool, QueuePool, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.config import Settings
from app.errors import Unavailable
from app.postgres import connections
from app.postgres.clock import Clock
from app.postgres.functions import Call
from app.postgres.group_commit import GroupCommit, Tally

MINIMUM_VERSION = 150000
# The client's own end of waiting, for a statement whose time-out on the server will not arrive: the connection is lost,
# or the server stands still. A good-bye has one of its own, so a refusal comes within six seconds.
STATEMENT_SECONDS = 4.5
CLOSE_SECONDS = 1.0
CLOCK_SECONDS = 60  # how often the database is asked for its time
REPLICA_REST_SECONDS = 5  # after a replica did not answer
SESSION_SETTINGS = {
    "application_name": "pain-diary",
    "jit": "off",  # every statement is short
    "plan_cache_mode": "force_generic_plan",  # and planned once: making a plan anew costs more than its best one saves
    "lock_timeout": "1400ms",  # after a wait for a connection: a refusal comes within three seconds
    "statement_timeout": "4s",
    "client_connection_check_interval": "1s",  # nobody waits for what a call does that was broken off
    "idle_in_transaction_session_timeout": "15s",
    # What a lost connection holds, the server lets go of too.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15s",
    "timezone": "UTC",
}
GROUP_SETTINGS = {"statement_timeout": "500ms"}  # others wait for it; whoever takes longer goes alone, with more time
# Classes of SQLSTATE that say "not now": connection, resources (a full disk too), operator, system, and single
# codes for deadlock, serialisation, lock and statement timeout, read-only server.
PASSING = ("08", "53", "57", "58", "40P01", "40001", "55P03", "25006", "25P03")
FATAL = ("FATAL", "PANIC")  # the connection ends with it
IN_AUDIT = "audit(uuid,"  # in an error's context: the words around it are in the language of the server


class CannotServe(RuntimeError):
    """The database is not one to serve from; the text says why in one sentence."""


class Connection(asyncpg.Connection):
    """A connection that is closed soon, whether or not the other side still says good-bye."""

    __slots__ = ()

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as asyncpg has it
        """Ends it after a second at the latest, whatever time is given."""
        with suppress(TimeoutError):  # then it is aborted
            await super().close(timeout=CLOSE_SECONDS if timeout is None else min(timeout, CLOSE_SECONDS))


class Statements:
    """Single statements on the bare driver, over so many connections, each its own transaction."""

    def __init__(self, url: str, settings: Settings, connections: int, connecting: dict[str, Any]) -> None:
        self._url = url
        self._wait = settings.database_wait_seconds
        self._most = connections
        self._connecting = connecting
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def start(self, at_once: int) -> None:
        """Opens so many connections; the others as they are needed."""
        connect: Any = connections.connect  # any function will do, whatever the stubs ask for
        self._pool = await asyncpg.create_pool(
            self._url, min_size=at_once, max_size=self._most, reset=_keep, connect=connect, **self._connecting
        )

    async def stop(self) -> None:
        """Closes every connection, after the statements in flight."""
        if self._pool is not None:
            await self._pool.close()

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one statement."""
        assert self._pool is not None, "start() comes first"  # noqa: S101
        async with self._pool.acquire(timeout=self._wait) as connection:
            try:
                return await connection.fetch(statement, *arguments)
            except BaseException as failure:  # cancelled too
                if not _is_refusal(failure):
                    connection.terminate()  # it may stand half-way through the protocol, and nothing resets it
                raise

    async def leave(self) -> None:
        """Uses none of the connections that are open now any more."""
        if self._pool is not None:
            await self._pool.expire_connections()

    def connections(self) -> tuple[int, int]:
        """How many are open, and how many of them are busy."""
        if self._pool is None:
            return 0, 0
        return self._pool.get_size(), self._pool.get_size() - self._pool.get_idle_size()


class Calls:
    """Calls by group commit, and single statements beside them: a statement has so many `seconds`, a group few."""

    def __init__(self, url: str, settings: Settings, seconds: float, tally: Tally | None = None) -> None:
        size, patience = settings.database_pool_size, settings.database_wait_seconds
        self._distributed = settings.database_distributed
        self._together = Statements(url, settings, 1, connecting(settings, seconds, GROUP_SETTINGS))
        self._apart = Statements(url, settings, max(1, size - 1), connecting(settings, seconds))
        timed = not self._distributed  # a node is handed plain calls only
        self._group_commit = GroupCommit(self.fetch, size, patience, tally, together=self._fetch_together, timed=timed)

    async def start(self, at_once: int) -> None:
        """Opens so many connections for groups and for the rest; the others as they are needed."""
        await self._together.start(at_once)
        await self._apart.start(at_once)

    async def stop(self) -> None:
        """Closes every connection, after the calls in flight."""
        await self._together.stop()
        await self._apart.stop()

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one statement."""
        return await self._fetch(self._apart, statement, *arguments)

    async def _fetch_together(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._fetch(self._together, statement, *arguments)

    async def _fetch(self, over: Statements, statement: str, *arguments: object) -> list[asyncpg.Record]:
        try:
            return await over.fetch(statement, *arguments)
        except TimeoutError:  # what swallowed this connection may have swallowed the others too
            await self._together.leave()
            await self._apart.leave()
            raise

    @property
    def waiting(self) -> int:
        """How many calls wait for others to come back."""
        return self._group_commit.waiting

    def connections(self) -> tuple[int, int]:
        """How many are open, and how many of them are busy."""
        (opened, busy), (more, more_busy) = self._together.connections(), self._apart.connections()
        return opened + more, busy + more_busy

    async def call(
        self, call: Call, *, account: UUID | None = None, cost: int = 1, alone: bool = False
    ) -> list[asyncpg.Record]:
        """The rows of a call, by group commit; alone where only that finds the patient's node."""
        return await self._group_commit.call(call, account=account, cost=cost, alone=alone or self._distributed)


class Database:
    """An engine for plain SQLAlchemy and single calls on the bare driver, both as the serving role."""

    def __init__(self, settings: Settings) -> None:
        if settings.database_url is None:
            raise ValueError("DIARY_DATABASE_URL is not set and no embedded database was started")
        self.settings = settings
        self.clock = Clock()
        url = settings.database_url.get_secret_value()
        self.engine = make_engine(
            url,
            connecting(settings, STATEMENT_SECONDS),
            pool_size=settings.database_pool_size,
            max_overflow=0,
            pool_timeout=settings.database_wait_seconds,
            pool_pre_ping=True,
        )
        event.listen(self.engine.sync_engine, "handle_error", _end_lost)
        dialect = self.engine.sync_engine.dialect
        dialect.do_ping = partial(_ping, dialect.do_ping)  # type: ignore[method-assign]  # no event tells of its failure
        self._transactions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.tally = Tally()
        self._calls = Calls(url, settings, STATEMENT_SECONDS, self.tally)
        replica = settings.replica_database_url
        # It has the patience that leaves the primary time for the same call.
        patience = settings.database_wait_seconds
        self._replica = None if replica is None else Calls(replica.get_secret_value(), settings, patience)
        self._replica_rests_until = 0.0

    async def start(self) -> None:
        """Opens the pool and refuses a server whose settings could lose what it acknowledged."""
        await self._calls.start(1)
        if self._replica is not None:
            await self._replica.start(0)  # it may be away
        try:
            await self._refuse_weakness()
            await self.set_clock()
        except BaseException:  # cancelled too: no connection is left open
            await self.stop()
            raise

    async def stop(self) -> None:
        """Closes every connection, after the calls in flight."""
        await self._calls.stop()
        if self._replica is not None:
            await self._replica.stop()
        await self.engine.dispose()

    @property
    def has_replica(self) -> bool:
        """Whether there is one to ask, reachable or not."""
        return self._replica is not None

    @property
    def waiting(self) -> int:
        """How many calls wait for others to come back."""
        return self._calls.waiting

    def connections(self) -> dict[str, tuple[int, int]]:
        """How many are open and how many of them are busy: of those for calls, and of those for transactions."""
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)  # noqa: S101 - for the type checker
        busy = pool.checkedout()
        return {"calls": self._calls.connections(), "transactions": (pool.checkedin() + busy, busy)}

    async def execute(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one statement, which is its own transaction: durable once this returns."""
        with passing_failures():
            return await self._calls.fetch(statement, *arguments)

    async def call(self, call: Call) -> list[asyncpg.Record]:
        """The rows of a call, which is its own transaction: durable once this returns."""
        return await self.execute(call.function.statement, *call.arguments)

    async def call_alone(self, call: Call, account: UUID) -> list[asyncpg.Record]:
        """The same for an account, whose calls of this kind take turns."""
        return await self.call_grouped(call, account, alone=True)

    async def call_grouped(
        self, call: Call, account: UUID, *, cost: int = 1, alone: bool = False
    ) -> list[asyncpg.Record]:
        """The rows of a call, by group commit, as part of the account's share: durable once this returns."""
        with passing_failures():
            return await self._calls.call(call, account=account, cost=cost, alone=alone)

    async def call_replica(
        self, call: Call, account: UUID, *, cost: int = 1, alone: bool = False
    ) -> list[asyncpg.Record] | None:
        """The rows of a call as a replica has them; None where there is none, or it does not answer."""
        if self._replica is None or monotonic() < self._replica_rests_until:
            return None
        try:
            return await self._replica.call(call, account=account, cost=cost, alone=alone)
        except asyncpg.PostgresError:  # what it refuses the primary refuses, and writes down
            return None
        except (Unavailable, TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            self._replica_rests_until = monotonic() + REPLICA_REST_SECONDS
            return None

    @asynccontextmanager
    async def open_transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed when the block ends, rolled back when it raises. A session here is a device's."""
        with passing_failures():
            async with self._transactions.begin() as transaction:
                yield transaction

    async def set_clock(self) -> None:
        """Asks the database for its time."""
        [row] = await self.execute("SELECT clock_timestamp() AS now")
        self.clock.set(row["now"])

    async def keep_clock(self) -> None:
        """Asks again and again until it is cancelled: one of the two clocks may be set, or stand still for a while."""
        while True:
            await asyncio.sleep(CLOCK_SECONDS)
            with suppress(Unavailable):
                await self.set_clock()

    async def _refuse_weakness(self) -> None:
        [row] = await self.execute(
            "SELECT current_setting('server_version_num')::int AS version,"
            " current_setting('synchronous_commit') AS durability, current_setting('fsync') AS fsync,"
            # Else the log shows the row that a CHECK refused, or what was sent.
            " current_setting('log_error_verbosity') = 'terse'"
            " AND current_setting('log_min_error_statement') IN ('fatal', 'panic')"
            " AND current_setting('log_parameter_max_length_on_error') = '0' AS discreet,"
            # What it is, and whatever it could become by SET ROLE.
            " (SELECT bool_or(rolsuper OR rolbypassrls OR rolcreaterole OR rolname = 'diary_owner')"
            " FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')) AS mighty"
        )
        if row["version"] < MINIMUM_VERSION:
            raise CannotServe("PostgreSQL 15 or newer is needed.")
        if row["durability"] == "off" or row["fsync"] == "off":
            raise CannotServe("synchronous_commit and fsync must be on: an acknowledged entry must survive a crash.")
        if self.settings.environment == "production" and not row["discreet"]:
            raise CannotServe("PostgreSQL would log what people write: docs/operate.md says how to set its log.")
        if row["mighty"]:
            raise CannotServe("The serving role must be a plain member of diary_app, not an owner or superuser.")


async def call_in(session: AsyncSession, call: Call) -> CursorResult[Any]:
    """The rows of a call within the session's transaction."""
    connection = await session.connection()
    return await connection.exec_driver_sql(call.function.statement, call.arguments)


@contextmanager
def passing_failures() -> Iterator[None]:
    """Turns a failure that will pass (no connection, no room, a time-out) into Unavailable; lets others through."""
    try:
        yield
    except (PoolTimeout, TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as failure:
        if isinstance(failure, ValueError):  # a URL that asyncpg cannot read, say: it would not pass
            raise
        raise Unavailable from failure
    except DBAPIError as failure:
        passing = failure.connection_invalidated or passes(getattr(failure.orig, "sqlstate", None))
        if passing or unaudited(failure):
            raise Unavailable from failure
        raise
    except asyncpg.PostgresError as failure:
        if passes(failure.sqlstate) or unaudited(failure):
            raise Unavailable from failure
        raise


def unaudited(failure: Exception) -> bool:
    """Whether it was the audit row that could not be written: then nothing is done or shown, until it can.

    By the error's field for where it happened, and not by a SQLSTATE of ours: that would take a block with an EXCEPTION
    in audit(), and so a subtransaction for each row.
    """
    cause = getattr(failure, "orig", failure).__cause__ or failure  # SQLAlchemy keeps the driver's error behind its own
    return IN_AUDIT in (getattr(cause, "context", None) or "")


def passes(sqlstate: str | None) -> bool:
    """Whether a SQLSTATE names a condition that ends by itself."""
    return sqlstate is not None and sqlstate.startswith(PASSING)


def _is_refusal(failure: BaseException) -> bool:
    """Whether the server, or the driver on its behalf, refused one statement and waits for the next.

    Who could end a connection by a value that does not fit would make everybody wait for new ones.
    """
    return isinstance(failure, asyncpg.PostgresError) and getattr(failure, "severity_en", None) not in FATAL


def _end_lost(context: ExceptionContext) -> None:
    """Ends the connection whose statement had no answer in time, and those of before: none of them is asked again."""
    if isinstance(context.original_exception, TimeoutError) and context.connection is not None:
        context.is_disconnect = True


def _ping(ping: Callable[[DBAPIConnection], bool], connection: DBAPIConnection) -> bool:
    """Whether an idle connection answers. Where it says nothing in time, none that was idle then is asked any more."""
    try:
        return ping(connection)
    except TimeoutError:
        raise InvalidatePoolError from None


def connecting(settings: Settings, seconds: float, special: dict[str, str] | None = None) -> dict[str, Any]:
    """How a connection is made: its settings, how long that may take and a statement of it, where the password is."""
    chosen = SESSION_SETTINGS | {"diary.changes_per_day": str(settings.changes_per_day)} | (special or {})
    if settings.database_distributed:  # a plan for all patients is no plan for the node of one
        chosen = chosen | {"plan_cache_mode": "auto"}
    return {
        "server_settings": chosen,
        "timeout": settings.database_wait_seconds,
        "command_timeout": seconds,
        "connection_class": Connection,
        "password_file": settings.database_password_file,
    }


def make_engine(url: str, connecting: dict[str, Any] | None = None, **options: Any) -> AsyncEngine:
    """An engine that leaves the URL to asyncpg: `?sslmode=` and the like mean the same wherever we connect."""
    connect = partial(connections.connect, url, **(connecting or {}))
    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **options)


@asynccontextmanager
async def owner_transaction(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction of its own for what an operator does, over a connection that nobody else has."""
    async with make_engine(url, poolclass=NullPool).begin() as connection:
        yield connection


async def _keep(connection: Any) -> None:
    """Resets nothing between calls: each is one statement, and what it sets is local to it."""
