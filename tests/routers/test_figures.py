"""Figures that would mislead, over HTTP: real diaries as phones send them, and what is answered of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI

from app.http import deps
from tests.people import Phone, dose, entry, treatment, without_id
from tests.routers.test_adherence import add, adherence
from tests.routers.test_me import another_device

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
TABLET = {"value": 1, "unit": "{tablet}"}
HALF_GRAM = [{"name": "acetaminophen", "strength": {"value": 500, "unit": "mg"}}]


@pytest.fixture
async def later(app: FastAPI) -> AsyncIterator[None]:
    """A server whose clock shows a moment after everything these tests tell of."""
    app.dependency_overrides[deps.now] = lambda: datetime(2026, 8, 1, tzinfo=UTC)
    yield
    del app.dependency_overrides[deps.now]


def plan(*times: str, days: str = "", to: str | None = None, schedule: Json | None = None, **fields: Any) -> Json:
    """A plan from 1 June 2026 on; what `days` says of the schedule, a dose of one tablet, perhaps an end."""
    made = treatment(*times)
    [regimen] = made["regimens"]
    more = {"days_of_week": [int(day) for day in days]} if days else {}
    kept = {"valid_to": f"2026-06-{to}T00:00:00+02:00"} if to else {}
    agreed = fields.pop("dose", TABLET) if fields.get("category") != "lifestyle" else None
    regimen = (
        regimen
        | kept
        | {
            "valid_from": "2026-06-01T00:00:00+02:00",
            "schedule": schedule or regimen["schedule"] | more,
            **({"dose": agreed} if agreed else {}),
        }
    )
    return made | {"regimens": [regimen], **fields}


def at(moment: str) -> str:
    return f"2026-06-{moment}:00+02:00"


def events(of: Json, *moments: str, amount: Json | None = None, **fields: Any) -> list[Json]:
    more = {"amount": amount} if amount else {}
    return [dose(of["id"], at(moment), **more, **fields) for moment in moments]


async def figures(phone: Phone, of: Json, some: list[Json], first: str, last: str) -> Json:
    """What is answered of the one plan with these events, every word having come."""
    await add(phone, of, *some)
    assert (await phone.post("/entries", entry(), params={"outbox_empty": "true"})).status_code == 201
    return await adherence(phone, f"2026-06-{first}", f"2026-06-{last}")


def told(found: Json, name: str = "doses") -> tuple[Json, int]:
    """The outcomes that there are, and the extras."""
    part = found["overall"][name]
    return {outcome: n for outcome, n in part["outcomes"].items() if n}, part["extras"]


def share(figure: Json) -> tuple[int, int]:
    return figure["numerator"], figure["denominator"]


async def test_a_dose_in_the_evening_leaves_the_next_morning_on_time(ada: Phone, later: None) -> None:
    daily = plan("08:00")
    found = await figures(ada, daily, events(daily, "01T20:30", "02T08:00"), "01", "02")
    assert told(found) == ({"on_time": 1, "late": 1}, 0)
    doses = found["overall"]["doses"]
    assert (share(doses["timing"]), share(doses["correct_days"])) == ((1, 2), (2, 2))


async def test_two_doses_at_once_are_for_the_slots_that_they_name(ada: Phone, later: None) -> None:
    daily = plan("08:00")
    both = [dose(daily["id"], at("02T08:05"), scheduled_for=at(f"{day}T08:00")) for day in ("01", "02")]
    assert told(await figures(ada, daily, both, "01", "02")) == ({"on_time": 1, "late": 1}, 0)


@pytest.mark.parametrize(
    ("amounts", "outcomes", "extras", "exact"),
    [([0.5, 0.5], {"on_time": 1}, 0, 1), ([2], {"on_time": 1}, 1, 0), ([0.25], {"partial": 1}, 0, 0)],
)
async def test_halves_and_doubles_over_http(
    ada: Phone, later: None, amounts: list[float], outcomes: Json, extras: int, exact: int
) -> None:
    daily = plan("08:00", form="tablet", ingredients=HALF_GRAM)
    some = [
        event
        for minute, value in enumerate(amounts)
        for event in events(daily, f"01T08:0{minute}", amount={"value": value, "unit": "{tablet}"})
    ]
    found = await figures(ada, daily, some, "01", "01")
    assert told(found) == (outcomes, extras)
    doses = found["overall"]["doses"]
    assert (share(doses["correct_days"]), doses["taking"]["extras"]) == ((exact, 1), extras)


@pytest.mark.parametrize(
    ("ingredients", "amount", "breaches", "unclear"),
    [
        (HALF_GRAM, {"value": 1, "unit": "g"}, 1, 0),
        (HALF_GRAM, {"value": 2, "unit": "{tablet}"}, 1, 0),
        ([{"name": "acetaminophen"}], {"value": 2, "unit": "{tablet}"}, None, 4),
        ([*HALF_GRAM, {"name": "codeine", "strength": {"value": 30, "unit": "mg"}}], None, None, 4),
    ],
)
async def test_four_grams_are_more_than_three(
    ada: Phone, later: None, ingredients: list[Json], amount: Json | None, breaches: int | None, unclear: int
) -> None:
    limits = {"type": "prn", "max_amount_24h": {"value": 3000, "unit": "mg"}}
    needed = plan(schedule=limits, form="tablet", ingredients=ingredients, category="otc_medication")
    four = events(needed, "01T08:00", "01T12:00", "01T16:00", "01T20:00", amount=amount)
    [one] = (await figures(ada, needed, four, "01", "01"))["treatments"]
    found = one["prn"]["maximum_breaches"]
    assert found == (None if breaches is None else [at("01T20:00")])
    assert len(one["prn"]["not_comparable"]) == unclear
    if breaches:
        assert one["prn"]["most_amount_24h"] == [{"value": 4000, "unit": "mg"}]


async def test_no_dose_as_needed_vanishes(ada: Phone, later: None) -> None:
    needed = plan(schedule={"type": "prn"}, to="10", category="otc_medication")
    named = dose(needed["id"], at("02T08:00"), scheduled_for=at("02T08:00"))
    back_dated = dose(needed["id"], "2026-05-30T08:00:00+02:00")
    some = [named, *events(needed, "12T08:00"), back_dated]
    await add(ada, needed, *some)
    found = await adherence(ada, "2026-05-25", "2026-06-30")
    [one] = found["treatments"]
    assert (one["prn"]["doses"], one["prn"]["outside_plan"]) == (3, 2)
    assert not any(found["left_out"].values())


async def test_a_weekly_dose_taken_daily_shows_its_surplus_first(ada: Phone, later: None) -> None:
    weekly = plan("08:00", days="1", to="15")
    found = await figures(ada, weekly, events(weekly, *(f"{day:02}T08:00" for day in range(1, 15))), "01", "14")
    doses = found["overall"]["doses"]
    assert (doses["taking"]["value"], doses["taking"]["extras"]) == (1, 12)
    assert share(doses["correct_days"]) == (2, 14)


@pytest.mark.parametrize("named", [at("01T12:00"), at("01T23:59"), "2026-06-01"])
async def test_a_session_after_midnight_may_be_of_the_day_before(ada: Phone, later: None, named: str) -> None:
    thrice = plan(schedule={"type": "target", "count": 3, "per": "day"}, category="lifestyle")
    first = events(thrice, "01T09:00", "01T18:00", status="attended")
    third = dose(thrice["id"], at("02T00:20"), status="attended", scheduled_for=named)
    assert told(await figures(ada, thrice, [*first, third], "01", "01"), "sessions") == ({"on_time": 2, "late": 1}, 0)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Auckland", "America/Los_Angeles"])
async def test_a_day_is_that_of_the_plan_wherever_the_patient_is(ada: Phone, later: None, zone: str) -> None:
    once = plan(schedule={"type": "target", "count": 1, "per": "day"}, category="lifestyle")
    done = dose(once["id"], at("03T08:00"), status="attended", scheduled_for="2026-06-01", time_zone=zone)
    found = await figures(ada, once, [done], "01", "02")
    assert told(found, "sessions") == ({"late": 1, "missed": 1}, 0)


async def test_a_day_names_no_slot_also_where_one_is_due_at_noon(ada: Phone, later: None) -> None:
    daily = plan("12:00", "20:00")
    evening = dose(daily["id"], at("01T20:05"), scheduled_for="2026-06-01")
    assert told(await figures(ada, daily, [evening], "01", "01")) == ({"on_time": 1, "missed": 1}, 0)


async def test_a_day_can_be_named_and_taken_back_by_a_patch(ada: Phone) -> None:
    event = dose(str(uuid4()), scheduled_for="2026-03-27")
    assert (await ada.post("/treatment-events", event)).json()["scheduled_for"] == "2026-03-27T12:00:01+01:00"
    assert (await ada.post("/treatment-events", event)).status_code == 200
    path = f"/treatment-events/{event['id']}"
    changed = await ada.patch(path, {"scheduled_for": "2026-03-28"})
    assert changed.json()["scheduled_for"] == "2026-03-28T12:00:01+01:00"
    assert "scheduled_for" not in (await ada.patch(path, {"scheduled_for": None}, 2)).json()


@pytest.mark.parametrize("day", ["2026-02-30", "1850-01-01", "2026-3-01", "2026-03-1", "today", "2026-03-01 "])
async def test_a_day_that_is_none_is_refused_with_a_sentence(ada: Phone, day: str) -> None:
    refused = (await ada.post("/treatment-events", dose(str(uuid4()), scheduled_for=day))).json()
    [fault] = refused["errors"]
    assert (fault["pointer"], fault["code"]) == ("/scheduled_for", "instant")


async def test_a_second_sign_in_and_a_refused_write_change_no_figure(ada: Phone, app: FastAPI) -> None:
    daily = plan("08:00")
    before = (await figures(ada, daily, events(daily, "01T08:00"), "01", "08"))["overall"]
    assert told({"overall": before}) == ({"on_time": 1, "missed": 7}, 0)
    async with another_device(app, ada, "Ada's tablet") as tablet:
        note = entry(note="From the other one.")
        assert (await tablet.post("/entries", note)).status_code == 201
        assert (await adherence(ada, "2026-06-01", "2026-06-08"))["overall"] == before
        assert (await tablet.post("/entries", note | {"mood": 3})).status_code == 409
        assert (await adherence(ada, "2026-06-01", "2026-06-08"))["overall"] == before
        record = entry()
        mutation = {"mutation_id": str(uuid4()), "op": "put", "kind": "entry", "id": record["id"], "base_version": 0}
        body = {
            "device_id": "tablet",
            "client_now": datetime.now(UTC).isoformat(timespec="seconds"),
            "mutations": [mutation | {"data": without_id(record)}],
        }
        assert (await tablet.post("/sync/push", body)).status_code == 200
        assert (await adherence(ada, "2026-06-01", "2026-06-08"))["overall"] == before
