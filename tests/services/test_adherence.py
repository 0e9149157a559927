"""Slots and figures from stored records to the answer: the worked examples of docs/adherence.md, and the rules."""

import json
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.domain.due import most_due, periods, slots
from app.domain.moments import parse_instant as at
from app.domain.moments import render_instant
from app.domain.outcomes import Word
from app.domain.prn import Reading
from app.errors import Fault, Invalid
from app.schemas.adherence import EXAMPLE_ADHERENCE, MOST, AdherenceOut, LeftOut
from app.schemas.envelope import example_stored
from app.schemas.slots import EXAMPLE_PERIODS, EXAMPLE_SLOTS, LONGEST_DAYS, plan_of
from app.schemas.treatment_events import EventStatus, TreatmentEventOut
from app.schemas.treatment_examples import EXAMPLE_SESSIONS, EXAMPLE_TREATMENT, MINIMAL_TREATMENT
from app.schemas.treatments import TreatmentOut
from app.services.adherence import assessed
from app.services.slots import expanded
from tests.domain.test_adherence import process_in

Record = dict[str, Any]
TREATMENTS, EVENTS = TypeAdapter(list[TreatmentOut]), TypeAdapter(list[TreatmentEventOut])
NUMBERS = count(1)
TOLD = Word(*[at("2027-01-01T00:00:00Z")] * 2)
NOTHING_LEFT_OUT = dict.fromkeys(LeftOut.model_fields, 0)
DAILY = {"type": "scheduled", "times": ["08:00"]}
TWICE = {"type": "scheduled", "times": ["08:00", "20:00"]}
HOURLY = {"type": "scheduled", "times": [f"{hour:02}:00" for hour in range(24)]}
PRN = {
    "type": "prn",
    "min_interval_minutes": 360,
    "max_doses_24h": 3,
    "max_amount_24h": {"value": 1200, "unit": "mg"},
}


def record_id(number: int) -> str:
    return f"0195d3f4-0000-7000-8000-{number:012}"


def since(moment: str, schedule: Record, zone: str = "Europe/Berlin", **members: Any) -> Record:
    return {"valid_from": moment, "time_zone": zone, "schedule": schedule, **members}


def treatment(*plan: Record, **members: Any) -> Record:
    """A stored treatment: a medicine, unless the members say otherwise."""
    sent = {"id": record_id(next(NUMBERS)), "category": "prescription_medication", "regimens": [*plan], **members}
    return example_stored("treatment", MINIMAL_TREATMENT | sent)


def event(of: Record, moment: str, status: str = "taken", **members: Any) -> Record:
    """A stored event of this treatment."""
    sent = {"id": record_id(next(NUMBERS)), "time_zone": "Europe/Berlin", "treatment_id": of["id"], "status": status}
    return example_stored("treatment_event", sent | {"occurred_at": moment} | members)


def days(first: str, last: str) -> Iterable[date]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return (start + timedelta(days=number) for number in range((end - start).days + 1))


def taken(of: Record, first: str, last: str, *hours: str) -> list[Record]:
    """A dose at each of these hours of each day, in Berlin's summer."""
    return [event(of, f"{day}T{hour}:00+02:00") for day in days(first, last) for hour in hours]


def answered(
    treatments: Sequence[Record],
    events: Sequence[Record],
    first: str,
    last: str,
    word: Word = TOLD,
    readings: Sequence[Reading] = (),
) -> Record:
    """What is answered, as JSON."""
    return assessment(treatments, events, first, last, word, readings).model_dump(mode="json", by_alias=True)


def assessment(
    treatments: Sequence[Record],
    events: Sequence[Record],
    first: str,
    last: str,
    word: Word = TOLD,
    readings: Sequence[Reading] = (),
) -> AdherenceOut:
    return assessed(
        TREATMENTS.validate_json(json.dumps(treatments)),
        EVENTS.validate_json(json.dumps(events)),
        readings,
        date.fromisoformat(first),
        date.fromisoformat(last),
        word,
    )


def slots_of(of: Record, first: str, last: str) -> Record:
    out = TreatmentOut.model_validate_json(json.dumps(of))
    return expanded(out, date.fromisoformat(first), date.fromisoformat(last)).model_dump(mode="json", by_alias=True)


def bounds(figure: Record) -> list[float | None]:
    return [figure[name] for name in ("value", "lower", "upper", "known_fraction")]


def share(figure: Record) -> tuple[int, int]:
    return figure["numerator"], figure["denominator"]


def outcomes(figures: Record) -> Record:
    return {outcome: number for outcome, number in figures["outcomes"].items() if number}


def listed(answer: Record) -> list[str]:
    return [one["treatment_id"] for one in answer["treatments"]]


# The worked examples.


def dose_changed_at_noon(**members: Any) -> tuple[Record, list[Record]]:
    """From Monday 6 to Sunday 12 July 2026."""
    medicine = treatment(
        since("2026-07-06T00:00:00+02:00", TWICE, dose={"value": 300, "unit": "mg"}),
        since(
            "2026-07-08T12:00:00+02:00",
            TWICE,
            dose={"value": 600, "unit": "mg"},
            valid_to="2026-07-13T00:00:00+02:00",
        ),
        **members,
    )
    doses = taken(medicine, "2026-07-06", "2026-07-12", "08:00", "20:00")
    doses = [dose for dose in doses if dose["occurred_at"] != "2026-07-10T20:00:00+02:00"]
    return medicine, [*doses[:-1], event(medicine, "2026-07-12T20:00:00+02:00", "partial")]


def phone_that_was_off(**members: Any) -> tuple[Record, list[Record]]:
    """From Monday 13 to Sunday 19 July 2026, in the place of the first week of June: its phone speaks for all."""
    medicine = treatment(since("2026-07-13T00:00:00+02:00", DAILY), **members)
    return medicine, taken(medicine, "2026-07-13", "2026-07-16", "08:00")


OFF = Word(at("2026-07-20T10:00:00Z"), at("2026-07-16T20:00:00Z"))


def month_of_physiotherapy(**members: Any) -> tuple[Record, list[Record]]:
    target = {"type": "target", "count": 2, "per": "week", "minutes": 30}
    plan = since("2026-06-01T00:00:00+02:00", target, valid_to="2026-06-29T00:00:00+02:00")
    therapy = treatment(plan, **{"category": "physical_therapy", **members})
    attended = [event(therapy, f"2026-06-{day:02}T10:00:00+02:00", "attended") for day in (2, 4, 9, 16, 23, 25)]
    cancelled = event(therapy, "2026-06-11T10:00:00+02:00", "cancelled_by_provider")
    return therapy, [*attended, cancelled, event(therapy, "2026-06-18T10:00:00+02:00", "not_attended")]


def prn_day(**members: Any) -> tuple[Record, list[Record], list[Reading]]:
    medicine = treatment(
        since("2026-06-14T00:00:00+02:00", PRN, dose={"value": 400, "unit": "mg"}),
        **{"category": "otc_medication", **members},
    )
    doses = [
        event(medicine, "2026-06-14T06:00:00+02:00", pain_before=7, pain_after=4),
        event(medicine, "2026-06-14T10:00:00+02:00", pain_before=6),
        event(medicine, "2026-06-14T16:00:00+02:00", pain_before=8),
        event(medicine, "2026-06-14T22:00:00+02:00", pain_before=7),
        event(medicine, "2026-06-15T06:00:00+02:00", pain_before=5, pain_after=5),
    ]
    scores = {"14T11:00": 5, "14T16:20": 7, "14T18:00": 4, "15T01:30": 3}
    return medicine, doses, [Reading(at(f"2026-06-{moment}:00+02:00"), value) for moment, value in scores.items()]


def test_several_treatments_together() -> None:
    gabapentin, some = dose_changed_at_noon()
    amitriptyline, more = phone_that_was_off()
    physiotherapy, sessions = month_of_physiotherapy()
    answer = answered(
        [gabapentin, amitriptyline, physiotherapy], [*some, *more, *sessions], "2026-06-01", "2026-07-19", OFF
    )
    therapy, changed, off = answer["treatments"]
    assert outcomes(changed["doses"]) == {"on_time": 12, "partial": 1, "missed": 1}
    assert bounds(changed["doses"]["taking"]) == pytest.approx([0.8571, 0.8571, 0.8571, 1], abs=5e-5)
    assert changed["doses"]["correct_days"]["value"] == pytest.approx(0.7143, abs=5e-5)
    assert outcomes(off["doses"]) == {"on_time": 4, "unknown": 3}
    assert bounds(off["doses"]["taking"]) == pytest.approx([1, 0.5714, 1, 0.5714], abs=5e-5)
    assert outcomes(therapy["sessions"]) == {"on_time": 6, "skipped": 1, "held": 1}
    assert therapy["sessions"]["attended"]["value"] == pytest.approx(0.8571, abs=5e-5)
    assert (therapy["doses"], changed["sessions"], changed["prn"]) == (None, None, None)
    together = answer["overall"]["doses"]["taking"]
    assert share(together) == (16, 18)
    assert bounds(together) == pytest.approx([0.8889, 0.7619, 0.9048, 0.8571], abs=5e-5)
    assert answer["overall"]["sessions"] == therapy["sessions"]
    assert answer["left_out"] == NOTHING_LEFT_OUT


def test_a_prn_day_that_breaches_both_limits() -> None:
    medicine, doses, readings = prn_day()
    answer = answered([medicine], doses, "2026-06-14", "2026-06-15", TOLD, readings)
    [one] = answer["treatments"]
    assert (one["doses"], one["sessions"]) == (None, None)
    assert (one["prn"]["doses"], one["prn"]["use_days"], one["prn"]["doses_per_use_day"]) == (5, 2, 2.5)
    assert (one["prn"]["most_doses_24h"], one["prn"]["most_amount_24h"]) == (4, [{"value": 1600, "unit": "mg"}])
    assert one["prn"]["interval_breaches"] == ["2026-06-14T10:00:00+02:00"]
    assert one["prn"]["maximum_breaches"] == ["2026-06-14T22:00:00+02:00", "2026-06-15T06:00:00+02:00"]
    assert (one["prn"]["pain_before"]["value"], one["prn"]["pain_before"]["n"]) == (7, 5)
    assert (one["prn"]["change_after"]["value"], one["prn"]["change_after"]["n"]) == (-2, 4)
    assert bounds(answer["overall"]["doses"]["taking"]) == [None] * 4


def test_an_empty_plan() -> None:
    later = treatment(since("2026-07-01T00:00:00+02:00", DAILY))
    for answer in (answered([later], [], "2026-06-01", "2026-06-30"), answered([], [], "2026-06-01", "2026-06-30")):
        overall = answer["overall"]
        figures = [overall["doses"][name] for name in ("taking", "timing", "correct_days")]
        for figure in (*figures, overall["sessions"]["attended"]):
            assert (share(figure), bounds(figure)) == ((0, 0), [None] * 4)
        assert (answer["treatments"], answer["left_out"]) == ([], NOTHING_LEFT_OUT)


def test_the_example_is_what_is_answered() -> None:
    named = [
        {"id": one["treatment_id"], "name": one["name"], "category": one["category"], "status": one["status"]}
        for one in EXAMPLE_ADHERENCE["treatments"]
    ]
    physiotherapy, sessions = month_of_physiotherapy(**named[0])
    ibuprofen, as_needed, readings = prn_day(**named[1])
    gabapentin, some = dose_changed_at_noon(**named[2])
    amitriptyline, more = phone_that_was_off(**named[3])
    stray = event({"id": record_id(0)}, "2026-06-20T08:00:00+02:00")
    treatments = [amitriptyline, gabapentin, ibuprofen, physiotherapy]
    events = [stray, *more, *some, *as_needed, *sessions]
    assert answered(treatments, events, "2026-06-01", "2026-07-19", OFF, readings) == EXAMPLE_ADHERENCE


# Which treatments and events count.


def test_a_draft_is_left_out_whatever_was_noted() -> None:
    draft = treatment(since("2026-06-01T00:00:00+02:00", DAILY), status="draft")
    answer = answered([draft], taken(draft, "2026-06-01", "2026-06-03", "08:00"), "2026-06-01", "2026-06-07")
    assert listed(answer) == []
    assert share(answer["overall"]["doses"]["taking"]) == (0, 0)
    assert answer["left_out"] == NOTHING_LEFT_OUT | {"no_plan": 3}


@pytest.mark.parametrize(
    ("zone", "valid_from", "valid_to", "expected"),
    [
        ("Europe/Berlin", "2026-06-07T23:59:00+02:00", None, True),
        ("Europe/Berlin", "2026-06-08T00:00:00+02:00", None, False),
        ("America/New_York", "2026-06-08T03:59:00Z", None, True),  # still the 7th there
        ("Pacific/Kiritimati", "2026-06-07T10:00:00Z", None, False),  # the 8th there
        ("Europe/Berlin", "2026-01-01T00:00:00+01:00", "2026-06-01T00:00:00+02:00", False),
        ("Europe/Berlin", "2026-01-01T00:00:00+01:00", "2026-06-01T00:00:01+02:00", True),
        ("America/New_York", "2026-01-01T00:00:00Z", "2026-06-01T04:00:00Z", False),  # midnight there
        ("Pacific/Kiritimati", "2026-01-01T00:00:00Z", "2026-05-31T10:00:01Z", True),  # the 1st there
    ],
)
def test_a_treatment_is_listed_when_its_plan_meets_the_days(
    zone: str, valid_from: str, valid_to: str | None, expected: bool
) -> None:
    one = treatment(since(valid_from, PRN, zone, valid_to=valid_to))
    assert (listed(answered([one], [], "2026-06-01", "2026-06-07")) == [one["id"]]) is expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-06-01T00:00:00+14:00", True),
        ("2026-05-31T23:59:59-12:00", False),
        ("2026-06-07T23:59:59-12:00", True),
        ("2026-06-08T00:00:00+14:00", False),
    ],
)
def test_a_treatment_is_listed_when_something_was_noted_on_the_patients_own_days(moment: str, expected: bool) -> None:
    ended = treatment(since("2026-01-01T00:00:00+01:00", DAILY, valid_to="2026-02-01T00:00:00+01:00"))
    answer = answered([ended], [event(ended, moment)], "2026-06-01", "2026-06-07")
    assert (listed(answer) == [ended["id"]]) is expected
    assert answer["overall"]["doses"]["extras"] == int(expected)


def test_treatments_stand_in_the_order_in_which_they_began() -> None:
    first, second = record_id(next(NUMBERS)), record_id(next(NUMBERS))
    may, june = since("2026-05-01T10:00:00+02:00", DAILY), since("2026-06-01T00:00:00+02:00", DAILY)
    earlier_as_text = since("2026-05-01T09:30:00+01:00", DAILY)
    plans = [
        treatment(june, id=first),
        treatment(may, id=second),
        treatment(may, june, id=record_id(next(NUMBERS))),
        treatment(earlier_as_text),
    ]
    answer = answered(plans, [], "2026-06-01", "2026-06-07")
    assert listed(answer) == [second, plans[2]["id"], plans[3]["id"], first]


def test_what_is_left_out_is_counted_on_the_patients_own_days() -> None:
    medicine = treatment(since("2026-06-01T00:00:00+02:00", DAILY))
    therapy = treatment(since("2026-06-01T00:00:00+02:00", DAILY), category="education")
    stray = {"id": record_id(0)}
    events = [
        event(stray, "2026-06-01T00:00:00+14:00"),
        event(stray, "2026-06-07T23:00:00-11:00", "attended"),
        event(stray, "2026-05-31T23:59:59-12:00"),
        event(stray, "2026-06-08T00:00:00+14:00"),
        event(medicine, "2026-06-02T08:00:00+02:00", "attended"),
        event(therapy, "2026-06-02T08:00:00+02:00", "taken"),
        event(therapy, "2026-06-03T08:00:00+02:00", "held"),
        event(therapy, "2026-06-04T08:00:00+02:00", "partial"),
        event(therapy, "2026-06-09T08:00:00+02:00", "taken"),
    ]
    answer = answered([medicine, therapy], events, "2026-06-01", "2026-06-07")
    assert answer["left_out"] == NOTHING_LEFT_OUT | {"treatment_missing": 2, "status_does_not_fit": 3}
    assert outcomes(answer["overall"]["doses"]) == {"missed": 7}
    assert outcomes(answer["overall"]["sessions"]) == {"missed": 6, "partial": 1}


def test_an_event_of_the_day_before_may_take_a_slot_of_the_first_day() -> None:
    medicine = treatment(since("2026-01-01T00:00:00+01:00", {"type": "scheduled", "times": ["00:15"]}))
    answer = answered([medicine], [event(medicine, "2026-05-31T23:50:00+02:00")], "2026-06-01", "2026-06-01")
    assert outcomes(answer["overall"]["doses"]) == {"on_time": 1}


def test_a_plan_may_have_doses_due_and_doses_as_needed() -> None:
    both = treatment(since("2026-06-01T00:00:00+02:00", DAILY), since("2026-06-03T00:00:00+02:00", PRN))
    events = taken(both, "2026-06-01", "2026-06-04", "08:00")
    [one] = answered([both], events, "2026-06-01", "2026-06-07")["treatments"]
    assert (share(one["doses"]["taking"]), one["prn"]["doses"]) == ((2, 2), 2)
    assert one["prn"]["pain_before"] | {"definition": ""} == {"value": None, "n": 0, "definition": ""}


def test_largest_amounts_beyond_what_one_dose_may_hold_are_answered() -> None:
    medicine = treatment(since("2026-06-01T00:00:00+02:00", {"type": "prn"}))
    huge = [
        event(medicine, f"2026-06-01T{hour}:00:00+02:00", amount={"value": 1_000_000, "unit": "[IU]"})
        for hour in ("08", "09")
    ]
    [one] = answered([medicine], huge, "2026-06-01", "2026-06-01")["treatments"]
    assert one["prn"]["most_amount_24h"] == [{"value": 2_000_000, "unit": "[IU]"}]


def test_without_the_phones_word_it_is_said_to_be_null() -> None:
    now = at("2026-06-08T12:00:00Z")
    answer = answered([], [], "2026-06-01", "2026-06-07", Word(now))
    assert (answer["as_of"], answer["outbox_empty_at"]) == ("2026-06-08T12:00:00Z", None)
    assert (answer["from"], answer["to"]) == ("2026-06-01", "2026-06-07")


# What is refused.


def refusal(treatments: Sequence[Record], events: Sequence[Record], first: str, last: str) -> tuple[Fault, ...]:
    with pytest.raises(Invalid) as refused:
        assessment(treatments, events, first, last)
    return refused.value.faults


def test_days_that_would_keep_the_server_busy_are_refused() -> None:
    hourly = [treatment(since("2020-01-01T00:00:00+01:00", HOURLY)) for _ in range(3)]
    [fault] = refusal(hourly, [], "2026-01-01", "2026-12-31")
    assert (fault.pointer, fault.code) == ("#query/to", "too_much")
    assert fault.detail.startswith("Ask for fewer days at a time: ")
    half = answered(hourly, [], "2026-01-01", "2026-06-30")
    assert sum(half["overall"]["doses"]["outcomes"].values()) == 3 * 181 * 24


def test_a_target_that_nobody_can_reach_is_work_too() -> None:
    hundred = treatment(since("2020-01-01T00:00:00+01:00", {"type": "target", "count": 100, "per": "day"}))
    assert [fault.code for fault in refusal([hundred], [], "2026-01-01", "2026-12-31")] == ["too_much"]


def test_the_days_around_that_decide_what_happened_at_the_edges_are_work_too() -> None:
    hourly, yearly = since("2020-01-01T00:00:00+01:00", HOURLY), DAILY | {"every_n_days": 365}
    plans = [treatment(hourly, since("2026-01-01T00:00:00+01:00", yearly)) for _ in range(3)]
    assert [fault.code for fault in refusal(plans, [], "2026-01-02", "2026-01-02")] == ["too_much"]
    assert len(listed(answered(plans, [], "2028-01-02", "2028-01-02"))) == 3


def test_what_is_not_due_on_the_days_is_no_work() -> None:
    ended = since("2020-01-01T00:00:00+01:00", HOURLY, valid_to="2025-12-01T00:00:00+01:00")
    plans = [
        *(treatment(ended) for _ in range(10)),
        *(treatment(since("2026-06-01T00:00:00+02:00", HOURLY)) for _ in range(10)),
        *(treatment(since("2020-01-01T00:00:00+01:00", HOURLY), status="draft") for _ in range(10)),
        *(treatment(since("2020-01-01T00:00:00+01:00", PRN)) for _ in range(10)),
    ]
    assert len(answered(plans, [], "2026-01-01", "2026-03-31")["treatments"]) == 10


def test_the_limit_counts_treatments_slots_and_events() -> None:
    daily = treatment(since("2026-06-01T00:00:00+02:00", DAILY, valid_to="2026-06-08T00:00:00+02:00"))
    event_of_june = TreatmentEventOut.model_validate(event(daily, "2026-06-01T08:00:00+02:00"))
    [plan] = TREATMENTS.validate_json(json.dumps([daily]))
    week = date(2026, 6, 1), date(2026, 6, 7)
    most = MOST - 1 - 7
    out = assessed([plan], [event_of_june] * most, [], *week, TOLD)
    assert out.overall.doses.extras == most - 1
    with pytest.raises(Invalid):
        assessed([plan], [event_of_june] * (most + 1), [], *week, TOLD)


# Slots.


def test_the_slots_of_the_examples_are_what_is_answered() -> None:
    patch, sessions = (example_stored("treatment", sent) for sent in (EXAMPLE_TREATMENT, EXAMPLE_SESSIONS))
    assert slots_of(patch, EXAMPLE_SLOTS["from"], EXAMPLE_SLOTS["to"]) == EXAMPLE_SLOTS
    assert slots_of(sessions, EXAMPLE_PERIODS["from"], EXAMPLE_PERIODS["to"]) == EXAMPLE_PERIODS


def test_slots_keep_their_wall_clock_when_the_clocks_change() -> None:
    nights = treatment(since("2026-01-01T00:00:00+01:00", {"type": "scheduled", "times": ["02:30", "14:30"]}))
    spring = slots_of(nights, "2026-03-28", "2026-03-29")["slots"]
    assert [slot["due_at"] for slot in spring] == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-28T14:30:00+01:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-29T14:30:00+02:00",
    ]
    assert [slot["local_date"] for slot in spring] == ["2026-03-28"] * 2 + ["2026-03-29"] * 2
    autumn = slots_of(nights, "2026-10-25", "2026-10-25")["slots"][0]
    assert autumn["due_at"] == "2026-10-25T02:30:00+02:00"
    assert autumn["closes_at"] == "2026-10-25T02:30:00+01:00"


def test_each_slot_has_the_zone_and_the_dose_of_its_regimen() -> None:
    tablet = {"value": 300, "unit": "mg"}
    moved = treatment(
        since("2026-06-01T00:00:00+02:00", DAILY, dose=tablet),
        since("2026-06-02T12:00:00+02:00", DAILY, "America/New_York"),
    )
    found = slots_of(moved, "2026-06-02", "2026-06-02")["slots"]
    assert [(slot["due_at"], slot["time_zone"], slot["dose"]) for slot in found] == [
        ("2026-06-02T08:00:00+02:00", "Europe/Berlin", tablet),
        ("2026-06-02T08:00:00-04:00", "America/New_York", None),
    ]


def test_each_period_has_the_zone_and_the_dose_of_its_regimen() -> None:
    tablet, once = {"value": 300, "unit": "mg"}, {"type": "target", "count": 1, "per": "day"}
    moved = treatment(
        since("2026-06-01T00:00:00+02:00", once, dose=tablet),
        since("2026-06-02T00:00:00-04:00", once, "America/New_York"),
    )
    found = slots_of(moved, "2026-06-01", "2026-06-02")["periods"]
    assert [(period["closes_at"], period["time_zone"], period["dose"]) for period in found] == [
        ("2026-06-02T00:00:00+02:00", "Europe/Berlin", tablet),
        ("2026-06-03T00:00:00-04:00", "America/New_York", None),
    ]


def test_a_pause_holds_the_slots_inside_it_and_the_weeks_it_touches() -> None:
    weekly = {"type": "target", "count": 2, "per": "week"}
    paused = [{"from": "2026-06-02T08:00:00+02:00", "to": "2026-06-03T08:00:00+02:00"}]
    daily = treatment(since("2026-01-01T00:00:00+01:00", DAILY), pauses=paused)
    assert [slot["on_hold"] for slot in slots_of(daily, "2026-06-01", "2026-06-03")["slots"]] == [False, True, False]
    exercise = treatment(since("2026-01-01T00:00:00+01:00", weekly), category="lifestyle", pauses=paused)
    periods = slots_of(exercise, "2026-05-25", "2026-06-14")["periods"]
    assert [period["on_hold"] for period in periods] == [False, True, False]
    one_week = [{"from": "2026-06-01T00:00:00+02:00", "to": "2026-06-08T00:00:00+02:00"}]
    held = slots_of(exercise | {"pauses": one_week}, "2026-05-25", "2026-06-14")["periods"]
    assert [period["on_hold"] for period in held] == [False, True, False]


@pytest.mark.parametrize("members", [{"status": "draft"}, {"regimens": [since("2026-01-01T00:00:00+01:00", PRN)]}])
def test_what_nobody_agreed_to_or_is_taken_as_needed_is_never_due(members: Record) -> None:
    found = slots_of(treatment(since("2026-01-01T00:00:00+01:00", DAILY)) | members, "2026-06-01", "2026-06-07")
    assert (found["slots"], found["periods"]) == ([], [])


def test_an_offset_with_seconds_is_written_as_an_instant_that_others_can_read() -> None:
    monrovia = treatment(since("1970-01-01T00:00:00Z", DAILY, "Africa/Monrovia"))  # −00:44:30 until 1972
    [slot] = slots_of(monrovia, "1971-01-01", "1971-01-01")["slots"]
    assert slot["due_at"] == "1971-01-01T07:59:30-00:45"
    assert slot["local_date"] == "1971-01-01"
    assert at(slot["due_at"]) == at("1971-01-01T08:44:30Z")


def test_slots_of_a_plan_that_travels_with_the_sun_fit_the_schema() -> None:
    often = {"type": "scheduled", "times": [f"08:{minute:02}" for minute in range(24)]}
    zones = [f"Etc/GMT{offset:+}" for offset in range(-14, 13)]  # by POSIX's sign: from the east to the west
    start, hour = at("2026-02-01T08:00:00+14:00"), timedelta(hours=1)
    moves = [
        since(render_instant(start + (lap * 48 + index) * hour), often, zone)
        for lap in range(3)
        for index, zone in enumerate(zones)
    ]
    found = slots_of(treatment(*moves), "2026-02-01", "2026-05-03")["slots"]
    assert len(found) > 24 * LONGEST_DAYS


# Properties.

MOMENTS = st.integers(0, 21 * 24 * 4).map(
    lambda quarters: render_instant(at("2026-03-14T00:00:00+01:00") + timedelta(minutes=15 * quarters))
)
SCHEDULES = st.one_of(
    st.builds(
        lambda hours, days: {"type": "scheduled", "times": [f"{hour:02}:30" for hour in hours]} | days,
        st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True),
        st.sampled_from([{}, {"every_n_days": 2}, {"days_of_week": [1, 4]}, {"early_minutes": 720}]),
    ),
    st.builds(
        lambda n, per: {"type": "target", "count": n, "per": per}, st.integers(1, 3), st.sampled_from(["day", "week"])
    ),
    st.just(PRN),
)
WORDS = st.builds(Word, MOMENTS.map(at), st.none() | MOMENTS.map(at))
FIRST, LAST = "2026-03-20", "2026-03-31"


@st.composite
def plans(draw: st.DrawFn) -> Record:
    """A treatment of one or two regimens around the change of the clocks, perhaps with a pause."""
    zones = st.sampled_from(["Europe/Berlin", "America/New_York"])
    starts = draw(st.lists(MOMENTS, min_size=1, max_size=2, unique=True))
    pause = draw(st.lists(MOMENTS, max_size=2, unique=True))
    members = {
        "category": draw(st.sampled_from(["prescription_medication", "physical_therapy"])),
        "status": draw(st.sampled_from(["active", "active", "stopped", "draft"])),
        "pauses": [{"from": a, "to": b} for a, b in pairwise(sorted(pause, key=at))],
    }
    return treatment(*(since(start, draw(SCHEDULES), draw(zones)) for start in sorted(starts, key=at)), **members)


@st.composite
def diaries(draw: st.DrawFn) -> tuple[list[Record], list[Record]]:
    """Some treatments, and events of them and of one that has not arrived."""
    treatments = draw(st.lists(plans(), max_size=3))
    statuses = st.sampled_from(EventStatus.__value__.__args__[0].__args__)
    known = st.sampled_from([*treatments, {"id": record_id(0)}])
    events = st.builds(event, known, MOMENTS, statuses, scheduled_for=st.none() | MOMENTS)
    return treatments, draw(st.lists(events, max_size=20))


@given(diaries(), WORDS)
def test_overall_is_the_sum_of_the_treatments(diary: tuple[list[Record], list[Record]], word: Word) -> None:
    answer = answered(*diary, FIRST, LAST, word)
    for kind, names in (("doses", ("taking", "timing", "correct_days")), ("sessions", ("attended",))):
        parts, whole = [one[kind] for one in answer["treatments"] if one[kind]], answer["overall"][kind]
        assert whole["extras"] == sum(part["extras"] for part in parts)
        for outcome, number in whole["outcomes"].items():
            assert number == sum(part["outcomes"][outcome] for part in parts)
        for name in names:
            numerators, denominators = [0], [0]
            for part in parts:
                numerators.append(part[name]["numerator"])
                denominators.append(part[name]["denominator"])
            assert share(whole[name]) == (sum(numerators), sum(denominators))


@given(diaries(), WORDS)
@settings(max_examples=40)
def test_the_time_zone_of_the_server_never_matters(diary: tuple[list[Record], list[Record]], word: Word) -> None:
    with process_in("Pacific/Kiritimati"):
        east = answered(*diary, FIRST, LAST, word), [slots_of(one, FIRST, LAST) for one in diary[0]]
    with process_in("America/Los_Angeles"):
        west = answered(*diary, FIRST, LAST, word), [slots_of(one, FIRST, LAST) for one in diary[0]]
    assert east == west


@given(diaries(), WORDS)
def test_an_answer_survives_being_written_and_read(diary: tuple[list[Record], list[Record]], word: Word) -> None:
    out = assessment(*diary, FIRST, LAST, word)
    assert AdherenceOut.model_validate_json(out.model_dump_json()) == out


@given(plans())
def test_no_more_is_due_than_was_foretold(plan: Record) -> None:
    agreed = plan_of(TreatmentOut.model_validate(plan))
    span = date.fromisoformat(FIRST), date.fromisoformat(LAST)
    due = len(slots(agreed, *span)) + sum(period.count for period in periods(agreed, *span))
    assert due <= most_due(agreed, *span) <= 4 * 2 * 12
