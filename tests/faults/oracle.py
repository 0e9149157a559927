"""Compares what was acknowledged, and what readers hold, with the database itself."""

from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from tests.faults.load import Acknowledgement, Ledger, Patient
from tests.faults.readers import Reader

VERSIONS = """
SELECT v.patient_id::text, v.record_id::text, v.version, v.mutation_id::text, v.deleted,
       CASE WHEN r.version = v.version THEN r.note ELSE v.note END AS note, r.version AS newest, r.deleted AS gone
FROM record_versions v LEFT JOIN records r ON r.patient_id = v.patient_id AND r.id = v.record_id
WHERE v.patient_id = ANY ($1)
ORDER BY v.patient_id, v.record_id, v.version
"""
Row = asyncpg.Record


class Copy(Protocol):
    """Whoever pulls and keeps what comes: a reader, or a whole phone."""

    patient_id: str
    limit: int

    @property
    def copy(self) -> dict[str, dict[str, Any]]: ...
    @property
    def faults(self) -> list[str]: ...
    def catch_up(self, most_pages: int) -> Awaitable[bool]: ...


@dataclass
class Verdict:
    """The figures of one experiment; all but the first are 0 where nothing went wrong."""

    acknowledged: int
    lost: int = 0
    duplicates: int = 0
    resurrected: int = 0
    diverged: int = 0
    faults: list[str] = field(default_factory=list)
    did: str = ""

    @property
    def sound(self) -> bool:
        """Whether all is as it must be, and whether anything was done at all."""
        wrong = self.lost or self.duplicates or self.resurrected or self.diverged or self.faults
        return self.acknowledged > 0 and not wrong


async def judge(
    owner_url: str,
    url: str,
    patients: Sequence[Patient],
    ledger: Ledger,
    readers: Sequence[Copy],
    before: Sequence[Acknowledgement] = (),
) -> Verdict:
    """The verdict on a server that is at rest; readers catch up first. `before`: acknowledged before a restore."""
    connection = await asyncpg.connect(owner_url)
    try:
        ids = [UUID(patient.id) for patient in patients]
        rows = await connection.fetch(VERSIONS, ids)
        found = await connection.fetch("SELECT violation FROM unnest($1::uuid[]) AS id, verify_diary_v1(id)", ids)
    finally:
        await connection.close()
    verdict = Verdict(
        acknowledged=len(before) + len(ledger.acknowledged),
        lost=count_lost(ledger.acknowledged, rows) + count_not_restored(before, ledger.acknowledged, rows),
        duplicates=count_duplicates(rows),
        resurrected=count_resurrected(rows),
        faults=sorted({*ledger.faults, *(row["violation"] for row in found)}),
    )
    for patient in patients:
        of_patient = [reader for reader in readers if reader.patient_id == patient.id]
        verdict.diverged += await count_diverged(url, patient, rows, of_patient)
    verdict.faults += sorted({fault for reader in readers for fault in reader.faults})
    return verdict


def count_lost(acknowledged: Iterable[Acknowledgement], rows: Iterable[Row]) -> int:
    """How many acknowledged mutations are not in the history as they were acknowledged."""
    history = {(row["patient_id"], row["record_id"], row["version"]): row for row in rows}
    return sum(not _kept(one, history.get((one.patient_id, one.record_id, one.version))) for one in acknowledged)


def count_not_restored(before: Iterable[Acknowledgement], after: Iterable[Acknowledgement], rows: Iterable[Row]) -> int:
    """How many records are not as they were last acknowledged before a restore, unless changed since."""
    last: dict[tuple[str, str], Acknowledgement] = {}
    for one in sorted(before, key=lambda one: one.version):
        last[one.patient_id, one.record_id] = one
    changed = {(one.patient_id, one.record_id) for one in after}
    now = {(row["patient_id"], row["record_id"]): row for row in rows if row["version"] == row["newest"]}
    return sum(not _same(one, now.get(key)) for key, one in last.items() if key not in changed)


def count_duplicates(rows: Iterable[Row]) -> int:
    """How many changes are there once more than they were made, by their mutation or by their note."""
    mutations = Counter((row["patient_id"], row["mutation_id"]) for row in rows if row["mutation_id"])
    notes = Counter((row["patient_id"], row["note"]) for row in rows if row["note"])
    return max(sum(counter.values()) - len(counter) for counter in (mutations, notes))


def count_resurrected(rows: Iterable[Row]) -> int:
    """How many records live although a version of theirs was a deletion."""
    ended: set[tuple[str, str]] = set()
    back: set[tuple[str, str]] = set()
    for row in rows:  # in the order of versions
        key = (row["patient_id"], row["record_id"])
        if row["deleted"]:
            ended.add(key)
        elif key in ended:
            back.add(key)
    return len(back)


async def count_diverged(url: str, patient: Patient, rows: Iterable[Row], readers: Sequence[Copy]) -> int:
    """How many readers, caught up, hold something else than a full pull; or than the table, where that does."""
    table = {row["record_id"]: row["newest"] for row in rows if row["patient_id"] == patient.id and not row["gone"]}
    async with patient.connect(url) as http:
        full = Reader(http, patient.id, 500, Random(0))
        complete = await full.catch_up(most_pages=len(table) // 500 + 20)
    diverged = int(not complete or {key: record["version"] for key, record in full.copy.items()} != table)
    for reader in readers:
        arrived = await reader.catch_up(most_pages=len(table) // reader.limit + 1000)
        diverged += int(not arrived or reader.copy != full.copy)
    return diverged


def _kept(one: Acknowledgement, row: Row | None) -> bool:
    """Whether this row is what was acknowledged; a deletion may have found another's tombstone."""
    if row is None or row["newest"] is None or row["deleted"] != one.deleted:
        return False
    return one.deleted or (row["mutation_id"] == one.mutation_id and row["note"] == one.note)


def _same(one: Acknowledgement, row: Row | None) -> bool:
    return row is not None and (row["deleted"], row["note"]) == (one.deleted, one.note)
