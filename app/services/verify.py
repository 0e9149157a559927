"""Checks what must hold in every diary and in the audit trail, on the data as they lie there."""

import asyncio

import asyncpg

from app.database import driver_url


def run(url: str) -> list[str]:
    """One line for each violation, empty when all is well; needs the owner's URL. No line holds health data."""
    return asyncio.run(_run(url))


async def _run(url: str) -> list[str]:
    connection = await asyncpg.connect(driver_url(url))
    try:
        diaries = await connection.fetch("SELECT patient, violation FROM verify_diaries()")
        segments = await connection.fetch("SELECT broken_audit_segments() AS number")
    finally:
        await connection.close()
    return [f"diary {row['patient']}: {row['violation']}" for row in diaries] + [
        f"audit segment {row['number']}: its events are not those that were sealed" for row in segments
    ]
