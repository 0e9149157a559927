"""The profile over HTTP: made once, changed by those who have seen it, kept for good, and followed by the rest."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI

from app.schemas.entries import ENTRY, EntryIn
from app.schemas.profile import EXAMPLE_PROFILE, MINIMAL_PROFILE, PROFILE, ProfileFields
from app.services import record_store, records
from app.services.access import Caller, Diary
from tests.answers import ids, pointers, told
from tests.people import Phone, dose, entry, treatment

pytestmark = pytest.mark.anyio

CHILD = MINIMAL_PROFILE | {"birth_date": "2022-04-01"}


async def made(phone: Phone, sent: dict[str, Any] = MINIMAL_PROFILE) -> dict[str, Any]:
    """The profile as it was stored."""
    answer = await phone.post("/profile", sent)
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json()
    return record


async def test_there_is_no_profile_before_it_is_made(ada: Phone) -> None:
    assert told(await ada.get("/profile")) == (404, "not-found")
    assert told(await ada.get("/profile/versions")) == (404, "not-found")
    assert told(await ada.put("/profile", MINIMAL_PROFILE)) == (404, "not-found")
    assert told(await ada.patch("/profile", {"locale": "de"})) == (404, "not-found")
    assert (await ada.get()).json()["head"] == 0


@pytest.mark.parametrize("sent", [MINIMAL_PROFILE, EXAMPLE_PROFILE])
async def test_a_profile_is_read_back_as_it_was_written(ada: Phone, sent: dict[str, Any]) -> None:
    answer = await ada.post("/profile", sent)
    assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
    stored = await ada.http.get(answer.headers["Location"])
    assert (stored.headers["ETag"], stored.content) == ('"1"', answer.content)
    assert {name: stored.json().get(name) for name in sent} == sent
    assert (stored.json()["kind"], stored.json()["id"]) == ("profile", ada.patient_id)


async def test_a_profile_is_made_once(ada: Phone) -> None:
    record = await made(ada)
    again = await ada.post("/profile", MINIMAL_PROFILE)
    assert (again.status_code, again.json()) == (200, record)
    other = await ada.post("/profile", CHILD)
    assert (told(other), other.json()["current"]) == ((409, "conflict"), record)
    assert (await ada.get()).json()["head"] == 1


async def test_only_who_has_seen_the_profile_changes_it(ada: Phone) -> None:
    await made(ada, EXAMPLE_PROFILE)
    born = {"weight": {"value": 62, "on": "2026-09-20"}, "pregnancy": {"status": "not_pregnant", "due_date": None}}
    weighed = await ada.patch("/profile", born)
    assert (weighed.status_code, weighed.headers["ETag"]) == (200, '"2"')
    assert (weighed.json()["weight"], weighed.json()["pregnancy"]) == (born["weight"], {"status": "not_pregnant"})
    unseen = await ada.http.patch(f"{ada.diary}/profile", json={"locale": "de"})
    assert told(unseen) == (428, "precondition-required")
    for stale in (await ada.put("/profile", CHILD), await ada.patch("/profile", {"locale": "de"})):
        assert (told(stale), stale.json()["current"]) == ((412, "stale"), weighed.json())
    replaced = await ada.put("/profile", CHILD, 2)
    assert (replaced.status_code, replaced.json()["birth_date"]) == (200, "2022-04-01")
    assert "weight" not in replaced.json()
    versions = (await ada.get("/profile/versions")).json()["items"]
    assert [(v["version"], v["record"]["birth_date"], v["device_name"]) for v in versions] == [
        (3, "2022-04-01", "Ada's phone"),
        (2, "1980-05-17", "Ada's phone"),
        (1, "1980-05-17", "Ada's phone"),
    ]
    assert (await ada.get()).json()["head"] == 3


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"birth_date": "2026-03-30"}, "/birth_date"),
        ({"pregnancy": {"status": "not_pregnant", "due_date": "2026-09-14"}}, "/pregnancy/due_date"),
        ({"weight": {"value": 0.2, "on": "2026-03-20"}}, "/weight/value"),
        ({"conditions": ["migraine", "canary"]}, "/conditions/1"),
        ({"allergies": ["nsaid", "nsaid"]}, "/allergies/1"),
        ({"weight": {"value": 70}}, "/weight/on"),  # not the old day with the new weight
        ({"id": str(uuid4())}, "/id"),
    ],
)
async def test_a_profile_that_contradicts_itself_is_refused_at_its_place(
    ada: Phone, fields: dict[str, Any], pointer: str
) -> None:
    refused = await ada.post("/profile", MINIMAL_PROFILE | fields)
    assert (told(refused), pointers(refused)) == ((422, "invalid"), [pointer])
    await made(ada)
    revised = await ada.patch("/profile", fields)
    assert (told(revised), pointers(revised)) == ((422, "invalid"), [pointer])


async def test_a_profile_stays(ada: Phone) -> None:
    await made(ada)
    refused = await ada.delete("/profile")
    assert told(refused) == (405, "method-not-allowed")
    assert set(refused.headers["Allow"].split(", ")) == {"GET", "PATCH", "POST", "PUT"}
    assert (await ada.get("/profile")).status_code == 200


async def test_what_is_shown_of_a_patient_follows_the_profile(ada: Phone) -> None:
    there = {"birth_date": "1981-01-02", "time_zone": "America/New_York", "locale": "de-DE"}
    await made(ada, MINIMAL_PROFILE | there)
    shown = (await ada.get()).json()
    assert {name: shown[name] for name in there} == there
    await ada.patch("/profile", {"birth_date": "1982-03-04", "locale": None})
    assert (await ada.get()).json() == shown | {"birth_date": "1982-03-04", "head": 2}


async def test_a_change_that_is_refused_moves_nobodys_birth_date(ada: Phone) -> None:
    await made(ada)
    shown = (await ada.get()).json()
    await ada.post("/profile", CHILD)
    await ada.put("/profile", CHILD, 2)
    await ada.put("/profile", CHILD | {"birth_date": "2026-04-01"})
    assert (await ada.get()).json() == shown


async def test_scales_are_judged_by_the_birth_date_that_is_known(ada: Phone) -> None:
    judged = (await ada.log()).json()
    await made(ada, CHILD)
    doubted = (await ada.log()).json()
    assert (judged["outside_validated_age"], doubted["outside_validated_age"]) == ([], ["nrs_0_10"])
    assert (await ada.get(f"/entries/{judged['id']}")).json() == judged
    await ada.patch("/profile", {"birth_date": "1980-05-17"})
    assert (await ada.log()).json()["outside_validated_age"] == []


async def test_what_is_sent_together_with_a_profile_is_judged_by_it(app: FastAPI, ada: Phone) -> None:
    parts = app.state.diary
    caller = Caller(UUID(ada.user_id), UUID(ada.session_id), uuid4(), None)
    diary = Diary(parts.database, parts.cursors, caller, UUID(ada.patient_id))
    changes = [
        records.change_of(PROFILE, ProfileFields.model_validate(CHILD), ada.patient_id, 0),
        records.change_of(ENTRY, EntryIn.model_validate(noted := entry()), noted["id"], 0),
    ]
    await record_store.write(diary, "test", PROFILE.write_scope, changes)
    assert (await ada.get(f"/entries/{noted['id']}")).json()["outside_validated_age"] == ["nrs_0_10"]


@pytest.mark.parametrize(
    ("place", "record"),
    [("/entries", entry()), ("/treatments", treatment()), ("/treatment-events", dose(str(uuid4())))],
)
async def test_the_patients_own_id_is_kept_for_the_profile(ada: Phone, place: str, record: dict[str, Any]) -> None:
    refused = await ada.post(place, record | {"id": ada.patient_id})
    assert (told(refused), pointers(refused)) == ((422, "invalid"), ["/id"])
    assert [fault["code"] for fault in refused.json()["errors"]] == ["reserved"]
    await made(ada)
    assert told(await ada.get(f"{place}/{ada.patient_id}")) == (404, "not-found")
    assert told(await ada.delete(f"{place}/{ada.patient_id}")) == (404, "not-found")
    assert ids(await ada.get("/timeline")) == [ada.patient_id]
