"""Checks what must hold in every diary and in the audit trail, on the data as they lie there."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

from app.models.revision import REVISION
from app.postgres import connections
from app.postgres.functions import Function
from app.postgres.protection import differences, facts_left, read_facts

BROKEN_AUDIT_SEGMENTS = Function("broken_audit_segments_v1", "")
VERIFY_DIARY = Function("verify_diary_v1", "patient uuid")
AT_ONCE = 1000  # patients whose ids are held at a time
Report = Callable[[int, int], None]
SHOWN = 10  # of each kind: what a restore or a bug has damaged it has mostly damaged a hundred thousand times
PLURALS = {
    "role": "roles",
    "owner": "owners",
    "privilege": "privileges",
    "row security": "row security",
    "policy": "policies",
    "function": "functions",
    "trigger": "triggers",
}
OTHER = "other than this release left"
ON_NODES = ("role", "owner")  # what distributing leaves as it was
NOT_LOOKED_AT = "Diaries and audit trail were not looked at: what guards them comes first."


def run(url: str, report: Report | None = None, *, distributed: bool = False) -> list[str]:
    """What is wrong, as lines grouped by kind with counts and ids; empty when all is well. Needs the owner's URL.

    What guards the data comes first: where owners, privileges or policies are not those of this release, the diaries
    would be blamed for what does not show. No line holds health data. `report` hears how many of how many diaries are
    done. `distributed`: over nodes, where tables and functions are others.
    """
    return asyncio.run(_run(url, report, distributed))


async def _run(url: str, report: Report | None, distributed: bool) -> list[str]:
    connection = await connections.connect(url)
    try:
        await connections.require_owner(connection)
        guards = await _guards(connection, distributed)
        if guards:
            return [*guards, NOT_LOOKED_AT]
        diaries = await _diaries(connection, report)
        segments = [f"audit segment {row[0]}" for row in await connection.fetch(BROKEN_AUDIT_SEGMENTS.statement)]
    finally:
        await connection.close()
    return diaries + _group("the events of an audit segment are not those that were sealed", segments)


async def _guards(connection: Any, distributed: bool) -> list[str]:
    """Where the migration, an owner, a privilege, a policy or a function is not the one of this release."""
    stands_at = [row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")]
    if stands_at != [REVISION]:
        return [f"The database stands at the migration {', '.join(stands_at) or 'none'}, not at {REVISION}."]
    found: dict[str, list[str]] = {}
    for kind, sentence in differences(facts_left(), await read_facts(connection)):
        if kind in ON_NODES or not distributed:
            found.setdefault(kind, []).append(sentence)
    return [line for kind, some in PLURALS.items() for line in _group(f"{some} {OTHER}", found.get(kind, []))]


async def _diaries(connection: Any, report: Report | None) -> list[str]:
    damaged: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    done, total, last = 0, await connection.fetchval("SELECT count(*) FROM patients"), UUID(int=0)
    while ids := await connection.fetch("SELECT id FROM patients WHERE id > $1 ORDER BY id LIMIT $2", last, AT_ONCE):
        for row in ids:
            last = row["id"]
            for violation in await connection.fetch(VERIFY_DIARY.statement, last):
                counts[violation["violation"]] += violation["times"]
                damaged.setdefault(violation["violation"], []).append(_place(last, violation))
            done += 1
            if report is not None:
                report(done, total)
    return [line for kind, places in sorted(damaged.items()) for line in _group(kind, places, counts[kind])]


def _place(patient: UUID, violation: Any) -> str:
    """The diary, and in it the first records that are concerned."""
    records, times = list(map(str, violation["ids"])), violation["times"]
    if not records:
        return f"diary {patient}"
    more = f" and {times - len(records)} more" if times > len(records) else ""
    return f"diary {patient}: record {', '.join(records)}{more}"


def _group(kind: str, places: list[str], times: int | None = None) -> list[str]:
    """A line for the kind, and one for each of the first places; none where there is no place."""
    if not places:
        return []
    more = [f"  and {len(places) - SHOWN} more"] if len(places) > SHOWN else []
    return [f"{kind}: {len(places) if times is None else times}", *(f"  {place}" for place in places[:SHOWN]), *more]
