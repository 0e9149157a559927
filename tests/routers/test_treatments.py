"""Treatments over HTTP: the plan as it was agreed, whatever becomes of it, and what every kind of record does alike.

Each rule of the write path is tested with entries; here the same steps pass once over the kinds that came after.
"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI

from app import vocabularies
from app.schemas.treatment_examples import EXAMPLE_PRN, EXAMPLE_SESSIONS, EXAMPLE_STOP, EXAMPLES
from tests.answers import ids, pointers, told
from tests.conftest import connect
from tests.people import Person, Phone, dose, treatment, without_id

pytestmark = pytest.mark.anyio

CATEGORIES = vocabularies.load("treatment_categories").ordered_codes
STARTED = "2026-03-01T00:00:00+01:00"
ENDED = "2026-04-13T00:00:00+02:00"


@pytest.fixture(scope="module")
async def phone(app: FastAPI) -> AsyncIterator[Phone]:
    """A patient whom the tests of single treatments share: each looks at treatments of its own only."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


def new(example: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The example under an id of its own."""
    return example | {"id": str(uuid4())} | fields


def regimen(valid_from: str = STARTED, **fields: Any) -> dict[str, Any]:
    return {"valid_from": valid_from, "time_zone": "Europe/Berlin", "schedule": {"type": "prn"}, **fields}


def own(record: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """What a record says of the members that were sent."""
    return {name: record.get(name) for name in sent}


async def added(phone: Phone, **fields: Any) -> dict[str, Any]:
    """What was sent to store a new treatment."""
    sent = treatment(**fields)
    answer = await phone.post("/treatments", sent)
    assert answer.status_code == 201, answer.text
    return sent


def test_there_are_ten_categories() -> None:
    assert len(CATEGORIES) == 10


@pytest.mark.parametrize("category", CATEGORIES)
async def test_a_treatment_of_every_category_is_stored(phone: Phone, category: str) -> None:
    sent = await added(phone, category=category)
    assert own((await phone.get(f"/treatments/{sent['id']}")).json(), sent) == sent


@pytest.mark.parametrize("example", EXAMPLES)
async def test_a_treatment_is_read_back_as_it_was_written(phone: Phone, example: dict[str, Any]) -> None:
    sent = {name: value for name, value in new(example).items() if name not in ("authored_by", "acknowledged_at")}
    answer = await phone.post("/treatments", sent)
    assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
    stored = (await phone.http.get(answer.headers["Location"])).json()
    assert own(stored, sent) == sent
    assert (stored["kind"], stored["local_date"]) == ("treatment", sent["occurred_at"][:10])


@pytest.mark.parametrize(
    "schedule",
    [
        {"type": "scheduled", "times": ["08:00", "20:00"], "early_minutes": 0, "late_minutes": 720},
        {"type": "scheduled", "times": ["08:00"], "days_of_week": [1, 7], "early_minutes": 60, "late_minutes": 60},
        {"type": "scheduled", "times": ["08:00"], "every_n_days": 3, "early_minutes": 60, "late_minutes": 60},
        EXAMPLE_PRN["regimens"][0]["schedule"],
        {"type": "target", "count": 1, "per": "day"},
        EXAMPLE_SESSIONS["regimens"][0]["schedule"],
    ],
)
async def test_a_regimen_of_every_type_is_read_back_as_it_was_written(phone: Phone, schedule: dict[str, Any]) -> None:
    sent = await added(phone, regimens=[regimen(schedule=schedule)])
    assert (await phone.get(f"/treatments/{sent['id']}")).json()["regimens"] == sent["regimens"]


async def test_an_amount_is_in_a_unit_that_all_of_us_know(phone: Phone) -> None:
    acetaminophen = {"name": "acetaminophen", "rxnorm": "161", "strength": {"value": 24, "unit": "mg/mL"}}
    codeine = {"name": "codeine", "strength": {"value": 0.1, "unit": "mmol"}}
    sent = await added(phone, ingredients=[acetaminophen, codeine], form="oral_liquid", route="oral")
    assert (await phone.get(f"/treatments/{sent['id']}")).json()["ingredients"] == [acetaminophen, codeine]
    spoon = codeine | {"strength": {"value": 1, "unit": "spoon"}}
    refused = await phone.post("/treatments", treatment(ingredients=[acetaminophen, spoon]))
    assert (told(refused), pointers(refused)) == ((422, "invalid"), ["/ingredients/1/strength/unit"])


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"status": "stopped"}, "/regimens/0/valid_to"),
        ({"status": "completed", "regimens": [regimen(valid_to=None)]}, "/regimens/0/valid_to"),
        ({"status": "stopped", "regimens": [regimen(valid_to=ENDED), regimen(ENDED)]}, "/regimens/1/valid_to"),
        ({"status": "on_hold"}, "/pauses"),
        ({"status": "on_hold", "pauses": [{"from": "2025-03-01T00:00:00Z", "to": "2025-04-01T00:00:00Z"}]}, "/pauses"),
        ({"regimens": [regimen(), regimen()]}, "/regimens/1/valid_from"),
        ({"regimens": [regimen(valid_to="2026-05-01T00:00:00+02:00"), regimen(ENDED)]}, "/regimens/1/valid_from"),
        ({"pauses": [{"from": STARTED}, {"from": ENDED}]}, "/pauses/1/from"),
        ({"pauses": [{"from": ENDED, "to": STARTED}]}, "/pauses/0/to"),
        ({"category": "lifestyle", "form": "tablet"}, "/form"),
        ({"wear_hours": 72}, "/wear_hours"),
        ({"acknowledged_at": STARTED}, "/acknowledged_at"),
    ],
)
async def test_a_plan_that_contradicts_itself_is_refused_at_its_place(
    phone: Phone, fields: dict[str, Any], pointer: str
) -> None:
    refused = await phone.post("/treatments", treatment(**fields))
    assert (told(refused), pointers(refused)) == ((422, "invalid"), [pointer])
    sent = await added(phone)
    revised = await phone.patch(f"/treatments/{sent['id']}", fields)
    assert (told(revised), pointers(revised)) == ((422, "invalid"), [pointer])


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "stopped", "regimens": [regimen(valid_to=ENDED)]},
        {"status": "completed", "regimens": [regimen(), regimen(ENDED, valid_to="2026-06-01T00:00:00+02:00")]},
        {"status": "on_hold", "pauses": [{"from": STARTED, "to": ENDED}, {"from": ENDED}]},
    ],
)
async def test_a_plan_that_ended_or_rests_says_since_when(phone: Phone, fields: dict[str, Any]) -> None:
    sent = await added(phone)
    revised = await phone.patch(f"/treatments/{sent['id']}", fields)
    assert revised.status_code == 200, revised.text
    assert own(revised.json(), fields) == fields


async def test_stopping_a_treatment_is_one_patch(phone: Phone) -> None:
    sent = new(EXAMPLES[0])
    await phone.post("/treatments", sent)
    stopped = (await phone.patch(f"/treatments/{sent['id']}", EXAMPLE_STOP)).json()
    assert own(stopped, sent | EXAMPLE_STOP) == sent | EXAMPLE_STOP


async def test_a_pause_keeps_its_name_on_the_wire_whatever_else_changes(phone: Phone) -> None:
    pauses = [{"from": STARTED, "to": "2026-03-05T00:00:00+01:00"}, {"from": ENDED}]
    sent = await added(phone, pauses=pauses, recorded_at="2026-02-27T09:00:00+01:00")
    path = f"/treatments/{sent['id']}"
    renamed = await phone.patch(path, {"name": "Amitriptyline"})
    assert renamed.json()["pauses"] == pauses
    ended = [pauses[0], {"from": ENDED, "to": "2026-04-20T00:00:00+02:00"}]
    assert (await phone.patch(path, {"pauses": ended}, 2)).json()["pauses"] == ended
    replaced = await phone.put(path, without_id(sent) | {"status": "on_hold"}, 3)
    assert replaced.json()["pauses"] == (await phone.get(path)).json()["pauses"] == pauses
    versions = (await phone.get(f"{path}/versions")).json()["items"]
    assert [version["record"]["pauses"] for version in versions] == [pauses, ended, pauses, pauses]


async def test_a_changed_dose_is_another_regimen_and_the_earlier_one_stays(phone: Phone) -> None:
    half, whole = ({"value": value, "unit": "{tablet}"} for value in (0.5, 1))
    sent = await added(phone, regimens=[regimen(dose=half)])
    raised = [regimen(dose=half), regimen("2026-03-28T12:00:00+01:00", dose=whole)]
    revised = await phone.patch(f"/treatments/{sent['id']}", {"regimens": raised})
    assert (revised.status_code, revised.json()["regimens"]) == (200, raised)


async def test_the_list_shows_every_plan_the_newest_first(ada: Phone) -> None:
    stopped = await added(ada, status="stopped", regimens=[regimen(valid_to=ENDED)])
    draft = await added(ada, status="draft", occurred_at="2026-03-03T09:00:00+01:00")
    deleted = await added(ada)
    older = await added(ada, occurred_at="2025-11-02T09:00:00+01:00")
    await ada.delete(f"/treatments/{deleted['id']}")
    await ada.log()
    await ada.post("/treatment-events", dose(draft["id"]))
    everything = ids(await ada.get("/treatments"))
    assert everything == [draft["id"], stopped["id"], older["id"]]
    first = await ada.get("/treatments", params={"limit": 2})
    rest = await ada.get("/treatments", params={"limit": 2, "cursor": first.json()["next_cursor"]})
    assert (ids(first) + ids(rest), rest.json()["next_cursor"]) == (everything, None)


# Where a kind lives, a new record of it, and a member with two more values.
KINDS = [
    pytest.param("/treatments", treatment, "name", ("Amitriptyline", "Bedtime drops"), id="treatment"),
    pytest.param("/treatment-events", lambda: dose(str(uuid4())), "pain_after", (3, 5), id="event"),
]
each_kind = pytest.mark.parametrize(("place", "make", "member", "values"), KINDS)


@each_kind
async def test_a_record_of_each_kind_is_created_changed_and_deleted_alike(
    ada: Phone, place: str, make: Any, member: str, values: tuple[Any, Any]
) -> None:
    sent, (one, other) = make(), values
    path = f"{place}/{sent['id']}"
    created = await ada.post(place, sent)
    again = await ada.post(place, sent)
    assert (created.status_code, again.status_code, again.content) == (201, 200, created.content)
    assert (await ada.http.get(created.headers["Location"])).content == created.content
    revised = await ada.patch(path, {member: one})
    assert (revised.status_code, revised.headers["ETag"], revised.json()[member]) == (200, '"2"', one)
    replaced = await ada.put(path, without_id(sent) | {member: other}, 2)
    assert (replaced.status_code, replaced.headers["ETag"], replaced.json()[member]) == (200, '"3"', other)
    lost = await ada.put(path, without_id(sent) | {member: other}, 2)
    assert (lost.status_code, lost.content) == (200, replaced.content)
    assert (await ada.post(place, sent)).content == replaced.content
    assert [(await ada.delete(path, 3)).status_code for _ in range(2)] == [204, 204]
    versions = (await ada.get(f"{path}/versions")).json()["items"]
    assert [version["version"] for version in versions] == [4, 3, 2, 1]
    assert [version.get("record", {}).get(member) for version in versions] == [None, other, one, sent.get(member)]
    assert (await ada.get()).json()["head"] == 4


@each_kind
async def test_what_was_not_seen_is_not_overwritten_whatever_its_kind(
    ada: Phone, place: str, make: Any, member: str, values: tuple[Any, Any]
) -> None:
    sent, (one, other) = make(), values
    path = f"{place}/{sent['id']}"
    assert told(await ada.put(path, without_id(sent))) == (404, "not-found")
    await ada.post(place, sent)
    await ada.patch(path, {member: one})
    current = (await ada.get(path)).json()
    conflict = await ada.post(place, sent | {member: other})
    assert (told(conflict), conflict.json()["current"]) == ((409, "conflict"), current)
    for stale in (
        await ada.put(path, without_id(sent) | {member: other}),
        await ada.patch(path, {member: other}),
        await ada.delete(path),
    ):
        assert (told(stale), stale.json()["current"]) == ((412, "stale"), current)
    assert told(await ada.http.patch(f"{ada.diary}{path}", json={member: other})) == (428, "precondition-required")
    await ada.delete(path, 2)
    for gone in (await ada.get(path), await ada.post(place, sent), await ada.patch(path, {member: other}, 3)):
        assert told(gone) == (410, "gone")


@each_kind
async def test_an_id_is_taken_by_one_kind_and_unknown_to_the_others(
    ada: Phone, place: str, make: Any, member: str, values: tuple[Any, Any]
) -> None:
    logged = (await ada.log()).json()
    taken = await ada.post(place, make() | {"id": logged["id"]})
    assert told(taken) == (409, "conflict")
    assert "current" not in taken.json()
    path = f"{place}/{logged['id']}"
    for answer in (
        await ada.get(path),
        await ada.get(f"{path}/versions"),
        await ada.put(path, without_id(make())),
        await ada.patch(path, {member: values[0]}),
        await ada.delete(path),
    ):
        assert told(answer) == (404, "not-found")
    assert ids(await ada.get(place)) == []
    assert (await ada.get(f"/entries/{logged['id']}")).json() == logged
