"""Sync for phones that are mostly offline: push what was done, pull what came after, compare.

A push goes down the one write path; a pull walks the patient's dense order of changes. docs/sync.md is the protocol.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from app.domain.moments import render_instant
from app.errors import Fault, Gone, InsufficientScope, Invalid, NotFound, ResyncRequired
from app.postgres.functions import Function
from app.schemas.base import Json
from app.schemas.kinds import BY_NAME
from app.schemas.records import AnyKind
from app.schemas.since import SCHEMA
from app.schemas.sync import MOST_COMPARED, DigestIn, Mutation, PushIn, RefusedItem, refused_item
from app.services import access, costs, record_store, records
from app.services.access import Caller, Diary
from app.services.record_store import RecordWrite, WriteResult
from app.services.records import Validate

SKEWED, MOST_SKEW = 120, 2**31 - 1  # seconds
STATUSES = {"missing": "conflict", "outside_window": "forbidden"}
NOT_THEIRS = Fault("/op", "not_theirs", records.NOT_THEIRS)
REUSED = Fault("/mutation_id", "reused", "It was used for other content; choose a new one.")
REFUSED = {"reused": REUSED, "not_theirs": NOT_THEIRS}

READ_CHANGES = Function(
    "read_changes_v1",
    "session uuid, user uuid, patient uuid, action text, epoch uuid, seq bigint, nonce uuid, grant uuid,"
    " grant_version integer, limit integer, request uuid, address inet",
)
COMPARE_DIARY = Function(
    "compare_diary_v1",
    "session uuid, user uuid, patient uuid, action text, ids uuid[], versions integer[], after bigint, limit integer,"
    " request uuid, address inet",
)
READ_HEADS = Function("read_heads_v1", "session uuid, user uuid")
PLACE = ("epoch", "seq", "nonce", "grant", "grant_version")  # what a cursor holds, after the schema


async def push(diary: Diary, body: PushIn, validate: Validate, now: datetime) -> Json:
    """Decides the mutations in their order, in one transaction; a refused one blocks no other. Durable on return."""
    changes: list[RecordWrite] = []
    decided: list[tuple[int, Mutation]] = []  # by the database, each with its place
    results: dict[int, Json] = {}  # by place
    records_refused: set[str] = set()
    made: dict[str, Json] = {}  # by earlier mutations, where it may have to be kept
    for place, item in enumerate(body.mutations):
        mutation = _mutation(item, validate)
        try:
            if isinstance(mutation, RefusedItem):
                raise Invalid(faults=mutation.faults)
            change = await _change(diary, mutation, validate, now, made)
        except Invalid as invalid:
            results[place] = _invalid(place, mutation, invalid.faults)
            if mutation.id is not None:
                records_refused.add(mutation.id)
            await asyncio.sleep(0)  # to tell what is wrong with a hundred takes long: others are answered in between
            continue
        if mutation.base_version and mutation.id in records_refused:
            change = replace(change, after_refused=True)
        changes.append(change)
        decided.append((place, mutation))
    said = replace(diary, outbox_empty=body.outbox_empty and not results)
    outcomes = await record_store.write(said, "sync.push", None, changes, body.epoch)
    diary.charge(len(changes) // costs.MUTATIONS)
    skew = round((now - body.client_now).total_seconds())
    if abs(skew) >= SKEWED:
        note = "UPDATE sessions SET clock_skew_seconds = $2 WHERE id = $1"
        await diary.database.execute(note, diary.caller.session_id, max(-MOST_SKEW, min(MOST_SKEW, skew)))
    for (place, mutation), outcome in zip(decided, outcomes, strict=False):  # an empty push has an outcome too
        results[place] = _result(place, mutation, outcome)
    diary.database.tally.mutations.update([result["status"] for result in results.values()])
    return {
        "server_now": render_instant(now),
        "clock_skew_seconds": skew,
        "epoch": str(outcomes[-1].epoch),
        "head": outcomes[-1].head,
        "results": [results[place] for place in range(len(body.mutations))],
    }


async def pull(diary: Diary, cursor: str | None, limit: int, schema: int, now: datetime) -> bytes:
    """What came after the cursor, as the answer's JSON; raises ResyncRequired where that place is gone.

    `schema` is the one that the caller knows; a caller who knew an older one at the cursor has passed over something.
    """
    purpose = f"pull {diary.patient_id} {diary.caller.user_id}"
    schema = min(schema, SCHEMA)
    place: dict[str, Any] = {}
    if cursor is not None:
        known, *values = diary.cursors.open(purpose, cursor)
        if cast(int, known) < schema:
            raise ResyncRequired("reload")
        place = dict(zip(PLACE, values, strict=True))
    [row] = await diary.database.call_grouped(
        READ_CHANGES(**diary.asked("sync.pull"), **place, limit=limit),
        diary.caller.user_id,
        cost=1 + limit // 100,
        alone=diary.caller.role != "patient",  # a window may hide much
    )
    access.refuse(row["outcome"])
    grant = row["grant_id"] and str(row["grant_id"])
    nonce = row["nonce"] and str(row["nonce"])
    after = (schema, str(row["epoch"]), row["seq"], nonce, grant, row["grant_version"])
    rest = {
        "cursor": diary.cursors.seal(purpose, after),
        "has_more": row["more"],
        "epoch": str(row["epoch"]),
        "head": row["head"],
        "server_now": render_instant(now),
    }
    return b'{"changes":[%b],%b' % (row["changes"], json.dumps(rest).encode()[1:])


async def compare(diary: Diary, body: DigestIn) -> bytes:
    """What both sides do not hold alike of one stretch of the diary's changes, as the answer's JSON."""
    [row] = await diary.database.call_alone(
        COMPARE_DIARY(
            **diary.asked("sync.digest"),
            ids=[one.id for one in body.records],
            versions=[one.version for one in body.records],
            after=body.after,
            limit=MOST_COMPARED,
        ),
        diary.caller.user_id,
    )
    access.refuse(row["outcome"])
    diary.charge(costs.DIGEST)
    rest = {"compared_to": row["compared_to"], "epoch": str(row["epoch"]), "head": row["head"]}
    return b'{"differences":[%b],%b' % (row["differences"], json.dumps(rest).encode()[1:])


async def read_heads(database: Any, caller: Caller) -> list[Json]:
    """How far each diary has come that the caller may see."""
    rows = await database.call_alone(READ_HEADS(session=caller.session_id, user=caller.user_id), caller.user_id)
    return [{"patient_id": str(row["patient_id"]), "epoch": str(row["epoch"]), "head": row["head"]} for row in rows]


def _mutation(item: object, validate: Validate) -> Mutation | RefusedItem:
    """The item of a push, or why it is none."""
    if isinstance(item, Mutation | RefusedItem):
        return item
    try:
        return cast(Mutation, validate(Mutation, cast(Json, item)))
    except Invalid as invalid:
        return refused_item(item, invalid.faults)


async def _change(
    diary: Diary, mutation: Mutation, validate: Validate, now: datetime, made: dict[str, Json]
) -> RecordWrite:
    """The mutation as a change of a record; raises Invalid, pointing into the mutation."""
    kind = BY_NAME[mutation.kind]
    if (mutation.id == str(diary.patient_id)) != (kind.holds == "singleton"):
        raise Invalid(faults=(Fault("/id", "reserved", "The patient's id is the profile's, and only that."),))
    if mutation.version is not None and mutation.reoffer is None:
        raise Invalid(faults=(Fault("/reoffer", "missing", "What was that version? Name its epoch."),))
    if mutation.op == "delete":
        return _deletion(mutation, kind)
    if mutation.op == "undelete":
        return _undeletion(mutation, kind)
    if mutation.data is None:
        raise Invalid(faults=(Fault("/data", "missing", "A put needs the record's fields."),))
    if mutation.base_version is None:
        raise Invalid(faults=(Fault("/base_version", "missing", "A put needs the version that it changes."),))
    try:
        body = await _body(kind, diary, mutation, validate, now, made)
    except Invalid as invalid:
        raise Invalid(faults=_inside("/data", invalid.faults)) from None
    known = {"mutation_id": mutation.mutation_id, "reoffer": _reoffer(mutation)}
    return records.change_of(kind, body, mutation.id, mutation.base_version, **known)


async def _body(
    kind: AnyKind, diary: Diary, mutation: Mutation, validate: Validate, now: datetime, made: dict[str, Json]
) -> Any:
    """What the mutation makes of the record; raises Invalid, pointing into its data."""
    body = validate(kind.fields, cast(Json, mutation.data))
    records.check_time(kind, body, now)
    if kind.newest > mutation.schema_version:
        body = await _with_newer(kind, diary, mutation, body, validate, made)
    if kind.is_judged:  # of most kinds anybody may write anything: a push of a hundred asks for none
        try:
            await _check_author(kind, diary, mutation, body)
        except (NotFound, Gone, InsufficientScope):  # these the write path tells apart; it may be of this very push
            records.check_dates(kind, diary, body)
        if mutation.base_version == 0 and mutation.reoffer is None:
            await records.check_new(kind, diary, UUID(mutation.id), body)
    return body


async def _with_newer(
    kind: AnyKind, diary: Diary, mutation: Mutation, body: Any, validate: Validate, made: dict[str, Json]
) -> Any:
    """The body with what its base version has of members that its app did not know."""
    schema, record_id = mutation.schema_version, UUID(mutation.id)
    if mutation.id in made:
        body = records.completed(kind, body, made[mutation.id], schema, validate)
    elif mutation.reoffer is not None:  # in the place of whatever is there
        with suppress(NotFound, Gone, InsufficientScope):
            body = await records.with_newer(kind, diary, record_id, None, body, schema, validate)
    elif mutation.base_version:
        with suppress(NotFound, Gone, InsufficientScope):  # these the write path tells apart
            body = await records.with_newer(kind, diary, record_id, mutation.base_version, body, schema, validate)
    made[mutation.id] = body.model_dump(mode="json", exclude_none=True)
    return body


async def _check_author(kind: AnyKind, diary: Diary, mutation: Mutation, body: Any) -> None:
    """Raises Invalid where the caller's role may not put this; an offer takes the place of whatever is there."""
    record_id = UUID(mutation.id)
    if mutation.reoffer is None:
        await records.check_author(kind, diary, record_id, mutation.base_version, body)
        return
    try:
        await records.check_author(kind, diary, record_id, None, body)
    except NotFound:
        await records.check_author(kind, diary, record_id, 0, body)


def _deletion(mutation: Mutation, kind: AnyKind) -> RecordWrite:
    if kind.holds == "singleton":
        raise Invalid(faults=(Fault("/op", "not_deletable", "The profile stays; take out of it what is wrong."),))
    return RecordWrite(
        kind=kind.name,
        id=mutation.id,
        base_version=mutation.base_version,
        mutation_id=mutation.mutation_id,
        deleted=True,
        reoffer=_reoffer(mutation),
    )


def _undeletion(mutation: Mutation, kind: AnyKind) -> RecordWrite:
    if kind.holds == "singleton":
        raise Invalid(faults=(Fault("/op", "not_deletable", "The profile is never deleted."),))
    if mutation.data is not None:
        raise Invalid(faults=(Fault("/data", "unexpected", "What was deleted comes back as it was; change it then."),))
    if not mutation.base_version:
        raise Invalid(faults=(Fault("/base_version", "missing", "An undelete needs the version of the deletion."),))
    if mutation.reoffer is not None:
        raise Invalid(faults=(Fault("/reoffer", "unexpected", "Offer the record itself, with a put."),))
    return RecordWrite(
        kind=kind.name,
        id=mutation.id,
        base_version=mutation.base_version,
        mutation_id=mutation.mutation_id,
        undeletes=True,
    )


def _reoffer(mutation: Mutation) -> tuple[str, int] | None:
    if mutation.reoffer is None or mutation.version is None:
        return None
    return mutation.reoffer, mutation.version


def _result(place: int, mutation: Mutation, outcome: WriteResult) -> Json:
    result: Json = {
        "mutation_id": mutation.mutation_id,
        "id": mutation.id,
        "status": STATUSES.get(outcome.status, outcome.status),
    }
    if outcome.status in REFUSED:
        return _invalid(place, mutation, (REFUSED[outcome.status],))
    if outcome.version is not None:
        result |= {"version": outcome.version, "change_seq": outcome.change_seq}
    is_elsewhere = str(outcome.id) != mutation.id and outcome.version is not None
    if is_elsewhere:
        result["same_as"] = str(outcome.id)
    # Under this version the phone has other content where a later one was offered again, and none where it was deleted.
    other = mutation.op == "undelete" or (mutation.reoffer and outcome.status == "unchanged")
    if outcome.overtaken or is_elsewhere or result["status"] == "conflict" or other:
        result["deleted"] = bool(outcome.deleted)
        if outcome.record is not None:
            result["record"] = json.loads(outcome.record)
    return result


def _invalid(place: int, mutation: Mutation | RefusedItem, faults: tuple[Fault, ...]) -> Json:
    ids = {"mutation_id": mutation.mutation_id, "id": mutation.id}
    return {
        **{name: sent for name, sent in ids.items() if sent is not None},
        "status": "invalid",
        "errors": [vars(fault) for fault in _inside(f"/mutations/{place}", faults)],
    }


def _inside(place: str, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """The faults of what stands at this place, pointing into the whole."""
    return tuple(replace(fault, pointer=place + fault.pointer) for fault in faults)
