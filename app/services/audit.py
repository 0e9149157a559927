"""The audit trail's seal: what is settled is digested into a chain, off the hot path; and the anchors that hold it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from app import logs
from app.errors import Unavailable
from app.postgres import connections
from app.postgres.database import Database
from app.postgres.functions import Call, Function

SETTLE_AUDIT = Function("settle_audit_v1", "")
SEAL_AUDIT = Function("seal_audit_v1", "settled bigint")
LAST_SEGMENT = "SELECT number, digest FROM audit_segments ORDER BY number DESC LIMIT 1"
SEGMENT = "SELECT digest FROM audit_segments WHERE number = $1"
ANCHOR = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")  # number and digest of a segment
NOT_ONE = "An anchor is a number, a colon and 64 digits of 0-9a-f, as sealing prints it."
ENDS_BEFORE = "the audit trail ends before the anchor"
ANOTHER = "the audit trail is not the one of the anchor"


class NoAnchor(ValueError):
    """What is given as an anchor is none; the text says what one looks like."""


class NotSettled(RuntimeError):
    """Nothing was sealed, for somebody who may still add events takes too long; the text says so."""


async def seal(database: Database) -> str | None:
    """Seals all settled events, and returns the anchor of the last new segment; None where nothing is new.

    Raises NotSettled.
    """
    return await _seal(database.call)


async def seal_now(url: str) -> str | None:
    """Seals as the owner, and returns the present anchor; None where there was never an event. Raises NotSettled."""
    connection = await connections.connect(url)
    try:
        await connections.require_owner(connection)
        before = await present_anchor(connection)
        return await _seal(lambda call: connection.fetch(call.function.statement, *call.arguments)) or before
    finally:
        await connection.close()


async def seal_regularly(database: Database, seconds: float) -> None:
    """Seals again and again until it is cancelled; anchors go to the log, so that a cut-off end shows there."""
    while True:
        await asyncio.sleep(seconds)
        try:
            anchor = await seal(database)
        except NotSettled:
            database.tally.seals["waiting"] += 1
            continue
        except Exception as failure:  # whatever it is, the next round seals what this one could not
            database.tally.seals["failed"] += 1
            if not isinstance(failure, Unavailable):
                logs.error("audit not sealed", failure)
            continue
        database.tally.seals["nothing_new" if anchor is None else "sealed"] += 1
        if anchor is not None:
            logs.info("audit sealed", anchor=anchor)


async def present_anchor(connection: Any) -> str | None:
    """The anchor of the last segment: `number:digest`, without any health data; None where nothing is sealed yet."""
    last = await connection.fetchrow(LAST_SEGMENT)
    return None if last is None else _anchor(last["number"], last["digest"])


async def look_for(connection: Any, anchor: str) -> dict[str, list[str]]:
    """What the trail lacks of the one that had this anchor; empty where nothing before it was cut off or rewritten."""
    number, digest = read_anchor(anchor)
    kept = await connection.fetchval(SEGMENT, number)
    if kept == digest:
        return {}
    return {ENDS_BEFORE if kept is None else ANOTHER: [f"audit segment {number}"]}


def read_anchor(text: str) -> tuple[int, bytes]:
    """Number and digest of the segment; raises NoAnchor."""
    parts = ANCHOR.fullmatch(text.strip())
    if parts is None:
        raise NoAnchor(NOT_ONE)
    return int(parts[1]), bytes.fromhex(parts[2])


async def _seal(call: Callable[[Call], Awaitable[list[Any]]]) -> str | None:
    [[settled]] = await call(SETTLE_AUDIT())
    if settled is None:
        raise NotSettled("A transaction that may add events is open for longer than a second: seal again later.")
    anchor = None
    while rows := await call(SEAL_AUDIT(settled=settled)):
        anchor = _anchor(*rows[0])
    return anchor


def _anchor(number: int, digest: bytes) -> str:
    return f"{number}:{digest.hex()}"
