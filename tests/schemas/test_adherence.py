"""The figures and the slots on the wire: their examples, and that nothing which is unknown is left out."""

from dataclasses import fields
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from app.domain import adherence, due, outcomes, prn, regimens
from app.schemas.adherence import (
    EXAMPLE_ADHERENCE,
    AdherenceOut,
    CappedFigure,
    DoseFigures,
    Figure,
    LeftOut,
    Median,
    Outcomes,
    OverallAdherence,
    PrnUse,
    SessionFigures,
    TotalAmount,
)
from app.schemas.slots import EXAMPLE_PERIODS, EXAMPLE_SLOTS, Period, SlotsOut
from app.schemas.treatment_events import EventFlag
from tests.schemas.refusals import faults, places, with_more, with_value

EXAMPLES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (AdherenceOut, EXAMPLE_ADHERENCE),
    (SlotsOut, EXAMPLE_SLOTS),
    (SlotsOut, EXAMPLE_PERIODS),
]
MEMBERS = [
    (model, example, path) for model, example in EXAMPLES for path, _ in places(example) if isinstance(path[-1], str)
]


def without(body: Any, path: tuple[Any, ...]) -> Any:
    """A copy of the body without the member at that place."""
    *way, last = path
    holder = body
    for key in way:
        holder = holder[key]
    rest = {name: value for name, value in holder.items() if name != last}
    return with_value(body, tuple(way), rest)


@pytest.mark.parametrize(("model", "example"), EXAMPLES)
def test_the_examples_fit_and_are_written_as_they_were_read(model: type[BaseModel], example: dict[str, Any]) -> None:
    assert example in model.model_json_schema()["examples"]
    assert model.model_validate(example).model_dump(mode="json") == example
    jsonschema_rs.validator_for(model.model_json_schema(), validate_formats=True).validate(example)


@pytest.mark.parametrize(("model", "example", "path"), MEMBERS)
def test_every_member_is_always_there(model: type[BaseModel], example: dict[str, Any], path: tuple[Any, ...]) -> None:
    pointer = "".join(f"/{step}" for step in path)
    assert faults(model, without(example, path)) == [(pointer, "missing")]
    assert not jsonschema_rs.is_valid(model.model_json_schema(), without(example, path))


@pytest.mark.parametrize(("model", "example"), EXAMPLES)
def test_there_is_no_other_member(model: type[BaseModel], example: dict[str, Any]) -> None:
    for path in [(), *(path for path, inside in places(example) if isinstance(inside, dict))]:
        pointer = "".join(f"/{step}" for step in (*path, "canary"))
        assert faults(model, with_more(example, path)) == [(pointer, "extra_forbidden")]


def test_what_nobody_can_tell_is_null() -> None:
    taking = ("overall", "doses", "taking")
    for name in ("value", "lower", "upper", "known_fraction"):
        AdherenceOut.model_validate(with_value(EXAMPLE_ADHERENCE, (*taking, name), None))
    AdherenceOut.model_validate(with_value(EXAMPLE_ADHERENCE, ("outbox_empty_at",), None))
    for name in ("numerator", "denominator", "definition"):
        place = (*taking, name)
        [(pointer, _)] = faults(AdherenceOut, with_value(EXAMPLE_ADHERENCE, place, None))
        assert pointer == "".join(f"/{step}" for step in place)


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_share_lies_between_nothing_and_all(value: float) -> None:
    place = ("overall", "sessions", "attended", "value")
    body = with_value(EXAMPLE_ADHERENCE, place, value)
    assert [pointer for pointer, _ in faults(AdherenceOut, body)] == ["/overall/sessions/attended/value"]


@pytest.mark.parametrize(
    ("schema", "domain"),
    [
        (Figure, adherence.Ratio),
        (CappedFigure, adherence.CappedRatio),
        (DoseFigures, adherence.DoseAdherence),
        (SessionFigures, adherence.SessionAdherence),
        (OverallAdherence, adherence.Overall),
        (PrnUse, prn.AsNeededUse),
        (Median, prn.SampleMedian),
        (TotalAmount, regimens.Amount),
    ],
)
def test_all_that_is_computed_is_answered(schema: type[BaseModel], domain: Any) -> None:
    assert list(schema.model_fields) == [field.name for field in fields(domain)]


def test_every_outcome_is_counted_but_what_is_not_yet_over() -> None:
    assert list(Outcomes.model_fields) == [outcome for outcome in outcomes.Outcome if outcome != "not_due"]


def test_every_flag_of_an_event_is_a_reason_to_leave_it_out() -> None:
    reasons = {field.name for field in fields(outcomes.Uncounted)}
    assert set(LeftOut.model_fields) == set(EventFlag.__value__.__args__) | reasons


def test_the_description_says_whose_word_it_is_and_what_it_is_not() -> None:
    said = AdherenceOut.model_json_schema()["description"]
    assert said.startswith("Self-reported adherence")
    assert "none of them is PDC or MPR" in said


def test_every_member_of_a_period_is_known_to_the_arithmetic() -> None:
    own = {"time_zone", "line", "on_hold"}
    assert set(Period.model_fields) - own <= {field.name for field in fields(due.DuePeriod)}


def test_generated_clients_get_one_plain_name_for_each_type() -> None:
    app = FastAPI()

    @app.get("/slots", response_model=SlotsOut)
    async def read_slots() -> None: ...

    @app.get("/adherence", response_model=AdherenceOut)
    async def read_adherence() -> None: ...

    names = set(app.openapi()["components"]["schemas"])
    assert {"Slot", "Period", "SlotsOut", "AdherenceOut", "Figure", "Outcomes", "PrnUse", "LeftOut"} <= names
    assert [name for name in names if not name.isalnum()] == []
