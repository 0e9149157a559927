"""What became of each slot, and the figures: the worked examples of docs/adherence.md, the rules, the properties."""

import os
import re
import time as clock
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.adherence import Assessment, DoseAdherence, Ratio, SessionAdherence, assess, overall
from app.domain.days import DaysOfWeek, EveryNthDay, OnAndOff
from app.domain.due import DueSlot, slots
from app.domain.moments import parse_instant as at
from app.domain.outcomes import Event, Outcome, Word
from app.domain.regimens import (
    Amount,
    AsNeeded,
    ElapsedTime,
    FixedTimes,
    Frequency,
    Hold,
    PlanVersion,
    Schedule,
    Treatment,
)
from tests.domain.plans import o_clock
from tests.forms import size

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
MORNING, MORNING_AND_NIGHT, NIGHT_AND_NOON = (
    FixedTimes(o_clock(time(8))),
    FixedTimes(o_clock(time(8), time(20))),
    FixedTimes(o_clock(time(2, 30), time(14, 30))),
)

TOLD = Word(at("2027-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"))
UNTOLD = Word(at("2027-01-01T00:00:00Z"))


def medicine(*regimens: PlanVersion, pauses: tuple[Hold, ...] = ()) -> Treatment:
    return Treatment("prescription_medication", regimens, pauses)


def since(text: str, schedule: Schedule, zone: ZoneInfo = BERLIN, to: str | None = None) -> PlanVersion:
    return PlanVersion(at(text), zone, schedule, valid_to=at(to) if to else None)


def taken(*texts: str, status: str = "taken") -> list[Event]:
    return [Event(at(text), status) for text in texts]


def to_the_minute(treatment: Treatment, start: date, end: date, but: Sequence[str] = ()) -> list[Event]:
    """A dose or session at each due time, except at these."""
    left_out = {at(text) for text in but}
    return [Event(slot.due_at, "taken") for slot in slots(treatment, start, end) if slot.due_at not in left_out]


def doses(assessment: Assessment) -> DoseAdherence:
    assert assessment.doses is not None
    return assessment.doses


def sessions(assessment: Assessment) -> SessionAdherence:
    assert assessment.sessions is not None
    return assessment.sessions


def counts(figures: DoseAdherence | SessionAdherence) -> dict[str, int]:
    return {outcome.value: count for outcome, count in figures.outcomes.items() if count}


def share(figure: Ratio) -> tuple[int, int]:
    return figure.numerator, figure.denominator


def bounds(figure: Ratio) -> list[float | None]:
    """Value, lower, upper and known fraction."""
    return [figure.value, figure.lower, figure.upper, figure.known_fraction]


def outcomes(treatment: Treatment, events: Sequence[Event], day: date, word: Word = TOLD) -> list[str]:
    return [one.outcome.value for one in assess(treatment, events, day, day, word).matching.judged]


# The worked examples.


def clock_change_week(first: date, dose_on_sunday: str, instead_of: str) -> DoseAdherence:
    treatment, last = medicine(since("2026-01-01T00:00:00+01:00", NIGHT_AND_NOON)), first + timedelta(days=6)
    events = [*to_the_minute(treatment, first, last, but=[instead_of]), *taken(dose_on_sunday)]
    return doses(assess(treatment, events, first, last, TOLD))


def test_a_week_with_the_clock_change_in_spring() -> None:
    figures = clock_change_week(date(2026, 3, 23), "2026-03-29T08:45:00+02:00", "2026-03-29T03:30:00+02:00")
    assert counts(figures) == {"on_time": 13, "late": 1}
    assert (share(figures.taking), share(figures.timing)) == ((14, 14), (13, 14))
    assert figures.timing.value == pytest.approx(0.9286, abs=5e-5)
    assert share(figures.correct_days) == (7, 7)


def test_a_week_with_the_clock_change_in_autumn() -> None:
    figures = clock_change_week(date(2026, 10, 19), "2026-10-25T02:45:00+01:00", "2026-10-25T02:30:00+02:00")
    assert counts(figures) == {"on_time": 13, "late": 1}
    assert (share(figures.taking), share(figures.timing)) == ((14, 14), (13, 14))


def test_a_move_from_berlin_to_new_york_in_mid_regimen() -> None:
    first, last = date(2026, 6, 1), date(2026, 6, 7)
    treatment = medicine(
        since("2026-01-01T00:00:00+01:00", MORNING_AND_NIGHT),
        since("2026-06-04T18:00:00+02:00", MORNING_AND_NIGHT, NEW_YORK),
    )
    events = to_the_minute(treatment, first, last, but=["2026-06-04T20:00:00-04:00"])
    figures = doses(assess(treatment, [*events, *taken("2026-06-04T14:00:00-04:00")], first, last, TOLD))
    assert counts(figures) == {"on_time": 13, "early": 1}
    assert (share(figures.taking), share(figures.timing)) == ((14, 14), (13, 14))
    assert share(figures.correct_days) == (7, 7)


def dose_changed_at_noon() -> Assessment:
    first, last = date(2026, 7, 6), date(2026, 7, 12)
    treatment = medicine(
        replace(since("2026-01-01T00:00:00+01:00", MORNING_AND_NIGHT), dose=Amount(300, "mg")),
        replace(since("2026-07-08T12:00:00+02:00", MORNING_AND_NIGHT), dose=Amount(600, "mg")),
    )
    missed, partial = "2026-07-10T20:00:00+02:00", "2026-07-12T20:00:00+02:00"
    events = to_the_minute(treatment, first, last, but=[missed, partial])
    return assess(treatment, [*events, *taken(partial, status="partial")], first, last, TOLD)


def test_a_dose_changed_at_noon() -> None:
    assessment = dose_changed_at_noon()
    figures = doses(assessment)
    assert [one.slot.dose for one in assessment.matching.judged].count(Amount(300, "mg")) == 5
    assert counts(figures) == {"on_time": 12, "partial": 1, "missed": 1}
    assert (share(figures.taking), share(figures.timing), share(figures.correct_days)) == ((12, 14), (12, 14), (5, 7))
    assert figures.taking.value == pytest.approx(0.8571, abs=5e-5)
    assert figures.correct_days.value == pytest.approx(0.7143, abs=5e-5)


def test_a_held_week() -> None:
    first, last = date(2026, 6, 1), date(2026, 6, 28)
    pause = Hold(at("2026-06-15T00:00:00+02:00"), at("2026-06-22T00:00:00+02:00"))
    treatment = medicine(since("2026-01-01T00:00:00+01:00", MORNING), pauses=(pause,))
    held = [f"2026-06-{day}T08:00:00+02:00" for day in (15, 16, 18, 19, 20, 21)]
    events = to_the_minute(treatment, first, last, but=["2026-06-10T08:00:00+02:00", *held])
    assessment = assess(treatment, [*events, *taken("2026-06-10T08:00:00+02:00", status="skipped")], first, last, TOLD)
    figures = doses(assessment)
    assert counts(figures) == {"on_time": 20, "skipped": 1, "held": 7}
    assert [extra.day.day for extra in assessment.matching.extras] == [17]
    assert (share(figures.taking), share(figures.correct_days)) == ((20, 21), (20, 22))
    assert figures.taking.extras == figures.extras == 1
    assert figures.correct_days.value == pytest.approx(0.9091, abs=5e-5)
    assert figures.taking.value == pytest.approx(0.9524, abs=5e-5)


def phone_that_was_off(word: Word, *brought: str) -> Assessment:
    first, last = date(2026, 6, 1), date(2026, 6, 7)
    treatment = medicine(since("2026-01-01T00:00:00+01:00", MORNING))
    events = [*to_the_minute(treatment, first, date(2026, 6, 4)), *taken(*brought)]
    return assess(treatment, events, first, last, word)


OFF = Word(at("2026-06-08T12:00:00+02:00"), at("2026-06-04T22:00:00+02:00"))


def test_a_phone_that_was_off_for_three_days() -> None:
    before = doses(phone_that_was_off(OFF))
    assert counts(before) == {"on_time": 4, "unknown": 3}
    assert share(before.taking) == (4, 4)
    assert bounds(before.taking) == pytest.approx([1, 0.5714, 1, 0.5714], abs=5e-5)
    assert (share(before.correct_days), bounds(before.correct_days)) == (share(before.taking), bounds(before.taking))
    back = Word(*[at("2026-06-08T13:00:00+02:00")] * 2)
    after = doses(phone_that_was_off(back, "2026-06-06T08:00:00+02:00"))
    assert counts(after) == {"on_time": 5, "missed": 2}
    assert bounds(after.taking) == pytest.approx([0.7143, 0.7143, 0.7143, 1], abs=5e-5)


def test_two_doses_within_minutes() -> None:
    treatment = medicine(since("2026-01-01T00:00:00+01:00", MORNING_AND_NIGHT))
    events = taken(
        *(f"2026-06-0{day}T{hour}:00+02:00" for day, hour in [(1, "08:00"), (1, "08:07"), (1, "20:00")]),
        *(f"2026-06-0{day}T{hour}:00+02:00" for day, hour in [(2, "08:00"), (2, "08:07")]),
    )
    figures = doses(assess(treatment, events, date(2026, 6, 1), date(2026, 6, 2), TOLD))
    assert counts(figures) == {"on_time": 3, "missed": 1}
    assert (figures.extras, share(figures.taking), share(figures.correct_days)) == (2, (3, 4), (1, 2))


def month_of_physiotherapy() -> Assessment:
    treatment = Treatment("physical_therapy", (since("2026-01-01T00:00:00+01:00", Frequency(2, "week", 30)),))
    said = {
        2: "attended",
        4: "attended",
        9: "attended",
        11: "cancelled_by_provider",
        16: "attended",
        18: "not_attended",
        23: "attended",
        25: "attended",
        30: "attended",
    }
    events = [Event(at(f"2026-06-{day:02}T10:00:00+02:00"), status) for day, status in said.items()]
    return assess(treatment, events, date(2026, 6, 1), date(2026, 6, 30), TOLD)


def test_a_month_of_physiotherapy_with_a_cancellation_by_the_provider() -> None:
    assessment = month_of_physiotherapy()
    figures = sessions(assessment)
    assert counts(figures) == {"on_time": 6, "skipped": 1, "held": 1}
    assert (figures.extras, share(figures.attended)) == (0, (6, 7))
    assert figures.attended.value == pytest.approx(0.8571, abs=5e-5)
    assert (assessment.doses, assessment.prn) == (None, None)


def test_an_empty_plan() -> None:
    later = medicine(since("2026-07-01T00:00:00+02:00", MORNING))
    empty = doses(assess(later, [], date(2026, 6, 1), date(2026, 6, 30), TOLD))
    for figure in (empty.taking, empty.timing, empty.correct_days):
        assert share(figure) == (0, 0)
        assert bounds(figure) == [None] * 4
    nothing = overall([])
    assert nothing.doses == empty
    assert (share(nothing.sessions.attended), nothing.sessions.attended.value) == ((0, 0), None)


def test_several_treatments_together() -> None:
    together = overall([dose_changed_at_noon(), phone_that_was_off(OFF), month_of_physiotherapy()])
    taking = together.doses.taking
    assert share(taking) == (16, 18)
    assert bounds(taking) == pytest.approx([0.8889, 0.7619, 0.9048, 0.8571], abs=5e-5)
    assert share(together.doses.correct_days) == (9, 11)
    assert share(together.sessions.attended) == (6, 7)


EXAMPLES_IN = ("test_adherence.py", "test_matching.py", "test_prn.py")


def test_every_worked_example_is_a_test() -> None:
    here = Path(__file__).parent
    text = (here.parent.parent / "docs" / "adherence.md").read_text(encoding="utf-8")
    examples = re.findall(r"^### (.+)$", text.partition("## Worked examples")[2], re.MULTILINE)
    tests = "".join((here / name).read_text(encoding="utf-8") for name in EXAMPLES_IN)
    wanted = [f"def test_{re.sub('[^a-z0-9]+', '_', title.lower())}() -> None:" for title in examples]
    assert len(wanted) == 17
    assert [name for name in wanted if name not in tests] == []


# Matching.

TWICE = medicine(since("2026-01-01T00:00:00+01:00", MORNING_AND_NIGHT))
MONDAY = date(2026, 6, 1)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("01:59:59", ["missed", "missed"]),
        ("02:00:00", ["early", "missed"]),  # exactly between the night before, which is taken, and this one
        ("06:59:59", ["early", "missed"]),
        ("07:00:00", ["on_time", "missed"]),
        ("09:00:00", ["on_time", "missed"]),
        ("09:00:01", ["late", "missed"]),
        ("18:59:59", ["late", "missed"]),
        ("19:00:00", ["missed", "on_time"]),
        ("21:00:01", ["missed", "late"]),
    ],
)
def test_a_dose_is_late_until_the_next_window_opens_and_early_by_half_the_interval(
    moment: str, expected: list[str]
) -> None:
    events = taken("2026-05-31T20:00:00+02:00", f"2026-06-01T{moment}+02:00")
    assert outcomes(TWICE, events, MONDAY) == expected


def test_a_dose_before_the_window_is_late_while_the_slot_before_has_none() -> None:
    assert outcomes(TWICE, taken("2026-06-01T06:59:59+02:00"), date(2026, 5, 31)) == ["missed", "late"]


def test_a_second_dose_between_two_slots_takes_the_later() -> None:
    afternoon = "2026-06-01T15:00:00+02:00"
    assert outcomes(TWICE, taken(afternoon, afternoon), MONDAY) == ["late", "early"]


def test_where_windows_overlap_a_dose_takes_the_nearest_slot() -> None:
    wide = FixedTimes(o_clock(time(8), time(9)), early_minutes=120, late_minutes=120)
    treatment = medicine(since("2026-01-01T00:00:00+01:00", wide))
    close_to_the_second = taken("2026-06-01T09:05:00+02:00", "2026-06-01T08:55:00+02:00")
    assert outcomes(treatment, close_to_the_second, MONDAY) == ["on_time", "on_time"]
    assert outcomes(treatment, close_to_the_second[:1], MONDAY) == ["missed", "on_time"]
    both_early = taken("2026-06-01T07:10:00+02:00", "2026-06-01T07:20:00+02:00")
    assert outcomes(treatment, both_early, MONDAY) == ["on_time", "on_time"]


def test_a_dose_of_the_night_before_counts_for_the_night_before() -> None:
    late = taken("2026-06-01T00:30:00+02:00")
    assert outcomes(TWICE, late, date(2026, 5, 31)) == ["missed", "late"]
    assert outcomes(TWICE, late, MONDAY) == ["missed", "missed"]
    assert assess(TWICE, late, MONDAY, MONDAY, TOLD).matching.extras == ()


def test_a_dose_takes_the_slot_it_names() -> None:
    named = Event(at("2026-06-01T19:30:00+02:00"), "taken", scheduled_for=at("2026-06-01T06:00:00Z"))
    assert outcomes(TWICE, [named], MONDAY) == ["late", "missed"]
    assert outcomes(TWICE, [replace(named, scheduled_for=None)], MONDAY) == ["missed", "on_time"]
    days_before = replace(named, occurred_at=at("2026-05-29T08:00:00+02:00"))
    assert outcomes(TWICE, [days_before], MONDAY) == ["early", "missed"]


def test_a_named_dose_does_not_make_a_dose_in_the_window_late() -> None:
    named = Event(at("2026-06-01T09:30:00+02:00"), "taken", scheduled_for=at("2026-06-01T08:00:00+02:00"))
    assert outcomes(TWICE, [named], MONDAY) == ["late", "missed"]
    assessment = assess(TWICE, [named, *taken("2026-06-01T08:00:00+02:00")], MONDAY, MONDAY, TOLD)
    assert [one.outcome for one in assessment.matching.judged] == [Outcome.ON_TIME, Outcome.MISSED]
    assert [extra.event for extra in assessment.matching.extras] == [named]


@pytest.mark.parametrize("scheduled_for", ["2026-06-01T19:45:00+02:00", "2031-06-01T20:00:00+02:00"])
def test_a_name_of_no_slot_is_ignored(scheduled_for: str) -> None:
    event = Event(at("2026-06-01T20:05:00+02:00"), "taken", scheduled_for=at(scheduled_for))
    assert outcomes(TWICE, [event], MONDAY) == ["missed", "on_time"]


def test_of_two_doses_that_name_one_slot_the_second_is_extra() -> None:
    name = at("2026-06-01T08:00:00+02:00")
    events = [Event(at(f"2026-06-01T{hour}:00:00+02:00"), "taken", name) for hour in ("08", "15")]
    assert outcomes(TWICE, events, MONDAY) == ["on_time", "missed"]
    assert doses(assess(TWICE, events, MONDAY, MONDAY, TOLD)).extras == 1


def test_a_dose_that_names_a_slot_on_hold_is_extra() -> None:
    pause = Hold(at("2026-06-01T00:00:00+02:00"), at("2026-06-01T12:00:00+02:00"))
    named = Event(at("2026-06-01T20:00:00+02:00"), "taken", scheduled_for=at("2026-06-01T08:00:00+02:00"))
    figures = doses(assess(replace(TWICE, pauses=(pause,)), [named], MONDAY, MONDAY, TOLD))
    assert (counts(figures), figures.extras) == ({"held": 1, "missed": 1}, 1)


def test_a_dose_taken_after_all_counts_more_than_the_word_that_it_would_be_skipped() -> None:
    slot = at("2026-06-01T08:00:00+02:00")
    skipped = Event(at("2026-06-01T07:30:00+02:00"), "skipped", scheduled_for=slot)
    assert outcomes(TWICE, [skipped], MONDAY) == ["skipped", "missed"]
    assert outcomes(TWICE, [skipped, *taken("2026-06-01T08:30:00+02:00")], MONDAY) == ["on_time", "missed"]


def test_a_word_may_come_days_later_when_it_names_its_slot() -> None:
    skipped = Event(at("2026-06-03T18:00:00+02:00"), "skipped", scheduled_for=at("2026-06-01T20:00:00+02:00"))
    assert outcomes(TWICE, [skipped], MONDAY, UNTOLD) == ["unknown", "skipped"]


def test_a_word_without_a_name_goes_by_time_and_is_never_extra() -> None:
    held = taken("2026-06-01T08:10:00+02:00", "2026-06-01T08:20:00+02:00", status="held")
    assessment = assess(TWICE, held, MONDAY, MONDAY, TOLD)
    assert [one.outcome for one in assessment.matching.judged] == [Outcome.HELD, Outcome.MISSED]
    assert assessment.matching.extras == ()


def test_a_status_of_another_kind_of_treatment_says_nothing() -> None:
    assert outcomes(TWICE, taken("2026-06-01T08:00:00+02:00", status="attended"), MONDAY) == ["missed", "missed"]


def test_at_the_ends_of_a_plan_a_slot_reaches_as_far_as_inside_of_it() -> None:
    weekend = medicine(since("2026-06-06T00:00:00+02:00", MORNING_AND_NIGHT, to="2026-06-08T00:00:00+02:00"))
    saturday, sunday = date(2026, 6, 6), date(2026, 6, 7)
    assert outcomes(weekend, taken("2026-06-06T02:00:00+02:00"), saturday) == ["early", "missed"]
    assert outcomes(weekend, taken("2026-06-06T01:59:00+02:00"), saturday) == ["missed", "missed"]
    assert outcomes(weekend, taken("2026-06-08T06:59:00+02:00"), sunday) == ["missed", "late"]
    assert outcomes(weekend, taken("2026-06-08T07:00:00+02:00"), sunday) == ["missed", "missed"]


def test_a_single_slot_reaches_as_if_it_were_daily() -> None:
    once = medicine(since("2026-06-01T00:00:00+02:00", MORNING, to="2026-06-02T00:00:00+02:00"))
    assert outcomes(once, taken("2026-06-02T06:59:00+02:00"), MONDAY) == ["late"]
    assert outcomes(once, taken("2026-06-02T07:00:00+02:00"), MONDAY) == ["missed"]


def test_an_interruption_of_the_plan_is_no_long_interval() -> None:
    winter_and_spring = medicine(
        since("2026-01-01T00:00:00+01:00", MORNING, to="2026-02-01T00:00:00+01:00"),
        since("2026-04-01T00:00:00+02:00", MORNING),
    )
    end, between = date(2026, 1, 31), taken("2026-02-10T08:00:00+01:00")
    assert outcomes(winter_and_spring, between, end) == ["missed"]
    extras = assess(winter_and_spring, between, end, date(2026, 2, 28), TOLD).matching.extras
    assert [extra.event for extra in extras] == between


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-06-01T06:59:00+02:00", ["missed", "late", "missed", "missed"]),  # before the next window of the plan
        ("2026-06-01T12:00:00+02:00", ["missed", "missed", "missed", "missed"]),  # nearer than half the interruption
        ("2026-06-03T02:00:00+02:00", ["missed", "missed", "early", "missed"]),
    ],
)
def test_over_two_days_without_a_plan_a_slot_reaches_no_farther_than_usual(moment: str, expected: list[str]) -> None:
    treatment = medicine(
        since("2026-01-01T00:00:00+01:00", MORNING_AND_NIGHT, to="2026-06-01T00:00:00+02:00"),
        since("2026-06-03T00:00:00+02:00", MORNING_AND_NIGHT),
    )
    judged = assess(treatment, taken(moment), date(2026, 5, 31), date(2026, 6, 3), TOLD).matching.judged
    assert [one.outcome.value for one in judged] == expected


def test_over_an_interruption_a_slot_never_reaches_past_the_next() -> None:
    weekly = FixedTimes(o_clock(time(8)), days=DaysOfWeek(frozenset({1, 3})))
    daily_again = medicine(
        since("2026-05-01T00:00:00+02:00", weekly, to="2026-06-01T12:00:00+02:00"),  # Monday
        since("2026-06-01T18:00:00+02:00", MORNING),
    )
    evening = taken("2026-06-01T21:00:00+02:00")  # two days to Wednesday's, but Tuesday has one of the new plan
    assert outcomes(daily_again, evening, MONDAY) == ["late"]
    assert outcomes(daily_again, taken("2026-06-02T07:30:00+02:00"), MONDAY) == ["missed"]
    weekly_again = medicine(
        since("2026-05-01T00:00:00+02:00", MORNING, to="2026-06-02T12:00:00+02:00"),
        since("2026-06-02T18:00:00+02:00", weekly),
    )
    afternoon = taken("2026-06-02T08:00:00+02:00", "2026-06-02T19:00:00+02:00")  # 13 h before Wednesday's
    assert outcomes(weekly_again, afternoon, date(2026, 6, 3)) == ["missed"]


def test_neighbours_of_adjoining_regimens_share_the_time_between_them() -> None:
    thrice = FixedTimes(o_clock(time(8), time(14), time(20)))
    treatment = medicine(
        since("2026-01-01T00:00:00+01:00", MORNING_AND_NIGHT), since("2026-06-01T12:00:00+02:00", thrice)
    )
    morning = "2026-06-01T08:00:00+02:00"
    assert outcomes(treatment, taken(morning, "2026-06-01T11:00:00+02:00"), MONDAY) == ["on_time", "early", "missed"]
    assert outcomes(treatment, taken(morning, "2026-06-01T10:59:00+02:00"), MONDAY) == ["on_time", "missed", "missed"]
    assert outcomes(treatment, taken("2026-06-01T12:59:00+02:00"), MONDAY) == ["late", "missed", "missed"]


def test_slots_that_a_clock_change_puts_on_one_instant_take_a_dose_each() -> None:
    treatment = medicine(since("2026-01-01T00:00:00+01:00", FixedTimes(o_clock(time(2, 30), time(3, 30)))))
    day, both = date(2026, 3, 29), "2026-03-29T03:30:00+02:00"
    assert outcomes(treatment, taken(both, both), day) == ["on_time", "on_time"]
    assert outcomes(treatment, taken(both), day) == ["on_time", "missed"]


def test_a_dose_every_thirty_days_finds_its_neighbours() -> None:
    treatment = medicine(since("2026-01-01T00:00:00+01:00", FixedTimes(o_clock(time(8)), days=EveryNthDay(30))))
    late, second = taken("2026-02-14T08:00:00+01:00", "2026-02-16T08:00:00+01:00")
    assert outcomes(treatment, [late, second], date(2026, 1, 31)) == ["late"]
    assert outcomes(treatment, [late, second], date(2026, 3, 2)) == ["early"]  # 14 days before


# What can be known.


@pytest.mark.parametrize(
    ("now", "outbox_empty_at", "expected"),
    [
        ("09:00:00", "09:00:00", "not_due"),  # the last instant of the window
        ("09:00:01", None, "unknown"),
        ("09:00:01", "09:00:00", "unknown"),
        ("09:00:01", "09:00:01", "missed"),
        ("23:00:00", "08:59:00", "unknown"),
    ],
)
def test_missed_needs_the_phones_word_after_the_window(now: str, outbox_empty_at: str | None, expected: str) -> None:
    once_daily = medicine(since("2026-01-01T00:00:00+01:00", MORNING))
    told = at(f"2026-06-01T{outbox_empty_at}+02:00") if outbox_empty_at else None
    assert outcomes(once_daily, [], MONDAY, Word(at(f"2026-06-01T{now}+02:00"), told)) == [expected]


def test_a_day_that_is_not_over_is_in_no_figure_of_days_and_its_open_slots_in_none() -> None:
    word = Word(*[at("2026-06-02T12:00:00+02:00")] * 2)
    events = to_the_minute(TWICE, MONDAY, date(2026, 6, 2), but=["2026-06-02T20:00:00+02:00"])
    figures = doses(assess(TWICE, events, MONDAY, date(2026, 6, 7), word))
    assert counts(figures) == {"on_time": 3}
    assert (share(figures.taking), share(figures.correct_days)) == ((3, 3), (1, 1))


def test_nothing_known_has_no_value_but_bounds() -> None:
    taking = doses(assess(TWICE, [], MONDAY, MONDAY, UNTOLD)).taking
    assert (share(taking), bounds(taking)) == ((0, 0), [None, 0, 1, 0])


@pytest.mark.parametrize(
    ("hours", "numerator", "known"),
    [
        (["08:00"], 0, 0),  # the other may have been taken
        (["08:00", "08:07"], 0, 0),  # exact, unless the other was taken too
        (["08:00", "08:07", "08:09"], 0, 1),  # too many, whatever the other was
    ],
)
def test_a_day_is_known_when_the_unknown_cannot_change_it(hours: list[str], numerator: int, known: int) -> None:
    events = taken(*(f"2026-06-01T{hour}:00+02:00" for hour in hours))
    assert share(doses(assess(TWICE, events, MONDAY, MONDAY, UNTOLD)).correct_days) == (numerator, known)


def test_an_extra_dose_in_part_is_more_than_was_prescribed() -> None:
    events = taken("2026-06-01T08:00:00+02:00", "2026-06-01T20:00:00+02:00")
    half = taken("2026-06-01T08:30:00+02:00", status="partial")
    figures = doses(assess(TWICE, [*events, *half], MONDAY, MONDAY, TOLD))
    assert (figures.extras, share(figures.correct_days)) == (1, (0, 1))


# Sessions and targets.


def weekly(*said: tuple[int, str], count: int = 2, pauses: tuple[Hold, ...] = ()) -> SessionAdherence:
    """The week of 1 June 2026 with these words on these days."""
    regimen = since("2026-01-01T00:00:00+01:00", Frequency(count, "week"))
    events = [Event(at(f"2026-06-{day:02}T10:00:00+02:00"), status) for day, status in said]
    treatment = Treatment("physical_therapy", (regimen,), pauses)
    return sessions(assess(treatment, events, date(2026, 6, 1), date(2026, 6, 7), TOLD))


def test_a_cancelled_session_that_was_made_up_for_stays_in_the_plan() -> None:
    figures = weekly((1, "cancelled_by_provider"), (3, "attended"), (5, "attended"))
    assert (counts(figures), figures.extras) == ({"on_time": 2}, 0)


def test_of_three_sessions_one_cancelled_by_the_provider_leaves_two_planned() -> None:
    figures = weekly((1, "cancelled_by_provider"), (3, "attended"), (5, "cancelled_by_patient"))
    assert counts(figures) == {"on_time": 1, "skipped": 1}


def test_a_session_attended_in_part_is_not_attended_and_one_too_many_is_extra() -> None:
    figures = weekly((1, "partial"), (3, "attended"))
    assert (counts(figures), share(figures.attended)) == ({"on_time": 1, "partial": 1}, (1, 2))
    assert weekly((1, "attended"), (2, "attended"), (3, "attended")).extras == 1


def test_a_pause_holds_the_week_it_touches() -> None:
    touching = Hold(at("2026-06-07T23:59:59+02:00"), at("2026-06-20T00:00:00+02:00"))
    figures = weekly((1, "attended"), (2, "not_attended"), pauses=(touching,))
    assert (counts(figures), figures.extras, figures.attended.value) == ({"held": 2}, 1, None)
    after = Hold(at("2026-06-08T00:00:00+02:00"))
    assert counts(weekly((1, "attended"), pauses=(after,))) == {"on_time": 1, "missed": 1}


def test_a_session_with_a_clock_time_is_matched_like_a_dose() -> None:
    plan = since("2026-01-01T00:00:00+01:00", FixedTimes(o_clock(time(10)), days=DaysOfWeek(frozenset({2, 4}))))
    said = {2: "attended", 4: "cancelled_by_provider", 9: "not_attended", 11: "attended"}
    events = [Event(at(f"2026-06-{day:02}T11:30:00+02:00"), status) for day, status in said.items()]
    treatment = Treatment("psychological_counselling", (plan,))
    figures = sessions(assess(treatment, events, date(2026, 6, 1), date(2026, 6, 14), TOLD))
    assert (counts(figures), share(figures.attended)) == ({"late": 2, "skipped": 1, "held": 1}, (2, 3))


def test_a_session_after_the_end_of_the_plan_is_extra() -> None:
    plan = since("2026-06-01T00:00:00+02:00", Frequency(2, "week"), to="2026-06-08T00:00:00+02:00")
    events = taken("2026-06-03T10:00:00+02:00", "2026-06-09T10:00:00+02:00", status="attended")
    figures = sessions(assess(Treatment("education", (plan,)), events, date(2026, 6, 1), date(2026, 6, 14), TOLD))
    assert (counts(figures), figures.extras) == ({"on_time": 1, "missed": 1}, 1)


def test_a_medicine_with_a_daily_target_has_no_timing() -> None:
    treatment = medicine(since("2026-01-01T00:00:00+01:00", Frequency(2, "day")))
    events = taken("2026-06-01T03:00:00+02:00", "2026-06-01T22:00:00+02:00", "2026-06-02T12:00:00+02:00")
    figures = doses(assess(treatment, events, date(2026, 6, 1), date(2026, 6, 2), TOLD))
    assert (share(figures.taking), share(figures.timing), share(figures.correct_days)) == ((3, 4), (0, 0), (1, 2))


def test_a_weekly_target_prescribes_no_number_for_a_day() -> None:
    treatment = medicine(since("2026-01-01T00:00:00+01:00", Frequency(1, "week")))
    figures = doses(assess(treatment, taken("2026-06-03T08:00:00+02:00"), MONDAY, date(2026, 6, 7), TOLD))
    assert (share(figures.taking), share(figures.correct_days)) == ((1, 1), (0, 0))


def test_doses_as_needed_are_neither_due_nor_extra() -> None:
    treatment = medicine(
        since("2026-01-01T00:00:00+01:00", MORNING), since("2026-06-02T00:00:00+02:00", AsNeeded(max_doses_24h=4))
    )
    events = taken("2026-06-01T08:00:00+02:00", "2026-06-02T08:00:00+02:00", "2026-06-02T16:00:00+02:00")
    assessment = assess(treatment, events, MONDAY, date(2026, 6, 7), TOLD)
    figures = doses(assessment)
    assert (counts(figures), figures.extras) == ({"on_time": 1}, 0)
    assert assessment.prn is not None
    assert assessment.prn.doses == 2
    only_prn = replace(treatment, regimens=treatment.regimens[1:])
    assert assess(only_prn, events, MONDAY, MONDAY, TOLD).doses is None


# Properties.

schedules = st.one_of(
    st.builds(
        FixedTimes,
        st.sets(st.sampled_from([time(hour, 30) for hour in range(24)]), min_size=1, max_size=4).map(
            lambda times: o_clock(*sorted(times))
        ),
        st.builds(EveryNthDay, st.integers(1, 3)) | st.builds(OnAndOff, st.integers(1, 3), st.integers(1, 3)),
        early_minutes=st.integers(0, 720),
        late_minutes=st.integers(0, 720),
    ),
    st.builds(ElapsedTime, st.integers(300, 4000)),
    st.builds(Frequency, st.integers(1, 3), st.sampled_from(["day", "week", "month"])),
    st.just(AsNeeded()),
)
moments = st.integers(0, 21 * 24 * 4).map(
    lambda quarters: at("2026-03-14T00:00:00Z") + timedelta(minutes=15 * quarters)
)


@st.composite
def treatments(draw: st.DrawFn) -> Treatment:
    """One or two regimens, perhaps side by side, around the change of the clocks in spring, perhaps with a pause."""
    zones = st.sampled_from([BERLIN, NEW_YORK])
    starts = sorted(draw(st.lists(moments, min_size=1, max_size=2, unique=True)))
    lines = (None, draw(st.sampled_from([None, "beside"])))
    regimens = tuple(
        PlanVersion(start, draw(zones), draw(schedules), line=line) for start, line in zip(starts, lines, strict=False)
    )
    pause = sorted(draw(st.lists(moments, max_size=2, unique=True)))
    return medicine(*regimens, pauses=(Hold(*pause),) if pause else ())


events = st.lists(
    st.builds(
        Event,
        moments,
        st.sampled_from(["taken", "taken", "taken", "partial", "skipped", "held"]),
        scheduled_for=st.none() | moments,
    ),
    max_size=30,
).map(lambda some: [replace(event, id=f"{number:02}") for number, event in enumerate(some)])
words = st.builds(Word, moments, st.none() | moments)
START, END = date(2026, 3, 20), date(2026, 3, 31)


@given(treatments(), events, words)
def test_outcomes_partition_the_slots_and_no_event_takes_two(
    treatment: Treatment, some: list[Event], word: Word
) -> None:
    matching = assess(treatment, some, START, END, word).matching
    timed = [one.slot for one in matching.judged if isinstance(one.slot, DueSlot)]
    assert timed == slots(treatment, START, END)
    used = [event.id for one in matching.judged for event in one.events]
    assert len(used) == len(set(used))
    figures = overall([assess(treatment, some, START, END, word)]).doses
    not_due = sum(one.outcome is Outcome.NOT_DUE for one in matching.judged)
    if any(not isinstance(regimen.schedule, AsNeeded) for regimen in treatment.regimens):
        assert sum(figures.outcomes.values()) + not_due == len(matching.judged)
        assert figures.extras >= len({extra.day for extra in matching.extras})


@given(treatments(), events, words)
def test_the_bounds_hold_the_value(treatment: Treatment, some: list[Event], word: Word) -> None:
    figures = overall([assess(treatment, some, START, END, word)]).doses
    for figure in (figures.taking, figures.timing, figures.correct_days):
        if figure.lower is None or figure.upper is None or figure.known_fraction is None:
            assert share(figure) == (0, 0)
            continue
        assert 0 <= figure.lower <= figure.upper <= 1
        assert (figure.value is None) == (figure.known_fraction == 0)
        assert figure.value is None or figure.lower <= figure.value <= figure.upper
        if figure.known_fraction == 1:
            assert figure.lower == figure.value == figure.upper


@given(treatments(), events, words, st.data())
@settings(max_examples=size("HYPOTHESIS_EXAMPLES", short=60, long=300))
def test_a_dose_more_on_time_never_lowers_taking(
    treatment: Treatment, some: list[Event], word: Word, data: st.DataObject
) -> None:
    judged = assess(treatment, some, START, END, word).matching.judged
    assume(judged)
    slot = data.draw(st.sampled_from(judged)).slot
    moment = data.draw(st.datetimes(slot.opens_at.replace(tzinfo=None), slot.closes_at.replace(tzinfo=None)))
    name = data.draw(st.sampled_from([None, slot.due_at if isinstance(slot, DueSlot) else None]))
    more = Event(moment.replace(tzinfo=slot.opens_at.tzinfo), "taken", name, id="more")
    assume(slot.opens_at <= more.occurred_at <= slot.closes_at)
    before = overall([assess(treatment, some, START, END, word)]).doses.taking
    after = overall([assess(treatment, [*some, more], START, END, word)]).doses.taking
    assert (after.value or 0) >= (before.value or 0)
    assert (after.lower or 0) >= (before.lower or 0)
    assert (after.upper or 0) >= (before.upper or 0)


@given(treatments(), events, words, st.randoms())
def test_the_order_of_arrival_never_matters(
    treatment: Treatment, some: list[Event], word: Word, random: Random
) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    assert assess(treatment, shuffled, START, END, word) == assess(treatment, some, START, END, word)


@contextmanager
def process_in(zone: str) -> Iterator[None]:
    """The process's own time zone, for a while."""
    before = os.environ.get("TZ")
    try:
        os.environ["TZ"] = zone
        clock.tzset()
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        clock.tzset()


def test_a_process_can_be_anywhere() -> None:
    moment = at("2026-06-01T00:00:00Z")
    with process_in("Pacific/Kiritimati"):
        east = datetime.fromtimestamp(moment.timestamp())  # noqa: DTZ006 - the process's zone is the point
    with process_in("America/Los_Angeles"):
        west = datetime.fromtimestamp(moment.timestamp())  # noqa: DTZ006
    assert east - west == timedelta(hours=21)


@given(treatments(), events, words)
@settings(max_examples=40)
def test_the_time_zone_of_the_process_never_matters(treatment: Treatment, some: list[Event], word: Word) -> None:
    with process_in("Pacific/Kiritimati"):
        east = assess(treatment, some, START, END, word)
    with process_in("America/Los_Angeles"):
        west = assess(treatment, some, START, END, word)
    assert east == west
