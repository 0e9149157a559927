"""The profile on the wire: what is taken, what is refused and where the refusal points."""

import json
from contextlib import suppress
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app import vocabularies
from app.schemas.profile import (
    EXAMPLE_PROFILE,
    MINIMAL_PROFILE,
    PROFILE,
    STORED_PROFILE,
    ProfileFields,
    ProfileOut,
    ProfilePatch,
)
from tests.schemas.refusals import CANARIES, answers, faults, places, with_more, with_value

SERVER_FIELDS = {k: v for k, v in STORED_PROFILE.items() if k not in EXAMPLE_PROFILE}
PATHS = [path for path, _ in places(EXAMPLE_PROFILE)]


def test_the_examples_are_profiles() -> None:
    for model in (ProfileFields, ProfilePatch, ProfileOut, PROFILE.history):
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)


def test_the_full_example_shows_every_field_and_fits_the_published_schema() -> None:
    assert set(EXAMPLE_PROFILE) == set(ProfileFields.model_fields)
    jsonschema_rs.validator_for(ProfileFields.model_json_schema()).validate(EXAMPLE_PROFILE)


def test_a_birth_date_is_enough_and_what_was_not_said_is_absent() -> None:
    assert ProfileFields.model_validate(MINIMAL_PROFILE).model_dump(exclude_none=True) == MINIMAL_PROFILE | {
        "occurred_precision": "minute",
        "performer": "self",
        "birth_date_precision": "day",
        "conditions": [],
        "allergies": [],
    }


def test_the_full_example_is_written_as_it_was_read() -> None:
    profile = ProfileFields.model_validate(EXAMPLE_PROFILE)
    assert profile.model_dump(exclude_none=True) == EXAMPLE_PROFILE
    assert ProfileFields.model_validate_json(profile.model_dump_json()) == profile


@given(st.sampled_from(PATHS), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5))
def test_whatever_stands_in_a_field_is_taken_or_refused(path: tuple[Any, ...], value: Any) -> None:
    with suppress(ValidationError):
        profile = ProfileFields.model_validate(with_value(EXAMPLE_PROFILE, path, value))
        assert ProfileFields.model_validate_json(profile.model_dump_json()) == profile


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_no_refusal_repeats_what_was_sent(path: tuple[Any, ...]) -> None:
    for canary in CANARIES:
        answer = answers(ProfileFields, with_value(EXAMPLE_PROFILE, path, canary))
        assert "canary" not in answer
        assert "4242424242" not in answer


@pytest.mark.parametrize("path", [(), ("source",), ("weight",), ("pregnancy",)])
def test_an_unknown_member_is_refused_at_every_level(path: tuple[Any, ...]) -> None:
    pointer = "".join(f"/{step}" for step in (*path, "canary"))
    assert faults(ProfileFields, with_more(EXAMPLE_PROFILE, path)) == [(pointer, "extra_forbidden")]


@pytest.mark.parametrize("member", SERVER_FIELDS)
def test_a_phone_cannot_set_what_the_server_owns_nor_the_id(member: str) -> None:
    body = MINIMAL_PROFILE | {member: SERVER_FIELDS[member]}
    assert faults(ProfileFields, body) == faults(ProfilePatch, body) == [(f"/{member}", "extra_forbidden")]


@pytest.mark.parametrize("vocabulary", ["conditions", "allergies"])
def test_every_code_of_its_vocabulary_is_taken_once_and_no_other(vocabulary: str) -> None:
    codes = list(vocabularies.load(vocabulary).ordered_codes)
    ProfileFields.model_validate(MINIMAL_PROFILE | {vocabulary: codes})
    assert faults(ProfileFields, MINIMAL_PROFILE | {vocabulary: codes[:1] * 2}) == [(f"/{vocabulary}/1", "duplicate")]
    for other in ("", "nothing", "OTHER", 0, ["other"]):
        assert faults(ProfileFields, MINIMAL_PROFILE | {vocabulary: [other]}) == [(f"/{vocabulary}/0", "unknown_code")]


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"birth_date": "2026-03-30"}, [("/birth_date", "after_occurred_at")]),
        ({"birth_date": "17.05.1980"}, [("/birth_date", "date")]),
        ({"birth_date": None}, [("/birth_date", "date")]),
        ({"sex_at_birth": "f"}, [("/sex_at_birth", "literal_error")]),
        ({"locale": "de-Germany!"}, [("/locale", "language_tag")]),
        ({"weight": {"value": 0.29, "on": "2026-03-20"}}, [("/weight/value", "greater_than_equal")]),
        ({"weight": {"value": 500.1, "on": "2026-03-20"}}, [("/weight/value", "less_than_equal")]),
        ({"weight": {"value": 70}}, [("/weight/on", "missing")]),
        ({"pregnancy": {}}, [("/pregnancy/status", "missing")]),
        ({"pregnancy": {"status": "yes"}}, [("/pregnancy/status", "literal_error")]),
        (
            {"pregnancy": {"status": "not_pregnant", "due_date": "2026-09-14"}},
            [("/pregnancy/due_date", "contradiction")],
        ),
        ({"pregnancy": {"status": "unknown", "due_date": "2026-09-14"}}, [("/pregnancy/due_date", "contradiction")]),
        ({"breastfeeding": "no"}, [("/breastfeeding", "bool_type")]),
        ({"cognitive_impairment": 0}, [("/cognitive_impairment", "bool_type")]),
        ({"conditions": None}, [("/conditions", "list_type")]),
        ({"note": "Hm."}, [("/note", "extra_forbidden")]),
    ],
)
def test_a_refusal_points_at_the_place(members: dict[str, Any], told: list[tuple[str, str]]) -> None:
    assert faults(ProfileFields, MINIMAL_PROFILE | members) == told


@pytest.mark.parametrize(
    "members",
    [
        {"birth_date": "2026-03-29"},
        {"occurred_at": "2026-03-30T00:30:00+14:00", "birth_date": "2026-03-30"},  # the 29th in UTC
        {"weight": {"value": 0.3, "on": "2026-03-20"}},
        {"weight": {"value": 500, "on": "2026-03-20"}},
        {"pregnancy": {"status": "pregnant"}},
        {"pregnancy": {"status": "pregnant", "due_date": "2026-09-14"}},
        {"pregnancy": {"status": "not_pregnant", "due_date": None}},
        {"sex_at_birth": None, "locale": None, "weight": None, "pregnancy": None, "breastfeeding": None},
    ],
)
def test_what_does_not_contradict_itself_is_taken(members: dict[str, Any]) -> None:
    ProfileFields.model_validate(MINIMAL_PROFILE | members)


def test_the_day_of_birth_is_compared_with_the_local_day() -> None:
    body = MINIMAL_PROFILE | {"occurred_at": "2026-03-28T23:30:00-12:00"}  # the 29th in UTC
    assert faults(ProfileFields, body | {"birth_date": "2026-03-29"}) == [("/birth_date", "after_occurred_at")]


def test_a_patch_knows_every_field_of_the_profile_and_is_not_judged_as_one() -> None:
    everything = dict.fromkeys(ProfileFields.model_fields)
    assert ProfilePatch.model_validate(everything).model_dump(exclude_unset=True) == everything
    patch = {"birth_date": "2199-12-31", "pregnancy": {"status": "not_pregnant", "due_date": None}}
    assert ProfilePatch.model_validate(patch).model_dump(mode="json", exclude_unset=True) == patch


def test_an_answered_profile_has_the_envelope_beside_its_fields() -> None:
    profile = ProfileOut.model_validate_json(json.dumps(STORED_PROFILE))
    assert profile.model_dump(exclude_none=True) == STORED_PROFILE
    assert profile.id == profile.patient_id


def test_generated_clients_get_one_plain_name_for_each_type() -> None:
    app = FastAPI()

    @app.put("/profile", response_model=ProfileOut)
    async def replace(body: ProfileFields) -> None: ...

    @app.patch("/profile", response_model=PROFILE.history)
    async def revise(body: ProfilePatch) -> None: ...

    names = set(app.openapi()["components"]["schemas"])
    assert {"Condition", "Allergy", "Weight", "Pregnancy", "ProfilePatch", "ProfileVersion"} <= names
    assert [name for name in names if not name.isalnum()] == []
