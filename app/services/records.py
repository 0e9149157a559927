"""What a phone may do with a record, whatever its kind: create, replace, revise, delete, read back."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, cast
from uuid import UUID

from app.domain.moments import at_place, differs_from_zone, is_plausible, local_date, parse_date, utc_offset
from app.errors import Conflict, Fault, Gone, InsufficientScope, Invalid, NotFound, Stale
from app.schemas.base import Json
from app.schemas.envelope import RecordFields
from app.schemas.records import Facts, Fields, RecordKind
from app.schemas.since import keep_inside, keep_newer
from app.services import costs, record_store
from app.services.access import Diary
from app.services.record_store import Filters, RecordWrite, RenderedPage, WriteResult

NOT_THEIRS = "What was deleted is brought back by its patient, or by who deleted it."
IMPLAUSIBLE = "It must lie between the year 2000 and 48 hours from now; is the phone's clock right?"

Validate = Callable[[type[Any], Json], Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as stored JSON with its version; `created` tells a new one from a repeated request."""

    version: int
    record: bytes
    created: bool = False


async def create(kind: RecordKind[Fields], diary: Diary, record_id: str, body: Fields) -> Stored:
    """Stores a new record. The same content again answers the record as it is now; other content is a Conflict."""
    if (record_id == str(diary.patient_id)) != (kind.holds == "singleton"):
        raise Invalid(faults=(Fault("/id", "reserved", "Choose another id: this one is the profile's."),))
    check_time(kind, body, diary.database.clock.now())
    await check_author(kind, diary, UUID(record_id), 0, body)
    await check_new(kind, diary, UUID(record_id), body)
    outcome = await _write(kind, diary, "create", change_of(kind, body, record_id, 0))
    if outcome.status == "outside_window":
        raise InsufficientScope
    if outcome.status == "conflict":
        if outcome.deleted:
            raise Gone
        raise Conflict(current=outcome.record, etag=_etag(outcome))
    return _stored(outcome)


async def replace(
    kind: RecordKind[Fields],
    diary: Diary,
    record_id: UUID,
    base_version: int,
    body: Fields,
    schema: int,
    validate: Validate,
) -> Stored:
    """Puts new content in the place of version `base_version`; content that is already there is no change.

    Members that came after the schema of this number stay, where they are not sent.
    """
    check_time(kind, body, diary.database.clock.now())
    if kind.newest > schema:
        body = await with_newer(kind, diary, record_id, base_version, body, schema, validate)
    await check_author(kind, diary, record_id, base_version, body)
    return await _put(kind, diary, record_id, base_version, body)


def check_time(kind: RecordKind[Fields], body: Fields, now: datetime) -> None:
    """Raises Invalid where no diary holds this instant. What came in on one way can so be changed on every other."""
    if not is_plausible(body.occurred_at, now, planned=kind.holds == "interval"):
        raise Invalid(faults=(Fault("/occurred_at", "implausible", IMPLAUSIBLE),))


async def check_new(kind: RecordKind[Fields], diary: Diary, record_id: UUID, body: Fields) -> None:
    """Raises Invalid where a new record is not true now. One that is there was, when it came: the write path tells."""
    faults = tuple(kind.new_rule(body, diary.database.clock.now())) if kind.new_rule else ()
    if not faults:
        return
    try:
        await _read_to_change(kind, diary, record_id)
    except NotFound:
        raise Invalid(faults=faults) from None
    except (Gone, InsufficientScope):
        return


async def check_author(
    kind: RecordKind[Fields], diary: Diary, record_id: UUID, base_version: int | None, body: Fields
) -> None:
    """Raises Invalid where the caller may not put this in the place of that version, or of any (None), now."""
    if not kind.is_judged or base_version == 0:
        _check(kind, diary, body, None)
        return
    version, current = await _read_to_change(kind, diary, record_id)
    if base_version in (None, version):
        _check(kind, diary, body, json.loads(current))
    else:  # it is stale, or a repetition, whoever wrote it
        check_dates(kind, diary, body)


def check_dates(kind: RecordKind[Fields], diary: Diary, body: Fields) -> None:
    """Raises Invalid where what this says of a time is not true now, whatever was there before."""
    _raise(_dates(kind, diary, body, None))


async def revise(
    kind: RecordKind[Fields],
    diary: Diary,
    record_id: UUID,
    base_version: int,
    patch: Json,
    schema: int,
    validate: Validate,
) -> Stored:
    """Applies a merge patch (RFC 7396) to version `base_version`; one that changes nothing is no change."""
    version, current = await _read_to_change(kind, diary, record_id)
    diary.charge(len(current) // costs.MERGED_BYTES)
    own = _own(kind, json.loads(current))
    merged = _merge(own, patch)
    if merged != own and version != base_version:
        raise Stale(current=current, etag=f'"{version}"')
    body = validate(kind.fields, merged)
    check_time(kind, body, diary.database.clock.now())
    if kind.newest > schema:
        body = _with_newer_in_lists(kind, body, own, patch, schema, validate)
    _check(kind, diary, body, own)
    return await _put(kind, diary, record_id, version, body)


async def with_newer(
    kind: RecordKind[Fields],
    diary: Diary,
    record_id: UUID,
    base_version: int | None,
    body: Fields,
    schema: int,
    validate: Validate,
) -> Fields:
    """The body with what version `base_version` (or any, None) has of members that came after this schema.

    Of that version, not of the current one: sent again after a lost answer, it makes the same content again.
    """
    if base_version is None:
        _, current = await _read_to_change(kind, diary, record_id)
        return completed(kind, body, json.loads(current), schema, validate)
    base = await record_store.read_version(
        diary, f"{kind.plural}.merge", kind.write_scope, kind.name, record_id, base_version
    )
    return body if base is None else completed(kind, body, base, schema, validate)


def completed(kind: RecordKind[Fields], body: Fields, base: Json, schema: int, validate: Validate) -> Fields:
    """The body with what `base` has of members that came after the schema of this number."""
    sent = body.model_dump(mode="json", exclude_none=True)
    keep_newer(body, sent, base, schema)
    return cast(Fields, validate(kind.fields, sent))


async def delete(kind: RecordKind[Fields], diary: Diary, record_id: UUID, base_version: int) -> None:
    """Deletes version `base_version` of a record; deleting it again is no error."""
    change = RecordWrite(kind=kind.name, id=str(record_id), base_version=base_version, deleted=True)
    outcome = await _write(kind, diary, "delete", change)
    if outcome.status != "unchanged":
        _accepted(outcome)


async def undelete(kind: RecordKind[Fields], diary: Diary, record_id: UUID, base_version: int) -> Stored:
    """Brings a record back as it was before version `base_version` deleted it; one that is not deleted stays as it is.

    Only the patient may, and who deleted it. Raises Gone where nobody knows what it was.
    """
    change = RecordWrite(kind=kind.name, id=str(record_id), base_version=base_version, undeletes=True)
    outcome = await _write(kind, diary, "undelete", change)
    if outcome.status == "not_theirs":
        raise InsufficientScope(NOT_THEIRS)
    if outcome.status == "conflict" and outcome.deleted and outcome.version != base_version:
        raise Stale("It was deleted once more: name the version of that deletion.", etag=f'"{outcome.version}"')
    return _stored(_accepted(outcome))


async def read(kind: RecordKind[Fields], diary: Diary, record_id: UUID) -> Stored:
    """One record as this caller may see it."""
    version, record = await record_store.read(diary, f"{kind.plural}.read", kind.read_scope, kind.name, record_id)
    return Stored(version, record)


async def read_page(
    kind: RecordKind[Fields],
    diary: Diary,
    filters: Filters,
    limit: int,
    cursor: str | None,
    known_etags: tuple[str, ...],
) -> RenderedPage:
    """One page of the records of this kind that fit, newest first."""
    return await record_store.read_page(
        diary, f"{kind.plural}.list", kind.read_scope, filters, limit, cursor, known_etags
    )


async def read_versions(
    kind: RecordKind[Fields], diary: Diary, record_id: UUID, limit: int, cursor: str | None
) -> bytes:
    """One page of a record's history as JSON, newest version first."""
    return await record_store.read_versions(
        diary, f"{kind.plural}.history", kind.read_scope, kind.name, record_id, limit, cursor
    )


def change_of(kind: RecordKind[Fields], body: Fields, record_id: str, base_version: int, **more: Any) -> RecordWrite:
    """The record as a change: its document, and the facts that SQL filters by."""
    day = local_date(at_place(body.occurred_at, body.time_zone)).isoformat()
    flag = '"offset_differs_from_zone":true,' if differs_from_zone(body.occurred_at, body.time_zone) else ""
    document = body.model_dump_json(exclude={"id", "note"}, exclude_none=True)
    return RecordWrite(
        kind=kind.name,
        id=record_id,
        base_version=base_version,
        document=f'{{"local_date":"{day}",{flag}{document[1:]}',
        columns=_columns(kind, body, day),
        **more,
    )


def columns_of(kind: RecordKind[Fields], record: Json) -> Facts:
    """The columns that a stored record should have, made anew of its document and note.

    Its day is as the document has it: rules of zones change, also those of the past, and what was answered stays.
    Raises ValueError where it is no record of this kind.
    """
    body = kind.fields.model_validate(_own(kind, record))
    return _columns(kind, body, parse_date(str(record.get("local_date"))).isoformat())


def _columns(kind: RecordKind[Fields], body: Fields, day: str) -> dict[str, Any]:
    return {
        "occurred_at": body.occurred_at.isoformat(),
        "utc_offset": utc_offset(body.occurred_at),
        "time_zone": body.time_zone,
        "local_date": day,
        "recorded_at": body.recorded_at and body.recorded_at.isoformat(),
        "performer": body.performer,
        "note": getattr(body, "note", None),
        **kind.columns(body),
        **_source(body),
    }


def _source(body: RecordFields) -> dict[str, str | None]:
    """The record of another system that it was imported from, if it was."""
    if body.source is None or body.source.record_id is None:
        return {}
    return {"source_system": body.source.system, "source_record_id": body.source.record_id}


async def _read_to_change(kind: RecordKind[Fields], diary: Diary, record_id: UUID) -> tuple[int, bytes]:
    return await record_store.read(diary, f"{kind.plural}.merge", kind.write_scope, kind.name, record_id)


def _with_newer_in_lists(
    kind: RecordKind[Fields], body: Fields, own: Json, patch: Json, schema: int, validate: Validate
) -> Fields:
    """The same of a patch: it leaves alone what it does not name, but a list in it stands for the whole."""
    sent = body.model_dump(mode="json", exclude_none=True)
    for name, member in kind.fields.model_fields.items():
        if isinstance(patch.get(name), list) and name in own:
            keep_inside(member, getattr(body, name), sent[name], own[name], schema)
    return cast(Fields, validate(kind.fields, sent))


async def _put(kind: RecordKind[Fields], diary: Diary, record_id: UUID, base_version: int, body: Fields) -> Stored:
    outcome = await _write(kind, diary, "replace", change_of(kind, body, str(record_id), base_version))
    if outcome.id != record_id:  # another record was imported from there
        raise Conflict(current=outcome.record, etag=_etag(outcome))
    return _stored(_accepted(outcome))


def _check(kind: RecordKind[Fields], diary: Diary, body: Fields, current: Json | None) -> None:
    """Raises Invalid where the caller may not write this in the place of that, now."""
    if not kind.is_judged:
        return
    present = None if current is None else kind.fields.model_validate(_own(kind, current))
    authorship = kind.author_rule(diary.caller.role, body, present) if kind.author_rule else ()
    _raise(chain(authorship, _dates(kind, diary, body, present)))


def _dates(kind: RecordKind[Fields], diary: Diary, body: Fields, present: Fields | None) -> Iterable[Fault]:
    return kind.dates_rule(body, present, diary.database.clock.now()) if kind.dates_rule else ()


def _raise(faults: Iterable[Fault]) -> None:
    found = tuple(faults)
    if found:
        raise Invalid(faults=found)


def _own(kind: RecordKind[Fields], record: Json) -> Json:
    """The record without what the server adds."""
    return {name: value for name, value in record.items() if name in kind.fields.model_fields}


async def _write(kind: RecordKind[Fields], diary: Diary, verb: str, change: RecordWrite) -> WriteResult:
    [outcome] = await record_store.write(diary, f"{kind.plural}.{verb}", kind.write_scope, [change])
    return outcome


def _accepted(outcome: WriteResult) -> WriteResult:
    if outcome.status == "missing":
        raise NotFound
    if outcome.status == "outside_window":
        raise InsufficientScope
    if outcome.status == "conflict":
        if outcome.deleted:
            raise Gone
        if outcome.record is None:  # the id belongs to a record of another kind
            raise NotFound
        raise Stale(current=outcome.record, etag=_etag(outcome))
    return outcome


def _stored(outcome: WriteResult) -> Stored:
    assert outcome.version is not None  # noqa: S101 - accepted outcomes have both
    assert outcome.record is not None  # noqa: S101
    return Stored(outcome.version, outcome.record, outcome.status == "created")


def _etag(outcome: WriteResult) -> str | None:
    return None if outcome.record is None else f'"{outcome.version}"'


def _merge(target: Any, patch: Json) -> Json:
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value) if isinstance(value, dict) else value
    return result
