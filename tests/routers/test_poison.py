"""An outbox that nothing can block: of a push, the items that nobody can store are refused, and the others written."""

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.errors import Invalid
from app.http import validation
from app.schemas.kinds import KINDS
from tests.answers import told
from tests.people import Phone, entry, profile, treatment, without_id
from tests.routers.test_sync import Connection, delete, pull_all, push, pushed, put, statuses
from tests.schemas.refusals import with_value

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
CANARY = "canary-4711"
NOTE = "/mutations/1/data/note"


async def push_raw(phone: Phone, *mutations: str) -> httpx.Response:
    """A push of mutations that are JSON already, or nearly."""
    body = f'{{"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": [{", ".join(mutations)}]}}'
    return await phone.http.post(
        f"{phone.diary}/sync/push", content=body.encode(errors="surrogateescape"), headers=JSON
    )


def noted(raw: str) -> str:
    """A mutation whose note is written like this."""
    return json.dumps(put("entry", entry(note=CANARY))).replace(f'"{CANARY}"', raw)


POISON = {
    "half an emoji": (noted(f'"{CANARY} \\ud83d"'), NOTE),
    "the other half": (noted(f'"\\ude00 {CANARY}"'), NOTE),
    "halves in the wrong order": (noted('"\\ude00\\ud83d"'), NOTE),
    "NUL": (noted(f'"{CANARY}\\u0000"'), NOTE),
    "bytes that are not UTF-8": (noted(f'"{CANARY} \udcf0\udc9f"'), NOTE),
    "a surrogate in bytes": (noted('"\udced\udca0\udc80"'), NOTE),
    "beyond a double": (noted("1e400"), NOTE),
    "NaN": (noted("NaN"), NOTE),
    "-Infinity": (noted("-Infinity"), NOTE),
    "beyond 2^53": (noted("9007199254740993"), NOTE),
    "a long number": (noted("0." + "1" * 65), NOTE),
    "a key twice": (noted('"a", "note": "b"'), NOTE),
    "a key twice inside": (noted('{"a": 1, "a": 2}'), f"{NOTE}/a"),
    "33 deep": (noted("[" * 30 + "]" * 30), NOTE),
    "very deep": (noted("[" * 5000 + "]" * 5000), NOTE),
    "very deep objects": (noted('{"a":' * 5000 + "1" + "}" * 5000), NOTE),
    "a key with NUL": (noted('{"\\u0000": 1}'), NOTE),
    "many members": (noted("{" + ",".join(f'"a{n}": 1' for n in range(300)) + "}"), NOTE),
    "deep down": (noted('"a", "source": {"app": "\\ud83d"}'), "/mutations/1/data/source/app"),
    "an envelope's key twice": (noted('"a"}, "op": "put", "x": {"a": 1'), "/mutations/1/op"),
    "half an emoji for an op": (json.dumps(put("entry", entry())).replace('"put"', '"\\ud83d"'), "/mutations/1/op"),
    "no object": ('"canary-4711"', "/mutations/1"),
    "null": ("null", "/mutations/1"),
    "a list": ("[]", "/mutations/1"),
    "NaN alone": ("NaN", "/mutations/1"),
}


@pytest.mark.parametrize(("poison", "pointer"), POISON.values(), ids=POISON)
async def test_an_item_that_cannot_be_read_is_invalid_alone(ada: Phone, poison: str, pointer: str) -> None:
    first, last = put("entry", entry(note='\\ ] } " 😀')), put("entry", entry())
    answer = await push_raw(ada, json.dumps(first), poison, json.dumps(last))
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert statuses(results) == ["created", "invalid", "created"]
    assert {fault["pointer"] for fault in results[1]["errors"]} == {pointer}
    assert all(fault["code"] and fault["detail"].endswith(".") for fault in results[1]["errors"])
    assert CANARY not in answer.text
    assert (await pull_all(ada, 200)).keys() == {first["id"], last["id"]}
    assert (await ada.get(f"/entries/{first['id']}")).json()["note"] == '\\ ] } " 😀'


V1 = "8f3c2a10-9d4e-11f0-8a2b-0242ac120002"


@pytest.mark.parametrize(
    ("fields", "member"),
    [
        ({"id": "0195D3F4-8E2A-7C31-9B1E-5A2F6C7D8E90"}, "id"),
        ({"id": V1}, "id"),
        ({"id": CANARY}, "id"),
        ({"id": None}, "id"),
        ({"mutation_id": V1}, "mutation_id"),
        ({"mutation_id": V1.upper()}, "mutation_id"),
        ({"mutation_id": 7}, "mutation_id"),
        ({"kind": "step_count"}, "kind"),
        ({"kind": ["entry"]}, "kind"),
        ({"op": "merge"}, "op"),
        ({"base_version": -1}, "base_version"),
        ({"base_version": 0.5}, "base_version"),
        ({"base_version": "0"}, "base_version"),
        ({"base_version": True}, "base_version"),
        ({"base_version": 2**31}, "base_version"),
        ({"schema_version": 0}, "schema_version"),
        ({"reoffer": CANARY, "version": 1}, "reoffer"),
        ({"priority": 1}, "priority"),
        ({"clientName": "x"}, "clientName"),
        ({"data": CANARY}, "data"),
        ({"data": []}, "data"),
    ],
    ids=str,
)
async def test_a_fault_of_the_envelope_is_that_items_alone(ada: Phone, fields: dict[str, Any], member: str) -> None:
    good, bad = put("entry", entry()), put("entry", entry()) | fields
    answer = await push(ada, good, bad, outbox_empty=True)
    assert answer.status_code == 200, answer.text
    [created, refused] = answer.json()["results"]
    assert (created["status"], refused["status"]) == ("created", "invalid")
    assert {fault["pointer"] for fault in refused["errors"]} == {f"/mutations/1/{member}"}
    assert CANARY not in answer.text
    for name in ("id", "mutation_id"):  # by which the phone finds what was refused
        sent = bad[name]
        assert refused.get(name) == (sent if isinstance(sent, str) and len(sent) == 36 else None)


@pytest.mark.parametrize("missing", ["mutation_id", "op", "kind", "id"])
async def test_a_mutation_without_what_each_has_is_invalid_alone(ada: Phone, missing: str) -> None:
    bad = put("entry", entry())
    del bad[missing]
    answer = await push(ada, bad, put("entry", entry()))
    [refused, created] = answer.json()["results"]
    assert (refused["status"], created["status"]) == ("invalid", "created")
    assert [fault["pointer"] for fault in refused["errors"]] == [f"/mutations/0/{missing}"]


async def test_what_follows_an_unreadable_item_of_the_same_record_is_a_conflict(ada: Phone) -> None:
    record = entry(note=CANARY)
    spoiled = json.dumps(put("entry", record)).replace(CANARY, "\\ud83d")
    answer = await push_raw(ada, spoiled, json.dumps(put("entry", record, 1)))
    assert statuses(answer.json()["results"]) == ["invalid", "conflict"]


async def test_an_unreadable_item_keeps_the_outbox_from_being_called_empty(ada: Phone, superuser: Connection) -> None:
    told_empty = "SELECT outbox_empty_at <> created_at FROM sessions WHERE id = $1"
    poisoned = '{"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "outbox_empty": true, "mutations": [NaN]}'
    answer = await ada.http.post(f"{ada.diary}/sync/push", content=poisoned, headers=JSON)
    assert statuses(answer.json()["results"]) == ["invalid"]
    assert await superuser.fetchval(told_empty, UUID(ada.session_id)) is False


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ('{"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": [}', 400),
        ('{"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": [NaN', 400),
        ('{"device_id": NaN, "client_now": "2026-03-29T08:00:00Z", "mutations": []}', 400),
        ('{"device_id": "\\ud83d", "client_now": "2026-03-29T08:00:00Z", "mutations": []}', 400),
        ('{"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": NaN}', 400),
        ('{"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": [], "mutations": []}', 400),
        ("[NaN]", 400),
        ("\ufeff{}", 400),
        ("[" * 5000, 400),
        ('{"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": {}}', 422),
        ('{"device_id": "phone", "client_now": "yesterday", "mutations": [7]}', 422),
        ('{"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": [7], "more": 1}', 422),
    ],
)
async def test_only_what_is_no_push_at_all_is_refused_whole(ada: Phone, body: str, refusal: int) -> None:
    answer = await ada.http.post(f"{ada.diary}/sync/push", content=body.encode(), headers=JSON)
    assert told(answer) == (refusal, {400: "malformed-request", 422: "invalid"}[refusal])
    pointers = [fault["pointer"] for fault in answer.json().get("errors", [])]
    assert len(pointers) == len(set(pointers))


async def test_more_than_a_push_takes_is_refused_once(ada: Phone) -> None:
    answer = await push(ada, *[put("entry", entry()) for _ in range(101)])
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/mutations"]


@pytest.mark.parametrize("written", ["6.0", "6e0", "60e-1", "0.6E1"])
async def test_an_integer_may_be_written_with_a_fraction_of_nothing(ada: Phone, written: str) -> None:
    """As JSON Schema has it, in every way in."""
    record = entry(mood=4711, sleep={"quality": 4711, "hours": 4711})
    raw = json.dumps(record).replace("4711", written)
    created = await ada.http.post(f"{ada.diary}/entries", content=raw, headers=JSON)
    assert created.status_code == 201, created.text
    assert (created.json()["mood"], created.json()["sleep"]) == (6, {"hours": 6.0, "quality": 6})
    path, by_etag = f"{ada.diary}/entries/{record['id']}", JSON | {"If-Match": '"1"'}
    put_again = await ada.http.put(path, content=json.dumps(without_id(json.loads(raw))), headers=by_etag)
    assert put_again.headers["ETag"] == '"1"'  # the same content
    patched = await ada.http.patch(path, content=f'{{"mood": {written.replace("6", "7")}}}', headers=by_etag)
    assert (patched.status_code, patched.json()["mood"]) == (200, 7)
    sent = json.dumps(put("entry", entry(mood=4711))).replace("4711", written)
    answer = await push_raw(ada, sent.replace('"base_version": 0', '"base_version": 0.0'))
    assert statuses(answer.json()["results"]) == ["created"]


async def test_a_push_of_every_kind_in_one_with_a_poisoned_one_stores_the_others(ada: Phone) -> None:
    own = profile() | {"id": ada.patient_id}
    plan, gone = treatment(), entry()
    await pushed(ada, put("entry", gone))
    answer = await push_raw(
        ada,
        json.dumps(put("profile", own)),
        noted('"\\ud800"'),
        json.dumps(put("treatment", plan)),
        json.dumps(delete("entry", gone["id"], 1)),
        json.dumps({"mutation_id": str(uuid4()), "op": "delete", "kind": "entry", "id": V1, "base_version": 1}),
    )
    assert statuses(answer.json()["results"]) == ["created", "invalid", "created", "deleted", "invalid"]


def objects(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where the objects inside of a JSON value are, itself included."""
    here = [path] if isinstance(value, dict) else []
    return here + [at for step, child in inside(value) for at in objects(child, (*path, step))]


def inside(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return enumerate(value) if isinstance(value, list) else ()


DEEP = [(kind, example, at) for kind in KINDS for example in kind.examples for at in objects(example)]


@pytest.mark.parametrize("member", ["painLevel", "unknown", "_id"])
def test_an_unknown_member_is_named_however_deep_it_is(member: str) -> None:
    for kind, example, at in DEEP:
        pointer = "".join(f"/{step}" for step in (*at, member))
        with pytest.raises(Invalid) as refusal:
            validation.validated(kind.create, with_value(example, (*at, member), 1))
        assert [(fault.pointer, fault.code) for fault in refusal.value.faults] == [(pointer, "extra_forbidden")]
        with pytest.raises(Invalid) as refusal:
            validation.validated(kind.patch, with_value(without_id(example), (*at, member), 1))
        assert pointer in [fault.pointer for fault in refusal.value.faults]


def written(member: str, text: str) -> str:
    """A new entry of which this member is written like this."""
    return json.dumps(put("entry", entry(**{member: CANARY}))).replace(f'"{CANARY}"', text)


# What phones write, and what is stored; or the place that is at fault.
WRITTEN: tuple[tuple[str, str, Any], ...] = (
    ("mood", "7.0", 7),
    ("mood", "7e0", 7),
    ("mood", "70e-1", 7),
    ("mood", "0.7E+1", 7),
    ("mood", "-0.0", 0),
    ("mood", "7.5", "/mood"),
    ("mood", "true", "/mood"),
    ("mood", '"7"', "/mood"),
    ("mood", "[7]", "/mood"),
    ("occurred_at", '"2026-03-29T08:00:00.123456789+02:00"', "2026-03-29T08:00:00+02:00"),  # Java counts nanoseconds
    ("occurred_at", '"2026-03-29T06:00:00.999Z"', "2026-03-29T06:00:00Z"),
    ("occurred_at", '"2000-01-01T00:00:00Z"', "2000-01-01T00:00:00Z"),
    ("occurred_at", '"1999-12-31T23:59:59Z"', "/occurred_at"),
    ("occurred_at", '"2026-03-29T24:00:00Z"', "/occurred_at"),
    ("occurred_at", '"2026-02-30T08:00:00Z"', "/occurred_at"),
    ("occurred_at", '"2026-03-29T08:00:60Z"', "/occurred_at"),
    ("occurred_at", "1774771200", "/occurred_at"),
    ("occurred_at", '"2026-03-29"', "/occurred_at"),
    ("note", r'"a\r\nb\rc"', "a\nb\nc"),
    ("note", r'"\u0061\ud83d\ude00"', "a\U0001f600"),
    ("note", r'"tab\tand\u2028line"', "tab\tand\u2028line"),
    ("note", r'"\u000b"', "/note"),
    ("note", r'"\u0085"', "/note"),
    ("note", '""', "/note"),
    ("note", '"' + "\U0001f600" * 4000 + '"', "\U0001f600" * 4000),
    ("note", '"' + "x" * 4001 + '"', "/note"),
    ("note", r'"a", "n\u006fte": "b"', "/note"),
    ("source", '{"app": "a", "schema_version": 2.0}', {"app": "a", "schema_version": 2}),
    ("source", '{"app": "a", "appVersion": "1"}', "/source/appVersion"),
    ("sites", '[{"region": "neck_back_left", "painScore": 3}]', "/sites/0/painScore"),
    ("sites", "{}", "/sites"),
)


async def test_each_of_what_phones_write_is_stored_or_told_on_its_own(ada: Phone) -> None:
    items = [written(member, text) for member, text, _ in WRITTEN]
    answer = await push_raw(ada, *items)
    assert answer.status_code == 200, answer.text
    stored = await pull_all(ada, 200)
    for (member, text, meant), item, result in zip(WRITTEN, items, answer.json()["results"], strict=True):
        if result["status"] == "created":
            record = stored.pop(json.loads(item)["id"])
            assert record[member] == meant, text
        else:
            assert result["status"] == "invalid"
            places = {error["pointer"].partition("/data")[2] for error in result["errors"]}
            assert meant in places, (text, result["errors"])
    assert stored == {}
