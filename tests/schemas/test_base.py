"""The types that bodies are made of: nothing is coerced, nothing is echoed, the JSON schema says what is meant."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from app.schemas.base import (
    BodyFault,
    CodeOf,
    Distinct,
    Instant,
    LocalDate,
    RecordId,
    Strict,
    TimeZone,
    line,
    partial,
    refuse,
    text,
)

V7 = "0195d3f4-8e2a-7c31-9b1e-5a2f6c7d8e90"


class Inner(Strict):
    code: str
    depth: str | None = None


class Body(Strict):
    """A body with one field of each kind."""

    at: Instant
    day: LocalDate | None = None
    zone: TimeZone | None = None
    id: RecordId | None = None
    note: Annotated[str, text(10)] | None = None
    name: Annotated[str, line(10)] = "x"
    region: Annotated[str, CodeOf("body_regions")] | None = None
    inner: Annotated[list[Inner], Distinct("code", "depth")] = Field(default=[], max_length=3)
    tags: Annotated[list[str], Distinct()] = Field(default=[])
    count: int = Field(default=0, ge=0, description="How many.")
    share: float | None = None
    on: bool = False


AT = "2026-03-29T08:00:00+02:00"


def faults(**members: Any) -> list[tuple[Any, ...]]:
    """Where and why a body with these members is refused."""
    with pytest.raises(ValidationError) as refused:
        Body.model_validate({"at": AT, **members})
    return [(error["loc"], error["type"]) for error in refused.value.errors()]


def test_text_becomes_moments_and_days() -> None:
    body = Body.model_validate({"at": AT, "day": "2026-03-29"})
    assert body.at == datetime(2026, 3, 29, 6, tzinfo=UTC)
    assert body.at.utcoffset() == timedelta(hours=2)
    assert body.day == date(2026, 3, 29)


def test_a_body_is_written_as_it_was_read() -> None:
    sent = {"at": AT, "day": "2026-03-29", "zone": "Europe/Berlin", "id": V7, "note": "a\n\tb"}
    body = Body.model_validate(sent)
    assert body.model_dump(exclude_unset=True) == sent
    assert Body.model_validate_json(body.model_dump_json()) == body


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("at", 1_774_764_000, "instant"),
        ("at", "2026-03-29T08:00:00", "instant"),
        ("at", None, "instant"),
        ("day", "2026-03-29T00:00:00Z", "date"),
        ("zone", "Middle/Earth", "time_zone"),
        ("zone", ["Europe/Berlin"], "time_zone"),
        ("id", UUID(V7), "uuid"),
        ("id", V7.upper(), "uuid"),
        ("id", V7.replace("-", ""), "uuid"),
        ("id", f"{{{V7}}}", "uuid"),
        ("id", f"{V7}\n", "uuid"),
        ("id", "00000000-0000-0000-0000-000000000000", "uuid"),
        ("id", "a4d90eb4-e626-11f1-8a4d-02fc00000001", "uuid"),
        ("id", "0195d3f4-8e2a-7c31-cb1e-5a2f6c7d8e90", "uuid"),  # another variant
        ("note", "", "text"),
        ("note", "a\0b", "text"),
        ("name", "a\r\nb", "text"),
        ("note", "a\x7fb", "text"),
        ("note", "a\x85b", "text"),
        ("note", "\ud800", "text"),
        ("note", "x" * 11, "text"),
        ("note", 5, "text"),
        ("name", "a\nb", "text"),
        ("name", None, "text"),
        ("region", "nowhere", "unknown_code"),
        ("region", 5, "unknown_code"),
        ("count", True, "int_type"),
        ("count", "5", "int_type"),
        ("count", 5.0, "int_type"),
        ("share", "5", "float_type"),
        ("share", True, "float_type"),
        ("share", float("nan"), "finite_number"),
        ("share", float("inf"), "finite_number"),
        ("on", 1, "bool_type"),
        ("on", "true", "bool_type"),
        ("inner", (), "list_type"),
        ("canary", 1, "extra_forbidden"),
    ],
)
def test_nothing_is_coerced(member: str, value: object, code: str) -> None:
    assert faults(**{member: value}) == [((member,), code)]


@given(st.uuids(version=4).map(str))
def test_ids_of_version_4_are_taken(value: str) -> None:
    assert Body.model_validate({"at": AT, "id": value}).id == value


@pytest.mark.parametrize("value", ["\U0001f600" * 10, "e\u0301\u200d\ufe0f", "  ", "a\tb\nc"])
def test_text_is_counted_in_code_points_and_kept_as_it_is(value: str) -> None:
    assert Body.model_validate({"at": AT, "note": value}).note == value


@pytest.mark.parametrize(("sent", "kept"), [("a\r\nb", "a\nb"), ("a\rb\r", "a\nb\n"), ("\r\n" * 10, "\n" * 10)])
def test_each_end_of_a_line_is_kept_as_a_line_feed_and_counts_as_one(sent: str, kept: str) -> None:
    assert Body.model_validate({"at": AT, "note": sent}).note == kept


def test_each_repeated_item_is_pointed_at() -> None:
    twice = [{"code": "a"}, {"code": "a", "depth": "deep"}, {"code": "a"}]
    assert faults(inner=twice) == [(("inner", 2), "duplicate")]
    assert faults(tags=["a", "b", "a", "b"]) == [(("tags", 2), "duplicate"), (("tags", 3), "duplicate")]


def test_a_list_that_is_too_long_is_not_looked_through() -> None:
    assert faults(inner=[{"code": "a"}] * 10_000) == [(("inner",), "too_long")]


def test_a_body_cannot_be_changed() -> None:
    body = Body.model_validate({"at": AT})
    with pytest.raises(ValidationError, match="frozen"):
        body.on = True  # type: ignore[misc]  # frozen is the point


def test_refusing_nothing_passes() -> None:
    refuse([])


def test_faults_of_the_whole_stand_at_their_own_places() -> None:
    with pytest.raises(ValidationError) as refused:
        refuse([BodyFault(("a", 0), "one", "First {brace}."), BodyFault((), "two", "Second.")])
    told = [(error["loc"], error["type"], error["msg"]) for error in refused.value.errors()]
    assert told == [(("a", 0), "one", "First {brace}."), ((), "two", "Second.")]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Instant, {"type": "string", "format": "date-time"}),
        (LocalDate, {"type": "string", "format": "date"}),
        (TimeZone, {"type": "string", "format": "time-zone", "maxLength": 64}),
        (RecordId, {"type": "string", "format": "uuid"}),
        (Annotated[str, text(7)], {"type": "string", "minLength": 1, "maxLength": 7}),
        (Annotated[list[str], Distinct()], {"type": "array", "uniqueItems": True}),
    ],
)
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_the_json_schema_is_the_same_for_reading_and_writing(kind: Any, expected: dict[str, Any], mode: Any) -> None:
    schema = TypeAdapter(kind).json_schema(mode=mode)
    assert schema.items() >= expected.items()


def test_codes_are_an_enum_in_the_order_of_the_vocabulary() -> None:
    schema = TypeAdapter(Annotated[str, CodeOf("triggers")]).json_schema()
    assert schema["enum"][:3] == ["sitting", "standing", "walking"]


@partial
class BodyPatch(Body):
    """Changes a body."""


@pytest.mark.parametrize("member", sorted(Body.model_fields))
def test_a_patch_may_leave_out_or_delete_each_field(member: str) -> None:
    assert BodyPatch.model_validate({}).model_dump(exclude_unset=True) == {}
    assert BodyPatch.model_validate({member: None}).model_dump(exclude_unset=True) == {member: None}


@pytest.mark.parametrize(
    ("member", "value"),
    [("at", "yesterday"), ("inner", [{}]), ("inner", [{"code": "a"}] * 2), ("count", -1), ("canary", 1), ("name", "")],
)
def test_a_patch_is_as_strict_as_the_body_itself(member: str, value: object) -> None:
    with pytest.raises(ValidationError):
        BodyPatch.model_validate({member: value})


def test_a_patch_is_described_like_the_body() -> None:
    schema = BodyPatch.model_json_schema()
    assert (schema["title"], schema["description"]) == ("BodyPatch", "Changes a body.")
    assert set(schema["properties"]) == set(Body.model_fields)
    assert "required" not in schema
    assert schema["properties"]["count"]["description"] == "How many."
    assert {"type": "null"} in schema["properties"]["count"]["anyOf"]
