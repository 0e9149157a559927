"""Checks what must hold in every diary and in the audit trail, on the data as they lie there."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import asyncpg

from app.postgres import connections
from app.postgres.functions import Function

BROKEN_AUDIT_SEGMENTS = Function("broken_audit_segments_v1", "")
VERIFY_DIARY = Function("verify_diary_v1", "patient uuid")
AT_ONCE = 1000  # patients whose ids are held at a time
# Where nothing was written since the last restore, what phones lost is still of the epoch before that.
NEW_EPOCHS = """
UPDATE patient_clocks SET epoch = gen_random_uuid(), restored_head = head,
    previous_epoch = CASE WHEN previous_epoch IS NULL OR head > restored_head THEN epoch ELSE previous_epoch END
"""
Report = Callable[[int, int], None]


def run(url: str, report: Report | None = None) -> list[str]:
    """One line for each violation, empty when all is well; needs the owner's URL. No line holds health data.

    `report` hears how many of how many diaries are done; one diary is looked at at a time.
    """
    return asyncio.run(_run(url, report))


def rotate_epochs(url: str) -> int:
    """After a restore: tells every phone to offer again what the database lost, and how many diaries that concerns."""
    return asyncio.run(_rotate_epochs(url))


async def _run(url: str, report: Report | None) -> list[str]:
    connection = await connections.connect(url)
    try:
        diaries = await _diaries(connection, report)
        segments = await connection.fetch(BROKEN_AUDIT_SEGMENTS.statement)
    finally:
        await connection.close()
    return diaries + [f"audit segment {row[0]}: its events are not those that were sealed" for row in segments]


async def _diaries(connection: "asyncpg.Connection[asyncpg.Record]", report: Report | None) -> list[str]:
    found: list[str] = []
    done, total, last = 0, await connection.fetchval("SELECT count(*) FROM patients"), UUID(int=0)
    while ids := await connection.fetch("SELECT id FROM patients WHERE id > $1 ORDER BY id LIMIT $2", last, AT_ONCE):
        for row in ids:
            last = row["id"]
            violations = await connection.fetch(VERIFY_DIARY.statement, last)
            found += [f"diary {last}: {violation[0]}" for violation in violations]
            done += 1
            if report is not None:
                report(done, total)
    return found


async def _rotate_epochs(url: str) -> int:
    connection = await connections.connect(url)
    try:
        done = await connection.execute(NEW_EPOCHS)
    finally:
        await connection.close()
    return int(done.removeprefix("UPDATE "))
