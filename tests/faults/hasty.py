"""The mutant: a server that acknowledges before the commit. `serve` it with PROGRAM."""

import asyncio
from typing import Any

from app.database import Database

PROGRAM = "import tests.faults.hasty; tests.faults.hasty.plant(); from app.cli import main; main()"
UNTIL_COMMIT = 0.3  # seconds

_commits: set["asyncio.Task[None]"] = set()


def plant() -> None:
    """Makes writes return before they are durable."""
    sound = Database.call

    async def call(self: Database, statement: str, *arguments: object) -> list[Any]:
        if "write_records" not in statement:
            return await sound(self, statement, *arguments)
        assert self._pool is not None
        connection = await self._pool.acquire()
        transaction = connection.transaction()
        await transaction.start()
        rows = await connection.fetch(statement, *arguments)

        async def commit() -> None:
            await asyncio.sleep(UNTIL_COMMIT)
            await transaction.commit()
            await self._pool.release(connection)  # type: ignore[union-attr]  # it was there above

        task = asyncio.create_task(commit())
        _commits.add(task)
        task.add_done_callback(_commits.discard)
        return rows

    Database.call = call  # type: ignore[method-assign]  # the fault
