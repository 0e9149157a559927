"""One rule of plausible times, whichever way a record comes in: what one takes, another can change."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI

from app.schemas.kinds import KINDS
from tests.answers import pointers, told
from tests.conftest import connect
from tests.people import Person, Phone, consent, entry, make_clinician, record_of, treatment, without_id
from tests.routers.test_sync import pushed, put

pytestmark = pytest.mark.anyio


def at(ahead: timedelta) -> str:
    return (datetime.now(UTC) + ahead).isoformat(timespec="seconds")


@pytest.mark.parametrize("occurred_at", ["1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2031-01-01T00:00:00Z"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.holds == "moment"], ids=lambda kind: kind.name)
async def test_a_time_that_cannot_have_been_is_refused_on_every_way_in(ada: Phone, kind: Any, occurred_at: str) -> None:
    sent = record_of(kind)
    wrong = sent | {"occurred_at": occurred_at}
    path = f"/{kind.path}/{sent['id']}"
    assert (await ada.post(f"/{kind.path}", sent)).status_code == 201
    by_etag = {"If-Match": '"1"'}
    refused = [
        await ada.post(f"/{kind.path}", record_of(kind) | {"occurred_at": occurred_at}),
        await ada.http.put(f"{ada.diary}{path}", json=without_id(wrong), headers=by_etag),
        await ada.http.patch(f"{ada.diary}{path}", json={"occurred_at": occurred_at}, headers=by_etag),
    ]
    assert [(told(one), pointers(one)) for one in refused] == [((422, "invalid"), ["/occurred_at"])] * 3
    results = await pushed(
        ada, put(kind.name, wrong, 1), put(kind.name, record_of(kind) | {"occurred_at": occurred_at})
    )
    assert [one["errors"][0]["pointer"] for one in results] == [
        f"/mutations/{place}/data/occurred_at" for place in (0, 1)
    ]
    assert "canary" not in json.dumps(results)


@pytest.mark.parametrize("ahead", [timedelta(hours=47), -timedelta(days=9000)])
async def test_what_one_way_takes_every_other_can_change(ada: Phone, ahead: timedelta) -> None:
    sent = entry(occurred_at=at(ahead))
    assert (await ada.log(**sent)).status_code == 201
    [changed] = await pushed(ada, put("entry", sent | {"mood": 3}, 1))
    assert changed["status"] == "updated"


async def test_a_clinicians_plan_that_begins_much_later_is_acknowledged_by_sync(
    app: FastAPI, ada: Phone, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    later = at(timedelta(days=60))
    plan = treatment(authored_by="clinician", occurred_at=later)
    plan["regimens"] = [plan["regimens"][0] | {"valid_from": later}]
    async with connect(app) as http:
        weber = await make_clinician(superuser, await Person().register_and_sign_in(http))
        await consent(ada, weber, scopes=["treatments:read", "treatments:write"])
        planned = await weber.http.post(f"{ada.diary}/treatments", json=plan)
    assert planned.status_code == 201, planned.text
    [acknowledged] = await pushed(ada, put("treatment", plan | {"acknowledged_at": at(timedelta())}, 1))
    assert acknowledged["status"] == "updated", acknowledged


async def test_a_note_is_stored_with_line_feeds_on_every_way_in(ada: Phone) -> None:
    sent = entry(note="one\r\ntwo\rthree")
    answer = await ada.log(**sent)
    assert (answer.status_code, answer.json()["note"]) == (201, "one\ntwo\nthree")
    assert (await ada.log(**sent)).status_code == 200  # the same content
    [same] = await pushed(ada, put("entry", sent, 1))
    assert same["status"] == "unchanged"


@pytest.mark.parametrize(("tag", "kept"), [("ca-ES-valencia", None), ("ar-EG-u-nu-latn", None), ("en_US", "en-US")])
async def test_a_language_is_kept_as_it_was_written(ada: Phone, tag: str, kept: str | None) -> None:
    profile = {"occurred_at": "2026-03-29T08:00:00+02:00", "time_zone": "Europe/Berlin", "birth_date": "1980-05-17"}
    answer = await ada.post("/profile", profile | {"locale": tag})
    assert (answer.status_code, answer.json()["locale"]) == (201, kept or tag)
    assert (await ada.http.get("/v1/me")).json()["locale"]


async def test_a_language_that_is_none_is_told_in_a_sentence(ada: Phone) -> None:
    refused = await ada.http.post("/v1/auth/register", json={"locale": "C.UTF-8"} | vars(Person()))
    [fault] = [one for one in refused.json()["errors"] if one["pointer"] == "/locale"]
    assert fault["detail"] == "Give a language tag of BCP 47, as de-DE."
