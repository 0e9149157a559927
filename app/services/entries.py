"""Diary entries: what a phone may do with one, in terms of records."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.domain.entries import facts, scale_ages
from app.domain.moments import local_date, utc_offset
from app.errors import Conflict, Gone, InsufficientScope, NotFound, Stale
from app.schemas.entries import SCALES, EntryFields, EntryIn
from app.services import records
from app.services.records import Change, Diary, Filters, Outcome, Page

READ, WRITE = "entries:read", "entries:write"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as stored JSON with its version; `created` tells a new one from a repeated request."""

    version: int
    record: bytes
    created: bool = False


async def create(diary: Diary, body: EntryIn) -> Entry:
    """Stores a new entry. The same content again answers the entry as it is now; other content is a Conflict."""
    outcome = await _write(diary, "entries.create", change_of(body, body.id, 0))
    if outcome.status == "outside_window":
        raise InsufficientScope
    if outcome.status == "conflict":
        if outcome.deleted:
            raise Gone
        raise Conflict(current=outcome.record, etag=_etag(outcome))
    return _entry(outcome)


async def replace(diary: Diary, entry_id: UUID, base_version: int, body: EntryFields) -> Entry:
    """Puts new content in the place of version `base_version`; content that is already there is no change."""
    outcome = await _write(diary, "entries.replace", change_of(body, str(entry_id), base_version))
    return _entry(_accepted(outcome))


async def revise(
    diary: Diary,
    entry_id: UUID,
    base_version: int,
    patch: dict[str, Any],
    validate: Callable[[dict[str, Any]], EntryFields],
) -> Entry:
    """Applies a merge patch (RFC 7396) to version `base_version`; one that changes nothing is no change."""
    version, current = await records.read(diary, "entries.merge", WRITE, "entry", entry_id)
    own = {name: value for name, value in json.loads(current).items() if name in EntryFields.model_fields}
    merged = _merge(own, patch)
    if merged == own:
        return Entry(version, current)
    if version != base_version:
        raise Stale(current=current, etag=f'"{version}"')
    return await replace(diary, entry_id, base_version, validate(merged))


async def delete(diary: Diary, entry_id: UUID, base_version: int) -> None:
    """Deletes version `base_version` of an entry; deleting it again is no error."""
    change = Change(kind="entry", id=str(entry_id), base_version=base_version, deleted=True)
    outcome = await _write(diary, "entries.delete", change)
    if outcome.status != "unchanged":
        _accepted(outcome)


async def read(diary: Diary, entry_id: UUID) -> Entry:
    """One entry as this caller may see it."""
    version, record = await records.read(diary, "entries.read", READ, "entry", entry_id)
    return Entry(version, record)


async def read_page(
    diary: Diary, filters: Filters, limit: int, cursor: str | None, known_etags: tuple[str, ...]
) -> Page:
    """One page of entries, newest first."""
    return await records.read_page(diary, "entries.list", READ, filters, limit, cursor, known_etags)


async def read_versions(diary: Diary, entry_id: UUID, limit: int, cursor: str | None) -> bytes:
    """One page of an entry's history as JSON, newest version first."""
    return await records.read_versions(diary, "entries.history", READ, "entry", entry_id, limit, cursor)


def change_of(body: EntryFields, entry_id: str, base_version: int) -> Change:
    """The entry as a change of a record: its document, and the facts that SQL filters by."""
    day = local_date(body.occurred_at).isoformat()
    known = facts(body)
    document = body.model_dump_json(exclude={"id", "note"}, exclude_none=True).encode()
    return Change(
        kind="entry",
        id=entry_id,
        base_version=base_version,
        document=b'{"local_date":"%b",%b' % (day.encode(), document[1:]),
        columns={
            "occurred_at": body.occurred_at.isoformat(),
            "utc_offset": utc_offset(body.occurred_at),
            "time_zone": body.time_zone,
            "local_date": day,
            "recorded_at": body.recorded_at and body.recorded_at.isoformat(),
            "performer": body.performer,
            "note": body.note,
            "regions": known.regions,
            "characters": known.characters,
            "worst_score": known.worst_score,
            "scale": known.scale,
            "duration_minutes": known.duration_minutes,
            "scale_birth_dates": {
                code: (first.isoformat(), last.isoformat()) for code, (first, last) in scale_ages(body, SCALES).items()
            },
        },
    )


async def _write(diary: Diary, action: str, change: Change) -> Outcome:
    [outcome] = await records.write(diary, action, WRITE, [change])
    return outcome


def _accepted(outcome: Outcome) -> Outcome:
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


def _entry(outcome: Outcome) -> Entry:
    assert outcome.version is not None  # noqa: S101 - accepted outcomes have both
    assert outcome.record is not None  # noqa: S101
    return Entry(outcome.version, outcome.record, outcome.status == "created")


def _etag(outcome: Outcome) -> str:
    return f'"{outcome.version}"'


def _merge(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value) if isinstance(value, dict) else value
    return result
