"""The plan turned into instants: wall-clock times across clock changes, moves of zone and changes of dose."""

from cProfile import Profile
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pstats import Stats
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.days import Days, DaysOfMonth, DaysOfWeek, EveryNthDay, ListedDates, NthWeekday, OnAndOff
from app.domain.due import margin, most_due, periods, slots
from app.domain.moments import parse_instant, render_instant
from app.domain.regimens import (
    Amount,
    AsNeeded,
    ClockTime,
    ElapsedTime,
    FixedTimes,
    Frequency,
    Hold,
    PlanVersion,
    Schedule,
    Treatment,
    is_paused,
    regimens_at,
)
from tests.domain.plans import o_clock
from tests.domain.test_timing import SCHEDULES

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
ZONES = [ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")]
MORNING_AND_NIGHT = FixedTimes(o_clock(time(8), time(20)))


def agreed(*regimens: PlanVersion, status: str = "active") -> Treatment:
    return Treatment("prescription_medication", regimens, status=status)


def since(text: str, schedule: Schedule, zone: ZoneInfo = BERLIN, to: str | None = None) -> PlanVersion:
    return PlanVersion(parse_instant(text), zone, schedule, valid_to=parse_instant(to) if to else None)


def due(treatment: Treatment, start: date, end: date) -> list[str]:
    return [render_instant(slot.due_at) for slot in slots(treatment, start, end)]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2026, 3, 28), "2026-03-28T02:30:00+01:00"),
        (date(2026, 3, 29), "2026-03-29T03:30:00+02:00"),  # 02:30 does not exist
        (date(2026, 3, 30), "2026-03-30T02:30:00+02:00"),
        (date(2026, 10, 24), "2026-10-24T02:30:00+02:00"),
        (date(2026, 10, 25), "2026-10-25T02:30:00+02:00"),  # exists twice
        (date(2026, 10, 26), "2026-10-26T02:30:00+01:00"),
    ],
)
def test_half_past_two_is_moved_over_the_gap_and_is_the_first_of_two(day: date, expected: str) -> None:
    treatment = agreed(since("2026-01-01T00:00:00+01:00", FixedTimes(o_clock(time(2, 30)))))
    assert due(treatment, day, day) == [expected]


def test_times_that_the_gap_puts_out_of_order_come_in_time_order() -> None:
    treatment = agreed(since("2026-01-01T00:00:00+01:00", FixedTimes(o_clock(time(2, 30), time(3, 15)))))
    assert due(treatment, date(2026, 3, 29), date(2026, 3, 29)) == [
        "2026-03-29T03:15:00+02:00",
        "2026-03-29T03:30:00+02:00",
    ]


def test_a_window_is_real_time_and_shows_the_clock_of_its_own_instant() -> None:
    treatment = agreed(
        since("2026-01-01T00:00:00+01:00", FixedTimes(o_clock(time(1, 30)), early_minutes=15, late_minutes=60))
    )
    (slot,) = slots(treatment, date(2026, 3, 29), date(2026, 3, 29))
    assert render_instant(slot.opens_at) == "2026-03-29T01:15:00+01:00"
    assert render_instant(slot.closes_at) == "2026-03-29T03:30:00+02:00"
    assert slot.closes_at - slot.due_at == timedelta(hours=1)


@given(
    zone=st.sampled_from(ZONES),
    day=st.dates(date(2020, 1, 1), date(2030, 12, 31)),
    at=st.times(time(4), time(22)).map(lambda at: at.replace(second=0, microsecond=0)),
)
def test_outside_the_night_a_time_of_day_stays_what_it_is(zone: ZoneInfo, day: date, at: time) -> None:
    treatment = agreed(since("2000-01-01T00:00:00Z", FixedTimes(o_clock(at)), zone))
    (slot,) = slots(treatment, day, day)
    assert (slot.day, slot.due_at.time()) == (day, at)
    assert slot.due_at.utcoffset() == slot.due_at.astimezone(zone).utcoffset()


@given(
    zone=st.sampled_from(ZONES),
    start=st.dates(date(2024, 1, 1), date(2026, 12, 31)),
    days=st.tuples(st.integers(0, 20), st.integers(1, 20)),
    times=st.sets(st.times().map(lambda at: at.replace(second=0, microsecond=0)), min_size=1, max_size=4),
    rule=st.one_of(
        st.builds(EveryNthDay, st.integers(1, 9)),
        st.builds(DaysOfWeek, st.frozensets(st.integers(1, 7), min_size=1), st.integers(1, 3)),
        st.builds(DaysOfMonth, st.frozensets(st.integers(1, 31) | st.just(-1), min_size=1), st.integers(1, 3)),
        st.builds(
            NthWeekday,
            st.sampled_from((1, 2, 5, -1)),
            st.frozensets(st.integers(1, 7), min_size=1),
            st.integers(1, 3),
        ),
        st.builds(OnAndOff, st.integers(1, 5), st.integers(1, 5)),
        st.builds(
            lambda days: ListedDates(tuple(sorted(days))), st.sets(st.dates(date(2024, 1, 1), date(2027, 12, 31)))
        ),
    ),
)
def test_asked_for_in_parts_the_slots_are_the_same(
    zone: ZoneInfo, start: date, days: tuple[int, int], times: set[time], rule: Days
) -> None:
    treatment = agreed(since("2024-01-15T12:00:00Z", FixedTimes(o_clock(*sorted(times)), rule), zone))
    middle, end = start + timedelta(days=days[0]), start + timedelta(days=sum(days))
    whole = slots(treatment, start, end)
    assert whole == slots(treatment, start, middle) + slots(treatment, middle + timedelta(days=1), end)
    assert all(earlier.due_at <= later.due_at for earlier, later in pairwise(whole))


def test_a_dose_changed_at_noon_leaves_the_morning_to_the_old_and_gives_the_evening_to_the_new() -> None:
    old = PlanVersion(parse_instant("2026-07-01T00:00:00+02:00"), BERLIN, MORNING_AND_NIGHT, Amount(300, "mg"))
    new = PlanVersion(parse_instant("2026-07-08T12:00:00+02:00"), BERLIN, MORNING_AND_NIGHT, Amount(600, "mg"))
    found = slots(agreed(old, new), date(2026, 7, 8), date(2026, 7, 8))
    assert [(slot.due_at.hour, slot.regimen, slot.dose) for slot in found] == [
        (8, 0, Amount(300, "mg")),
        (20, 1, Amount(600, "mg")),
    ]


def test_validity_includes_its_first_instant_and_not_its_last() -> None:
    regimen = since("2026-07-01T08:00:00+02:00", MORNING_AND_NIGHT, to="2026-07-02T20:00:00+02:00")
    assert due(agreed(regimen), date(2026, 6, 1), date(2026, 8, 1)) == [
        "2026-07-01T08:00:00+02:00",
        "2026-07-01T20:00:00+02:00",
        "2026-07-02T08:00:00+02:00",
    ]


def test_a_move_takes_the_wall_clock_along() -> None:
    treatment = agreed(
        since("2026-06-01T00:00:00+02:00", MORNING_AND_NIGHT),
        since("2026-06-04T18:00:00+02:00", MORNING_AND_NIGHT, NEW_YORK),
    )
    assert due(treatment, date(2026, 6, 4), date(2026, 6, 5)) == [
        "2026-06-04T08:00:00+02:00",
        "2026-06-04T20:00:00-04:00",
        "2026-06-05T08:00:00-04:00",
        "2026-06-05T20:00:00-04:00",
    ]


def test_who_moves_west_before_the_morning_has_come_there_has_it_twice() -> None:
    treatment = agreed(
        since("2026-06-01T00:00:00+02:00", MORNING_AND_NIGHT),
        since("2026-06-04T12:00:00+02:00", MORNING_AND_NIGHT, NEW_YORK),  # 06:00 there
    )
    assert due(treatment, date(2026, 6, 4), date(2026, 6, 4)) == [
        "2026-06-04T08:00:00+02:00",
        "2026-06-04T08:00:00-04:00",
        "2026-06-04T20:00:00-04:00",
    ]


def test_some_days_of_the_week() -> None:
    treatment = agreed(
        since("2026-06-03T00:00:00+02:00", FixedTimes(o_clock(time(9)), days=DaysOfWeek(frozenset({1, 4}))))
    )
    assert [slot.day.day for slot in slots(treatment, date(2026, 6, 1), date(2026, 6, 16))] == [4, 8, 11, 15]


def test_every_third_day_counts_from_the_local_day_the_regimen_began() -> None:
    begins = "2026-05-31T23:00:00Z"  # already 1 June in Berlin
    treatment = agreed(since(begins, FixedTimes(o_clock(time(9)), days=EveryNthDay(3))))
    assert [slot.day.day for slot in slots(treatment, date(2026, 6, 2), date(2026, 6, 11))] == [4, 7, 10]


def test_a_draft_makes_nothing_due() -> None:
    draft = agreed(
        since("2026-06-01T00:00:00+02:00", MORNING_AND_NIGHT, to="2026-07-01T00:00:00+02:00"),
        since("2026-07-01T00:00:00+02:00", Frequency(1, "day")),
        status="draft",
    )
    assert slots(draft, date(2026, 6, 1), date(2026, 7, 30)) == []
    assert periods(draft, date(2026, 6, 1), date(2026, 7, 30)) == []


def test_a_week_runs_from_monday_to_sunday_whatever_the_clocks_do() -> None:
    treatment = agreed(since("2026-03-02T00:00:00+01:00", Frequency(2, "week", 30)))
    (week,) = periods(treatment, date(2026, 3, 23), date(2026, 3, 29))
    assert (week.first, week.last, week.count, week.minutes) == (date(2026, 3, 23), date(2026, 3, 29), 2, 30)
    assert render_instant(week.opens_at) == "2026-03-23T00:00:00+01:00"
    assert render_instant(week.closes_at) == "2026-03-30T00:00:00+02:00"
    assert week.closes_at - week.opens_at == timedelta(days=7, hours=-1)


def test_a_week_is_asked_for_by_its_sunday() -> None:
    treatment = agreed(since("2026-03-02T00:00:00+01:00", Frequency(2, "week")))
    assert [week.day.day for week in periods(treatment, date(2026, 6, 7), date(2026, 6, 28))] == [7, 14, 21, 28]
    assert periods(treatment, date(2026, 6, 8), date(2026, 6, 13)) == []


def test_a_part_of_a_week_is_not_judged_but_the_day_a_regimen_begins_is_whole() -> None:
    treatment = agreed(
        since("2026-06-03T09:00:00+02:00", Frequency(2, "week")),  # a Wednesday
        since("2026-06-17T09:00:00+02:00", Frequency(1, "day"), to="2026-06-19T12:00:00+02:00"),
    )
    found = periods(treatment, date(2026, 6, 1), date(2026, 6, 30))
    assert [(period.first.day, period.last.day, period.regimen) for period in found] == [
        (8, 14, 0),
        (17, 17, 1),
        (18, 18, 1),
    ]


def test_the_regimen_at_an_instant_is_the_one_that_is_valid_then() -> None:
    first = since("2026-06-01T00:00:00+02:00", MORNING_AND_NIGHT, to="2026-06-10T00:00:00+02:00")
    second = since("2026-06-20T00:00:00+02:00", AsNeeded())
    treatment = agreed(first, second)
    assert regimens_at(treatment, parse_instant("2026-05-31T21:59:59Z")) == []
    assert regimens_at(treatment, parse_instant("2026-05-31T22:00:00Z")) == [first]
    assert regimens_at(treatment, parse_instant("2026-06-10T00:00:00+02:00")) == []
    assert regimens_at(treatment, datetime(2090, 1, 1, tzinfo=UTC)) == [second]


def test_a_pause_includes_its_first_instant_and_not_its_last() -> None:
    treatment = Treatment(
        "otc_medication",
        (),
        (
            Hold(parse_instant("2026-06-01T00:00:00Z"), parse_instant("2026-06-02T00:00:00Z")),
            Hold(parse_instant("2026-06-08T00:00:00Z")),
        ),
    )

    def paused(first: str, last: str) -> bool:
        return is_paused(treatment, parse_instant(first), parse_instant(last))

    assert not paused("2026-05-31T00:00:00Z", "2026-05-31T23:59:59Z")
    assert paused("2026-05-31T00:00:00Z", "2026-06-01T00:00:00Z")
    assert not paused("2026-06-02T00:00:00Z", "2026-06-03T00:00:00Z")
    assert paused("2026-09-01T00:00:00Z", "2026-09-01T00:00:00Z")


@pytest.mark.parametrize(
    ("schedules", "days"),
    [
        ([], 2),
        ([MORNING_AND_NIGHT], 2),
        ([FixedTimes(o_clock(time(8)), days=EveryNthDay(30))], 31),
        ([FixedTimes(o_clock(time(8)), days=DaysOfWeek(frozenset({1})))], 8),
        ([Frequency(1, "day"), MORNING_AND_NIGHT], 8),
        ([AsNeeded()], 2),
        ([AsNeeded(min_interval_minutes=10_080)], 9),
    ],
)
def test_the_margin_reaches_over_the_longest_interval(schedules: list[Schedule], days: int) -> None:
    regimens = (since(f"2026-06-{number:02}T00:00:00Z", schedule) for number, schedule in enumerate(schedules, start=1))
    assert margin(agreed(*regimens)) == timedelta(days=days)


def test_lines_side_by_side_are_due_each_on_its_own() -> None:
    one, two = Amount(1, "{tablet}"), Amount(2, "{tablet}")
    start = parse_instant("2026-06-01T00:00:00+02:00")
    weekdays = FixedTimes(o_clock(time(8)), DaysOfWeek(frozenset({1, 2, 3, 4, 5})))
    weekend = FixedTimes(o_clock(time(9)), DaysOfWeek(frozenset({6, 7})))
    treatment = agreed(
        PlanVersion(start, BERLIN, weekdays, one),
        PlanVersion(start, BERLIN, weekend, two, line="weekend"),
        PlanVersion(parse_instant("2026-06-15T00:00:00+02:00"), BERLIN, weekdays, two),
    )
    found = slots(treatment, date(2026, 6, 5), date(2026, 6, 7)) + slots(
        treatment, date(2026, 6, 19), date(2026, 6, 20)
    )
    assert [(f"{slot.due_at:%d %H}", slot.dose) for slot in found] == [
        ("05 08", one),
        ("06 09", two),
        ("07 09", two),
        ("19 08", two),
        ("20 09", two),
    ]
    now = parse_instant("2026-06-20T00:00:00+02:00")
    assert regimens_at(treatment, now) == [treatment.regimens[2], treatment.regimens[1]]


def test_the_end_of_a_line_ends_no_other() -> None:
    start = "2026-06-01T00:00:00+02:00"
    running = since(start, MORNING_AND_NIGHT)
    loading = replace(since(start, MORNING_AND_NIGHT, to="2026-06-02T00:00:00+02:00"), line="loading")
    assert len(due(agreed(running, loading), date(2026, 6, 1), date(2026, 6, 2))) == 6


def test_elapsed_hours_pass_over_the_clock_and_begin_with_the_regimen() -> None:
    treatment = agreed(since("2026-03-27T08:15:00+01:00", ElapsedTime(36 * 60)))
    assert due(treatment, date(2026, 3, 20), date(2026, 4, 1)) == [
        "2026-03-27T08:15:00+01:00",
        "2026-03-28T20:15:00+01:00",
        "2026-03-30T09:15:00+02:00",  # an hour later on the clock
        "2026-03-31T21:15:00+02:00",
    ]


def test_each_time_of_day_has_its_own_dose_and_meal() -> None:
    one, two = Amount(1, "{tablet}"), Amount(2, "{tablet}")
    at = (ClockTime(time(8), one, "before"), ClockTime(time(14)), ClockTime(time(20), two))
    regimen = PlanVersion(parse_instant("2026-06-01T00:00:00+02:00"), BERLIN, FixedTimes(at), Amount(5, "mg"))
    found = slots(agreed(regimen), date(2026, 6, 1), date(2026, 6, 1))
    assert [(slot.dose, slot.meal) for slot in found] == [(one, "before"), (Amount(5, "mg"), None), (two, None)]


@given(SCHEDULES, st.dates(date(2026, 1, 1), date(2026, 12, 31)), st.sampled_from(ZONES))
def test_every_form_is_the_same_in_parts_and_never_more_than_foretold(
    schedule: Schedule, day: date, zone: ZoneInfo
) -> None:
    treatment = agreed(since("2026-01-03T12:00:00Z", schedule, zone))
    middle, end = day + timedelta(days=9), day + timedelta(days=40)
    whole = slots(treatment, day, end)
    assert whole == slots(treatment, day, middle) + slots(treatment, middle + timedelta(days=1), end)
    assert len(whole) <= most_due(treatment, day, end)
    assert all(day <= slot.day <= end for slot in whole)


def test_a_year_of_any_form_looks_at_each_of_its_slots_once() -> None:
    """Work that grows with what is due, and not with how long ago the plan began."""
    forms: list[Schedule] = [
        *(
            FixedTimes(o_clock(time(8), time(20)), rule)
            for rule in (EveryNthDay(1), OnAndOff(21, 7), DaysOfMonth(frozenset({1})))
        ),
        FixedTimes(o_clock(time(8)), NthWeekday(1, frozenset({1}))),
        ElapsedTime(300),
    ]
    for form in forms:
        calls = [_calls(agreed(since(text, form))) for text in ("2025-12-31T00:00:00Z", "1990-01-01T00:00:00Z")]
        assert calls[1] <= 1.1 * calls[0]


def _calls(treatment: Treatment) -> int:
    """How many functions a year's expansion calls."""
    profile = Profile()
    slots(treatment, date(2026, 1, 1), date(2026, 12, 31))  # what is kept of the zone is kept now
    profile.runcall(slots, treatment, date(2026, 1, 1), date(2026, 12, 31))
    return int(Stats(profile).total_calls)  # type: ignore[attr-defined] # not in its stub


def test_a_month_is_a_period_and_belongs_to_its_last_day() -> None:
    treatment = agreed(since("2026-01-10T00:00:00+01:00", Frequency(4, "month")))
    found = periods(treatment, date(2026, 1, 1), date(2026, 4, 30))
    assert [(one.first, one.last) for one in found] == [
        (date(2026, 2, 1), date(2026, 2, 28)),
        (date(2026, 3, 1), date(2026, 3, 31)),
        (date(2026, 4, 1), date(2026, 4, 30)),
    ]
