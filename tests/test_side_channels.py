"""What a reader without notes:read can tell of notes: nothing.

Twins are two diaries that differ in notes only, made by the same random steps with the same ids. Whatever the reader
asks, both answer with the same bytes, but for whose diary it is and when the server got things.
"""

import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from random import Random
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from tests.conftest import connect
from tests.people import SCOPES, Person, Phone, dose, entry, grant, lent, profile, treatment, without_id

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Twins: TypeAlias = tuple[Phone, Phone, Phone]

NOTES = (None, "x", "between us", 'quoted \\ "twice"', "Jahreszeitlich bedingt – 痛み 😣", "long " * 700)
DAYS = {"from": "2026-03-01", "to": "2026-03-31"}
CHANGES: dict[str, Any] = {  # of each kind, what makes its next version
    "entries": lambda number: {"mood": number % 11},
    "treatments": lambda number: {"name": f"Amitriptyline {number} mg"},
    "treatment-events": lambda number: {"pain_after": number % 11},
}


@pytest.fixture
async def twins(app: FastAPI, superuser: Connection) -> AsyncIterator[Twins]:
    """Two patients, and somebody whom both allow everything but their notes."""
    async with AsyncExitStack() as stack:
        one, other, helper = [
            await Person().register_and_sign_in(await stack.enter_async_context(connect(app))) for _ in range(3)
        ]
        for patient in (one, other):
            await grant(superuser, patient, helper, scopes=sorted(set(SCOPES) - {"notes:read"}))
        yield one, other, helper


class Held(NamedTuple):
    """A record of both: as it was sent first and last, but for the notes."""

    collection: str
    first: dict[str, Any]
    last: dict[str, Any]
    version: int

    @property
    def path(self) -> str:
        """Where it is."""
        return f"/{self.collection}/{self.first['id']}"


async def write_alike(one: Phone, other: Phone, random: Random) -> list[Held]:
    """The same records and versions in both diaries, with notes that differ."""
    plan = treatment("08:00", id=new_id(random))
    bodies = [("treatments", plan)]
    bodies += [("entries", entry(id=new_id(random), occurred_at=moment(random))) for _ in range(4)]
    bodies += [("treatment-events", dose(plan["id"], moment(random), id=new_id(random))) for _ in range(3)]
    held = []
    for collection, first in bodies:
        await both(one, other, random, "POST", f"/{collection}", first)
        record = Held(collection, first, first, 1)
        for version in range(1, random.randint(2, 4)):
            record = Held(collection, first, first | CHANGES[collection](version), version + 1)
            await both(one, other, random, "PUT", record.path, without_id(record.last), version)
        held.append(record)
    gone = entry(id=new_id(random))
    await both(one, other, random, "POST", "/entries", gone)
    for phone in (one, other):
        assert (await phone.delete(f"/entries/{gone['id']}")).status_code == 204
        assert (await phone.post("/profile", profile())).status_code == 201
    return held


async def both(
    one: Phone, other: Phone, random: Random, method: str, path: str, body: dict[str, Any], version: int = 0
) -> None:
    """Sends the same to both, each with a note of its own."""
    for phone, note in zip((one, other), random.sample(NOTES, 2), strict=True):
        sent = body | ({"note": note} if note is not None else {})
        headers = {"If-Match": f'"{version}"'}
        answer = await phone.http.request(method, f"{phone.diary}{path}", json=sent, headers=headers)
        assert answer.status_code in (200, 201), answer.text


def new_id(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def moment(random: Random) -> str:
    return f"2026-03-{random.randint(1, 28):02}T{random.randint(0, 23):02}:00:00+01:00"


def reads(held: list[Held]) -> list[str]:
    """Every way to read something of a diary, with every filter."""
    days = f"?from={DAYS['from']}&to={DAYS['to']}"
    paths = ["", "/profile", "/profile/versions", f"/adherence{days}", f"/timeline{days}", "/timeline?kinds=entry"]
    paths += ["/entries", "/entries?region=lower_back_left", "/entries?scale=nrs_0_10&min_score=6", "/entries?note=x"]
    paths += ["/treatments", f"{held[0].path}/slots{days}", "/treatment-events", "/grants", "/access-log"]
    return paths + [f"{record.path}{part}" for record in held for part in ("", "/versions")]


def attempts(record: Held) -> list[tuple[str, str, dict[str, Any] | None, int]]:
    """What somebody may send who wants to find out about its note: method, path, body and version."""
    collection, path, now = f"/{record.collection}", record.path, record.version
    sent: list[tuple[str, str, dict[str, Any] | None, int]] = []
    for guess in NOTES[:3]:
        guessed = {"note": guess} if guess else {}
        for content in (record.first | guessed, record.last | guessed):
            sent += [("POST", collection, content, 0), ("PUT", path, without_id(content), 99)]
        sent += [("PUT", path, without_id(record.last | guessed), now), ("PATCH", path, {"note": guess}, now)]
        sent += [("PATCH", path, {"note": guess}, 99)]
    rome, oslo = {"time_zone": "Europe/Rome"}, {"time_zone": "Europe/Oslo"}
    sent += [("PATCH", path, rome, now), ("PATCH", path, oslo, now), ("DELETE", path, None, now)]
    return [*sent, ("DELETE", path, None, now + 1), ("POST", collection, record.first, 0)]


async def ask(
    helper: Phone, patient: Phone, method: str, path: str, body: object = None, version: int = 0, known: str = ""
) -> httpx.Response:
    """The answer to the helper, who always gives the same request id."""
    headers = {"If-Match": f'"{version}"', "X-Request-Id": "01980c5e-7a10-7000-8000-000000000000"}
    headers |= {"If-None-Match": known} if known else {}
    return await helper.http.request(method, f"{patient.diary}{path}", headers=headers, json=body)


def bare(answer: httpx.Response, patient: Phone) -> tuple[int, list[tuple[str, str]], str]:
    """An answer without whose diary it is of, when the server got things, and what signs a cursor."""
    names = {patient.patient_id: "PATIENT", patient.user_id: "OWNER"}
    text = re.sub("|".join(names), lambda found: names[found[0]], answer.text)
    text = re.sub(r'"(received_at|as_of)":"[^"]{20,32}"', r'"\1":"WHEN"', text)
    text = re.sub(r'"next_cursor":"([^"]+)"', lambda found: f'"next_cursor":{position(found[1])}', text)
    # What comes after a point follows from the text: it is its digest.
    headers = [
        (name, re.sub(r'^"[0-9a-f]{8}(-\d+)-[0-9a-f]{8}(-\d+)(\.[0-9a-f]{32})?"$', r'"EPOCH\1-GRANT\2"', value))
        for name, value in answer.headers.multi_items()
        if name not in ("ratelimit", "content-length", "location")  # a countdown; what follows from text and address
    ]
    return answer.status_code, headers, text


def position(cursor: str) -> str:
    """What its holder can read in a cursor, whichever consent it is of."""
    held = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[16:].decode()
    return re.sub(r'"[0-9a-f]{8}(-\d+)"', r'"GRANT\1"', held)


async def pages(helper: Phone, patient: Phone, path: str) -> list[tuple[int, list[tuple[str, str]], str]]:
    """Every answer on the way through a list, two items at a time, and again with the ETag of the first."""
    answers, cursor = [], ""
    while True:
        answer = await ask(helper, patient, "GET", f"{path}?limit=2{cursor}")
        answers.append(bare(answer, patient))
        found = answer.json()["next_cursor"]
        if found is None:
            again = await ask(helper, patient, "GET", f"{path}?limit=2", known=answer.headers["ETag"])
            assert again.status_code == 304
            return [*answers, bare(again, patient)]
        cursor = f"&cursor={found}"


@pytest.mark.parametrize("seed", range(4))
async def test_twins_that_differ_in_notes_only_answer_alike(twins: Twins, seed: int) -> None:
    one, other, helper = twins
    held = await write_alike(one, other, Random(seed))
    owned = [bare(await patient.get("/timeline"), patient)[2] for patient in (one, other)]
    assert owned[0] != owned[1], "the twins were the same: this proves nothing"
    for path in reads(held):
        told = [bare(await ask(helper, patient, "GET", path), patient) for patient in (one, other)]
        assert told[0] == told[1], path
        assert '"note"' not in told[0][2], path
    for path in ("/timeline", "/entries", "/treatments", "/treatment-events"):
        assert await pages(helper, one, path) == await pages(helper, other, path), path
    for method, path, body, version in [attempt for record in held for attempt in attempts(record)]:
        told = [bare(await ask(helper, patient, method, path, body, version), patient) for patient in (one, other)]
        assert told[0] == told[1], (method, path, body)
        assert told[0][0] in (200, 204, 409, 410, 412), (method, path, body, told[0][2])
        assert '"note"' not in told[0][2], (method, path, body)


async def test_the_panel_tells_twins_apart_by_nothing_but_whose_they_are(twins: Twins) -> None:
    one, other, helper = twins
    await write_alike(one, other, Random(9))
    panel = (await helper.http.get("/v1/me/patients")).json()["items"]
    shown = [
        {key: value for key, value in item.items() if key not in ("id", "grant_id", "expires_at")}
        for patient in (one, other)
        for item in panel
        if item["id"] == patient.patient_id
    ]
    assert len(shown) == 2
    assert shown[0] == shown[1]


async def test_that_something_was_changed_which_one_may_not_see_shows_as_a_new_version_and_no_more(
    twins: Twins,
) -> None:
    """Accepted: a version counts what its owner did. It is what If-Match names, so readers cannot have their own."""
    one, _, helper = twins
    sent = entry(note="before")
    await one.log(**sent)
    path = f"/entries/{sent['id']}"
    before = (await lent(helper, one).get(path)).json()
    assert (await one.patch(path, {"note": "after"})).status_code == 200
    after = (await lent(helper, one).get(path)).json()
    changed = {name for name in after if after[name] != before[name]}
    assert changed - {"received_at"} == {"version", "change_seq"}  # within a second that stays
    versions = json.dumps((await lent(helper, one).get(f"{path}/versions")).json())
    assert not re.search("note|before|after", versions)
