"""Records of any kind: everything that is written to a diary or read from it goes through these few calls."""

import json
import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from math import ceil
from operator import itemgetter
from typing import Any, Literal
from uuid import UUID

from app.errors import ConsentChanged, Gone, InvalidCursor, NotFound, Problem, QuotaUsed
from app.postgres.functions import Function
from app.schemas.kinds import BY_NAME
from app.security.cursors import Cursors
from app.services import costs
from app.services.access import Diary, refuse

WRITE_RECORDS = Function(
    "write_records_v1",
    "session uuid, user uuid, patient uuid, scope text, action text, items json, documents text[],"
    " outbox_empty boolean, epoch uuid, request uuid, address inet",
    key="patient",
)
WRITE_IMPORTS = Function("write_imports_v1", WRITE_RECORDS.parameters, key="patient")
READ_PAGE = Function(
    "read_page_v1",
    "session uuid, user uuid, patient uuid, scope text, action text, kinds text[], first_day date, last_day date,"
    " region text, character text, scale text, min_score numeric, treatment uuid, planned_to timestamptz,"
    " before_at timestamptz, before_id uuid, consent text, limit integer, known_etags text[], drafting boolean,"
    " draft text, drafted uuid[], request uuid, address inet",
)
READ_RECORD = Function(
    "read_record_v1",
    "session uuid, user uuid, patient uuid, scope text, action text, kind text, id uuid, request uuid, address inet",
)
READ_VERSIONS = Function(
    "read_versions_v1",
    "session uuid, user uuid, patient uuid, scope text, action text, kind text, id uuid, before_version integer,"
    " consent text, limit integer, request uuid, address inet",
)
UNTIL = re.compile(r"u([0-9]{1,12})")  # in an ETag: the second from which its page has more on it
ABSENCES: dict[str, type[Problem]] = {"missing": NotFound, "gone": Gone, "consent_changed": ConsentChanged}


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
    undeletes: bool = False  # brings back what version `base_version` deleted, as it was before
    after_refused: bool = False  # what was to make the base version was refused: it may since be that of somebody else
    reoffer: tuple[str, int] | None = None  # the epoch before a restore, and the version that this was there


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a change, and the record as it is now (None where it is deleted or not the caller's kind).

    `id` is another than that of the change where the diary has the record that this was imported from already.

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
        "not_theirs",
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


_of_result = itemgetter(*(field.name for field in fields(WriteResult)))  # a row has its place in a group besides


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

    @property
    def planned(self) -> bool:
        """Whether the changes of plans are among them."""
        return self.kinds is None or "treatment_change" in self.kinds

    @property
    def passing(self) -> bool:
        """Whether they may be passed among all that happened, of which there is most."""
        return self.sparse and (self.kinds is None or any(_happens(kind) for kind in self.kinds))


def _happens(kind: str) -> bool:
    return kind in BY_NAME and BY_NAME[kind].holds == "moment"


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
    items, documents = sent(changes)
    imported = any(change.columns and "source_record_id" in change.columns for change in changes)
    call = (WRITE_IMPORTS if imported else WRITE_RECORDS)(
        **diary.asked(action),
        scope=scope,
        items=items,
        documents=documents,
        outbox_empty=diary.outbox_empty,
        epoch=epoch,
    )
    rows = await diary.database.call_grouped(call, diary.caller.user_id, cost=len(changes))
    if rows[0]["status"] == "quota_used":
        raise QuotaUsed(retry_after=_seconds_left(diary.database.clock.now()))
    refuse(rows[0]["status"])
    return [WriteResult(*_of_result(row)) for row in rows]


def _seconds_left(now: datetime) -> int:
    """How long the day still lasts, which is UTC's, as for the quota."""
    midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    return ceil((midnight - now).total_seconds())


async def read(diary: Diary, action: str, scope: str, kind: str, record_id: UUID) -> tuple[int, bytes]:
    """Version and JSON of one record, as this caller may see it."""
    call = READ_RECORD(**diary.asked(action), scope=scope, kind=kind, id=record_id)
    [row] = await diary.database.call_alone(call, diary.caller.user_id)
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
    planned_to: datetime | None = None,
) -> RenderedPage:
    """One page, newest first, of the records that fit; without items if one of `known_etags` still names this state.

    Of what is agreed and of changes of plans it has what begins until `planned_to`, which is now; None: all there is.
    """
    purpose = f"{action} {diary.patient_id} {diary.caller.user_id} {filters}"
    before_at, before_id, consent = _open(diary.cursors, purpose, cursor)
    sought = {
        "kinds": filters.kinds,
        "first_day": filters.from_,
        "last_day": filters.to,
        "region": filters.region,
        "character": filters.character,
        "scale": filters.scale,
        "min_score": filters.min_score,
        "treatment": filters.treatment_id,
        "planned_to": planned_to,
        "before_at": before_at,
        "before_id": before_id,
        "consent": consent,
        "limit": limit,
    }
    asked = {**diary.asked(action), "scope": scope, **sought}
    with costs.stopped_counts(diary.charge):
        row = await _page(diary, asked, _states(known_etags, planned_to), alone=filters.sparse)
    _refuse_read(row["outcome"])
    diary.charge((row["plan_bytes"] or 0) // (costs.PLAN_BYTES if filters.planned else costs.NAMED_BYTES))
    if filters.passing and row["items"] is not None:
        diary.charge(_head(row["etag"]) // costs.PASSED)
    last = row["last_id"] and (row["last_at"].isoformat(), str(row["last_id"]), row["consent"])
    page = RenderedPage(row["etag"], row["items"], diary.cursors.seal(purpose, last) if last else None)
    if planned_to is not None:
        return _until(page, row["planned_at"], known_etags)
    return page if filters.to is None else _of_past_days(page, known_etags)


def _head(etag: str) -> int:
    """How many changes the diary has, of its ETag."""
    return int(etag.split("-")[1])


def _states(etags: tuple[str, ...], now: datetime | None) -> tuple[str, ...]:
    """The states of the diary that the ETags name, but for those of pages that something planned belongs on by now."""
    parts = [etag.partition(".") for etag in etags]
    return tuple(state for state, _, until in parts if not _is_over(until, now))


def _is_over(until: str, now: datetime | None) -> bool:
    named = UNTIL.fullmatch(until)
    return named is not None and now is not None and int(named[1]) <= now.timestamp()


def _until(page: RenderedPage, planned_at: datetime | None, known_etags: tuple[str, ...]) -> RenderedPage:
    """The page with an ETag that holds until something planned is due, and where nothing is, while nothing moves."""
    if page.items is None:
        return replace(page, etag=next((tag for tag in known_etags if tag.startswith(f"{page.etag}.")), page.etag))
    return page if planned_at is None else replace(page, etag=f"{page.etag}.u{int(planned_at.timestamp())}")


def _of_past_days(page: RenderedPage, known_etags: tuple[str, ...]) -> RenderedPage:
    """The page with an ETag that also tells its content, which stays while the diary goes on after these days."""
    if page.items is None:
        known = next((tag for tag in known_etags if tag.startswith(f"{page.etag}.")), page.etag)
        return replace(page, etag=known)
    content = sha256(page.body).hexdigest()[:32]
    same = any(tag.endswith(f".{content}") for tag in known_etags)
    return replace(page, etag=f"{page.etag}.{content}", items=None if same else page.items)


async def _page(diary: Diary, asked: dict[str, Any], known_etags: tuple[str, ...], *, alone: bool) -> Any:
    """The page; for whoever does not write the diary as a replica drafts it, if the primary says that it holds."""
    drafts, account = None, diary.caller.user_id
    if diary.caller.role != "patient":
        drafts = await diary.database.call_replica(READ_PAGE(**asked, drafting=True), account, alone=alone)
    if not drafts:
        [page] = await diary.database.call_grouped(READ_PAGE(**asked, known_etags=known_etags), account, alone=alone)
        return page
    [draft] = drafts
    signed = READ_PAGE(**asked, known_etags=known_etags, draft=draft["etag"], drafted=draft["ids"])
    [page] = await diary.database.call_grouped(signed, account)
    return draft if page["outcome"] == "drafted" else page


async def read_versions(
    diary: Diary, action: str, scope: str, kind: str, record_id: UUID, limit: int, cursor: str | None = None
) -> bytes:
    """One page of a record's history, newest version first, as JSON."""
    purpose = f"{action} {diary.patient_id} {diary.caller.user_id} {record_id}"
    before, consent = diary.cursors.open(purpose, cursor) if cursor else (None, None)
    asked = {**diary.asked(action), "scope": scope, "kind": kind, "id": record_id}
    call = READ_VERSIONS(**asked, before_version=before, consent=consent, limit=limit)
    [row] = await diary.database.call_alone(call, diary.caller.user_id)
    _refuse_read(row["outcome"])
    last = row["last_version"] and (row["last_version"], row["consent"])
    return RenderedPage("", row["items"], diary.cursors.seal(purpose, last) if last else None).body


async def read_version(
    diary: Diary, action: str, scope: str, kind: str, record_id: UUID, version: int
) -> dict[str, Any] | None:
    """The record as of this version; None where there is none that the caller may see, or it is a deletion."""
    asked = {**diary.asked(action), "scope": scope, "kind": kind, "id": record_id}
    call = READ_VERSIONS(**asked, before_version=version + 1, limit=1)
    [row] = await diary.database.call_alone(call, diary.caller.user_id)
    _refuse_read(row["outcome"])
    [found] = json.loads(b"[%b]" % (row["items"] or b"{}"))
    return found.get("record") if found.get("version") == version else None


def sent(changes: list[RecordWrite]) -> tuple[str, list[str]]:
    """The changes as write_records_v1() takes them: JSON of what the database looks at, and the documents beside it."""
    return json.dumps([_item(change) for change in changes], ensure_ascii=False), [one.document for one in changes]


def _refuse_read(outcome: str) -> None:
    refuse(outcome)
    if outcome in ABSENCES:
        raise ABSENCES[outcome]


def _item(change: RecordWrite) -> dict[str, Any]:
    """The change as the type write_item reads it."""
    record = {"kind": change.kind, "id": change.id, "deleted": change.deleted} | (change.columns or {})
    item: dict[str, Any] = {"sent": record, "base_version": change.base_version}
    if "scale_birth_dates" in record:
        item["scale_birth_dates"] = record.pop("scale_birth_dates")
    if change.mutation_id is not None:
        item["mutation_id"] = change.mutation_id
    if change.undeletes:
        item["undeletes"] = True
    if change.after_refused:
        item["after_refused"] = True
    if change.reoffer is not None:
        item["reoffer"], item["was_version"] = change.reoffer
    return item


def _open(cursors: Cursors, purpose: str, cursor: str | None) -> tuple[datetime | None, UUID | None, str | None]:
    if cursor is None:
        return None, None, None
    at, record_id, consent = cursors.open(purpose, cursor)
    if not isinstance(at, str) or not isinstance(record_id, str) or not isinstance(consent, str):
        raise InvalidCursor
    return datetime.fromisoformat(at), UUID(record_id), consent
