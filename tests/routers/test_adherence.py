"""Adherence and slots over HTTP: from what phones sent to figures that say what they rest on."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI

from app.http import deps
from tests.answers import pointers, told
from tests.people import Phone, dose, entry, site, treatment

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def later(app: FastAPI) -> AsyncIterator[datetime]:
    """A server whose clock shows a moment after everything these tests tell of."""
    moment = datetime(2026, 8, 1, tzinfo=UTC)
    app.dependency_overrides[deps.now] = lambda: moment
    yield moment
    del app.dependency_overrides[deps.now]


async def add(phone: Phone, plan: dict[str, Any], *events: dict[str, Any]) -> str:
    """The id of the plan, stored with its events."""
    assert (await phone.post("/treatments", plan)).status_code == 201
    for event in events:
        assert (await phone.post("/treatment-events", event)).status_code == 201
    return str(plan["id"])


async def adherence(phone: Phone, first: str, last: str) -> dict[str, Any]:
    answer = await phone.get("/adherence", params={"from": first, "to": last})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def set_word(superuser: Connection, phone: Phone, moment: datetime) -> None:
    await superuser.execute(
        "UPDATE sessions SET has_sent = true, outbox_empty_at = $2 WHERE id = $1", UUID(phone.session_id), moment
    )


def days(first: int, last: int, hour: str = "08:00") -> list[str]:
    return [f"2026-06-{day:02}T{hour}:00+02:00" for day in range(first, last + 1)]


async def test_a_phone_that_was_off_for_three_days_leaves_bounds_and_takes_them_back(
    ada: Phone, superuser: Connection, later: datetime
) -> None:
    plan = treatment("08:00")
    await add(ada, plan, *(dose(plan["id"], at) for at in days(1, 4)))
    await set_word(superuser, ada, datetime(2026, 6, 4, 20, tzinfo=UTC))
    taking = (await adherence(ada, "2026-06-01", "2026-06-07"))["overall"]["doses"]["taking"]
    assert (taking["numerator"], taking["denominator"], taking["value"]) == (4, 4, 1)
    assert (round(taking["lower"], 4), taking["upper"], round(taking["known_fraction"], 4)) == (0.5714, 1, 0.5714)

    saturday = dose(plan["id"], "2026-06-06T08:00:00+02:00")
    assert (await ada.post("/treatment-events", saturday, params={"outbox_empty": "true"})).status_code == 201
    found = await adherence(ada, "2026-06-01", "2026-06-07")
    taking = found["overall"]["doses"]["taking"]
    assert {round(taking[name], 4) for name in ("value", "lower", "upper")} == {0.7143}
    assert taking["known_fraction"] == 1
    assert found["treatments"][0]["doses"]["outcomes"]["missed"] == 2


async def test_while_no_phone_has_said_that_it_is_done_nothing_is_missed(ada: Phone, later: datetime) -> None:
    await add(ada, treatment("08:00"))
    found = await adherence(ada, "2026-06-01", "2026-06-07")
    assert found["outbox_empty_at"] is None
    assert found["overall"]["doses"]["outcomes"] | {"unknown": 7} == found["overall"]["doses"]["outcomes"]
    taking = found["overall"]["doses"]["taking"]
    assert [taking[name] for name in ("value", "lower", "upper", "known_fraction")] == [None, 0, 1, 0]


async def test_a_change_of_dose_is_judged_by_what_applied_then(ada: Phone, later: datetime) -> None:
    schedule = {"type": "scheduled", "times": ["08:00", "20:00"]}
    zone = {"time_zone": "Europe/Berlin", "schedule": schedule}
    regimens = [
        zone | {"valid_from": "2026-07-01T00:00:00+02:00", "dose": {"value": 300, "unit": "mg"}},
        zone | {"valid_from": "2026-07-08T12:00:00+02:00", "dose": {"value": 600, "unit": "mg"}},
    ]
    plan = treatment(regimens=regimens)
    taken = [f"2026-07-{day:02}T{hour}:00:00+02:00" for day in range(6, 13) for hour in ("08", "20")]
    taken.remove("2026-07-10T20:00:00+02:00")
    partial = dose(plan["id"], taken.pop(), status="partial")
    await add(ada, plan, *(dose(plan["id"], at) for at in taken), partial)
    await ada.patch(f"/treatment-events/{partial['id']}?outbox_empty=true", {"note": "Half of it."})
    [one] = (await adherence(ada, "2026-07-06", "2026-07-12"))["treatments"]
    assert round(one["doses"]["taking"]["value"], 4) == 0.8571
    assert round(one["doses"]["correct_days"]["value"], 4) == 0.7143
    assert one["doses"]["outcomes"]["partial"] == one["doses"]["outcomes"]["missed"] == 1

    slots = (await ada.get(f"/treatments/{plan['id']}/slots", params={"from": "2026-07-08", "to": "2026-07-08"})).json()
    doses = [(slot["due_at"][11:16], slot["dose"]["value"]) for slot in slots["slots"]]
    assert doses == [("08:00", 300), ("20:00", 600)]


async def test_what_was_taken_as_needed_is_no_percentage_and_finds_the_score_after_it(
    ada: Phone, later: datetime
) -> None:
    prn = {"type": "prn", "min_interval_minutes": 360, "max_doses_24h": 3}
    regimen = {"valid_from": "2026-06-01T00:00:00+02:00", "time_zone": "Europe/Berlin", "schedule": prn}
    plan = treatment(category="otc_medication", regimens=[regimen])
    first = dose(plan["id"], "2026-06-14T06:00:00+02:00", pain_before=7, pain_after=4)
    second = dose(plan["id"], "2026-06-14T10:00:00+02:00", pain_before=6)
    await add(ada, plan, first, second)
    for at, value, fields in (
        ("2026-06-14T10:20:00+02:00", 1, {}),  # too soon
        ("2026-06-14T10:55:00+02:00", 2, {"entry_mode": "backfill"}),  # not of the moment
        ("2026-06-14T11:00:00+02:00", 5, {}),
    ):
        sites = [site(value), site(max(0, value - 1), "abdomen_left")]
        assert (await ada.log(occurred_at=at, sites=sites, **fields)).status_code == 201
    [one] = (await adherence(ada, "2026-06-14", "2026-06-14"))["treatments"]
    assert one["doses"] is one["sessions"] is None
    assert (one["prn"]["doses"], one["prn"]["use_days"], one["prn"]["most_doses_24h"]) == (2, 1, 2)
    assert one["prn"]["interval_breaches"] == ["2026-06-14T10:00:00+02:00"]
    assert (one["prn"]["change_after"]["value"], one["prn"]["change_after"]["n"]) == (-2, 2)  # of -3 and -1


async def test_a_dose_after_midnight_still_takes_the_slot_of_the_evening(ada: Phone, later: datetime) -> None:
    plan = treatment("23:30")
    await add(ada, plan, dose(plan["id"], "2026-06-08T00:10:00+02:00"))
    [one] = (await adherence(ada, "2026-06-07", "2026-06-07"))["treatments"]
    assert one["doses"]["outcomes"]["on_time"] == 1


async def test_events_that_no_plan_explains_are_counted_apart(ada: Phone, later: datetime) -> None:
    plan = treatment("08:00")
    orphan = dose(str(uuid4()), "2026-06-01T08:00:00+02:00")
    odd = dose(plan["id"], "2026-06-01T09:00:00+02:00", status="attended")
    await add(ada, plan, orphan, odd)
    found = await adherence(ada, "2026-06-01", "2026-06-01")
    assert {reason: n for reason, n in found["left_out"].items() if n} == {
        "treatment_missing": 1,
        "status_does_not_fit": 1,
    }
    assert found["overall"]["doses"]["outcomes"]["on_time"] == 0


async def test_without_a_plan_every_figure_is_empty_and_none_is_zero_percent(ada: Phone, later: datetime) -> None:
    found = await adherence(ada, "2026-06-01", "2026-06-30")
    assert found["treatments"] == []
    for figure in (found["overall"]["doses"]["taking"], found["overall"]["sessions"]["attended"]):
        assert (figure["numerator"], figure["denominator"]) == (0, 0)
        assert {figure[name] for name in ("value", "lower", "upper", "known_fraction")} == {None}


async def test_a_plan_far_apart_finds_its_doses_around_the_days_asked_for(ada: Phone, later: datetime) -> None:
    monthly = {"type": "scheduled", "times": ["08:00"], "every_n_days": 28, "late_minutes": 720}
    regimen = {"valid_from": "2026-03-01T00:00:00+01:00", "time_zone": "Europe/Berlin", "schedule": monthly}
    plan = treatment(regimens=[regimen])
    await add(ada, plan, dose(plan["id"], "2026-06-01T08:00:00+02:00"))  # eight days late: due on 24 May
    [one] = (await adherence(ada, "2026-05-20", "2026-05-25"))["treatments"]
    assert one["doses"]["outcomes"]["late"] == 1


async def test_more_than_can_be_counted_at_once_is_refused_not_attempted(ada: Phone, later: datetime) -> None:
    times = [f"{hour:02}:00" for hour in range(24)]
    for _ in range(3):
        await add(ada, treatment(*times))
    answer = await ada.get("/adherence", params={"from": "2026-03-01", "to": "2027-02-28"})
    assert told(answer) == (422, "invalid")
    assert (pointers(answer), answer.json()["errors"][0]["code"]) == (["#query/to"], "too_much")


async def test_slots_keep_the_wall_clock_over_the_end_of_summer_time(ada: Phone) -> None:
    plan_id = await add(ada, treatment("02:30", pauses=[{"from": "2026-10-26T00:00:00+01:00"}], status="on_hold"))
    answer = await ada.get(f"/treatments/{plan_id}/slots", params={"from": "2026-10-24", "to": "2026-10-26"})
    found = [(slot["due_at"], slot["on_hold"]) for slot in answer.json()["slots"]]
    assert found == [
        ("2026-10-24T02:30:00+02:00", False),
        ("2026-10-25T02:30:00+02:00", False),
        ("2026-10-26T02:30:00+01:00", True),
    ]


async def test_there_are_no_slots_of_what_is_no_treatment(ada: Phone) -> None:
    asked = {"from": "2026-06-01", "to": "2026-06-02"}
    logged = (await ada.post("/entries", entry())).json()["id"]
    gone = await add(ada, treatment("08:00"))
    await ada.delete(f"/treatments/{gone}")
    for record_id, status in ((str(uuid4()), 404), (logged, 404), (gone, 410)):
        assert (await ada.get(f"/treatments/{record_id}/slots", params=asked)).status_code == status


@pytest.mark.parametrize("path", ["/adherence", "/treatments/0195d3f4-6a2c-7f10-9d4e-2b8c5a7e1f36/slots"])
@pytest.mark.parametrize(
    ("asked", "place", "code"),
    [
        ({"from": "2026-06-02", "to": "2026-06-01"}, "#query/from", "reversed"),
        ({"from": "2024-06-02", "to": "2026-06-01"}, "#query/to", "too_long"),
        ({"from": "2026-06-02"}, "#query/to", "missing"),
        ({"from": "2026-6-2", "to": "2026-06-03"}, "#query/from", "date"),
    ],
)
async def test_days_that_cannot_be_answered_are_refused(
    ada: Phone, path: str, asked: dict[str, str], place: str, code: str
) -> None:
    answer = await ada.get(path, params=asked)
    assert answer.status_code == 422
    assert (pointers(answer), answer.json()["errors"][0]["code"]) == ([place], code)


@pytest.mark.parametrize(("path", "longest"), [("/adherence", 366), ("/treatments/{}/slots", 92)])
async def test_the_longest_span_is_answered(ada: Phone, path: str, longest: int) -> None:
    plan_id = await add(ada, treatment("08:00"))
    first = datetime(2026, 3, 1, tzinfo=UTC)
    for days_more, status in ((longest - 1, 200), (longest, 422)):
        asked = {"from": str(first.date()), "to": str((first + timedelta(days=days_more)).date())}
        assert (await ada.get(path.format(plan_id), params=asked)).status_code == status


async def test_figures_that_are_the_same_are_not_sent_again(
    app: FastAPI, ada: Phone, superuser: Connection, later: datetime
) -> None:
    plan = treatment("08:00")
    await add(ada, plan, dose(plan["id"], days(1, 1)[0]))
    asked = {"from": "2026-06-01", "to": "2026-06-07"}
    first = await ada.get("/adherence", params=asked)
    app.dependency_overrides[deps.now] = lambda: later + timedelta(hours=1)
    same = await ada.get("/adherence", params=asked, headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
    await set_word(superuser, ada, later)
    changed = await ada.get("/adherence", params=asked, headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.json()["overall"]["doses"]["outcomes"]["missed"]) == (200, 6)
