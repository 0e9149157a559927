"""A plan as FHIR says it: read back it is the same plan, whatever its form, and FHIR's own rules hold."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.days import Days, DaysOfMonth, DaysOfWeek, EveryNthDay, ListedDates, NthWeekday, OnAndOff
from app.domain.due import slots
from app.domain.regimens import (
    Amount,
    AsNeeded,
    ClockTime,
    ElapsedTime,
    FixedTimes,
    Frequency,
    PlanVersion,
    Schedule,
    Treatment,
)
from app.domain.timing import OURS, as_written, dosages, version_of
from tests.domain.plans import o_clock

BERLIN = ZoneInfo("Europe/Berlin")
WEEKDAYS = st.frozensets(st.integers(1, 7), min_size=1)
AMOUNTS = st.builds(Amount, st.sampled_from([0.5, 1.0, 2.0, 400.0]), st.sampled_from(["mg", "{tablet}"]))
WINDOWS = {"early_minutes": st.integers(0, 720), "late_minutes": st.integers(0, 720)}
RULES = st.one_of(
    st.builds(EveryNthDay, st.integers(1, 366)),
    st.builds(DaysOfWeek, WEEKDAYS, st.integers(1, 52)),
    st.builds(DaysOfMonth, st.frozensets(st.integers(1, 31) | st.just(-1), min_size=1), st.integers(1, 12)),
    st.builds(NthWeekday, st.sampled_from([1, 2, 3, 4, 5, -1]), WEEKDAYS, st.integers(1, 12)),
    st.builds(OnAndOff, st.integers(1, 40), st.integers(1, 40)),
    st.builds(
        lambda days: ListedDates(tuple(sorted(days))),
        st.sets(st.dates(date(2026, 1, 1), date(2026, 12, 31)), min_size=1),
    ),
)
CLOCK = st.times().map(lambda at: at.replace(second=0, microsecond=0))
TIMES = st.lists(
    st.builds(ClockTime, CLOCK, st.none() | AMOUNTS, st.none() | st.sampled_from(["before", "with", "after"])),
    min_size=1,
    max_size=5,
    unique_by=lambda at: at.time,
).map(lambda times: tuple(sorted(times, key=lambda at: at.time)))
FIXED = st.builds(FixedTimes, TIMES, RULES, **WINDOWS)
ELAPSED = st.builds(ElapsedTime, st.integers(15, 527_040), **WINDOWS)
PRN = st.builds(
    AsNeeded,
    st.none() | st.integers(1, 10_080),
    st.none() | st.integers(1, 100),
    st.none() | AMOUNTS,
    indication=st.none() | st.just("Back pain of 5 or more"),
) | st.builds(AsNeeded, st.integers(1, 240), max_interval_minutes=st.integers(241, 10_080))
TARGETS = st.builds(
    Frequency, st.integers(1, 100), st.sampled_from(["day", "week", "month"]), st.none() | st.integers(1, 1440)
)
SCHEDULES: st.SearchStrategy[Schedule] = st.one_of(FIXED, ELAPSED, PRN, TARGETS)


@st.composite
def versions(draw: st.DrawFn) -> PlanVersion:
    """A version of a plan of any form."""
    began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=draw(st.integers(0, 500_000)))
    schedule, dose = draw(SCHEDULES), draw(st.none() | AMOUNTS)
    ranged = isinstance(schedule, AsNeeded) and dose is not None and draw(st.booleans())
    return PlanVersion(
        valid_from=began,
        zone=draw(st.sampled_from([BERLIN, ZoneInfo("Pacific/Auckland"), timezone(timedelta(hours=5, minutes=30))])),
        schedule=schedule,
        dose=dose,
        valid_to=draw(st.none() | st.integers(1, 1000).map(lambda days: began + timedelta(days=days))),
        dose_up_to=Amount(2 * dose.value, dose.unit) if ranged and dose else None,
        line=draw(st.none() | st.just("weekend")),
    )


@given(versions())
def test_what_is_written_as_fhir_is_read_back_without_loss(version: PlanVersion) -> None:
    written = as_written(version)
    assert version_of(dosages(version)) == written
    assert dosages(written) == dosages(version)
    plans = [Treatment("prescription_medication", (one,)) for one in (version, written)]
    first = version.valid_from.date()
    here, there = (slots(plan, first, first + timedelta(days=60)) for plan in plans)
    assert here == there


@given(versions())
def test_the_rules_of_fhir_for_a_timing_hold(version: PlanVersion) -> None:
    for dosage in dosages(version):
        repeat = dosage["timing"]["repeat"]
        assert ("period" in repeat) == ("periodUnit" in repeat)  # tim-2
        assert ("duration" in repeat) == ("durationUnit" in repeat)  # tim-1
        assert repeat.get("period", 0) >= 0  # tim-5
        assert "period" in repeat or "periodMax" not in repeat  # tim-6
        assert not {"when", "offset"} & set(repeat)  # tim-9 and tim-10: timeOfDay is there instead
        assert set(repeat) <= {
            "boundsPeriod", "frequency", "period", "periodMax", "periodUnit", "duration", "durationUnit", "dayOfWeek",
            "timeOfDay", "extension",
        }  # fmt: skip
        assert set(dosage) <= {
            "timing", "doseAndRate", "asNeededBoolean", "asNeededCodeableConcept", "maxDosePerPeriod",
            "additionalInstruction", "extension",
        }  # fmt: skip


def fixed(days: Days) -> FixedTimes:
    return FixedTimes(o_clock(time(8)), days)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (fixed(EveryNthDay(2)), {"frequency": 1, "period": 2, "periodUnit": "d"}),
        (fixed(DaysOfWeek(frozenset({1, 4}), 2)), {"frequency": 2, "period": 2, "periodUnit": "wk"}),
        (fixed(DaysOfMonth(frozenset({1, 15}), 3)), {"frequency": 2, "period": 3, "periodUnit": "mo"}),
        (fixed(NthWeekday(1, frozenset({1}))), {"period": 1, "periodUnit": "mo", "dayOfWeek": ["mon"]}),
        (fixed(OnAndOff(21, 7)), {"frequency": 21, "period": 28, "periodUnit": "d"}),
        (ElapsedTime(36 * 60), {"frequency": 1, "period": 36, "periodUnit": "h"}),
        (ElapsedTime(90), {"frequency": 1, "period": 90, "periodUnit": "min"}),
        (AsNeeded(240, max_interval_minutes=360), {"period": 240, "periodMax": 360, "periodUnit": "min"}),
        (Frequency(3, "week", 30), {"frequency": 3, "period": 1, "periodUnit": "wk", "duration": 30}),
    ],
)
def test_each_form_is_said_in_the_words_of_fhir(schedule: Schedule, said: dict[str, Any]) -> None:
    version = PlanVersion(datetime(2026, 1, 1, tzinfo=UTC), BERLIN, schedule)
    [dosage] = dosages(version)
    assert version_of([dosage]) == version
    repeat = dosage["timing"]["repeat"]
    assert {name: repeat[name] for name in said} == said


def test_one_nought_two_is_two_dosages() -> None:
    one, two = Amount(1, "{tablet}"), Amount(2, "{tablet}")
    schedule = FixedTimes((ClockTime(time(8), one, "before"), ClockTime(time(20), two)))
    morning, night = dosages(PlanVersion(datetime(2026, 1, 1, tzinfo=UTC), BERLIN, schedule))
    assert [one["timing"]["repeat"]["timeOfDay"] for one in (morning, night)] == [["08:00:00"], ["20:00:00"]]
    assert [one["doseAndRate"][0]["doseQuantity"]["value"] for one in (morning, night)] == [1, 2]
    assert morning["additionalInstruction"][0]["coding"][0]["code"] == "AC"


@given(versions())
def test_an_extension_is_fhirs_own_or_says_that_it_is_ours(version: PlanVersion) -> None:
    own = {OURS + name for name in ("last-day-of-month", "week-of-month", "on-time-window", "line")}
    fhirs = {
        "http://hl7.org/fhir/StructureDefinition/timing-daysOfCycle",
        "http://hl7.org/fhir/StructureDefinition/timing-dayOfMonth",
        "http://hl7.org/fhir/5.0/StructureDefinition/extension-Dosage.maxDosePerPeriod",
    }
    for dosage in dosages(version):
        timing = dosage["timing"]
        elements = (dosage, timing, timing["repeat"])
        assert {one["url"] for element in elements for one in element.get("extension", ())} <= own | fhirs
