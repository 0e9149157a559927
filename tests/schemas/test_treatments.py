"""The treatment on the wire: what is taken, what is refused and where the refusal points."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema_rs
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app import vocabularies
from app.domain import regimens
from app.domain.days import DaysOfWeek, EveryNthDay
from app.domain.treatments import MEDICATIONS
from app.schemas.slots import plan_of
from app.schemas.treatment_examples import (
    EXAMPLE_PRN,
    EXAMPLE_SESSIONS,
    EXAMPLE_TREATMENT,
    EXAMPLES,
    MINIMAL_TREATMENT,
    STORED_TREATMENT,
)
from app.schemas.treatments import TREATMENT, TreatmentFields, TreatmentIn, TreatmentOut, TreatmentPatch
from tests.domain.plans import o_clock
from tests.schemas.refusals import CANARIES, answers, faults, places, with_more, with_value

SCHEDULES: list[dict[str, Any]] = [
    {"type": "scheduled", "times": ["08:00", "20:00"]},
    {"type": "scheduled", "times": ["23:59"], "days_of_week": [1, 7], "early_minutes": 0, "late_minutes": 720},
    {"type": "scheduled", "times": ["00:00"], "every_n_days": 366},
    {"type": "prn"},
    {"type": "prn", "min_interval_minutes": 1, "max_doses_24h": 100, "max_amount_24h": {"value": 4, "unit": "g"}},
    {"type": "target", "count": 1, "per": "day"},
    {"type": "target", "count": 100, "per": "week", "minutes": 1440},
    {"type": "target", "count": 1, "per": "month"},
    {"type": "prn", "min_interval_minutes": 240, "max_interval_minutes": 241, "indication": "Pain"},
    {"type": "elapsed", "every_minutes": 15},
    {"type": "elapsed", "every_minutes": 527_040, "early_minutes": 720, "late_minutes": 0},
    {"type": "calendar", "at": [{"time": "00:00"}]},
    {"type": "calendar", "at": [{"time": f"{hour:02}:59", "meal": "with"} for hour in range(24)]},
    *(
        {"type": "calendar", "days": days, "at": [{"time": "08:00"}]}
        for days in (
            {"type": "daily", "every_n_days": 366},
            {"type": "weekly", "every_n_weeks": 52, "days_of_week": [1, 2, 3, 4, 5, 6, 7]},
            {"type": "weekly", "days_of_week": [1]},
            {"type": "monthly", "every_n_months": 12, "days_of_month": [1, 31, -1]},
            {"type": "monthly_weekday", "week": -1, "days_of_week": [1]},
            {"type": "cycle", "days_on": 365, "days_off": 1},
            {"type": "listed", "dates": ["2026-01-02", "2026-01-01"]},
        )
    ),
]
CALENDAR = {"type": "calendar", "at": [{"time": "08:00"}]}
DAILY = SCHEDULES[0]
SERVER_FIELDS = {k: v for k, v in STORED_TREATMENT.items() if k not in EXAMPLE_TREATMENT}
EVERYWHERE = [(example, path) for example in EXAMPLES for path, _ in places(example)]


def regimen(start: str, end: str | None = None, **members: Any) -> dict[str, Any]:
    """A regimen from one day in January 2026 to another."""
    until = {"valid_to": f"2026-01-{end}T00:00:00Z"} if end else {}
    return {"valid_from": f"2026-01-{start}T00:00:00Z", "time_zone": "UTC", "schedule": DAILY, **until, **members}


def scheduled(**members: Any) -> dict[str, Any]:
    """Members of a treatment whose only regimen has this schedule."""
    return {"regimens": [regimen("01", schedule=DAILY | members)]}


def pause(start: str, end: str | None = None) -> dict[str, Any]:
    """A pause from one day in January 2026 to another."""
    return {"from": f"2026-01-{start}T00:00:00Z"} | ({"to": f"2026-01-{end}T00:00:00Z"} if end else {})


@st.composite
def valid_treatments(draw: st.DrawFn) -> dict[str, Any]:
    """Treatments that a careful phone could send."""
    category = draw(st.sampled_from(vocabularies.load("treatment_categories").ordered_codes))
    days = sorted(draw(st.sets(st.integers(1, 28), min_size=1, max_size=4)))
    quantities = st.fixed_dictionaries(
        {
            "value": st.floats(0, 1e6, exclude_min=True),
            "unit": st.sampled_from(vocabularies.load("units").ordered_codes),
        }
    )
    sent = MINIMAL_TREATMENT | {
        "category": category,
        "regimens": [regimen(f"{day:02}", schedule=draw(st.sampled_from(SCHEDULES))) for day in days],
        "pauses": [pause(f"{a:02}", f"{b:02}") for a, b in pairwise(days)],
    }
    if category in MEDICATIONS:
        sent["ingredients"] = [{"name": "ibuprofen", "strength": draw(quantities)}]
        sent["regimens"] = [one | {"dose": draw(quantities)} for one in sent["regimens"]]
    return sent


def test_the_examples_are_treatments() -> None:
    for example in EXAMPLES:
        TreatmentIn.model_validate(example)
    for model in (TreatmentIn, TreatmentFields, TreatmentPatch, TreatmentOut, TREATMENT.page, TREATMENT.history):
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)


def test_the_full_example_shows_every_field() -> None:
    assert set(EXAMPLE_TREATMENT) == set(TreatmentIn.model_fields)


def test_a_category_a_name_and_a_regimen_are_a_treatment() -> None:
    assert TreatmentIn.model_validate(MINIMAL_TREATMENT).model_dump(exclude_none=True) == MINIMAL_TREATMENT | {
        "occurred_precision": "minute",
        "performer": "self",
        "ingredients": [],
        "pauses": [],
        "status": "active",
        "authored_by": "patient",
    }


def test_a_dose_is_on_time_within_an_hour_unless_the_schedule_says_otherwise() -> None:
    treatment = TreatmentIn.model_validate(MINIMAL_TREATMENT | scheduled())
    assert treatment.regimens[0].schedule.model_dump(exclude_none=True) == DAILY | {
        "early_minutes": 60,
        "late_minutes": 60,
    }


def test_the_full_example_is_written_as_it_was_read() -> None:
    treatment = TreatmentIn.model_validate(EXAMPLE_TREATMENT)
    assert treatment.model_dump(exclude_none=True) == EXAMPLE_TREATMENT
    assert json.loads(treatment.model_dump_json(exclude_none=True)) == EXAMPLE_TREATMENT


@given(valid_treatments())
def test_a_treatment_survives_being_written_and_read(sent: dict[str, Any]) -> None:
    treatment = TreatmentIn.model_validate(sent)
    written = treatment.model_dump_json(exclude_none=True)
    assert TreatmentIn.model_validate_json(written) == treatment == TreatmentIn.model_validate(json.loads(written))
    jsonschema_rs.validator_for(TreatmentIn.model_json_schema()).validate(sent)


@given(st.sampled_from(EVERYWHERE), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5))
def test_whatever_stands_in_a_field_is_taken_or_refused(place: tuple[Any, Any], value: Any) -> None:
    with suppress(ValidationError):
        example, path = place
        treatment = TreatmentIn.model_validate(with_value(example, path, value))
        assert TreatmentIn.model_validate_json(treatment.model_dump_json()) == treatment


@pytest.mark.parametrize(("example", "path"), EVERYWHERE)
def test_no_refusal_repeats_what_was_sent(example: Any, path: tuple[Any, ...]) -> None:
    for canary in CANARIES:
        answer = answers(TreatmentIn, with_value(example, path, canary))
        assert "canary" not in answer
        assert "4242424242" not in answer


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_unknown_member_is_refused_at_every_level(example: dict[str, Any]) -> None:
    for path in [(), *(path for path, inside in places(example) if isinstance(inside, dict))]:
        pointer = "".join(f"/{step}" for step in (*path, "canary"))
        assert faults(TreatmentIn, with_more(example, path)) == [(pointer, "extra_forbidden")]


@pytest.mark.parametrize("member", SERVER_FIELDS)
def test_a_phone_cannot_set_what_the_server_owns(member: str) -> None:
    assert faults(TreatmentIn, MINIMAL_TREATMENT | {member: SERVER_FIELDS[member]}) == [
        (f"/{member}", "extra_forbidden")
    ]


@pytest.mark.parametrize(
    ("vocabulary", "member"),
    [
        ("treatment_categories", lambda code: {"category": code}),
        ("dose_forms", lambda code: {"form": code}),
        ("routes", lambda code: {"route": code}),
        ("units", lambda code: {"ingredients": [{"name": "x", "strength": {"value": 1, "unit": code}}]}),
        ("units", lambda code: {"regimens": [regimen("01", dose={"value": 0.5, "unit": code})]}),
    ],
)
def test_every_code_of_its_vocabulary_is_taken_and_no_other(vocabulary: str, member: Any) -> None:
    for code in vocabularies.load(vocabulary).codes:
        TreatmentIn.model_validate(MINIMAL_TREATMENT | member(code))
    for other in ("", "mcg", "MG", "tablets", 0, ["mg"]):
        assert [code for _, code in faults(TreatmentIn, MINIMAL_TREATMENT | member(other))] == ["unknown_code"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_type_of_schedule_is_taken_at_its_limits(schedule: dict[str, Any]) -> None:
    treatment = TreatmentIn.model_validate(MINIMAL_TREATMENT | {"regimens": [regimen("01", schedule=schedule)]})
    assert treatment.regimens[0].schedule.model_dump(exclude_unset=True) == schedule


AT = "/regimens/0/schedule"


@pytest.mark.parametrize(
    ("schedule", "told_at"),
    [
        ({}, [(AT, "union_tag_not_found")]),
        ({"type": "sometimes"}, [(AT, "union_tag_invalid")]),
        ({"type": "scheduled"}, [(f"{AT}/times", "missing")]),
        ({"type": "scheduled", "times": []}, [(f"{AT}/times", "too_short")]),
        (DAILY | {"times": [f"{n:02}:{m}" for n in range(24) for m in (10, 20)]}, [(f"{AT}/times", "too_long")]),
        (DAILY | {"times": ["08:00", "20:00", "08:00"]}, [(f"{AT}/times/2", "duplicate")]),
        (DAILY | {"days_of_week": []}, [(f"{AT}/days_of_week", "too_short")]),
        (DAILY | {"days_of_week": [1, 0]}, [(f"{AT}/days_of_week/1", "greater_than_equal")]),
        (DAILY | {"days_of_week": [8]}, [(f"{AT}/days_of_week/0", "less_than_equal")]),
        (DAILY | {"days_of_week": [1, 1]}, [(f"{AT}/days_of_week/1", "duplicate")]),
        (DAILY | {"days_of_week": [1], "every_n_days": 2}, [(f"{AT}/every_n_days", "contradiction")]),
        (DAILY | {"every_n_days": 0}, [(f"{AT}/every_n_days", "greater_than_equal")]),
        (DAILY | {"every_n_days": 367}, [(f"{AT}/every_n_days", "less_than_equal")]),
        (DAILY | {"early_minutes": 721}, [(f"{AT}/early_minutes", "less_than_equal")]),
        (DAILY | {"late_minutes": -1}, [(f"{AT}/late_minutes", "greater_than_equal")]),
        (DAILY | {"count": 2}, [(f"{AT}/count", "extra_forbidden")]),
        ({"type": "prn", "times": ["08:00"]}, [(f"{AT}/times", "extra_forbidden")]),
        ({"type": "prn", "min_interval_minutes": 0}, [(f"{AT}/min_interval_minutes", "greater_than_equal")]),
        ({"type": "prn", "min_interval_minutes": 10_081}, [(f"{AT}/min_interval_minutes", "less_than_equal")]),
        ({"type": "prn", "max_doses_24h": 101}, [(f"{AT}/max_doses_24h", "less_than_equal")]),
        (
            {"type": "prn", "max_amount_24h": {"value": 0, "unit": "h"}},
            [(f"{AT}/max_amount_24h/value", "greater_than")],
        ),
        ({"type": "prn", "max_amount_24h": {"value": 1}}, [(f"{AT}/max_amount_24h/unit", "missing")]),
        ({"type": "prn", "indication": "two\nlines"}, [(f"{AT}/indication", "text")]),
        ({"type": "prn", "max_interval_minutes": 60}, [(f"{AT}/max_interval_minutes", "contradiction")]),
        ({"type": "prn", "min_interval_minutes": 60, "max_interval_minutes": 60},
         [(f"{AT}/max_interval_minutes", "contradiction")]),
        ({"type": "elapsed", "every_minutes": 14}, [(f"{AT}/every_minutes", "greater_than_equal")]),
        ({"type": "elapsed", "every_minutes": 527_041}, [(f"{AT}/every_minutes", "less_than_equal")]),
        (CALENDAR | {"at": []}, [(f"{AT}/at", "too_short")]),
        (CALENDAR | {"at": ["08:00"]}, [(f"{AT}/at/0", "model_type")]),
        (CALENDAR | {"at": [{"time": "8:00"}]}, [(f"{AT}/at/0/time", "local_time")]),
        (CALENDAR | {"at": [{"time": "08:00"}, {"time": "08:00", "meal": "after"}]}, [(f"{AT}/at/1", "duplicate")]),
        (CALENDAR | {"at": [{"time": "08:00", "meal": "during"}]}, [(f"{AT}/at/0/meal", "literal_error")]),
        (CALENDAR | {"at": [{"time": "08:00", "dose": {"value": 0, "unit": "mg"}}]},
         [(f"{AT}/at/0/dose/value", "greater_than")]),
        (CALENDAR | {"days": {"type": "yearly"}}, [(f"{AT}/days", "union_tag_invalid")]),
        (CALENDAR | {"days": {"type": "daily", "every_n_days": 367}},
         [(f"{AT}/days/every_n_days", "less_than_equal")]),
        (CALENDAR | {"days": {"type": "weekly", "days_of_week": []}}, [(f"{AT}/days/days_of_week", "too_short")]),
        (CALENDAR | {"days": {"type": "weekly", "every_n_weeks": 0, "days_of_week": [1]}},
         [(f"{AT}/days/every_n_weeks", "greater_than_equal")]),
        (CALENDAR | {"days": {"type": "monthly", "days_of_month": [1, 0]}},
         [(f"{AT}/days/days_of_month/1", "day_of_month")]),
        (CALENDAR | {"days": {"type": "monthly", "days_of_month": [-2, 32]}},
         [(f"{AT}/days/days_of_month/{index}", "day_of_month") for index in (0, 1)]),
        (CALENDAR | {"days": {"type": "monthly", "days_of_month": [-1, -1]}},
         [(f"{AT}/days/days_of_month/1", "duplicate")]),
        (CALENDAR | {"days": {"type": "monthly_weekday", "week": 0, "days_of_week": [1]}},
         [(f"{AT}/days/week", "week_of_month")]),
        (CALENDAR | {"days": {"type": "cycle", "days_on": 0, "days_off": 1}},
         [(f"{AT}/days/days_on", "greater_than_equal")]),
        (CALENDAR | {"days": {"type": "listed", "dates": ["2026-02-30"]}}, [(f"{AT}/days/dates/0", "date")]),
        ({"type": "target", "count": 0, "per": "day"}, [(f"{AT}/count", "greater_than_equal")]),
        ({"type": "target", "count": 101, "per": "day"}, [(f"{AT}/count", "less_than_equal")]),
        ({"type": "target", "count": 1, "per": "year"}, [(f"{AT}/per", "literal_error")]),
        ({"type": "target", "count": 1, "per": "day", "minutes": 1441}, [(f"{AT}/minutes", "less_than_equal")]),
    ],
)  # fmt: skip
def test_a_schedule_is_refused_at_its_place(schedule: Any, told_at: list[tuple[str, str]]) -> None:
    body = MINIMAL_TREATMENT | {"regimens": [regimen("01", schedule=schedule)]}
    assert faults(TreatmentIn, body) == told_at
    assert faults(TreatmentPatch, {"regimens": body["regimens"]}) == told_at


@pytest.mark.parametrize("time", ["8:00", "24:00", "12:60", "08:00:00", "08:00\n", " 08:00", "", "٠٨:٠٠", 800, None])
def test_a_time_of_day_has_one_spelling(time: Any) -> None:
    assert faults(TreatmentIn, MINIMAL_TREATMENT | scheduled(times=[time])) == [(f"{AT}/times/0", "local_time")]


@given(st.times())
def test_every_minute_of_the_day_is_a_time(time: Any) -> None:
    TreatmentIn.model_validate(MINIMAL_TREATMENT | scheduled(times=[time.strftime("%H:%M")]))


@pytest.mark.parametrize(
    ("members", "told_at"),
    [
        ({"regimens": []}, [("/regimens", "too_short")]),
        ({"regimens": [regimen("01")] * 101}, [("/regimens", "too_long")]),
        ({"regimens": [regimen("02", "02")]}, [("/regimens/0/valid_to", "ended_before_start")]),
        ({"regimens": [regimen("01"), regimen("03", "02")]}, [("/regimens/1/valid_to", "ended_before_start")]),
        ({"regimens": [regimen("02"), regimen("01")]}, [("/regimens/1/valid_from", "out_of_order")]),
        ({"regimens": [regimen("02"), regimen("02")]}, [("/regimens/1/valid_from", "out_of_order")]),
        (
            {"regimens": [regimen("01", "05"), regimen("04", "09"), regimen("09"), regimen("08")]},
            [("/regimens/1/valid_from", "overlap"), ("/regimens/3/valid_from", "out_of_order")],
        ),
        (
            {"regimens": [regimen("01", line="a"), regimen("01"), regimen("01", line="a"), regimen("02")]},
            [("/regimens/2/valid_from", "out_of_order")],
        ),
        ({"regimens": [regimen("01", line="Wochenende!")]}, [("/regimens/0/line", "line")]),
        ({"regimens": [regimen("01", dose={"value": 1, "high": 2, "unit": "mg"})]},
         [("/regimens/0/dose/high", "only_as_needed")]),
        ({"regimens": [regimen("01", schedule={"type": "prn"}, dose={"value": 2, "high": 2, "unit": "mg"})]},
         [("/regimens/0/dose/high", "contradiction")]),
        ({"status": "stopped", "regimens": [regimen("01", "02"), regimen("01", line="a")]},
         [("/regimens/1/valid_to", "missing_end")]),
        ({"category": "lifestyle", "regimens": [regimen("01", schedule=CALENDAR | {"at": [
            {"time": "08:00"}, {"time": "09:00", "dose": {"value": 1, "unit": "mg"}}]})]},
         [("/regimens/0/schedule/at/1/dose", "only_for_medication")]),
        ({"regimens": [regimen("01", time_zone="Mars/Base")]}, [("/regimens/0/time_zone", "time_zone")]),
        ({"regimens": [regimen("01", dose={"value": -1, "unit": "mg"})]}, [("/regimens/0/dose/value", "greater_than")]),
        ({"pauses": [pause("02", "02")]}, [("/pauses/0/to", "ended_before_start")]),
        ({"pauses": [pause("01", "05"), pause("04", "06")]}, [("/pauses/1/from", "overlap")]),
        ({"pauses": [pause("04", "06"), pause("01", "02")]}, [("/pauses/1/from", "overlap")]),
        ({"pauses": [pause("01"), pause("04")]}, [("/pauses/1/from", "overlap")]),
        ({"pauses": [{"to": "2026-01-02T00:00:00Z"}]}, [("/pauses/0/from", "missing")]),
        ({"pauses": [pause("01", "02")] * 101}, [("/pauses", "too_long")]),
        ({"name": ""}, [("/name", "text")]),
        ({"name": "x" * 201}, [("/name", "text")]),
        ({"name": "two\nlines"}, [("/name", "text")]),
        ({"ingredients": [{"name": "a"}] * 11}, [("/ingredients", "too_long")]),
        ({"ingredients": [{"name": "a"}, {"name": "a", "rxnorm": "1"}]}, [("/ingredients/1", "duplicate")]),
        ({"ingredients": [{"rxnorm": "161"}]}, [("/ingredients/0/name", "missing")]),
        ({"ingredients": [{"name": "a", "rxnorm": "x1"}]}, [("/ingredients/0/rxnorm", "string_pattern_mismatch")]),
        ({"ingredients": [{"name": "a", "rxnorm": "1" * 11}]}, [("/ingredients/0/rxnorm", "string_pattern_mismatch")]),
        ({"ingredients": [{"name": "a", "rxnorm": 161}]}, [("/ingredients/0/rxnorm", "string_type")]),
        ({"status": "paused"}, [("/status", "literal_error")]),
        ({"authored_by": "server"}, [("/authored_by", "literal_error")]),
        ({"acknowledged_at": "2026-01-02T00:00:00Z"}, [("/acknowledged_at", "contradiction")]),
        ({"wear_hours": 72}, [("/wear_hours", "only_for_patch")]),
        ({"wear_hours": 72, "form": "tablet"}, [("/wear_hours", "only_for_patch")]),
        ({"wear_hours": 0, "form": "patch"}, [("/wear_hours", "greater_than_equal")]),
        ({"wear_hours": 721, "form": "patch"}, [("/wear_hours", "less_than_equal")]),
        ({"note": "x" * 4001}, [("/note", "text")]),
        ({"status": "stopped"}, [("/regimens/0/valid_to", "missing_end")]),
        ({"status": "completed", "regimens": [regimen("01", "03"), regimen("05")]},
         [("/regimens/1/valid_to", "missing_end")]),
        ({"status": "on_hold"}, [("/pauses", "missing_pause")]),
    ],
)  # fmt: skip
def test_a_refusal_points_at_the_place(members: dict[str, Any], told_at: list[tuple[str, str]]) -> None:
    assert faults(TreatmentIn, MINIMAL_TREATMENT | members) == told_at


@pytest.mark.parametrize(
    "members",
    [
        {"regimens": [regimen("01", "03"), regimen("03"), regimen("05", "09"), regimen("11")]},
        {"regimens": [regimen("01"), regimen("01", line="a"), regimen("01", line="b"), regimen("09", line="a")]},
        {"regimens": [regimen("01", "09"), regimen("01", "09", line="a")], "status": "stopped"},
        {"regimens": [regimen("01", schedule={"type": "prn"}, dose={"value": 1, "high": 2, "unit": "mg"})]},
        {"pauses": [pause("01", "03"), pause("03", "04"), pause("09")]},
        {"pauses": [pause("01", "03")], "regimens": [regimen("01", "09")], "status": "stopped"},
        {"pauses": [pause("01", "03"), pause("05")], "status": "on_hold"},
        {"wear_hours": 720, "form": "patch"},
        {"authored_by": "clinician", "acknowledged_at": "2026-01-02T00:00:00Z"},
        {"ingredients": [{"name": "oxycodone", "rxnorm": "7804"}, {"name": "naloxone"}]},
        {"prescriber": None, "note": None, "form": None, "acknowledged_at": None},
    ],
)
def test_what_does_not_contradict_itself_is_taken(members: dict[str, Any]) -> None:
    TreatmentIn.model_validate(MINIMAL_TREATMENT | members)


def test_regimens_are_compared_as_instants_not_as_text() -> None:
    body = MINIMAL_TREATMENT | {
        "regimens": [
            regimen("01") | {"valid_from": "2026-01-01T10:00:00+14:00"},
            regimen("01") | {"valid_from": "2026-01-01T08:00:00-12:00"},
        ]
    }
    first, second = TreatmentIn.model_validate(body).regimens
    assert second.valid_from - first.valid_from == timedelta(hours=24)


@pytest.mark.parametrize("category", sorted(vocabularies.load("treatment_categories").codes))
def test_only_a_medication_is_made_of_something_and_given_in_doses(category: str) -> None:
    patch = {**EXAMPLE_TREATMENT, "category": category}
    if category in MEDICATIONS:
        TreatmentIn.model_validate(patch)
        return
    places = ["/ingredients", "/form", "/route", "/regimens/0/dose", "/regimens/1/dose"]
    assert faults(TreatmentIn, patch) == [(place, "only_for_medication") for place in places]
    TreatmentIn.model_validate({**EXAMPLE_SESSIONS, "category": category})


def test_the_vocabulary_and_the_rules_agree_on_what_is_done_in_doses() -> None:
    rows = vocabularies.load("treatment_categories").rows
    assert {row["code"] for row in rows if row["done_in"] == "doses"} == MEDICATIONS


def test_all_contradictions_are_told_at_once() -> None:
    body = EXAMPLE_PRN | {
        "regimens": [regimen("02"), regimen("01")],
        "pauses": [pause("01"), pause("02")],
        "wear_hours": 72,
        "acknowledged_at": "2026-01-02T00:00:00Z",
    }
    assert [pointer for pointer, _ in faults(TreatmentIn, body)] == [
        "/regimens/1/valid_from",
        "/pauses/1/from",
        "/wear_hours",
        "/acknowledged_at",
    ]


def test_put_carries_no_id() -> None:
    fields = {k: v for k, v in MINIMAL_TREATMENT.items() if k != "id"}
    assert TreatmentFields.model_validate(fields).name == MINIMAL_TREATMENT["name"]
    assert faults(TreatmentFields, MINIMAL_TREATMENT) == [("/id", "extra_forbidden")]
    assert faults(TreatmentIn, fields) == [("/id", "missing")]


def test_a_patch_knows_every_field_of_a_treatment_and_no_other() -> None:
    everything = dict.fromkeys(TreatmentFields.model_fields)
    assert TreatmentPatch.model_validate(everything).model_dump(exclude_unset=True) == everything
    assert faults(TreatmentPatch, {"id": MINIMAL_TREATMENT["id"]}) == [("/id", "extra_forbidden")]


def test_a_patch_is_written_as_it_was_read_and_not_judged_as_a_treatment() -> None:
    patch = {"pauses": [pause("05"), pause("01")], "wear_hours": 72, "note": None}
    assert TreatmentPatch.model_validate(patch).model_dump(mode="json", exclude_unset=True) == patch


def test_an_answered_treatment_has_the_envelope_beside_its_fields() -> None:
    treatment = TreatmentOut.model_validate_json(json.dumps(STORED_TREATMENT))
    assert treatment.model_dump(exclude_none=True) == STORED_TREATMENT
    TreatmentOut.model_validate({k: v for k, v in STORED_TREATMENT.items() if k != "note"})


def test_a_treatment_becomes_a_plan() -> None:
    patch = regimens.Amount(1, "{patch}")
    berlin = ZoneInfo("Europe/Berlin")
    at = o_clock(time(9))
    assert plan_of(TreatmentIn.model_validate(EXAMPLE_TREATMENT)) == regimens.Treatment(
        category="opioid_medication",
        regimens=(
            regimens.PlanVersion(
                valid_from=datetime(2026, 1, 11, 23, tzinfo=UTC),
                zone=berlin,
                schedule=regimens.FixedTimes(at, days=DaysOfWeek(frozenset({1})), early_minutes=60, late_minutes=180),
                dose=patch,
            ),
            regimens.PlanVersion(
                valid_from=datetime(2026, 3, 1, 23, tzinfo=UTC),
                zone=berlin,
                schedule=regimens.FixedTimes(at, days=EveryNthDay(7), early_minutes=60, late_minutes=180),
                dose=replace(patch, value=2),
                valid_to=datetime(2026, 6, 28, 22, tzinfo=UTC),
            ),
        ),
        pauses=(regimens.Hold(datetime(2026, 2, 8, 23, tzinfo=UTC), datetime(2026, 2, 15, 23, tzinfo=UTC)),),
        content=regimens.Content(regimens.Amount(5, "ug/h"), "patch"),
    )


def test_only_a_single_ingredient_tells_what_is_in_a_tablet() -> None:
    ingredients = [{"name": name, "strength": {"value": 500, "unit": "mg"}} for name in ("paracetamol", "codeine")]
    tablets = [MINIMAL_TREATMENT | {"form": "tablet", "ingredients": some} for some in (ingredients[:1], ingredients)]
    one, two = (plan_of(TreatmentIn.model_validate(sent)).content for sent in tablets)
    assert (one, two) == (regimens.Content(regimens.Amount(500, "mg"), "tablet"), None)
    unknown = MINIMAL_TREATMENT | {"ingredients": [{"name": "paracetamol"}]}
    assert plan_of(TreatmentIn.model_validate(unknown)).content is None


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"type": "scheduled", "times": ["20:00", "08:30"]}, regimens.FixedTimes(o_clock(time(8, 30), time(20)))),
        ({"type": "prn"}, regimens.AsNeeded()),
        (
            EXAMPLE_PRN["regimens"][0]["schedule"],
            regimens.AsNeeded(360, 3, regimens.Amount(1200, "mg"), indication="Back pain of 5 or more"),
        ),
        (EXAMPLE_SESSIONS["regimens"][0]["schedule"], regimens.Frequency(2, "week", 30)),
    ],
)
def test_each_type_of_schedule_becomes_its_own(sent: dict[str, Any], expected: Any) -> None:
    body = MINIMAL_TREATMENT | {"regimens": [regimen("01", schedule=sent)], "status": "draft"}
    plan = plan_of(TreatmentIn.model_validate(body))
    assert (plan.regimens[0].schedule, plan.status) == (expected, "draft")


def test_what_is_stored_makes_the_same_plan_as_what_was_sent() -> None:
    stored = TreatmentOut.model_validate(STORED_TREATMENT)
    assert plan_of(stored) == plan_of(TreatmentIn.model_validate(EXAMPLE_TREATMENT))


def test_generated_clients_get_one_plain_name_for_each_type() -> None:
    app = FastAPI()

    @app.put("/treatments", response_model=TREATMENT.page)
    async def replace_treatment(body: TreatmentFields) -> None: ...

    @app.patch("/treatments", response_model=TREATMENT.history)
    async def revise(body: TreatmentPatch) -> None: ...

    @app.post("/treatments", response_model=TreatmentOut)
    async def create(body: TreatmentIn) -> None: ...

    schemas = app.openapi()["components"]["schemas"]
    assert [name for name in schemas if not name.isalnum()] == []
    assert {"TreatmentCategory", "Quantity", "Unit", "Regimen", "Pause", "TreatmentPatch", "TreatmentVersion"} <= set(
        schemas
    )
    assert set(schemas["Schedule"]["discriminator"]["mapping"]) == {
        "scheduled",
        "calendar",
        "elapsed",
        "prn",
        "target",
    }
    assert set(schemas["Pause"]["properties"]) == {"from", "to"}
