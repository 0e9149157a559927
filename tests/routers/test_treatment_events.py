"""Treatment events over HTTP: stored whatever is known of their treatment, and read beside it once it is there."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.schemas.treatment_events import EXAMPLES
from tests.answers import ids, pointers, told
from tests.conftest import connect
from tests.people import Person, Phone, dose, entry, treatment, without_id

pytestmark = pytest.mark.anyio

Saying: TypeAlias = tuple[str, list[str]]  # of an event about its treatment: the name, and what does not fit

MISSING: Saying = ("", ["treatment_missing"])  # the name is absent, not null


@pytest.fixture(scope="module")
async def phone(app: FastAPI) -> AsyncIterator[Phone]:
    """A patient whom the tests of single events share: each looks at events of its own only."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


async def agreed(phone: Phone, **fields: Any) -> dict[str, Any]:
    """What was sent to store a new treatment."""
    sent = treatment(**fields)
    assert (await phone.post("/treatments", sent)).status_code == 201
    return sent


async def logged(phone: Phone, treatment_id: str, *when: str, **fields: Any) -> dict[str, Any]:
    """What was sent to store a new dose or session."""
    sent = dose(treatment_id, *when, **fields)
    answer = await phone.post("/treatment-events", sent)
    assert answer.status_code == 201, answer.text
    return sent


async def get(phone: Phone, sent: dict[str, Any]) -> httpx.Response:
    return await phone.get(f"/treatment-events/{sent['id']}")


def beside(event: dict[str, Any]) -> Saying:
    return event.get("treatment_name", ""), event["flags"]


async def everywhere(phone: Phone, sent: dict[str, Any]) -> list[Saying]:
    """The same in every answer that holds the event, each different saying once."""
    path = f"/treatment-events/{sent['id']}"
    pages = [await phone.get(page) for page in ("/treatment-events", "/timeline", f"{path}/versions")]
    items = [item.get("record", item) for page in pages for item in page.json()["items"]]
    shown = [item for item in items if item["id"] == sent["id"]]
    assert len(shown) >= 3
    answers = [await phone.get(path), await phone.patch(path, {})]
    sayings = [beside(event) for event in (*shown, *(answer.json() for answer in answers))]
    return [saying for number, saying in enumerate(sayings) if saying not in sayings[:number]]


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_event_is_read_back_as_it_was_written(phone: Phone, example: dict[str, Any]) -> None:
    sent = example | {"id": str(uuid4())}
    answer = await phone.post("/treatment-events", sent)
    assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
    stored = (await phone.http.get(answer.headers["Location"])).json()
    assert {name: stored.get(name) for name in sent} == sent
    assert (stored["kind"], stored["local_date"]) == ("treatment_event", "2026-03-29")


async def test_an_event_waits_for_its_treatment_and_misses_it_again_once_it_is_deleted(ada: Phone) -> None:
    plan = treatment(name="Ibuprofen 400 mg")
    sent = await logged(ada, plan["id"])
    assert await everywhere(ada, sent) == [MISSING]
    await ada.post("/treatments", plan)
    assert await everywhere(ada, sent) == [("Ibuprofen 400 mg", [])]
    await ada.delete(f"/treatments/{plan['id']}")
    assert await everywhere(ada, sent) == [MISSING]
    assert (await get(ada, sent)).headers["ETag"] == '"1"'


async def test_what_is_not_a_treatment_of_this_diary_is_none(ada: Phone, bob: Phone) -> None:
    hers = await agreed(bob)
    noted = (await ada.log()).json()
    for other in (hers["id"], noted["id"], ada.patient_id):
        assert beside((await get(ada, await logged(ada, other))).json()) == MISSING


@pytest.mark.parametrize(
    ("category", "status", "flags"),
    [
        ("opioid_medication", "held", []),
        ("opioid_medication", "attended", ["status_does_not_fit"]),
        ("physical_therapy", "cancelled_by_provider", []),
        ("physical_therapy", "taken", ["status_does_not_fit"]),
        ("education", "partial", []),
    ],
)
async def test_a_status_that_does_not_fit_is_flagged_and_never_refused(
    phone: Phone, category: str, status: str, flags: list[str]
) -> None:
    plan = await agreed(phone, category=category, name="The plan")
    answer = await phone.post("/treatment-events", dose(plan["id"], status=status))
    assert (answer.status_code, beside(answer.json())) == (201, ("The plan", flags))


async def test_flags_follow_what_is_known_now(ada: Phone) -> None:
    plan, other = await agreed(ada, name="Yoga", category="lifestyle"), await agreed(ada, name="Ibuprofen")
    sent = await logged(ada, plan["id"])
    assert await everywhere(ada, sent) == [("Yoga", ["status_does_not_fit"])]
    await ada.patch(f"/treatments/{plan['id']}", {"category": "otc_medication"})
    assert await everywhere(ada, sent) == [("Yoga", [])]
    moved = await ada.patch(f"/treatment-events/{sent['id']}", {"treatment_id": other["id"]})
    assert beside(moved.json()) == ("Ibuprofen", [])
    nowhere = await ada.put(f"/treatment-events/{sent['id']}", without_id(sent) | {"treatment_id": str(uuid4())}, 2)
    assert beside(nowhere.json()) == MISSING
    versions = (await ada.get(f"/treatment-events/{sent['id']}/versions")).json()["items"]
    assert [beside(version["record"]) for version in versions] == [MISSING, ("Ibuprofen", []), ("Yoga", [])]


async def test_a_name_is_the_one_that_the_treatment_has_now_in_every_answer(ada: Phone) -> None:
    plan = await agreed(ada, name="Ibuprofen")
    sent = await logged(ada, plan["id"])
    path = f"/treatment-events/{sent['id']}"
    await ada.patch(path, {"pain_after": 3})
    await ada.patch(f"/treatments/{plan['id']}", {"name": 'Ibuprofen "forte" – 400 µg'})
    now: Saying = ('Ibuprofen "forte" – 400 µg', [])
    assert await everywhere(ada, sent) == [now]
    replayed = await ada.post("/treatment-events", sent)
    assert (replayed.status_code, beside(replayed.json())) == (200, now)
    conflict = await ada.post("/treatment-events", sent | {"pain_before": 9})
    stale = await ada.patch(path, {"pain_after": 4})
    assert (told(conflict), told(stale)) == ((409, "conflict"), (412, "stale"))
    for refused in (conflict, stale):
        assert beside(refused.json()["current"]) == now
    revised = await ada.patch(path, {"pain_after": 4}, 2)
    assert beside(revised.json()) == now


async def test_what_the_server_says_beside_an_event_is_not_for_the_phone_to_send(phone: Phone) -> None:
    for member, value in (("treatment_name", "Mine"), ("flags", [])):
        refused = await phone.post("/treatment-events", dose(str(uuid4())) | {member: value})
        assert told(refused) == (422, "invalid")


async def test_an_event_names_its_entry_before_that_arrives(ada: Phone) -> None:
    pain = entry()
    sent = await logged(ada, str(uuid4()), entry_id=pain["id"])
    assert (await get(ada, sent)).json()["entry_id"] == pain["id"]
    assert (await ada.log(**pain)).status_code == 201
    assert (await get(ada, sent)).json()["entry_id"] == pain["id"]
    unlinked = await ada.patch(f"/treatment-events/{sent['id']}", {"entry_id": None})
    assert "entry_id" not in unlinked.json()


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"status": "missed"}, "/status"),
        ({"status": "skipped", "amount": {"value": 1, "unit": "{tablet}"}}, "/amount"),
        ({"status": "taken", "reason": "forgot"}, "/reason"),
        ({"treatment_id": "ibuprofen"}, "/treatment_id"),
        ({"side_effects": [{"code": "rash"}, {"code": "rash"}]}, "/side_effects/1"),
    ],
)
async def test_an_event_that_means_nothing_is_refused_at_its_place(
    phone: Phone, fields: dict[str, Any], pointer: str
) -> None:
    refused = await phone.post("/treatment-events", dose(str(uuid4())) | fields)
    assert (told(refused), pointers(refused)) == ((422, "invalid"), [pointer])
    sent = await logged(phone, str(uuid4()))
    revised = await phone.patch(f"/treatment-events/{sent['id']}", fields)
    assert (told(revised), pointers(revised)) == ((422, "invalid"), [pointer])


@pytest.fixture(scope="module")
async def filled(app: FastAPI) -> AsyncIterator[tuple[Phone, str]]:
    """A week of doses of two treatments, one of which never arrives, that no test changes; and the known one's id."""
    async with connect(app) as http:
        phone = await Person().register_and_sign_in(http)
        known, unknown = (await agreed(phone))["id"], str(uuid4())
        for day in (26, 27, 28):
            await logged(phone, known, f"2026-03-{day}T20:00:00+01:00", minutes=day)
            await logged(phone, unknown, f"2026-03-{day}T08:00:00+01:00", minutes=day + 100)
        # 27 March for the patient, 28 March in UTC.
        await logged(phone, known, "2026-03-27T20:00:00-10:00", minutes=227)
        await phone.log(occurred_at="2026-03-27T12:00:00+01:00")
        yield phone, known


@pytest.mark.parametrize(
    ("filters", "minutes"),
    [
        ({}, [28, 128, 227, 27, 127, 26, 126]),
        ({"treatment_id": "{known}"}, [28, 227, 27, 26]),
        ({"treatment_id": str(uuid4())}, []),
        ({"from": "2026-03-28"}, [28, 128]),
        ({"to": "2026-03-26"}, [26, 126]),
        ({"from": "2026-03-27", "to": "2026-03-27"}, [227, 27, 127]),
        ({"treatment_id": "{known}", "from": "2026-03-27", "to": "2026-03-27"}, [227, 27]),
        ({"from": "2026-03-29"}, []),
    ],
)
async def test_filters_find_events_by_treatment_and_local_day(
    filled: tuple[Phone, str], filters: dict[str, str], minutes: list[int]
) -> None:
    phone, known = filled
    filters = {name: value.format(known=known) for name, value in filters.items()}
    everything = await phone.get("/treatment-events", params=filters)
    assert [event["minutes"] for event in everything.json()["items"]] == minutes
    assert [beside(event) == MISSING for event in everything.json()["items"]] == [100 < m < 200 for m in minutes]
    first = await phone.get("/treatment-events", params={**filters, "limit": 2})
    if first.json()["next_cursor"]:
        rest = await phone.get("/treatment-events", params={**filters, "cursor": first.json()["next_cursor"]})
        assert ids(first) + ids(rest) == ids(everything)


async def test_a_cursor_goes_with_the_treatment_it_was_made_for(filled: tuple[Phone, str]) -> None:
    phone, known = filled
    first = await phone.get("/treatment-events", params={"treatment_id": known, "limit": 1})
    cursor = first.json()["next_cursor"]
    for others in ({}, {"treatment_id": str(uuid4())}):
        refused = await phone.get("/treatment-events", params={**others, "cursor": cursor})
        assert told(refused) == (400, "cursor-invalid")


@pytest.mark.parametrize(
    ("filters", "pointer"),
    [
        ("treatment_id=ibuprofen", "#query/treatment_id"),
        ("treatment_id=", "#query/treatment_id"),
        ("from=2026-03-29&to=2026-03-28", "#query/from"),
        ("status=taken", "#query/status"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused_not_ignored(phone: Phone, filters: str, pointer: str) -> None:
    refused = await phone.get(f"/treatment-events?{filters}")
    assert (told(refused), pointers(refused)) == ((422, "invalid"), [pointer])
