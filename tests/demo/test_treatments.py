"""The demo patient's treatments: the same for everybody, what a phone could have sent, and every outcome there is."""

from collections import Counter
from datetime import date, timedelta
from functools import cache
from itertools import pairwise

import pytest

from app.demo.treatments import (
    ALENDRONATE,
    IBUPROFEN,
    MAGNESIUM,
    PHYSIOTHERAPY,
    PREGABALIN,
    VITAMIN_B12,
    dose_changed_on,
    last_word_at,
    treatment_events,
    treatments,
)
from app.demo.year import DAYS, clock, first_day, year_of_entries
from app.domain.adherence import Assessment, DoseAdherence, SessionAdherence, assess
from app.domain.due import DueSlot, slots
from app.domain.outcomes import Outcome, Word
from app.domain.prn import AsNeededUse
from app.domain.regimens import regimens_at
from app.schemas.slots import plan_of
from app.schemas.treatment_events import TreatmentEventIn, event_of
from app.schemas.treatments import TreatmentIn

LAST_DAYS = [
    date(2026, 11, 21),
    date(2026, 10, 25),  # the clocks go back
    date(2027, 3, 28),  # the clocks go forward
    date(2027, 2, 12),  # the last day whose dose changed in March
    date(2027, 2, 13),
    date(2027, 4, 13),
    date(2027, 4, 14),  # and the first
    date(2028, 2, 29),
    date(2028, 12, 31),
]
for_any_last_day = pytest.mark.parametrize("last_day", LAST_DAYS, ids=str)


@cache
def plans(last_day: date) -> dict[str, TreatmentIn]:
    return {treatment.id: treatment for treatment in treatments(last_day)}


events = cache(treatment_events)


def events_of(last_day: date, treatment_id: str) -> list[TreatmentEventIn]:
    return [event for event in events(last_day) if event.treatment_id == treatment_id]


@cache
def assessed(last_day: date, treatment_id: str) -> Assessment:
    """The year of one treatment, as it stands when the last day is over."""
    word = Word(clock(last_day + timedelta(days=1), 0), last_word_at(last_day))
    done = [event_of(event) for event in events_of(last_day, treatment_id)]
    return assess(plan_of(plans(last_day)[treatment_id]), done, first_day(last_day), last_day, word)


def doses(last_day: date) -> DoseAdherence:
    figures = assessed(last_day, PREGABALIN).doses
    assert figures is not None
    return figures


def sessions(last_day: date) -> SessionAdherence:
    figures = assessed(last_day, PHYSIOTHERAPY).sessions
    assert figures is not None
    return figures


def as_needed(last_day: date) -> AsNeededUse:
    figures = assessed(last_day, IBUPROFEN).prn
    assert figures is not None
    return figures


def test_the_treatments_and_events_are_the_same_each_time_they_are_made() -> None:
    assert treatments(LAST_DAYS[0]) == list(plans(LAST_DAYS[0]).values())
    assert treatment_events(LAST_DAYS[0]) == events(LAST_DAYS[0])


@for_any_last_day
def test_every_treatment_and_event_is_one_that_a_phone_could_have_sent(last_day: date) -> None:
    for treatment in treatments(last_day):
        assert TreatmentIn.model_validate(treatment.model_dump(mode="json")) == treatment
    for event in events(last_day):
        assert TreatmentEventIn.model_validate(event.model_dump(mode="json")) == event


@for_any_last_day
def test_no_two_records_have_the_same_id(last_day: date) -> None:
    ids = [event.id for event in events(last_day)] + [entry.id for entry in year_of_entries(last_day)]
    ids += plans(last_day)
    assert len(set(ids)) == len(ids)


@for_any_last_day
def test_everything_happens_inside_the_year_and_is_saved_before_the_last_day_is_over(last_day: date) -> None:
    for event in events(last_day):
        assert first_day(last_day) <= event.occurred_at.date() <= last_day
        assert event.recorded_at is not None
        assert event.occurred_at < event.recorded_at < clock(last_day + timedelta(days=1), 0)


@for_any_last_day
def test_the_events_come_in_the_order_they_happened(last_day: date) -> None:
    moments = [event.occurred_at for event in events(last_day)]
    assert moments == sorted(moments)


@for_any_last_day
def test_pain_after_a_dose_or_session_is_saved_when_it_was_felt(last_day: date) -> None:
    for event in events(last_day):
        if event.pain_after is not None:
            assert event.recorded_at is not None
            assert event.recorded_at - event.occurred_at > timedelta(minutes=30)


@for_any_last_day
def test_nothing_is_logged_twice(last_day: date) -> None:
    meant = Counter((event.treatment_id, event.scheduled_for) for event in events(last_day) if event.scheduled_for)
    assert set(meant.values()) == {1}
    moments = Counter((event.treatment_id, event.occurred_at) for event in events(last_day))
    assert set(moments.values()) == {1}


@for_any_last_day
def test_events_go_with_entries_of_the_same_day(last_day: date) -> None:
    entries = {entry.id: entry.occurred_at for entry in year_of_entries(last_day)}
    linked = [event for event in events(last_day) if event.entry_id]
    assert len(linked) > 20
    for event in linked:
        assert event.entry_id is not None
        assert timedelta() < event.occurred_at - entries[event.entry_id] < timedelta(hours=1)
        assert event.occurred_at.date() == entries[event.entry_id].date()


@for_any_last_day
def test_of_two_doses_a_day_every_outcome_is_there(last_day: date) -> None:
    outcomes = doses(last_day).outcomes
    assert all(outcomes.values())
    assert sum(outcomes.values()) == 2 * DAYS
    assert outcomes[Outcome.ON_TIME] > 400
    assert 0 < doses(last_day).extras < 10


@for_any_last_day
def test_most_doses_are_taken_and_most_days_are_right(last_day: date) -> None:
    assert 0.75 < (doses(last_day).taking.value or 0) < 0.95
    assert 0.5 < (doses(last_day).timing.value or 0) < (doses(last_day).taking.value or 0)
    assert 0.5 < (doses(last_day).correct_days.value or 0) < 0.95


@for_any_last_day
def test_after_the_phones_last_word_doses_are_taken_or_unknown_but_none_is_missed(last_day: date) -> None:
    late = [
        one for one in assessed(last_day, PREGABALIN).matching.judged if one.slot.closes_at > last_word_at(last_day)
    ]
    outcomes = {one.outcome for one in late}
    assert Outcome.UNKNOWN in outcomes
    assert any(one.events for one in late)
    assert Outcome.MISSED not in outcomes
    assert doses(last_day).outcomes[Outcome.UNKNOWN] == sum(one.outcome is Outcome.UNKNOWN for one in late)


@for_any_last_day
def test_the_dose_changes_at_noon_of_a_day_in_spring(last_day: date) -> None:
    changed = dose_changed_on(last_day)
    assert (changed.month, changed.day) in {(3, 15), (5, 15)}
    assert timedelta(days=30) <= last_day - changed <= timedelta(days=DAYS - 30)
    judged = [one.slot for one in assessed(last_day, PREGABALIN).matching.judged if isinstance(one.slot, DueSlot)]
    doses = {slot.dose.value for slot in judged if slot.dose}
    assert doses == {50, 75}
    for earlier, later in pairwise(judged):
        if earlier.dose != later.dose:
            assert earlier.due_at < clock(changed, 12) < later.due_at
            assert earlier.day == later.day == changed


def test_the_dose_changes_on_15_march_wherever_that_is_a_month_inside_the_year() -> None:
    for last_day in (date(2026, 1, 1) + timedelta(days=number) for number in range(3 * 365)):
        marches = [date(year, 3, 15) for year in (last_day.year - 1, last_day.year)]
        inside = [day for day in marches if 30 <= (last_day - day).days <= DAYS - 30]
        assert dose_changed_on(last_day) == (inside[0] if inside else date(last_day.year - 1, 5, 15))


@for_any_last_day
def test_a_dose_taken_in_full_is_the_dose_prescribed_then(last_day: date) -> None:
    plan = plan_of(plans(last_day)[PREGABALIN])
    for event in events_of(last_day, PREGABALIN):
        [regimen] = regimens_at(plan, event.occurred_at)
        assert regimen is not None
        assert regimen.dose is not None
        if event.amount is not None:
            assert event.amount.value == (25 if event.status == "partial" else regimen.dose.value)


@for_any_last_day
def test_the_new_dose_makes_drowsy_and_is_paused_for_a_week(last_day: date) -> None:
    changed = clock(dose_changed_on(last_day), 12)
    plan = plan_of(plans(last_day)[PREGABALIN])
    [pause] = plan.pauses
    assert pause.to is not None
    due = [slot for slot in slots(plan, first_day(last_day), last_day) if pause.from_ <= slot.due_at < pause.to]
    assert doses(last_day).outcomes[Outcome.HELD] == len(due) == 13
    said = [event for event in events_of(last_day, PREGABALIN) if event.status == "held"]
    assert 0 < len(said) < len(due)
    assert all(pause.from_ <= event.occurred_at < pause.to for event in said)
    drowsy = [event.occurred_at for event in events_of(last_day, PREGABALIN) if event.side_effects]
    assert sum(changed < at < pause.from_ for at in drowsy) >= 3


@for_any_last_day
def test_doses_are_skipped_for_many_reasons(last_day: date) -> None:
    reasons = {event.reason for event in events_of(last_day, PREGABALIN) if event.status == "skipped"}
    assert len(reasons) > 3
    assert None not in reasons


@for_any_last_day
def test_the_painkiller_is_used_when_needed_and_twice_beyond_its_limits(last_day: date) -> None:
    used = as_needed(last_day)
    assert 75 < used.doses < 110
    assert used.use_days < used.doses
    assert 1 <= len(used.interval_breaches) <= 3
    assert 1 <= len(used.maximum_breaches or ()) <= 3
    assert [amount.value for amount in used.most_amount_24h] == [1600]


@for_any_last_day
def test_the_painkiller_helps_some(last_day: date) -> None:
    used = as_needed(last_day)
    assert 50 < used.change_after.n < used.pain_before.n < used.doses
    assert 6 <= (used.pain_before.value or 0) <= 8
    assert -4 < (used.change_after.value or 0) < 0
    given = events_of(last_day, IBUPROFEN)
    assert {event.relief_rating for event in given} >= {None, "none", "some", "good"}
    assert any(event.side_effects for event in given)


@for_any_last_day
def test_the_painkiller_is_used_most_in_the_flare(last_day: date) -> None:
    days = [(event.occurred_at.date() - first_day(last_day)).days for event in events_of(last_day, IBUPROFEN)]
    flare = sum(160 <= day < 220 for day in days)
    assert flare > 2 * sum(60 <= day < 120 for day in days)
    assert flare > 2 * sum(280 <= day < 340 for day in days)


def test_most_migraines_are_treated() -> None:
    entries = list(year_of_entries(LAST_DAYS[0]))
    migraines = {
        entry.occurred_at.date() for entry in entries if any(site.region[:4] == "head" for site in entry.sites)
    }
    treated = {event.occurred_at.date() for event in events_of(LAST_DAYS[0], IBUPROFEN)}
    assert 2 * len(migraines & treated) > len(migraines)


@for_any_last_day
def test_most_sessions_are_attended_and_some_are_cancelled_by_either_side(last_day: date) -> None:
    assert 0.6 < (sessions(last_day).attended.value or 0) < 0.95
    assert 100 <= sum(sessions(last_day).outcomes.values()) <= 104
    statuses = {event.status for event in events_of(last_day, PHYSIOTHERAPY)}
    assert statuses == {"attended", "partial", "not_attended", "cancelled_by_patient", "cancelled_by_provider"}
    assert sessions(last_day).outcomes[Outcome.MISSED] > 0
    assert sessions(last_day).extras == 0


@for_any_last_day
def test_a_few_events_have_a_note(last_day: date) -> None:
    notes = {event.note for event in events(last_day) if event.note}
    assert 2 <= len(notes) < 10


@for_any_last_day
def test_what_is_rare_or_has_doses_of_its_own_is_taken_as_it_was_agreed(last_day: date) -> None:
    expected = {ALENDRONATE: (52, 53), VITAMIN_B12: (3, 5), MAGNESIUM: (56, 56)}
    for treatment_id, (least, most) in expected.items():
        found = assessed(last_day, treatment_id)
        assert least <= len(found.matching.judged) <= most
        assert not found.matching.extras
        assert {one.outcome for one in found.matching.judged} <= {Outcome.ON_TIME, Outcome.MISSED, Outcome.UNKNOWN}
    amounts = {one.amount.value for one in events_of(last_day, MAGNESIUM) if one.amount}
    assert amounts == {1, 2}
