"""Inputs as diaries really have them, each with what is said of it: doses and sessions by plan, and use as needed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, time

import pytest

from app.domain.adherence import Assessment, assess
from app.domain.days import EveryNthDay
from app.domain.moments import parse_instant as at
from app.domain.outcomes import Event
from app.domain.regimens import (
    Amount,
    AsNeeded,
    Content,
    FixedTimes,
    Frequency,
    Hold,
    PlanVersion,
    Schedule,
    Treatment,
)
from tests.domain.plans import o_clock
from tests.domain.test_adherence import BERLIN, MORNING, TOLD, counts, medicine, share, since
from tests.domain.test_matching import MG, MONDAY, SUNDAY, TABLET, TUESDAY, daily, dose

FIRST_WEEK = date(2026, 6, 7)
ONE, TWO, GRAM = Amount(1, TABLET), Amount(2, TABLET), Amount(1, "g")
THRICE = FixedTimes(o_clock(time(8), time(14), time(20)))
TWICE = FixedTimes(o_clock(time(8), time(20)))
TWICE_A_WEEK, ONCE_A_DAY, THRICE_A_DAY = Frequency(2, "week"), Frequency(1, "day"), Frequency(3, "day")


def of(milligrams: float, form: str = "tablet", unit: str = MG) -> Content:
    return Content(Amount(milligrams, unit), form)


def sport(goal: Schedule) -> Treatment:
    return Treatment("lifestyle", (since("2026-06-01T00:00:00+02:00", goal),))


def done(moment: str, name: str = "", status: str = "attended") -> Event:
    return dose(moment, status=status, name=name)


def left_out(assessment: Assessment) -> dict[str, int]:
    return {reason: len(some) for reason, some in vars(assessment.matching.left_out).items() if some}


AMOUNTS = {
    "two at the last of three": (
        daily(ONE, schedule=THRICE),
        [dose("01T08:00:00", 1), dose("01T20:00:00", 2)],
        {"on_time": 2, "missed": 1},
        1,
        True,
    ),
    "one of two in time, the other at night": (
        daily(TWO),
        [dose("01T08:00:00", 1), dose("01T20:00:00", 1)],
        {"late": 1},
        0,
        True,
    ),
    "10 mg as two of 5 mg": (daily(Amount(10, MG), of(5)), [dose("01T08:00:00", 2)], {"on_time": 1}, 0, True),
    "a tablet of 500 mg as half a gram": (
        daily(ONE, of(500)),
        [dose("01T08:00:00", 0.5, "g")],
        {"on_time": 1},
        0,
        True,
    ),
    "1001 mg of a gram": (daily(GRAM), [dose("01T08:00:00", 1001, MG)], {"on_time": 1}, 0, True),
    "985 mg of a gram": (daily(GRAM), [dose("01T08:00:00", 985, MG)], {"partial": 1}, 0, False),
    "a patch by its rate": (
        daily(Amount(25, "ug/h"), of(25, "patch", "ug/h")),
        [dose("01T08:00:00", 1, "{patch}")],
        {"on_time": 1},
        0,
        True,
    ),
    "5 mL by what is in it": (
        daily(Amount(5, "mL"), of(40, "solution", "mg/mL")),
        [dose("01T08:00:00", 200, MG)],
        {"on_time": 1},
        0,
        True,
    ),
    "two halves that say partial": (
        daily(ONE),
        [dose(f"01T08:{minute}:00", 0.5, status="partial") for minute in (10, 30)],
        {"on_time": 1},
        0,
        True,
    ),
    "three bits of which nobody knows": (
        daily(ONE),
        [dose(f"01T08:0{minute}:00", status="partial") for minute in range(3)],
        {"partial": 1},
        0,
        False,
    ),
    "half at its time, half at night, both by name": (
        daily(ONE),
        [dose(f"01T{hour}:00:00", 0.5, name="01T08:00:00") for hour in ("08", "22")],
        {"late": 1},
        0,
        True,
    ),
    "four halves of a target of two": (
        daily(ONE, schedule=Frequency(2, "day")),  # type: ignore[arg-type]  # any schedule will do
        [dose(f"01T{hour:02}:00:00", 0.5) for hour in (8, 9, 10, 11)],
        {"on_time": 2},
        0,
        True,
    ),
    "the same dose twice in two seconds": (
        daily(),
        [dose("01T08:00:00"), dose("01T08:00:02")],
        {"on_time": 1},
        1,
        False,
    ),
}


@pytest.mark.parametrize(("plan", "some", "outcomes", "extras", "right"), AMOUNTS.values(), ids=AMOUNTS)
def test_amounts_of_a_day(
    plan: Treatment, some: Sequence[Event], outcomes: dict[str, int], extras: int, right: bool
) -> None:
    assessment = assess(plan, some, MONDAY, MONDAY, TOLD)
    assert assessment.doses is not None
    found = assessment.doses
    assert (counts(found), found.extras, share(found.correct_days)) == (outcomes, extras, (int(right), 1))
    assert left_out(assessment) == {}


TIMES = {
    "skipped, and taken after all": (
        daily(),
        [done("01T08:00:00", status="skipped"), dose("01T08:30:00")],
        MONDAY,
        {"on_time": 1},
        0,
        {"no_plan": 1},
    ),
    "held, and taken after all": (
        daily(),
        [done("01T08:00:00", status="held"), dose("01T09:00:00")],
        MONDAY,
        {"on_time": 1},
        0,
        {"no_plan": 1},
    ),
    "skipped by name, and taken late by name": (
        daily(),
        [done("01T08:00:00", "01T08:00:00", "skipped"), dose("01T21:00:00", name="01T08:00:00")],
        MONDAY,
        {"late": 1},
        0,
        {"no_plan": 1},
    ),
    "tomorrow's, tonight": (
        daily(),
        [dose("01T08:00:00"), dose("01T22:00:00", name="02T08:00:00")],
        TUESDAY,
        {"on_time": 1, "early": 1},
        0,
        {},
    ),
    "of a day that was not asked for": (
        daily(),
        [dose("01T08:00:00", name="03T08:00:00")],
        MONDAY,
        {"missed": 1},
        0,
        {"other_days": 1},
    ),
    "three days late by name": (
        daily(),
        [dose("04T08:00:00", name="01T08:00:00"), dose("04T08:10:00")],
        date(2026, 6, 4),
        {"on_time": 1, "late": 1, "missed": 2},
        0,
        {},
    ),
    "one slot's name in another's window": (
        daily(schedule=TWICE),
        [dose("01T20:00:00", name="01T08:00:00"), dose("01T20:05:00")],
        MONDAY,
        {"on_time": 1, "late": 1},
        0,
        {},
    ),
    "the day's three at once": (
        daily(schedule=THRICE),
        [dose(f"01T14:0{minute}:00") for minute in range(3)],
        MONDAY,
        {"on_time": 1, "missed": 2},
        2,
        {},
    ),
    "in any order": (daily(), [dose(f"0{day}T08:00:00") for day in (3, 1, 2)], date(2026, 6, 3), {"on_time": 3}, 0, {}),
    "every second day, taken daily": (
        daily(schedule=replace(MORNING, days=EveryNthDay(2))),
        [dose(f"0{day}T08:00:00") for day in range(1, 8)],
        FIRST_WEEK,
        {"on_time": 4},
        3,
        {},
    ),
    "at the instant at which the plan ends": (
        medicine(since("2026-06-01T00:00:00+02:00", MORNING, to="2026-06-02T08:00:00+02:00")),
        [dose("01T08:00:00"), dose("02T08:00:00")],
        TUESDAY,
        {"on_time": 1},
        1,
        {},
    ),
    "on hold, and taken": (
        medicine(
            since("2026-06-01T00:00:00+02:00", MORNING),
            pauses=(Hold(at("2026-06-02T00:00:00+02:00"), at("2026-06-03T00:00:00+02:00")),),
        ),
        [dose(f"0{day}T08:00:00") for day in (1, 2, 3)],
        date(2026, 6, 3),
        {"on_time": 2, "held": 1},
        1,
        {},
    ),
    "in another zone": (
        daily(schedule=FixedTimes(o_clock(time(23, 30)))),
        [Event(at("2026-06-01T18:10:00-04:00"), "taken")],
        MONDAY,
        {"on_time": 1},
        0,
        {},
    ),
}


@pytest.mark.parametrize(("plan", "some", "last", "outcomes", "extras", "out"), TIMES.values(), ids=TIMES)
def test_doses_and_slots(
    plan: Treatment, some: Sequence[Event], last: date, outcomes: dict[str, int], extras: int, out: dict[str, int]
) -> None:
    assessment = assess(plan, some, MONDAY, last, TOLD)
    assert assessment.doses is not None
    assert (counts(assessment.doses), assessment.doses.extras, left_out(assessment)) == (outcomes, extras, out)


GOALS = {
    "three of two a week": (
        TWICE_A_WEEK,
        [done(f"0{day}T09:00:00") for day in (2, 3, 4)],
        FIRST_WEEK,
        {"on_time": 2},
        1,
    ),
    "last week's, on Monday by name": (
        TWICE_A_WEEK,
        [done("08T09:00:00", "07T12:00:00"), done("09T09:00:00"), done("10T09:00:00")],
        SUNDAY,
        {"on_time": 2, "late": 1, "missed": 1},
        0,
    ),
    "tomorrow's, today by name": (
        THRICE_A_DAY,
        [done("01T09:00:00", "02T12:00:00")],
        TUESDAY,
        {"early": 1, "missed": 5},
        0,
    ),
    "twice in part": (
        ONCE_A_DAY,
        [done(f"01T{hour}:00:00", status="partial") for hour in ("09", "19")],
        MONDAY,
        {"partial": 1},
        0,
    ),
    "one that the provider cancelled": (
        TWICE_A_WEEK,
        [done("02T09:00:00", status="cancelled_by_provider"), done("03T09:00:00")],
        FIRST_WEEK,
        {"on_time": 1, "held": 1},
        0,
    ),
}


@pytest.mark.parametrize(("goal", "some", "last", "outcomes", "extras"), GOALS.values(), ids=GOALS)
def test_sessions_of_a_target(
    goal: Schedule, some: Sequence[Event], last: date, outcomes: dict[str, int], extras: int
) -> None:
    found = assess(sport(goal), some, MONDAY, last, TOLD).sessions
    assert found is not None
    assert (counts(found), found.extras) == (outcomes, extras)


MOST_3_G = AsNeeded(max_amount_24h=Amount(3000, MG))
NEEDED = {
    "exactly 24 hours apart": (
        MOST_3_G,
        None,
        [dose(f"0{1 + h // 24}T{h % 24:02}:00:00", 1, "g") for h in (0, 6, 12, 24, 30)],
        [],
        0,
    ),
    "thirty of a tenth": (
        MOST_3_G,
        None,
        [dose(f"01T{n // 2:02}:{n % 2 * 3}0:00", 0.1, "g") for n in range(30)],
        [],
        0,
    ),
    "a tenth more": (
        MOST_3_G,
        None,
        [dose(f"01T{n // 2:02}:{n % 2 * 3}0:00", 0.1, "g") for n in range(31)],
        ["01 15:00"],
        0,
    ),
    "one that is too large alone": (MOST_3_G, None, [dose("01T08:00:00", 5000, MG)], ["01 08:00"], 0),
    "three million micrograms and one": (
        MOST_3_G,
        None,
        [dose("01T08:00:00", 1, "ug"), dose("01T09:00:00", 3_000_000, "ug")],
        ["01 09:00"],
        0,
    ),
    "tablets at most, milligrams taken": (
        AsNeeded(max_amount_24h=Amount(4, TABLET)),
        of(500),
        [dose(f"01T{hour:02}:00:00", 500, MG) for hour in range(8, 13)],
        ["01 12:00"],
        0,
    ),
    "a capsule of what comes in tablets": (MOST_3_G, of(500), [dose("01T08:00:00", 1, "{capsule}")], None, 1),
    "drops beside grams": (MOST_3_G, None, [dose("01T08:00:00", 20, "{drop}"), dose("01T09:00:00", 1, "g")], None, 2),
    "drops beside too many grams": (
        MOST_3_G,
        None,
        [dose("01T08:00:00", 20, "{drop}"), dose("01T09:00:00", 4, "g")],
        ["01 09:00"],
        1,
    ),
}


@pytest.mark.parametrize(("limits", "content", "some", "breaches", "unclear"), NEEDED.values(), ids=NEEDED)
def test_most_in_24_hours(
    limits: AsNeeded, content: Content | None, some: Sequence[Event], breaches: list[str] | None, unclear: int
) -> None:
    found = assess(as_needed(limits, content), some, MONDAY, FIRST_WEEK, TOLD).prn
    assert found is not None
    told = found.maximum_breaches
    assert (None if told is None else [f"{one:%d %H:%M}" for one in told]) == breaches
    assert (found.doses, len(found.not_comparable)) == (len(some), unclear)


def as_needed(limits: AsNeeded, content: Content | None = None, to: str | None = None) -> Treatment:
    version = PlanVersion(at("2026-06-01T00:00:00+02:00"), BERLIN, limits, None, at(to) if to else None)
    return Treatment("otc_medication", (version,), content=content)


@pytest.mark.parametrize(
    ("some", "too_soon"),
    [
        (["05T08:00:00", "05T08:00:00"], 1),
        (["02T23:00:00", "03T01:00:00"], 1),
        (["03T00:00:00", "03T23:59:59"], 0),
    ],
)
def test_a_maximum_holds_on_when_the_plan_is_over(some: list[str], too_soon: int) -> None:
    """Four grams within a day are too many, whatever was agreed until when."""
    over = as_needed(replace(MOST_3_G, min_interval_minutes=240), to="2026-06-03T00:00:00+02:00")
    found = assess(over, [dose(moment, 2, "g") for moment in some], MONDAY, FIRST_WEEK, TOLD).prn
    assert found is not None
    assert found.maximum_breaches == (at(f"2026-06-{some[1]}+02:00"),)
    assert found.outside_plan == sum(moment >= "03" for moment in some)
    assert len(found.interval_breaches) == too_soon


def test_what_was_not_taken_as_needed_is_counted_by_its_reason() -> None:
    words = [done("01T08:00:00", status="skipped"), done("01T09:00:00", status="held")]
    assessment = assess(as_needed(MOST_3_G), words, MONDAY, MONDAY, TOLD)
    assert assessment.prn is not None
    assert (assessment.prn.doses, left_out(assessment)) == (0, {"no_plan": 2})
