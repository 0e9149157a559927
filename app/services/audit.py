"""The audit trail's seal: what is settled is digested into a chain, off the hot path."""

import asyncio

from app import logs
from app.errors import Unavailable
from app.postgres.database import Database
from app.postgres.functions import Function

SETTLE_AUDIT = Function("settle_audit_v1", "")
SEAL_AUDIT = Function("seal_audit_v1", "settled bigint")


async def seal(database: Database) -> tuple[int, str] | None:
    """Number and hex digest of a new segment over all settled events; None where nothing new is settled."""
    [settled] = await database.call(SETTLE_AUDIT())
    if settled[0] is None:
        return None
    rows = await database.call(SEAL_AUDIT(settled=settled[0]))
    return (rows[0]["segment"], rows[0]["segment_digest"].hex()) if rows else None


async def seal_regularly(database: Database, seconds: float) -> None:
    """Seals again and again until it is cancelled; digests go to the log, so a cut-off end shows there."""
    while True:
        await asyncio.sleep(seconds)
        try:
            sealed = await seal(database)
        except Exception as failure:  # whatever it is, the next round seals what this one could not
            database.tally.seals["failed"] += 1
            if not isinstance(failure, Unavailable):
                logs.error("audit not sealed", failure)
            continue
        database.tally.seals["nothing_new" if sealed is None else "sealed"] += 1
        if sealed is not None:
            logs.info("audit sealed", segment=sealed[0], digest=sealed[1])
