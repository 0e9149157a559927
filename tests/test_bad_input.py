"""Bad input: each piece is answered with a clear problem at its place, repeated nowhere, and stores nothing."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from tests.answers import pointers, told, without_request_id
from tests.conftest import connect
from tests.people import Person, Phone, entry, site

pytestmark = pytest.mark.anyio

CANARY = "canary-4711"
JSON = "application/json"
SOMEBODY = "0195d3f4-0c1d-4b2e-8f3a-4d5e6f708192"
ENCODED = json.dumps(entry(note=CANARY)).encode()


@pytest.fixture(scope="module")
async def phone(app: FastAPI) -> AsyncIterator[Phone]:
    """A patient whose diary stays empty, whatever is sent to it."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


@pytest.fixture(autouse=True)
async def nothing_stored(phone: Phone) -> AsyncIterator[None]:
    """After each test the diary is as it was: empty, at head 0."""
    yield
    assert (await phone.get()).json()["head"] == 0
    assert (await phone.get("/entries")).json()["items"] == []


async def post(phone: Phone, body: bytes, content_type: str = JSON, **headers: str) -> httpx.Response:
    headers = {"Content-Type": content_type, **headers}
    return await phone.http.post(f"{phone.diary}/entries", content=body, headers=headers)


def scored(value: Any, scale: str = "nrs_0_10", **fields: Any) -> dict[str, Any]:
    """The fields of an entry with one score."""
    return {"sites": [site(value) | {"scores": [{"measure": "now", "scale": scale, "value": value}]}], **fields}


VALUE = "/sites/0/scores/0/value"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        (scored(11), VALUE),
        (scored(-1), VALUE),
        (scored(3, "faces_fps_r"), VALUE),
        (scored(4, "vrs_4"), VALUE),
        (scored(2**40), VALUE),
        (scored(6.5), VALUE),
        (scored("6"), VALUE),
        (scored(CANARY), VALUE),
        (scored(True), VALUE),
        (scored(None), VALUE),
        (scored([6]), VALUE),
        (scored(6, CANARY), "/sites/0/scores/0/scale"),
        (scored(6, "painad"), "/sites/0/scores/0/scale"),
        ({"ended_at": "2026-03-28T07:59:59+01:00"}, "/ended_at"),
        ({"ended_at": "2027-03-29T08:00:00+01:00"}, "/ended_at"),
        ({"ended_at": "2026-03-28T09:00:00+01:00", "duration_minutes": 60}, "/duration_minutes"),
        ({"ended_at": "2026-03-28T09:00:00+01:00", "ongoing": True}, "/ongoing"),
        ({"sites": [site(region=CANARY)]}, "/sites/0/region"),
        ({"sites": [site(region="Lower_Back_Left")]}, "/sites/0/region"),
        ({"sites": [site(radiates_to=["lower_back_left", CANARY])]}, "/sites/0/radiates_to/1"),
        ({"sites": [site(characters=["aching", "aching"])]}, "/sites/0/characters/1"),
        ({"sites": [site()] * 21}, "/sites"),
        ({"sites": CANARY}, "/sites"),
        ({"sites": {"0": site()}}, "/sites"),
        ({"sites": [site() | {CANARY: 1}]}, "/sites/0"),
        ({"no_pain": True}, "/no_pain"),
        ({"no_pain": "true"}, "/no_pain"),
        ({"no_pain": 1}, "/no_pain"),
        ({"sites": []}, ""),
        ({"time_zone": f"Mars/{CANARY}"}, "/time_zone"),
        ({"time_zone": "../../etc/passwd"}, "/time_zone"),
        ({"time_zone": "europe/berlin"}, "/time_zone"),
        ({"time_zone": ""}, "/time_zone"),
        ({"occurred_at": "2026-03-28T08:00:00"}, "/occurred_at"),
        ({"occurred_at": "2026-03-28"}, "/occurred_at"),
        ({"occurred_at": "2026-02-30T08:00:00Z"}, "/occurred_at"),
        ({"occurred_at": "2026-03-28T08:00:60Z"}, "/occurred_at"),
        ({"occurred_at": "2026-03-28T08:00:00-00:00"}, "/occurred_at"),
        ({"occurred_at": "2026-03-28T08:00:00+14:01"}, "/occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "/occurred_at"),
        ({"occurred_at": "9999-12-31T23:59:59-12:00"}, "/occurred_at"),
        ({"occurred_at": "1999-12-31T23:59:59Z"}, "/occurred_at"),
        ({"occurred_at": "2199-12-31T23:59:59-12:00"}, "/occurred_at"),
        ({"occurred_at": 1774681200}, "/occurred_at"),
        ({"occurred_at": CANARY}, "/occurred_at"),
        ({"occurred_at": None}, "/occurred_at"),
        ({"id": "1"}, "/id"),
        ({"id": CANARY}, "/id"),
        ({"id": "0195D3F4-8E2A-7C31-9B1E-5A2F6C7D8E90"}, "/id"),
        ({"id": "00000000-0000-0000-0000-000000000000"}, "/id"),
        ({"id": 7}, "/id"),
        ({"mood": 11}, "/mood"),
        ({"mood": False}, "/mood"),
        ({"mood": "5"}, "/mood"),
        ({"mood": 5.5}, "/mood"),
        ({"sleep": {"hours": "7"}}, "/sleep/hours"),
        ({"sleep": {"hours": True}}, "/sleep/hours"),
        ({"sleep": {"hours": 1e300}}, "/sleep/hours"),
        ({"interference": {CANARY: 3}}, "/interference"),
        ({"note": ""}, "/note"),
        ({"note": "x" * 4001}, "/note"),
        ({"note": f"{CANARY}\u0007"}, "/note"),
        ({"note": [CANARY]}, "/note"),
        ({"note": 7}, "/note"),
        ({"performer": CANARY}, "/performer"),
        ({"source": {"app": f"{CANARY}\n"}}, "/source/app"),
        ({"relief": [{"code": "heat", "minutes_to_effect": -1}]}, "/relief/0/minutes_to_effect"),
        ({"red_flags": [{"code": "cauda_equina"}]}, "/red_flags/0/present"),
        ({"version": 3}, "/version"),
        ({"author_id": SOMEBODY}, "/author_id"),
        ({"patient_id": SOMEBODY}, "/patient_id"),
        ({CANARY: CANARY}, ""),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
async def test_an_entry_that_breaks_a_rule_is_refused_at_its_place(
    phone: Phone, fields: dict[str, Any], pointer: str
) -> None:
    answer = await phone.log(**fields)
    assert told(answer) == (422, "invalid")
    assert set(pointers(answer)) == {pointer}
    assert all(fault["code"] and fault["detail"] for fault in answer.json()["errors"])
    assert CANARY not in answer.text


@pytest.mark.parametrize("missing", ["id", "occurred_at", "time_zone"])
async def test_an_entry_without_what_every_entry_has_is_refused_at_its_place(phone: Phone, missing: str) -> None:
    sent = entry()
    del sent[missing]
    answer = await post(phone, json.dumps(sent).encode())
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == [f"/{missing}"]


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"canary-4711"', b"true", b"[" + ENCODED + b"]"])
async def test_json_that_is_no_object_is_refused(phone: Phone, body: bytes) -> None:
    answer = await post(phone, body)
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == [""]
    assert CANARY not in answer.text


def with_note(raw: bytes) -> bytes:
    """An entry whose note is written with these bytes."""
    return ENCODED.replace(b'"canary-4711"', raw)


@pytest.mark.parametrize(
    "body",
    [
        with_note(b'"canary-4711\\u0000"'),
        with_note(b'"canary-4711\x00"'),
        with_note(b'"canary-4711\\ud800"'),
        with_note(b'"canary-4711\\udc00\\ud800"'),
        with_note(b'"canary-4711\xff"'),
        with_note(b'"canary-4711\xed\xa0\x80"'),
        with_note(b'"canary-4711'),
        with_note(b"canary-4711"),
        with_note(b"NaN"),
        with_note(b"-Infinity"),
        with_note(b"1e999"),
        with_note(b"9007199254740993"),
        with_note(b"1" * 5000),
        with_note(b'"canary-4711", "note": "canary-4711"'),
        with_note(b'{"canary-4711": 1, "canary-4711": 2}'),
        with_note(b"[" * 33 + b"]" * 33),
        with_note(b"[" * 100_000),
        with_note(b'{"a":' * 50_000),
        b"\xef\xbb\xbf" + ENCODED,
        ENCODED.decode().encode("utf-16"),
        ENCODED.decode().encode("utf-16-le"),
        ENCODED.decode().encode("utf-32"),
        ENCODED + ENCODED,
        ENCODED + b"\x00",
        ENCODED[:-1],
        b" ",
        b"canary-4711=1",
    ],
    ids=lambda body: f"{body[-24:]!r}",
)
async def test_bytes_that_are_no_acceptable_json_are_malformed(phone: Phone, body: bytes) -> None:
    answer = await post(phone, body)
    assert told(answer) == (400, "malformed-request")
    assert CANARY not in answer.text


async def test_no_body_at_all_is_refused(phone: Phone) -> None:
    answer = await post(phone, b"")
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == [""]


async def test_ten_megabytes_are_too_large_announced_or_not(phone: Phone) -> None:
    body = with_note(b'"' + CANARY.encode() * 1_000_000 + b'"')

    async def trickle() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    announced = await post(phone, body)
    headers = {"Content-Type": JSON}
    unannounced = await phone.http.post(f"{phone.diary}/entries", content=trickle(), headers=headers)
    for answer in (announced, unannounced):
        assert told(answer) == (413, "too-large")
        assert len(answer.content) < 1000


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
     "application/json; charset=utf-16", "application/merge-patch+json", "application/jsonp", CANARY],
)  # fmt: skip
async def test_another_content_type_is_not_supported(phone: Phone, content_type: str) -> None:
    answer = await post(phone, ENCODED, content_type)
    assert told(answer) == (415, "unsupported-media-type")
    assert CANARY not in answer.text


@pytest.mark.parametrize("coding", ["deflate", "br", "identity, gzip", CANARY])
async def test_a_coded_body_is_not_supported(phone: Phone, coding: str) -> None:
    answer = await post(phone, ENCODED, **{"Content-Encoding": coding})
    assert told(answer) == (415, "unsupported-media-type")
    assert CANARY not in answer.text


async def test_the_diary_of_another_patient_takes_nothing(phone: Phone, ada: Phone) -> None:
    sent = entry(note=CANARY)
    answers = [
        await phone.http.post(f"/v1/patients/{patient}/entries", json=sent) for patient in (ada.patient_id, uuid4())
    ]
    assert [told(answer) for answer in answers] == [(404, "not-found")] * 2
    assert without_request_id(answers[0]) == without_request_id(answers[1])
    assert (await ada.get()).json()["head"] == 0


@pytest.mark.parametrize(
    "name", ["1", CANARY, "%20", "..%2F..", "%F0%9F%98%80", "0" * 36, "9" * 400, "{}", "null", "'--", "-1", "1e9"]
)
async def test_a_path_that_names_nothing_is_not_found(phone: Phone, name: str) -> None:
    answers = [
        await phone.http.get(f"/v1/patients/{name}"),
        await phone.http.get(f"/v1/patients/{name}/entries"),
        await phone.http.post(f"/v1/patients/{name}/entries", json=entry()),
        await phone.get(f"/entries/{name}"),
        await phone.http.delete(f"{phone.diary}/entries/{name}", headers={"If-Match": '"1"'}),
        await phone.get(f"/{name}"),
    ]
    assert [told(answer) for answer in answers] == [(404, "not-found")] * len(answers)
    assert not any(CANARY in answer.text for answer in answers)


@pytest.mark.parametrize("path", ["%00", "%zz", "%", "%ff", "%c0%af", "%ed%a0%80"])
async def test_an_address_that_is_no_text_is_malformed(phone: Phone, path: str) -> None:
    raw = f"{phone.diary}/entries/{path}".encode()
    url = phone.http.base_url.copy_with(raw_path=raw)
    assert told(await phone.http.get(url)) == (400, "malformed-request")
    query = phone.http.base_url.copy_with(raw_path=f"{phone.diary}/entries?region={path}".encode())
    assert told(await phone.http.get(query)) == (400, "malformed-request")


@pytest.mark.parametrize("query", [f"{CANARY}=1", f"region={CANARY}", f"limit={CANARY}", f"from={CANARY}"])
async def test_a_query_is_never_repeated(phone: Phone, query: str) -> None:
    answer = await phone.get(f"/entries?{query}")
    assert told(answer) == (422, "invalid")
    assert CANARY not in answer.text


async def test_a_get_with_a_body_is_malformed(phone: Phone) -> None:
    answer = await phone.http.request("GET", f"{phone.diary}/entries", content=ENCODED, headers={"Content-Type": JSON})
    assert told(answer) == (400, "malformed-request")


async def test_a_stale_version_loses_nothing(ada: Phone) -> None:
    sent = entry(mood=3)
    await ada.log(**sent)
    url = f"{ada.diary}/entries/{sent['id']}"
    await ada.http.patch(url, json={"mood": 4}, headers={"If-Match": '"1"'})
    answer = await ada.http.patch(url, json={"mood": 9, "note": CANARY}, headers={"If-Match": '"1"'})
    assert told(answer) == (412, "stale")
    assert CANARY not in answer.text
    assert (await ada.http.get(url)).json()["mood"] == 4


async def test_a_problem_of_many_faults_names_the_first_of_them_only(phone: Phone) -> None:
    answer = await phone.log(triggers=[{"code": CANARY}] * 32, relief=[{"code": CANARY}] * 32)
    assert told(answer) == (422, "invalid")
    assert len(pointers(answer)) == 50
    assert CANARY not in answer.text


async def test_what_is_unusual_but_right_is_stored_as_it_was_sent(ada: Phone) -> None:
    note = "Ünïcödé 😀 \u202e ﷽ \t\n' \"; DROP TABLE records; -- \\u0000 <script> ${jndi} %s {0}"
    for fields in (
        {"note": note},
        {"occurred_at": "2000-01-01T00:00:00Z"},
        {"occurred_at": "2000-01-01T13:00:00+13:00"},
        {"sleep": {"hours": 7.25}},
        scored(0, no_pain=True),
    ):
        sent = entry(**fields)
        answer = await ada.log(**sent)
        assert answer.status_code == 201, answer.text
        read = (await ada.get(f"/entries/{sent['id']}")).json()
        assert {name: read[name] for name in fields if name != "sites"} == {
            name: value for name, value in fields.items() if name != "sites"
        }
