"""Damage to a database that a test does and takes back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncpg


@asynccontextmanager
async def rolled_back(
    superuser: "asyncpg.Connection[asyncpg.Record]",
    *,
    triggers: bool = False,
    isolation: Literal["read_committed", "repeatable_read"] = "read_committed",
) -> AsyncIterator[None]:
    """A transaction of which nothing remains, without triggers unless they are asked for."""
    transaction = superuser.transaction(isolation=isolation)
    await transaction.start()
    if not triggers:
        await superuser.execute("SET LOCAL session_replication_role = replica")
    try:
        yield
    finally:
        await transaction.rollback()
