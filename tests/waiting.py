"""Waiting for what must come: an event ends the wait, the time only a test that would else hang."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

PATIENCE = 120  # seconds: no machine is so slow and so busy that what will happen has not happened by then
NEVER = "it did not happen"
LOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Returns once the condition holds; fails where it never does."""
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline, NEVER
        await asyncio.sleep(0.01)


def block_until(condition: Callable[[], object]) -> None:
    """The same where there is no event loop."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, NEVER
        time.sleep(0.01)


async def until_locked_out(superuser: "asyncpg.Connection[asyncpg.Record]", count: int = 1) -> None:
    """Returns once so many connections to the superuser's database wait for a lock."""

    async def reached() -> bool:
        await superuser.execute("SELECT pg_stat_clear_snapshot()")  # inside a transaction it would not change
        return bool(await superuser.fetchval(LOCKED) >= count)

    await until(reached)
