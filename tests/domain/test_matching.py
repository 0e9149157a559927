"""Doses and slots: what a dose is for, how amounts add up, and that no event vanishes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, time, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.adherence import DoseAdherence, assess
from app.domain.amounts import converted, ratio
from app.domain.days import DaysOfWeek
from app.domain.due import DueSlot
from app.domain.matching import as_needed
from app.domain.moments import local_date
from app.domain.moments import parse_instant as at
from app.domain.outcomes import DONE, DOSES, Event, Outcome, Uncounted, Word
from app.domain.regimens import Amount, AsNeeded, ClockTime, Content, ElapsedTime, FixedTimes, Frequency, Treatment
from tests.domain.plans import o_clock
from tests.domain.test_adherence import (
    END,
    MORNING,
    MORNING_AND_NIGHT,
    START,
    TOLD,
    UNTOLD,
    counts,
    doses,
    events,
    medicine,
    share,
    since,
    treatments,
    words,
)

TABLET, MG = "{tablet}", "mg"
MONDAY, TUESDAY, SUNDAY = date(2026, 6, 1), date(2026, 6, 2), date(2026, 6, 14)
WEEKLY = FixedTimes(o_clock(time(8)), days=DaysOfWeek(frozenset({1})))


def daily(dose: Amount | None = None, content: Content | None = None, schedule: FixedTimes = MORNING) -> Treatment:
    """A medicine from Monday 1 June 2026 on."""
    plan = replace(since("2026-06-01T00:00:00+02:00", schedule), dose=dose)
    return replace(medicine(plan), content=content)


def dose(moment: str, value: float | None = None, unit: str = TABLET, status: str = "taken", name: str = "") -> Event:
    amount = None if value is None else Amount(value, unit)
    return Event(at(f"2026-06-{moment}+02:00"), status, at(f"2026-06-{name}+02:00") if name else None, amount)


def judged(treatment: Treatment, some: Sequence[Event], first: date = MONDAY, last: date = MONDAY) -> DoseAdherence:
    return doses(assess(treatment, some, first, last, TOLD))


def found(figures: DoseAdherence) -> tuple[dict[str, int], int, tuple[int, int]]:
    """The outcomes, the extras, and the correct days."""
    return counts(figures), figures.extras, share(figures.correct_days)


# Doses and slots.


def test_a_dose_in_the_evening_instead_of_the_morning() -> None:
    figures = judged(daily(), [dose("01T20:30:00"), dose("02T08:00:00")], MONDAY, TUESDAY)
    assert found(figures) == ({"on_time": 1, "late": 1}, 0, (2, 2))
    assert share(figures.timing) == (1, 2)


def untimed(moment: str, **members: Any) -> Event:
    """A dose of which only the day is known."""
    return replace(dose(moment, **members), timed=False)


@pytest.mark.parametrize("time_of_it", ["00:00:00", "08:00:00", "23:59:59"])
def test_a_dose_of_which_only_the_day_is_known_is_taken_and_of_its_timing_nobody_knows(time_of_it: str) -> None:
    figures = judged(daily(), [untimed(f"01T{time_of_it}"), dose("02T08:00:00")], MONDAY, TUESDAY)
    assert found(figures) == ({"on_time": 1, "untimed": 1}, 0, (2, 2))
    assert share(figures.taking) == (2, 2)
    assert (figures.timing.value, figures.timing.lower, figures.timing.upper) == (1, 0.5, 1)


def test_a_dose_of_which_only_the_day_is_known_leaves_the_slots_of_others_alone() -> None:
    twice = daily(schedule=MORNING_AND_NIGHT)
    morning = dose("01T08:00:00")
    assert counts(judged(twice, [untimed("01T08:00:00"), morning])) == {"on_time": 1, "untimed": 1}
    both = [untimed("01T00:00:00"), untimed("01T00:00:00"), untimed("01T00:00:00")]
    full = judged(twice, both)
    assert (counts(full), full.extras) == ({"untimed": 2}, 1)
    assert counts(judged(daily(), [untimed("02T00:00:00")], MONDAY, TUESDAY)) == {"missed": 1, "untimed": 1}
    named = judged(daily(), [untimed("02T00:00:00", name="01T08:00:00")], MONDAY, TUESDAY)
    assert counts(named) == {"untimed": 1, "missed": 1}


def test_a_word_of_which_only_the_day_is_known_is_said_of_the_slot_of_that_day() -> None:
    skipped = replace(dose("02T00:00:00", status="skipped"), timed=False)
    assert counts(judged(daily(), [skipped], MONDAY, TUESDAY)) == {"missed": 1, "skipped": 1}


def test_the_slot_that_a_dose_names_is_taken() -> None:
    both = [dose("02T08:05:00", name=f"{day}T08:00:00") for day in ("01", "02")]
    figures = judged(daily(), both, MONDAY, TUESDAY)
    assert (counts(figures), figures.extras) == ({"late": 1, "on_time": 1}, 0)


def test_a_weekly_dose_taken_daily() -> None:
    ended = medicine(since("2026-06-01T00:00:00+02:00", WEEKLY, to="2026-06-15T00:00:00+02:00"))
    fourteen = [dose(f"{day:02}T08:00:00") for day in range(1, 15)]
    figures = judged(ended, fourteen, MONDAY, SUNDAY)
    assert found(figures) == ({"on_time": 2}, 12, (2, 14))
    assert (figures.taking.value, figures.taking.extras) == (1, 12)
    going_on = judged(daily(schedule=WEEKLY), fourteen, MONDAY, SUNDAY)
    assert found(going_on) == ({"on_time": 2}, 11, (2, 14))  # one of the last days is early for the next Monday


def test_a_weekly_medicine_that_is_taken_weekly_is_exact_on_every_day_that_is_known() -> None:
    weekly, both = daily(schedule=WEEKLY), [dose("01T08:00:00"), dose("08T08:00:00")]
    assert found(judged(weekly, both, MONDAY, SUNDAY)) == ({"on_time": 2}, 0, (14, 14))
    silent = doses(assess(weekly, both, MONDAY, SUNDAY, UNTOLD))
    assert share(silent.correct_days) == (2, 2)
    assert silent.correct_days.lower == pytest.approx(2 / 14)


def test_a_dose_after_midnight_makes_no_day_wrong_and_one_a_day_late_makes_one() -> None:
    night = daily(schedule=FixedTimes(o_clock(time(22)), days=DaysOfWeek(frozenset({1}))))
    assert found(judged(night, [dose("02T00:30:00")], MONDAY, date(2026, 6, 7))) == ({"late": 1}, 0, (7, 7))
    assert found(judged(night, [dose("02T22:00:00")], MONDAY, date(2026, 6, 7))) == ({"late": 1}, 0, (6, 7))
    assert share(judged(night, [dose("02T00:30:00")], TUESDAY, date(2026, 6, 7)).correct_days) == (6, 6)


def test_a_session_after_midnight_may_name_the_day_of_its_target() -> None:
    thrice = replace(medicine(since("2026-06-01T00:00:00+02:00", Frequency(3, "day"))), category="lifestyle")
    first = [dose("01T09:00:00", status="attended"), dose("01T18:00:00", status="attended")]
    third = dose("02T00:20:00", status="attended", name="01T12:00:00")

    def outcomes(*some: Event) -> tuple[dict[str, int], int]:
        sessions = assess(thrice, some, MONDAY, MONDAY, TOLD).sessions
        assert sessions
        return counts(sessions), sessions.extras

    assert outcomes(*first, third) == ({"on_time": 2, "late": 1}, 0)
    assert outcomes(*first, replace(third, scheduled_for=None)) == ({"on_time": 2, "missed": 1}, 0)
    assert outcomes(*first, replace(third, scheduled_for=at("2026-05-31T22:00:00Z"))) == ({"on_time": 2, "late": 1}, 0)


# Amounts.

HALF_GRAM = Content(Amount(500, MG), "tablet")


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ([0.5, 0.5], ({"on_time": 1}, 0, (1, 1))),
        ([2], ({"on_time": 1}, 1, (0, 1))),
        ([0.25], ({"partial": 1}, 0, (0, 1))),
        ([1], ({"on_time": 1}, 0, (1, 1))),
        ([3], ({"on_time": 1}, 2, (0, 1))),
        ([1.5], ({"on_time": 1}, 1, (0, 1))),
        ([0.25, 0.25, 0.25], ({"partial": 1}, 0, (0, 1))),
        ([0.33, 0.33, 0.33], ({"on_time": 1}, 0, (1, 1))),
        ([0.5, 1], ({"on_time": 1}, 1, (0, 1))),
        ([None, 0.5], ({"on_time": 1}, 1, (0, 1))),
        ([0.001], ({"partial": 1}, 0, (0, 1))),
    ],
)
def test_a_slot_holds_an_amount(amounts: list[float | None], expected: object) -> None:
    some = [dose(f"01T08:{minute:02}:00", value) for minute, value in enumerate(amounts)]
    assert found(judged(daily(Amount(1, TABLET)), some)) == expected
    in_mg = [dose(f"01T08:{minute:02}:00", value and value * 500, MG) for minute, value in enumerate(amounts)]
    assert found(judged(daily(Amount(1, TABLET), HALF_GRAM), in_mg)) == expected
    plan = daily(Amount(0.5, "g"), HALF_GRAM)
    assert found(judged(plan, some)) == expected


def test_halves_and_doubles() -> None:
    some = [
        dose("01T08:00:00", 0.5),
        dose("01T08:20:00", 250, MG),
        dose("02T08:00:00", 2),
        dose("03T08:00:00", 0.25),
        dose("04T08:00:00", 20, "mL"),
    ]
    assessment = assess(daily(Amount(1, TABLET), HALF_GRAM), some, MONDAY, date(2026, 6, 4), TOLD)
    figures = doses(assessment)
    assert found(figures) == ({"on_time": 2, "partial": 1, "unknown": 1}, 1, (1, 3))
    assert (share(figures.taking), figures.taking.lower, figures.taking.upper) == ((2, 3), 0.5, 0.75)
    assert assessment.matching.left_out.not_comparable == (some[4],)


def test_one_in_the_morning_and_two_at_night() -> None:
    schedule = FixedTimes((ClockTime(time(8), Amount(1, TABLET)), ClockTime(time(20), Amount(2, TABLET))))
    some = [dose("01T08:00:00", 1), dose("01T20:00:00", 2), dose("02T08:00:00", 1), dose("02T20:00:00", 1)]
    figures = judged(daily(schedule=schedule), some, last=TUESDAY)
    assert found(figures) == ({"on_time": 3, "partial": 1}, 0, (1, 2))
    assert share(figures.taking) == (3, 4)


def test_weekdays_and_weekends_side_by_side() -> None:
    weekdays = FixedTimes(o_clock(time(18)), DaysOfWeek(frozenset({1, 2, 3, 4, 5})))
    weekend = FixedTimes(o_clock(time(18)), DaysOfWeek(frozenset({6, 7})))
    plan = replace(since("2026-06-01T00:00:00+02:00", weekdays), dose=Amount(1, TABLET))
    beside = replace(plan, schedule=weekend, dose=Amount(2, TABLET), line="weekend")
    some = [dose("05T18:00:00", 1), dose("06T18:00:00", 2), dose("07T18:00:00", 1)]
    figures = judged(medicine(plan, beside), some, date(2026, 6, 5), date(2026, 6, 7))
    assert found(figures) == ({"on_time": 2, "partial": 1}, 0, (2, 3))
    assert share(figures.taking) == (2, 3)


def test_every_36_hours_over_the_clock_change() -> None:
    treatment = medicine(since("2026-03-27T08:00:00+01:00", ElapsedTime(36 * 60)))
    some = [
        Event(at(moment), "taken")
        for moment in ("2026-03-27T08:00:00+01:00", "2026-03-28T20:00:00+01:00", "2026-03-30T07:30:00+02:00")
    ]
    figures = judged(treatment, some, date(2026, 3, 27), date(2026, 3, 30))
    assert found(figures) == ({"on_time": 2, "early": 1}, 0, (4, 4))
    assert (share(figures.taking), share(figures.timing)) == ((3, 3), (2, 3))


def test_beside_a_target_a_dose_in_a_window_is_for_the_slot() -> None:
    start = "2026-06-01T00:00:00+02:00"
    treatment = medicine(since(start, MORNING), replace(since(start, Frequency(1, "day")), line="beside"))
    some = [dose("01T08:00:00"), dose("01T12:00:00")]
    assert found(judged(treatment, some)) == ({"on_time": 2}, 0, (1, 1))


def test_the_second_half_may_come_later_and_makes_the_dose_late() -> None:
    halves = [dose("01T08:00:00", 1), dose("01T11:00:00", 1)]
    assert found(judged(daily(Amount(2, TABLET)), halves)) == ({"late": 1}, 0, (1, 1))
    assert found(judged(daily(Amount(2, TABLET)), halves[:1])) == ({"partial": 1}, 0, (0, 1))


def test_a_dose_said_to_be_partial_counts_by_its_amount_where_it_has_one() -> None:
    halves = [dose(f"01T08:0{n}:00", 0.5, status="partial") for n in (1, 2)]
    assert found(judged(daily(Amount(1, TABLET)), halves)) == ({"on_time": 1}, 0, (1, 1))
    unknown = [dose(f"01T08:0{n}:00", status="partial") for n in (1, 2)]
    assert found(judged(daily(Amount(1, TABLET)), unknown)) == ({"partial": 1}, 0, (0, 1))


@pytest.mark.parametrize("content", [None, Content(Amount(5, "mg/mL"), None), Content(Amount(20, "%"), "gel")])
def test_an_amount_that_cannot_be_compared_is_neither_taken_nor_missed(content: Content | None) -> None:
    assessment = assess(daily(Amount(1, TABLET), content), [dose("01T08:00:00", 500, MG)], MONDAY, MONDAY, TOLD)
    assert counts(doses(assessment)) == {"unknown": 1}
    assert (share(doses(assessment).taking), doses(assessment).taking.upper) == ((0, 0), 1)
    assert len(assessment.matching.left_out.not_comparable) == 1


def test_without_a_prescribed_dose_every_event_is_one() -> None:
    assert found(judged(daily(), [dose("01T08:00:00", 0.5), dose("01T08:05:00", 0.5)])) == ({"on_time": 1}, 1, (0, 1))


def test_a_target_is_filled_by_amounts() -> None:
    twice = medicine(replace(since("2026-06-01T00:00:00+02:00", Frequency(2, "day")), dose=Amount(1, TABLET)))
    assert found(judged(twice, [dose("01T08:00:00", 2)])) == ({"on_time": 2}, 0, (1, 1))
    assert found(judged(twice, [dose("01T08:00:00", 1.5)])) == ({"on_time": 1, "partial": 1}, 0, (0, 1))
    assert found(judged(twice, [dose("01T08:00:00", 5)])) == ({"on_time": 2}, 3, (0, 1))
    four_halves = [dose(f"01T{hour:02}:00:00", 0.5) for hour in (8, 11, 15, 20)]
    assert found(judged(twice, four_halves)) == ({"on_time": 2}, 0, (1, 1))


@pytest.mark.parametrize(
    ("amount", "dose", "content", "expected"),
    [
        (Amount(1, "g"), Amount(500, MG), None, 2),
        (Amount(75, "ug"), Amount(0.075, MG), None, 1),
        (Amount(2, TABLET), Amount(1, "g"), HALF_GRAM, 1),
        (Amount(2, "{capsule}"), Amount(1, "g"), HALF_GRAM, None),  # it is a tablet
        (Amount(2, "{capsule}"), Amount(1, "g"), Content(Amount(500, MG)), 1),
        (Amount(10, "mL"), Amount(50, MG), Content(Amount(5, "mg/mL"), "oral_liquid"), 1),
        (Amount(10, "mL"), Amount(50, MG), Content(Amount(500, MG), "oral_liquid"), None),
        (Amount(1, "{patch}"), Amount(5, "ug/h"), Content(Amount(5, "ug/h"), "patch"), 1),
        (Amount(1.2, "mg/(24.h)"), Amount(50, "ug/h"), None, 1),
        (Amount(1, "{patch}"), Amount(5, MG), Content(Amount(5, "ug/h"), "patch"), None),
        (Amount(100, "[IU]"), Amount(1, "mL"), Content(Amount(100, "[IU]/mL"), "injection"), 1),
        (Amount(20, "{drop}"), Amount(20, "{drop}"), None, 1),
        (Amount(20, "{drop}"), Amount(20, MG), Content(Amount(20, "mg/mL"), "drops"), None),
        (Amount(1, "meq"), Amount(1, "mmol"), None, None),
    ],
)
def test_amounts_are_compared_where_they_can_be(
    amount: Amount, dose: Amount, content: Content | None, expected: int | None
) -> None:
    assert ratio(amount, dose, content) == expected


# As needed.


def paracetamol(amount: Amount, content: Content | None = None, to: str | None = None) -> Treatment:
    limits = AsNeeded(max_amount_24h=Amount(3000, MG))
    plan = replace(since("2026-06-01T00:00:00+02:00", limits, to=to), dose=amount)
    return Treatment("otc_medication", (plan,), content=content)


@pytest.mark.parametrize(
    ("plan", "amount"),
    [
        (paracetamol(Amount(1000, MG)), Amount(1, "g")),
        (paracetamol(Amount(1, "g")), None),
        (paracetamol(Amount(2, TABLET), HALF_GRAM), Amount(2, TABLET)),
        (paracetamol(Amount(2, TABLET), HALF_GRAM), Amount(1_000_000, "ug")),
    ],
)
def test_four_grams_in_a_day_are_more_than_three_whatever_the_unit(plan: Treatment, amount: Amount | None) -> None:
    four = [replace(dose(f"01T{hour:02}:00:00"), amount=amount) for hour in (8, 12, 16, 20)]
    used = assess(plan, four, MONDAY, MONDAY, TOLD).prn
    assert used
    assert used.maximum_breaches == (four[3].occurred_at,)
    assert (used.most_amount_24h, used.not_comparable) == ((Amount(4000, MG),), ())


@pytest.mark.parametrize("content", [None, Content(Amount(500, MG), "capsule"), Content(Amount(120, "mg/mL"))])
def test_where_nothing_converts_nobody_says_that_there_was_no_breach(content: Content | None) -> None:
    four = [dose(f"01T{hour:02}:00:00", 2) for hour in (8, 12, 16, 20)]
    used = assess(paracetamol(Amount(2, TABLET), content), four, MONDAY, MONDAY, TOLD).prn
    assert used
    assert (used.maximum_breaches, len(used.not_comparable)) == (None, 4)
    mixed = [*four, *[dose(f"01T{hour:02}:30:00", 1, "g") for hour in (8, 12, 16, 20)]]
    used = assess(paracetamol(Amount(2, TABLET), content), mixed, MONDAY, MONDAY, TOLD).prn
    assert used
    assert (used.maximum_breaches, len(used.not_comparable)) == ((mixed[7].occurred_at,), 7)


def test_a_dose_as_needed_stays_one_whatever_it_names_and_whenever_it_was() -> None:
    plan = paracetamol(Amount(1, "g"), to="2026-06-10T00:00:00+02:00")
    some = [dose("02T08:00:00", name="02T08:00:00"), dose("12T08:00:00"), dose("01T08:00:00")]
    back_dated = Event(at("2026-05-20T08:00:00+02:00"), "taken")
    skipped = dose("03T08:00:00", status="skipped")
    assessment = assess(plan, [*some, back_dated, skipped], date(2026, 5, 1), date(2026, 6, 30), TOLD)
    assert assessment.prn
    assert (assessment.prn.doses, assessment.prn.outside_plan) == (4, 2)
    assert assessment.matching.left_out == Uncounted(no_plan=(skipped,))


def test_a_dose_that_names_a_slot_of_the_plan_before_is_by_plan() -> None:
    plan = medicine(
        since("2026-06-01T00:00:00+02:00", MORNING), since("2026-06-01T12:00:00+02:00", AsNeeded(max_doses_24h=4))
    )
    assessment = assess(plan, [dose("01T13:00:00", name="01T08:00:00"), dose("01T14:00:00")], MONDAY, MONDAY, TOLD)
    assert assessment.prn
    assert (counts(doses(assessment)), assessment.prn.doses, assessment.prn.outside_plan) == ({"late": 1}, 1, 0)


# Nothing vanishes.


def test_what_is_in_no_figure_says_why() -> None:
    word = Word(*[at("2026-06-02T07:30:00+02:00")] * 2)
    some = [
        dose("01T08:00:00"),
        dose("01T08:10:00", status="skipped"),  # it was taken after all
        dose("02T07:15:00"),  # the window is open
        dose("01T00:30:00"),  # of the night before
    ]
    plan = medicine(since("2026-01-01T00:00:00+01:00", MORNING_AND_NIGHT))
    left_out = assess(plan, some, MONDAY, TUESDAY, word).matching.left_out
    assert left_out == Uncounted(no_plan=(some[1],), not_yet_due=(some[2],), other_days=(some[3],))


amounts = st.none() | st.builds(Amount, st.sampled_from([1, 2, 250, 500, 1000]), st.sampled_from([MG, TABLET]))


@st.composite
def plans_with_doses(draw: st.DrawFn) -> Treatment:
    treatment = draw(treatments())
    dosed = tuple(replace(regimen, dose=draw(amounts)) for regimen in treatment.regimens)
    return replace(treatment, regimens=dosed, content=draw(st.sampled_from([None, HALF_GRAM])))


measured = events.flatmap(
    lambda some: st.tuples(
        *[st.builds(replace, st.just(one), amount=amounts, timed=st.integers(0, 4).map(bool)) for one in some]
    ).map(list)
)


@given(plans_with_doses(), measured, words)
def test_every_event_of_the_days_is_in_a_figure_or_left_out(
    treatment: Treatment, some: list[Event], word: Word
) -> None:
    matching = assess(treatment, some, START, END, word).matching
    left_out = Counter(event.id for reason in vars(matching.left_out).values() for event in reason)
    closed = [one for one in matching.judged if one.outcome is not Outcome.NOT_DUE]
    told = {event.id for one in closed if one.outcome is not Outcome.UNKNOWN for event in one.events}
    counted = told | {extra.event.id for extra in matching.extras}
    for event in some:
        if START <= local_date(event.occurred_at) <= END:
            used = as_needed(treatment, event) and event.status in DOSES
            assert bool(event.id in counted) + left_out[event.id] + used >= 1
            assert left_out[event.id] <= 1


@given(plans_with_doses(), measured, words)
def test_other_units_change_nothing(treatment: Treatment, some: list[Event], word: Word) -> None:
    def in_grams(amount: Amount | None) -> Amount | None:
        return Amount(amount.value / 1000, "g") if amount and amount.unit == MG else amount

    other = replace(
        treatment,
        regimens=tuple(replace(one, dose=in_grams(one.dose)) for one in treatment.regimens),
        content=treatment.content and replace(treatment.content, strength=Amount(0.5, "g")),
    )
    converted_events = [replace(event, amount=in_grams(event.amount)) for event in some]
    before, after = (assess(*one, START, END, word) for one in ((treatment, some), (other, converted_events)))
    assert (before.doses, before.prn, before.exact_days) == (after.doses, after.prn, after.exact_days)


@given(plans_with_doses(), measured, words, st.randoms())
def test_amounts_in_any_order_make_the_same(
    treatment: Treatment, some: list[Event], word: Word, random: object
) -> None:
    turned = [*reversed(some)]
    assert assess(treatment, turned, START, END, word) == assess(treatment, some, START, END, word)


def rank(outcome: Outcome) -> int:
    """How much a slot is worth to the one who asks: early and late alike."""
    return 0 if outcome is Outcome.ON_TIME else 1 if outcome in DONE else 2 if outcome is Outcome.PARTIAL else 3


@given(plans_with_doses(), measured, words, st.data())
def test_a_dose_in_the_window_of_a_slot_makes_no_slot_worse(
    treatment: Treatment, some: list[Event], word: Word, data: st.DataObject
) -> None:
    before = assess(treatment, some, START, END, word).matching.judged
    timed = [one.slot for one in before if isinstance(one.slot, DueSlot)]
    if not timed:
        return
    slot = data.draw(st.sampled_from(timed))
    seconds = data.draw(st.integers(0, int((slot.closes_at - slot.opens_at).total_seconds())))
    more = Event(slot.opens_at + timedelta(seconds=seconds), "taken", id="more")
    after = assess(treatment, [*some, more], START, END, word).matching.judged
    for was, now in zip(before, after, strict=True):
        assert rank(now.outcome) <= rank(was.outcome)


@given(st.floats(0.001, 1e6), st.sampled_from(["g", "mg", "ug"]))
def test_a_conversion_is_exact(value: float, unit: str) -> None:
    size = {"g": Fraction(1000), "mg": Fraction(1), "ug": Fraction(1, 1000)}[unit]
    assert converted(Amount(value, unit), None) == ("mg", Fraction(str(value)) * size)
