"""What was used as needed: days, rolling sums, limits, and pain before and after."""

from dataclasses import replace
from datetime import date, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.matching import as_needed as as_needed_by
from app.domain.moments import parse_instant as at
from app.domain.outcomes import Event
from app.domain.prn import AsNeededUse, Reading, use
from app.domain.regimens import Amount, AsNeeded, FixedTimes, PlanVersion, Treatment
from tests.domain.plans import o_clock

BERLIN = ZoneInfo("Europe/Berlin")
LIMITS = AsNeeded(min_interval_minutes=360, max_doses_24h=3, max_amount_24h=Amount(1200, "mg"))
TABLET = Amount(400, "mg")
SUNDAY, MONDAY = date(2026, 6, 14), date(2026, 6, 15)


def as_needed(limits: AsNeeded = LIMITS, dose: Amount | None = TABLET) -> Treatment:
    return Treatment("otc_medication", (PlanVersion(at("2026-01-01T00:00:00+01:00"), BERLIN, limits, dose),))


def dose(day: int, hour: str, before: int | None = None, after: int | None = None) -> Event:
    return Event(at(f"2026-06-{day:02}T{hour}:00+02:00"), "taken", pain_before=before, pain_after=after)


def score(day: int, hour: str, value: int) -> Reading:
    return Reading(at(f"2026-06-{day:02}T{hour}:00+02:00"), value)


def used(*events: Event, treatment: Treatment | None = None, readings: tuple[Reading, ...] = ()) -> AsNeededUse:
    return use(treatment or as_needed(), events, SUNDAY, MONDAY, readings)


def test_a_prn_day_that_breaches_both_limits() -> None:
    doses = (
        dose(14, "06:00", 7, 4),
        dose(14, "10:00", 6),
        dose(14, "16:00", 8),
        dose(14, "22:00", 7),
        dose(15, "06:00", 5, 5),
    )
    readings = (score(14, "11:00", 5), score(14, "16:20", 7), score(14, "18:00", 4), score(15, "01:30", 3))
    found = used(*doses, readings=readings)
    assert (found.doses, found.use_days, found.doses_per_use_day) == (5, 2, 2.5)
    assert (found.most_doses_24h, found.most_amount_24h) == (4, (Amount(1600, "mg"),))
    assert found.interval_breaches == (doses[1].occurred_at,)
    assert found.maximum_breaches == (doses[3].occurred_at, doses[4].occurred_at)
    assert (found.pain_before.value, found.pain_before.n) == (7, 5)
    assert (found.change_after.value, found.change_after.n) == (-2, 4)


def some_time(day: int, hour: str = "00:00", **pain: int) -> Event:
    """A dose of which only the day is known."""
    return replace(dose(day, hour, **pain), timed=False)


def test_around_a_dose_of_which_only_the_day_is_known_no_limit_is_called_kept() -> None:
    doses = (some_time(14), dose(14, "06:00", 7), dose(15, "12:00"))
    found = used(*doses, readings=(score(14, "07:00", 3),))
    assert (found.doses, found.use_days, found.most_doses_24h) == (3, 2, 2)
    assert found.most_amount_24h == (Amount(800, "mg"),)
    assert (found.interval_breaches, found.maximum_breaches) == ((), None)
    assert found.not_comparable == tuple(one.occurred_at for one in doses)
    assert found.change_after.n == 0
    far = used(some_time(1), dose(14, "06:00"))
    assert (far.maximum_breaches, far.not_comparable) == ((), ())


def test_what_is_too_much_on_one_day_or_at_known_times_is_a_breach_all_the_same() -> None:
    day = used(*(some_time(14) for _ in range(4)))
    assert day.maximum_breaches == (some_time(14).occurred_at,) * 4
    hours = [dose(14, f"{hour:02}:00") for hour in (6, 8, 10, 12)]
    found = used(some_time(15, "20:00"), *hours)
    assert found.maximum_breaches == (hours[3].occurred_at,)
    assert len(found.interval_breaches) == 3
    without = used(some_time(14), dose(14, "12:00"), treatment=as_needed(AsNeeded()))
    assert (without.maximum_breaches, without.not_comparable) == ((), ())


def test_no_use_is_no_number_but_the_count() -> None:
    found = used()
    assert (found.doses, found.use_days, found.doses_per_use_day, found.most_doses_24h) == (0, 0, None, 0)
    assert (found.most_amount_24h, found.interval_breaches, found.maximum_breaches) == ((), (), ())
    assert (found.pain_before.value, found.pain_before.n) == (None, 0)


@pytest.mark.parametrize(
    ("second", "breaches"), [("11:59:59", 1), ("12:00:00", 0)], ids=["a second too early", "to the second"]
)
def test_the_minimum_interval_is_allowed(second: str, breaches: int) -> None:
    later = Event(at(f"2026-06-14T{second}+02:00"), "taken")
    assert len(used(dose(14, "06:00"), later).interval_breaches) == breaches


def test_the_interval_is_real_time_when_the_clocks_change() -> None:
    spring = [Event(at(text), "taken") for text in ("2026-03-28T22:00:00+01:00", "2026-03-29T04:30:00+02:00")]
    found = use(as_needed(), spring, date(2026, 3, 29), date(2026, 3, 29))
    assert len(found.interval_breaches) == 1  # 5 h 30 min, though the clock says 6 h 30 min


def test_doses_before_the_days_asked_for_count_towards_the_limits() -> None:
    evening = [dose(13, hour) for hour in ("18:00", "20:00", "23:00")]
    found = used(*evening, dose(14, "00:00"))
    assert (found.doses, found.most_doses_24h) == (1, 4)
    assert found.interval_breaches == found.maximum_breaches == (at("2026-06-14T00:00:00+02:00"),)


def test_doses_by_plan_count_towards_the_limits_but_are_no_use() -> None:
    planned = PlanVersion(at("2026-01-01T00:00:00Z"), BERLIN, FixedTimes(()), Amount(1000, "mg"))
    needed = PlanVersion(at("2026-06-14T12:00:00+02:00"), BERLIN, LIMITS, Amount(400, "mg"))
    treatment = Treatment("otc_medication", (planned, needed))
    found = used(dose(14, "11:00"), dose(14, "13:00"), treatment=treatment)
    assert (found.doses, found.most_amount_24h) == (1, (Amount(1400, "mg"),))
    assert found.interval_breaches == found.maximum_breaches == (at("2026-06-14T13:00:00+02:00"),)


def test_amounts_are_summed_by_unit_and_exactly() -> None:
    limits = AsNeeded(max_amount_24h=Amount(0.3, "mg"))
    tenths = [
        Event(at(f"2026-06-14T{hour}:00:00+02:00"), "taken", amount=Amount(0.1, "mg")) for hour in ("06", "07", "08")
    ]
    drops = Event(at("2026-06-14T09:00:00+02:00"), "taken", amount=Amount(20, "[drp]"))
    found = used(*tenths, drops, treatment=as_needed(limits))
    assert found.most_amount_24h == (Amount(20, "[drp]"), Amount(0.3, "mg"))
    assert (found.maximum_breaches, found.not_comparable) == (None, (drops.occurred_at,))
    assert used(*tenths, treatment=as_needed(limits)).maximum_breaches == ()


def test_a_dose_of_an_unknown_amount_is_counted_but_not_summed() -> None:
    found = used(dose(14, "06:00"), treatment=as_needed(dose=None))
    assert (found.most_doses_24h, found.most_amount_24h, found.maximum_breaches) == (1, (), None)
    assert found.not_comparable == (at("2026-06-14T06:00:00+02:00"),)


def test_a_partial_dose_is_a_use_and_what_was_skipped_is_none() -> None:
    partial = (Event(at(f"2026-06-14T{hour}:00:00+02:00"), "partial") for hour in ("06", "12"))
    found = used(*partial, Event(at("2026-06-14T20:00:00+02:00"), "skipped"))
    assert (found.doses, found.most_amount_24h) == (2, (Amount(800, "mg"),))


def test_without_limits_nothing_is_breached() -> None:
    found = used(*[dose(14, f"06:{minute:02}") for minute in range(20)], treatment=as_needed(AsNeeded()))
    assert (found.most_doses_24h, found.interval_breaches, found.maximum_breaches) == (20, (), ())


def test_a_day_of_use_is_the_patients_own_day() -> None:
    travelling = [Event(at(text), "taken") for text in ("2026-06-14T23:30:00-04:00", "2026-06-15T06:00:00+02:00")]
    assert used(*travelling).use_days == 2  # half an hour apart, on two calendars


@pytest.mark.parametrize(
    ("readings", "change"),
    [
        ([("06:29", 1)], None),
        ([("06:30", 1)], -6),
        ([("09:00", 1)], -6),
        ([("09:01", 1)], None),
        ([("06:10", 6), ("07:00", 4), ("08:00", 1)], -3),
    ],
)
def test_pain_after_is_the_first_score_from_30_to_180_minutes(
    readings: list[tuple[str, int]], change: int | None
) -> None:
    found = used(dose(14, "06:00", before=7), readings=tuple(score(14, hour, value) for hour, value in readings))
    assert found.change_after.value == change


def test_a_score_after_the_next_dose_says_nothing_about_the_one_before() -> None:
    found = used(dose(14, "06:00", before=7), dose(14, "07:00"), readings=(score(14, "07:40", 2),))
    assert found.change_after.n == 0


def test_no_pain_before_no_change() -> None:
    assert used(dose(14, "06:00", after=2)).change_after.n == 0


minutes = st.lists(st.integers(0, 4 * 1440), max_size=40)


@given(minutes, st.integers(1, 6))
def test_rolling_sums_agree_with_counting(offsets: list[int], most: int) -> None:
    begin = at("2026-06-13T00:00:00+02:00")
    times = sorted(begin + timedelta(minutes=offset) for offset in offsets)
    found = use(
        as_needed(AsNeeded(max_doses_24h=most)),
        [Event(t, "taken") for t in times],
        date(2026, 6, 13),
        date(2026, 6, 17),
    )
    counted = [sum(t - timedelta(hours=24) < other for other in times[: place + 1]) for place, t in enumerate(times)]
    assert found.most_doses_24h == max(counted, default=0)
    assert found.maximum_breaches == tuple(t for t, count in zip(times, counted, strict=True) if count > most)


def test_of_a_range_the_least_is_certain_and_the_most_is_not_comparable() -> None:
    limits = AsNeeded(max_amount_24h=Amount(3, "{tablet}"))
    plan = PlanVersion(at("2026-01-01T00:00:00+01:00"), BERLIN, limits, Amount(1, "{tablet}"))
    ranged = Treatment("otc_medication", (replace(plan, dose_up_to=Amount(2, "{tablet}")),))
    doses = [dose(14, f"{hour:02}:00") for hour in (6, 8, 10, 12)]
    found = used(*doses, treatment=ranged)
    assert found.most_amount_24h == (Amount(4, "{tablet}"),)
    assert found.not_comparable == (doses[1].occurred_at, doses[2].occurred_at)  # 4 and 6 tablets at most
    assert found.maximum_breaches == (doses[3].occurred_at,)  # 4 at least
    told = [replace(one, amount=Amount(1, "{tablet}")) for one in doses[:3]]
    assert used(*told, treatment=ranged).maximum_breaches == ()


@pytest.mark.parametrize(
    ("event", "needed"),
    [
        (dose(14, "08:30"), False),  # in the window
        (dose(14, "13:00"), True),
        (replace(dose(14, "13:00"), scheduled_for=at("2026-06-14T08:00:00+02:00")), False),
    ],
)
def test_side_by_side_what_is_in_a_window_or_names_a_slot_is_by_plan(event: Event, needed: bool) -> None:
    start = at("2026-01-01T00:00:00+01:00")
    daily = PlanVersion(start, BERLIN, FixedTimes(o_clock(time(8))))
    rescue = PlanVersion(start, BERLIN, AsNeeded(), line="rescue")
    assert as_needed_by(Treatment("otc_medication", (daily, rescue)), event) is needed
