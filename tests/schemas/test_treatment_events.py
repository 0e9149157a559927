"""The treatment event on the wire: what is taken, what is refused and where the refusal points."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, get_args

import jsonschema_rs
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app import vocabularies
from app.domain import outcomes
from app.domain.regimens import Amount
from app.domain.treatments import DOSE_STATUSES, SESSION_STATUSES
from app.schemas.treatment_events import (
    EXAMPLE_EVENT,
    EXAMPLES,
    MINIMAL_EVENT,
    STORED_EVENT,
    TREATMENT_EVENT,
    WITH_AMOUNT,
    WITH_REASON,
    EventFlag,
    EventStatus,
    TreatmentEventFields,
    TreatmentEventIn,
    TreatmentEventOut,
    TreatmentEventPatch,
    event_of,
)
from tests.schemas.refusals import CANARIES, answers, faults, places, with_more, with_value

STATUSES = get_args(get_args(EventStatus.__value__)[0])
SERVER_FIELDS = {k: v for k, v in STORED_EVENT.items() if k not in EXAMPLE_EVENT}
EVERYWHERE = [(example, path) for example in EXAMPLES for path, _ in places(example)]
AMOUNT = {"value": 1, "unit": "{tablet}"}


@st.composite
def valid_events(draw: st.DrawFn) -> dict[str, Any]:
    """Events that a careful phone could send."""
    status = draw(st.sampled_from(STATUSES))
    sent = MINIMAL_EVENT | {
        "status": status,
        "minutes": draw(st.none() | st.integers(0, 1440)),
        "pain_before": draw(st.none() | st.integers(0, 10)),
        "pain_after": draw(st.none() | st.integers(0, 10)),
        "relief_rating": draw(st.sampled_from([None, "none", "some", "good", "complete"])),
    }
    if status in WITH_AMOUNT:
        sent["amount"] = {"value": draw(st.floats(0, 1e6, exclude_min=True)), "unit": "mg"}
    if status in WITH_REASON:
        sent["reason"] = draw(st.sampled_from(vocabularies.load("skip_reasons").ordered_codes))
    return sent


def test_the_examples_are_events() -> None:
    for example in EXAMPLES:
        TreatmentEventIn.model_validate(example)
    for model in (
        TreatmentEventIn,
        TreatmentEventFields,
        TreatmentEventPatch,
        TreatmentEventOut,
        TREATMENT_EVENT.page,
        TREATMENT_EVENT.history,
    ):
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)


def test_the_examples_show_every_field() -> None:
    assert {name for example in EXAMPLES for name in example} == set(TreatmentEventIn.model_fields)


def test_a_treatment_and_a_status_are_an_event() -> None:
    assert TreatmentEventIn.model_validate(MINIMAL_EVENT).model_dump(exclude_none=True) == MINIMAL_EVENT | {
        "occurred_precision": "minute",
        "performer": "self",
        "side_effects": [],
    }


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_written_as_it_was_read(example: dict[str, Any]) -> None:
    event = TreatmentEventIn.model_validate(example)
    assert event.model_dump(exclude_unset=True) == example
    assert json.loads(event.model_dump_json(exclude_unset=True)) == example


@given(valid_events())
def test_an_event_survives_being_written_and_read(sent: dict[str, Any]) -> None:
    event = TreatmentEventIn.model_validate(sent)
    written = event.model_dump_json(exclude_none=True)
    assert (
        TreatmentEventIn.model_validate_json(written) == event == TreatmentEventIn.model_validate(json.loads(written))
    )
    jsonschema_rs.validator_for(TreatmentEventIn.model_json_schema()).validate(sent)


@given(st.sampled_from(EVERYWHERE), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5))
def test_whatever_stands_in_a_field_is_taken_or_refused(place: tuple[Any, Any], value: Any) -> None:
    example, path = place
    with suppress(ValidationError):
        event = TreatmentEventIn.model_validate(with_value(example, path, value))
        assert TreatmentEventIn.model_validate_json(event.model_dump_json()) == event


@pytest.mark.parametrize(("example", "path"), EVERYWHERE)
def test_no_refusal_repeats_what_was_sent(example: Any, path: tuple[Any, ...]) -> None:
    for canary in CANARIES:
        answer = answers(TreatmentEventIn, with_value(example, path, canary))
        assert "canary" not in answer
        assert "4242424242" not in answer


def test_an_unknown_member_is_refused_at_every_level() -> None:
    for path in [(), *(path for path, inside in places(EXAMPLE_EVENT) if isinstance(inside, dict))]:
        pointer = "".join(f"/{step}" for step in (*path, "canary"))
        assert faults(TreatmentEventIn, with_more(EXAMPLE_EVENT, path)) == [(pointer, "extra_forbidden")]


@pytest.mark.parametrize("member", SERVER_FIELDS)
def test_a_phone_cannot_set_what_the_server_owns(member: str) -> None:
    assert faults(TreatmentEventIn, MINIMAL_EVENT | {member: SERVER_FIELDS[member]}) == [
        (f"/{member}", "extra_forbidden")
    ]


def test_the_statuses_are_those_of_doses_and_those_of_sessions() -> None:
    assert len(STATUSES) == 8
    assert set(STATUSES) == DOSE_STATUSES | SESSION_STATUSES


@pytest.mark.parametrize(
    ("vocabulary", "member"),
    [
        ("skip_reasons", lambda code: {"status": "skipped", "reason": code}),
        ("side_effects", lambda code: {"side_effects": [{"code": code}]}),
        ("units", lambda code: {"status": "taken", "amount": {"value": 1, "unit": code}}),
    ],
)
def test_every_code_of_its_vocabulary_is_taken_and_no_other(vocabulary: str, member: Any) -> None:
    for code in vocabularies.load(vocabulary).codes:
        TreatmentEventIn.model_validate(MINIMAL_EVENT | member(code))
    for other in ("", "nothing", "FORGOT", 0, ["forgot"]):
        assert [code for _, code in faults(TreatmentEventIn, MINIMAL_EVENT | member(other))] == ["unknown_code"]


@pytest.mark.parametrize("status", STATUSES)
def test_only_what_was_taken_has_an_amount(status: str) -> None:
    body = MINIMAL_EVENT | {"status": status, "amount": AMOUNT}
    if status in ("taken", "partial"):
        TreatmentEventIn.model_validate(body)
    else:
        assert faults(TreatmentEventIn, body) == [("/amount", "contradiction")]


@pytest.mark.parametrize("status", STATUSES)
def test_only_what_the_patient_left_out_has_a_reason(status: str) -> None:
    body = MINIMAL_EVENT | {"status": status, "reason": "other"}
    if status in ("taken", "attended", "cancelled_by_provider"):
        assert faults(TreatmentEventIn, body) == [("/reason", "contradiction")]
    else:
        TreatmentEventIn.model_validate(body)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"treatment_id": "1"}, [("/treatment_id", "uuid")]),
        ({"treatment_id": None}, [("/treatment_id", "uuid")]),
        ({"entry_id": MINIMAL_EVENT["id"].upper()}, [("/entry_id", "uuid")]),
        ({"scheduled_for": "2026-03-29T08:00:00"}, [("/scheduled_for", "instant")]),
        ({"status": "missed"}, [("/status", "literal_error")]),
        ({"status": None}, [("/status", "literal_error")]),
        ({"amount": AMOUNT, "reason": "cost"}, [("/amount", "contradiction"), ("/reason", "contradiction")]),
        ({"status": "taken", "amount": {"value": 0, "unit": "mg"}}, [("/amount/value", "greater_than")]),
        ({"status": "taken", "amount": {"value": 1_000_001, "unit": "mg"}}, [("/amount/value", "less_than_equal")]),
        ({"status": "taken", "amount": {"value": "1", "unit": "mg"}}, [("/amount/value", "float_type")]),
        ({"status": "taken", "amount": {"value": 1}}, [("/amount/unit", "missing")]),
        ({"minutes": -1}, [("/minutes", "greater_than_equal")]),
        ({"minutes": 1441}, [("/minutes", "less_than_equal")]),
        ({"minutes": 1.5}, [("/minutes", "int_type")]),
        ({"relief_rating": "bad"}, [("/relief_rating", "literal_error")]),
        ({"pain_before": 11}, [("/pain_before", "less_than_equal")]),
        ({"pain_after": -1}, [("/pain_after", "greater_than_equal")]),
        ({"side_effects": [{"code": "rash"}] * 2}, [("/side_effects/1", "duplicate")]),
        ({"side_effects": [{"code": "rash", "severity": "fatal"}]}, [("/side_effects/0/severity", "unknown_code")]),
        ({"side_effects": [{"severity": "mild"}]}, [("/side_effects/0/code", "missing")]),
        ({"note": "a\0b"}, [("/note", "text")]),
        ({"note": "x" * 4001}, [("/note", "text")]),
    ],
)  # fmt: skip
def test_a_refusal_points_at_the_place(members: dict[str, Any], told: list[tuple[str, str]]) -> None:
    assert faults(TreatmentEventIn, MINIMAL_EVENT | members) == told


@pytest.mark.parametrize("missing", ["id", "occurred_at", "time_zone", "treatment_id", "status"])
def test_nothing_less_is_an_event(missing: str) -> None:
    body = {k: v for k, v in MINIMAL_EVENT.items() if k != missing}
    assert faults(TreatmentEventIn, body) == [(f"/{missing}", "missing")]


def test_put_carries_no_id() -> None:
    fields = {k: v for k, v in MINIMAL_EVENT.items() if k != "id"}
    assert TreatmentEventFields.model_validate(fields).status == "attended"
    assert faults(TreatmentEventFields, MINIMAL_EVENT) == [("/id", "extra_forbidden")]


def test_a_patch_knows_every_field_of_an_event_and_is_not_judged_as_one() -> None:
    everything = dict.fromkeys(TreatmentEventFields.model_fields)
    assert TreatmentEventPatch.model_validate(everything).model_dump(exclude_unset=True) == everything
    patch = {"status": "attended", "amount": AMOUNT, "reason": "cost"}
    assert TreatmentEventPatch.model_validate(patch).model_dump(exclude_unset=True) == patch
    assert faults(TreatmentEventPatch, {"minutes": 1441}) == [("/minutes", "less_than_equal")]


def test_an_answered_event_says_what_does_not_fit() -> None:
    for flags in [[], *([flag] for flag in get_args(EventFlag.__value__))]:
        stored = STORED_EVENT | {"flags": flags}
        assert TreatmentEventOut.model_validate_json(json.dumps(stored)).model_dump(exclude_none=True) == stored
    TreatmentEventOut.model_validate({k: v for k, v in STORED_EVENT.items() if k not in ("note", "flags")})
    assert faults(TreatmentEventOut, STORED_EVENT | {"flags": ["canary"]}) == [("/flags/0", "literal_error")]


def test_a_stored_event_becomes_one_to_be_matched() -> None:
    assert event_of(TreatmentEventOut.model_validate(STORED_EVENT)) == outcomes.Event(
        occurred_at=datetime(2026, 3, 29, 16, 40, tzinfo=UTC),
        status="taken",
        amount=Amount(400, "mg"),
        pain_before=7,
        pain_after=3,
        id=EXAMPLE_EVENT["id"],
    )


def test_an_event_keeps_the_slot_that_the_patient_named() -> None:
    stored = STORED_EVENT | {"status": "skipped", "amount": None, "scheduled_for": "2026-03-29T20:00:00+02:00"}
    done = event_of(TreatmentEventOut.model_validate(stored))
    assert (done.scheduled_for, done.amount) == (datetime(2026, 3, 29, 18, tzinfo=UTC), None)


def test_generated_clients_get_one_plain_name_for_each_type() -> None:
    app = FastAPI()

    @app.put("/events", response_model=TREATMENT_EVENT.page)
    async def replace(body: TreatmentEventFields) -> None: ...

    @app.patch("/events", response_model=TREATMENT_EVENT.history)
    async def revise(body: TreatmentEventPatch) -> None: ...

    @app.post("/events", response_model=TreatmentEventOut)
    async def create(body: TreatmentEventIn) -> None: ...

    names = set(app.openapi()["components"]["schemas"])
    assert {"EventStatus", "EventFlag", "SkipReason", "SideEffect", "Quantity", "TreatmentEventVersion"} <= names
    assert [name for name in names if not name.isalnum()] == []
