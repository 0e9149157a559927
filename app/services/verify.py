"""Checks what must hold in every diary and in the audit trail, on the data as they lie there."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.models import Record
from app.models.revision import REVISION
from app.postgres import connections
from app.postgres.functions import Function
from app.postgres.protection import differences, facts_left, read_facts
from app.schemas.kinds import BY_NAME
from app.services import audit
from app.services.records import columns_of

BROKEN_AUDIT_SEGMENTS = Function("broken_audit_segments_v1", "")
VERIFY_DIARY = Function("verify_diary_v1", "patient uuid")
AT_ONCE = 1000  # diaries in one snapshot, and records that are held at a time
ENVELOPE = {
    "patient_id",
    "id",
    "kind",
    "version",
    "change_seq",
    "received_at",
    "author_id",
    "session_id",
    "deleted",
    "content_hash",
    "document",
    "note",
}
PROMOTED = [column.name for column in Record.__table__.columns if column.name not in ENVELOPE]
# Within the context that VERIFY_DIARY leaves. What is deleted keeps the columns of the version before.
DOCUMENTS = """
SELECT r.id, r.kind, r.deleted, coalesce(v.document, r.document)::text AS document, coalesce(v.note, r.note) AS note,
       v.document IS NULL AS lost
FROM records r
LEFT JOIN record_versions v
    ON r.deleted AND v.patient_id = r.patient_id AND v.record_id = r.id AND v.version = r.version - 1
WHERE r.patient_id = $1 AND r.id > $2 ORDER BY r.id LIMIT $3
"""
OF_RECORD, OF_DOCUMENT = (", ".join(f"{table}.{name}" for name in PROMOTED) for table in ("r", "told"))
MISFITS = f"""
SELECT r.id FROM json_populate_recordset(NULL::records, $2::json) told
JOIN records r ON r.patient_id = $1 AND r.id = told.id
WHERE ({OF_RECORD}) IS DISTINCT FROM ({OF_DOCUMENT})
"""  # noqa: S608 - names of ours
LOST_WHEN_DELETED = {
    "occurred_at": "-infinity",
    "utc_offset": 0,
    "time_zone": "UTC",
    "local_date": "-infinity",
    "performer": "self",
}
MISFIT = "a column differs from the document that it repeats"
NO_RECORD = "a document is not one of its kind"
Report = Callable[[int, int], None]
BROKEN_SEGMENT = "the events of an audit segment are not those that were sealed"
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


@dataclass
class Damage:
    """Kinds of violation, each with how often it is there, and where: a diary with its first records."""

    times: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, patient: UUID, times: int, ids: list[UUID]) -> None:
        """So many in a diary, of which these are the first records; the diary itself where there are none."""
        self.times[kind] += times
        self.places.setdefault(kind, []).append(_place(patient, times, ids))

    @property
    def lines(self) -> list[str]:
        """Grouped by kind."""
        return [line for kind, some in sorted(self.places.items()) for line in _group(kind, some, self.times[kind])]


def run(url: str, report: Report | None = None, *, distributed: bool = False, anchor: str | None = None) -> list[str]:
    """What is wrong, as lines grouped by kind with counts and ids; empty when all is well. Needs the owner's URL.

    What guards the data comes first: where owners, privileges or policies are not those of this release, the diaries
    would be blamed for what does not show. No line holds health data. `report` hears how many of how many diaries are
    done. `distributed`: over nodes, where tables and functions are others. `anchor`: one that sealing printed; what was
    cut off or made anew since is found. Raises NoAnchor.
    """
    if anchor is not None:
        audit.read_anchor(anchor)
    return asyncio.run(_run(url, report, distributed, anchor))


def present_anchor(url: str) -> str | None:
    """The anchor to keep from now on; None where nothing is sealed yet."""
    return asyncio.run(_present_anchor(url))


async def _present_anchor(url: str) -> str | None:
    connection = await connections.connect(url)
    try:
        return await audit.present_anchor(connection)
    finally:
        await connection.close()


async def _run(url: str, report: Report | None, distributed: bool, anchor: str | None) -> list[str]:
    connection = await connections.connect(url)
    try:
        await connections.require_owner(connection)
        guards = await _guards(connection, distributed)
        return [*guards, NOT_LOOKED_AT] if guards else await _data(connection, report, anchor)
    finally:
        await connection.close()


async def _data(connection: Any, report: Report | None, anchor: str | None) -> list[str]:
    """What is wrong in the diaries and in the audit trail."""
    damage = await _diaries(connection, report)
    segments = [f"audit segment {row[0]}" for row in await connection.fetch(BROKEN_AUDIT_SEGMENTS.statement)]
    trail = {BROKEN_SEGMENT: segments} | ({} if anchor is None else await audit.look_for(connection, anchor))
    return damage.lines + [line for kind, places in trail.items() for line in _group(kind, places)]


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


async def _diaries(connection: Any, report: Report | None) -> Damage:
    """Each batch of diaries in one snapshot: whoever writes meanwhile is not taken for damage."""
    damage = Damage()
    done, total, last = 0, await connection.fetchval("SELECT count(*) FROM patients"), UUID(int=0)
    while ids := await connection.fetch("SELECT id FROM patients WHERE id > $1 ORDER BY id LIMIT $2", last, AT_ONCE):
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for row in ids:
                last = row["id"]
                await _diary(connection, last, damage)
                done += 1
                if report is not None:
                    report(done, total)
    return damage


async def _diary(connection: Any, patient: UUID, damage: Damage) -> None:
    for found in await connection.fetch(VERIFY_DIARY.statement, patient):
        damage.add(found["violation"], patient, found["times"], found["ids"])
    misfits: list[UUID] = []
    strangers: list[UUID] = []
    last = UUID(int=0)
    while rows := await connection.fetch(DOCUMENTS, patient, last, AT_ONCE):
        last = rows[-1]["id"]
        told = []
        for row in rows:
            try:
                told.append(_told(row))
            except ValueError:
                strangers.append(row["id"])
        misfits += [row["id"] for row in await connection.fetch(MISFITS, patient, json.dumps(told))]
    for kind, ids in ((MISFIT, misfits), (NO_RECORD, strangers)):
        if ids:
            damage.add(kind, patient, len(ids), ids[:SHOWN])


def _told(row: Any) -> dict[str, Any]:
    """What the columns of a record should be by its document. Raises ValueError where that is not one of its kind."""
    kind = BY_NAME[row["kind"]]
    told: dict[str, Any] = {"id": str(row["id"])}
    if row["deleted"] and row["lost"]:
        return told | LOST_WHEN_DELETED | ({"valid_to": "-infinity"} if kind.holds == "interval" else {})
    columns = columns_of(kind, json.loads(row["document"]) | ({} if row["note"] is None else {"note": row["note"]}))
    return {**told, **columns}


def _place(patient: UUID, times: int, ids: list[UUID]) -> str:
    """The diary, and in it the first records that are concerned."""
    if not ids:
        return f"diary {patient}"
    more = f" and {times - len(ids)} more" if times > len(ids) else ""
    return f"diary {patient}: record {', '.join(map(str, ids))}{more}"


def _group(kind: str, places: list[str], times: int | None = None) -> list[str]:
    """A line for the kind, and one for each of the first places; none where there is no place."""
    if not places:
        return []
    more = [f"  and {len(places) - SHOWN} more"] if len(places) > SHOWN else []
    return [f"{kind}: {len(places) if times is None else times}", *(f"  {place}" for place in places[:SHOWN]), *more]
