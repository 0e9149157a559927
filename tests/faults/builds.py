"""Faults for the server of one experiment: programs that plant one in the application and then serve it."""

import asyncio
from typing import Any

from fastapi import FastAPI

from app import main
from app.config import Settings
from app.errors import BadRequest, Fault, Invalid
from app.http import push_body
from app.postgres import database
from app.postgres.database import Database, Statements
from app.services import sync

UNTIL_COMMIT = 0.1  # seconds

_commits: set["asyncio.Task[None]"] = set()


def program(plant: str) -> str:
    """What Python is to run instead of `pain-diary`."""
    return f"from tests.faults import builds; builds.{plant}(); from app.cli import main; main()"


def acknowledge_before_commit() -> None:
    """Writes return before they are durable."""
    sound = Statements.fetch

    async def fetch(self: Statements, statement: str, *arguments: object) -> list[Any]:
        if "write_records" not in statement:
            return await sound(self, statement, *arguments)
        assert self._pool is not None
        connection = await self._pool.acquire()
        transaction = connection.transaction()
        await transaction.start()
        rows = await connection.fetch(statement, *arguments)
        task = asyncio.create_task(_commit_later(self._pool, connection, transaction))
        _commits.add(task)
        task.add_done_callback(_commits.discard)
        return rows

    Statements.fetch = fetch  # type: ignore[method-assign]  # the fault


async def _commit_later(pool: Any, connection: Any, transaction: Any) -> None:
    await asyncio.sleep(UNTIL_COMMIT)
    await transaction.commit()
    await pool.release(connection)


def keep_connections() -> None:
    """A request takes a connection and does not give it back where the client leaves."""
    sound = main.create_app

    def create_app(settings: Settings | None = None) -> FastAPI:
        app = sound(settings)
        app.add_middleware(_Keeping, app.state.diary.database)
        return app

    main.create_app = create_app


class _Keeping:
    def __init__(self, app: Any, database: Database) -> None:
        self._app = app
        self._database = database

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        left = False

        async def hear() -> Any:
            nonlocal left
            message = await receive()
            left = left or (message["type"] == "http.disconnect" and scope["type"] == "http")
            return message

        await self._app(scope, hear, send)
        if left:
            assert self._database._calls._apart._pool is not None
            await self._database._calls._apart._pool.acquire(timeout=1)


def full_disk_is_our_fault() -> None:
    """A full disk is no failure that passes."""
    sound = database.passes

    def passes(sqlstate: str | None) -> bool:
        return sound(sqlstate) and not (sqlstate or "").startswith("53")

    database.passes = passes


def refuse_whole() -> None:
    """A push of which one item breaks a rule of strict JSON is refused with all the others."""

    def parse(body: bytes, refusal: BadRequest) -> object:
        raise refusal

    push_body.parse = parse


def refuse_all_mutations() -> None:
    """A push of which one item is no mutation is refused with all the others."""

    def refused_item(_item: object, faults: tuple[Fault, ...]) -> Any:
        raise Invalid(faults=faults)

    sync.refused_item = refused_item  # type: ignore[assignment, attr-defined]  # the fault


def wait_for_ever() -> None:
    """No statement has an end of our own: TCP decides how long a lost connection is waited for."""
    database.STATEMENT_SECONDS = 3600.0
