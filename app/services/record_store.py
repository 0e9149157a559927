"""Records of any kind: everything that is written to a diary or read from it goes through these few calls."""

import json
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from app.errors import Gone, InvalidCursor, NotFound, Problem
from app.postgres.group_commit import HEAVY, Function
from app.security.cursors import Cursors
from app.services.access import Diary, refuse

WRITE_RECORDS = Function("write_records_v1", "uuid uuid text text json text[] boolean uuid uuid inet", turns=1)
READ_PAGE = Function(
    "read_page_v1",
    "uuid uuid text text text[] date date text text text numeric uuid timestamptz uuid integer text[]"
    " boolean text uuid[] uuid inet",
)
ABSENCES: dict[str, type[Problem]] = {"missing": NotFound, "gone": Gone}


@dataclass(frozen=True, slots=True)
class RecordWrite:
    """One record to write: `base_version` 0 creates, None deletes any; `columns`: the promoted facts of `records`."""

    kind: str
    id: str
    base_version: int | None
    document: str = "{}"  # the client's fields, without id and note
    columns: dict[str, Any] | None = None
    mutation_id: str | None = None
    deleted: bool = False
    reoffer: tuple[str, int] | None = None  # the epoch before a restore, and the version that this was there


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a change, and the record as it is now (None where it is deleted or not the caller's kind).

    Of a mutation that comes again, `version` is the one it made; `overtaken` says that others came after.
    """

    status: Literal[
        "created",
        "updated",
        "deleted",
        "unchanged",
        "conflict",
        "missing",
        "reused",
        "outside_window",
        "forbidden",
        "empty",
    ]
    id: UUID
    version: int | None
    change_seq: int | None
    deleted: bool | None
    overtaken: bool | None
    record: bytes | None
    head: int
    epoch: UUID


RESULT_COLUMNS = len(fields(WriteResult))  # what comes after them is the place in a group


@dataclass(frozen=True, slots=True)
class Filters:
    """Which records a page holds; dates are the records' local ones, both included."""

    kinds: tuple[str, ...] | None = None
    from_: date | None = None
    to: date | None = None
    region: str | None = None
    character: str | None = None
    scale: str | None = None
    min_score: Decimal | None = None
    treatment_id: UUID | None = None

    @property
    def sparse(self) -> bool:
        """Whether many records may have to be passed to find those that fit."""
        rare = self.kinds is not None and "entry" not in self.kinds
        return rare or any((self.region, self.character, self.scale, self.treatment_id))


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A page as bytes: the items between the brackets of a JSON array. None items: the caller has it already."""

    etag: str
    items: bytes | None
    next_cursor: str | None

    @property
    def body(self) -> bytes:
        """The page as it is answered."""
        return b'{"items":[%b],"next_cursor":%b}' % (self.items or b"", json.dumps(self.next_cursor).encode())


async def write(
    diary: Diary, action: str, scope: str | None, changes: list[RecordWrite], epoch: str | None = None
) -> list[WriteResult]:
    """Decides and stores the changes in order, in one transaction and one round trip; durable once it returns.

    Raises ResyncRequired where `epoch`, of which the base versions speak, is over.
    """
    rows = await diary.database.call_together(
        WRITE_RECORDS,
        diary.caller.session_id,
        diary.patient_id,
        scope,
        action,
        *sent(changes),
        diary.outbox_empty,
        epoch,
        diary.caller.request_id,
        diary.caller.address,
        weight=len(changes),
    )
    refuse(rows[0]["status"])
    return [WriteResult(*row[:RESULT_COLUMNS]) for row in rows]


async def read(diary: Diary, action: str, scope: str, kind: str, record_id: UUID) -> tuple[int, bytes]:
    """Version and JSON of one record, as this caller may see it."""
    [row] = await diary.database.call(
        "SELECT * FROM read_record_v1($1, $2, $3, $4, $5, $6, $7, $8)",
        diary.caller.session_id,
        diary.patient_id,
        scope,
        action,
        kind,
        record_id,
        diary.caller.request_id,
        diary.caller.address,
    )
    _refuse_read(row["outcome"])
    return row["item_version"], row["item_record"]


async def read_page(
    diary: Diary,
    action: str,
    scope: str | None,
    filters: Filters,
    limit: int,
    cursor: str | None = None,
    known_etags: tuple[str, ...] = (),
) -> RenderedPage:
    """One page, newest first, of the records that fit; without items if one of `known_etags` still names this state."""
    purpose = f"{action} {diary.patient_id} {diary.caller.user_id} {filters}"
    before_at, before_id = _open(diary.cursors, purpose, cursor)
    sought = (
        diary.caller.session_id,
        diary.patient_id,
        scope,
        action,
        filters.kinds,
        filters.from_,
        filters.to,
        filters.region,
        filters.character,
        filters.scale,
        filters.min_score,
        filters.treatment_id,
        before_at,
        before_id,
        limit,
    )
    weight = HEAVY if filters.sparse else 1
    row = await _page(diary, sought, known_etags, weight)
    _refuse_read(row["outcome"])
    last = row["last_id"] and (row["last_at"].isoformat(), str(row["last_id"]))
    return RenderedPage(row["etag"], row["items"], diary.cursors.seal(purpose, last) if last else None)


async def _page(diary: Diary, sought: tuple[Any, ...], known_etags: tuple[str, ...], weight: int) -> Any:
    """The page; for whoever does not write the diary as a replica drafts it, if the primary says that it holds."""
    by = diary.caller.request_id, diary.caller.address
    drafts = None
    if diary.caller.role != "patient":
        drafts = await diary.database.call_replica(READ_PAGE, *sought, (), True, None, None, *by, weight=weight)
    etag, ids = (drafts[0]["etag"], drafts[0]["ids"]) if drafts else (None, None)
    [page] = await diary.database.call_together(
        READ_PAGE, *sought, known_etags, False, etag, ids, *by, weight=1 if drafts else weight
    )
    return drafts[0] if drafts and page["outcome"] == "drafted" else page


async def read_versions(
    diary: Diary, action: str, scope: str, kind: str, record_id: UUID, limit: int, cursor: str | None = None
) -> bytes:
    """One page of a record's history, newest version first, as JSON."""
    purpose = f"{action} {diary.patient_id} {diary.caller.user_id} {record_id}"
    before = diary.cursors.open(purpose, cursor)[0] if cursor else None
    [row] = await diary.database.call(
        "SELECT * FROM read_versions_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        diary.caller.session_id,
        diary.patient_id,
        scope,
        action,
        kind,
        record_id,
        before,
        limit,
        diary.caller.request_id,
        diary.caller.address,
    )
    _refuse_read(row["outcome"])
    last = row["last_version"]
    return RenderedPage("", row["items"], diary.cursors.seal(purpose, (last,)) if last else None).body


def sent(changes: list[RecordWrite]) -> tuple[str, list[str]]:
    """The changes as write_records() takes them: JSON of what the database looks at, and the documents beside it."""
    return json.dumps([_item(change) for change in changes], ensure_ascii=False), [one.document for one in changes]


def _refuse_read(outcome: str) -> None:
    refuse(outcome)
    if outcome in ABSENCES:
        raise ABSENCES[outcome]


def _item(change: RecordWrite) -> dict[str, Any]:
    item = {"kind": change.kind, "id": change.id, "base_version": change.base_version, "deleted": change.deleted}
    if change.mutation_id is not None:
        item["mutation_id"] = change.mutation_id
    if change.reoffer is not None:
        item["reoffer"], item["was_version"] = change.reoffer
    return item | (change.columns or {})


def _open(cursors: Cursors, purpose: str, cursor: str | None) -> tuple[datetime | None, UUID | None]:
    if cursor is None:
        return None, None
    at, record_id = cursors.open(purpose, cursor)
    if not isinstance(at, str) or not isinstance(record_id, str):
        raise InvalidCursor
    return datetime.fromisoformat(at), UUID(record_id)
