"""Failures on the wire: the members of RFC 9457, pointers that hit, and never the input."""

import datetime
import json
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Header, Query
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from pydantic import BaseModel, ConfigDict, EmailStr, Field, TypeAdapter, ValidationError, field_validator
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ErrorType
from starlette.exceptions import HTTPException

from app import errors
from app.config import Settings
from app.http import middleware, problems, validation
from app.http.validation import Failure

pytestmark = pytest.mark.anyio

CANARY = "zebra"
ID = UUID("01980c5e-7a10-7000-8000-000000000001")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Nrs(Strict):
    scale: Literal["nrs"]
    value: Annotated[int, Field(strict=True, ge=0, le=10)]


class Faces(Strict):
    scale: Literal["faces"]
    value: Literal[0, 2, 4, 6, 8, 10]


class Site(Strict):
    region: str
    scores: list[Annotated[Nrs | Faces, Field(discriminator="scale")]]


class Entry(Strict):
    id: UUID
    sites: list[Site] = Field(max_length=100)
    author: EmailStr | None = None
    labels: dict[Annotated[str, Field(pattern="^[a-z]+$")], int] = {}

    @field_validator("labels")
    @classmethod
    def _few(cls, labels: dict[str, int]) -> dict[str, int]:
        if len(labels) > 1:
            raise ValueError("At most one label")
        return labels


router = APIRouter(prefix="/patients/{patient_id}")


@router.post("/entries", responses=problems.responses(errors.Invalid, errors.Conflict))
async def create(patient_id: UUID, entry: Entry) -> str:
    return f"{patient_id} {entry.id}"


@router.get("/entries")
async def page(
    patient_id: UUID,
    limit: Annotated[int, Query(le=200)] = 50,
    if_match: Annotated[int, Header()] = 0,
) -> str:
    return f"{patient_id} {limit} {if_match}"


async def fail_with(status: int) -> None:
    raise HTTPException(status, detail=CANARY, headers={"X-Reason": "maintenance"})


async def fail_stale() -> None:
    raise errors.Stale(current=b'{"version":7,  "score":1.0}', etag='"7"')


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)
    middleware.install(app, Settings(environment="development"))
    app.include_router(router, prefix="/v1")
    app.get("/fail/{status}")(fail_with)
    app.get("/stale")(fail_stale)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def refusal(client: httpx.AsyncClient, body: object) -> list[dict[str, str]]:
    response = await client.post(f"/v1/patients/{ID}/entries", json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert CANARY not in response.text
    faults: list[dict[str, str]] = response.json()["errors"]
    return faults


def entry(**members: object) -> dict[str, object]:
    return {"id": str(ID), "sites": [], **members}


def sited(*scores: object) -> dict[str, object]:
    return entry(sites=[{"region": "knee", "scores": list(scores)}])


async def test_a_problem_has_all_members_and_the_request_id(client: httpx.AsyncClient) -> None:
    response = await client.get("/nowhere")
    assert response.json() == {
        "type": "/problems/not-found",
        "title": "Nothing here",
        "status": 404,
        "detail": errors.NotFound.advice,
        "instance": f"urn:uuid:{response.headers['x-request-id']}",
        "request_id": response.headers["x-request-id"],
    }


async def test_current_stands_in_the_answer_exactly_as_stored(client: httpx.AsyncClient) -> None:
    response = await client.get("/stale")
    assert response.status_code == 412
    assert response.headers["etag"] == '"7"'
    assert response.text.endswith(', "current": {"version":7,  "score":1.0}}')
    assert response.json()["current"] == {"version": 7, "score": 1.0}


def test_headers_follow_from_the_problem() -> None:
    busy = problems.respond(errors.Unavailable(retry_after=3, headers={"X-Reason": "full"}), ID)
    assert (busy.headers["retry-after"], busy.headers["x-reason"]) == ("3", "full")
    assert problems.respond(errors.SignInFailed(), ID).headers["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in problems.respond(errors.Forbidden(), ID).headers


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"sites": []}, "/id", "missing"),
        ([], "", "model_attributes_type"),
        (entry(id=CANARY), "/id", "uuid_parsing"),
        (entry(colour=1), "/colour", "extra_forbidden"),
        (entry(sites=[{"region": "knee", "scores": [], "colour": 1}]), "/sites/0/colour", "extra_forbidden"),
        (entry(sites=[{"scores": []}]), "/sites/0/region", "missing"),
        (sited({"scale": "nrs", "value": 11}), "/sites/0/scores/0/value", "less_than_equal"),
        (sited({"scale": "nrs", "value": True}), "/sites/0/scores/0/value", "int_type"),
        (sited({"scale": "nrs"}), "/sites/0/scores/0/value", "missing"),
        (sited({"scale": "nrs", "value": 1, "a/b~c": 1}), "/sites/0/scores/0", "extra_forbidden"),
        (sited({"scale": "faces", "value": 5}), "/sites/0/scores/0/value", "literal_error"),
        (sited({"scale": CANARY, "value": 1}), "/sites/0/scores/0", "union_tag_invalid"),
        (sited({"value": 1}), "/sites/0/scores/0", "union_tag_not_found"),
        (entry(author=f"{CANARY}<>@example.org"), "/author", "value_error"),
        (entry(labels={f"{CANARY}!": 1}), "/labels", "string_pattern_mismatch"),
        (entry(labels={f"{CANARY}!": "x"}), "/labels", "int_parsing"),
        (entry(labels={"a": 1, "b": 2}), "/labels", "value_error"),
    ],
)  # fmt: skip
async def test_a_fault_points_at_its_place(client: httpx.AsyncClient, body: object, pointer: str, code: str) -> None:
    faults = await refusal(client, body)
    assert (pointer, code) in [(fault["pointer"], fault["code"]) for fault in faults]


async def test_our_own_sentences_arrive_and_permitted_values_are_named(client: httpx.AsyncClient) -> None:
    faults = await refusal(client, entry(labels={"a": 1, "b": 2}, sites=sited({"scale": CANARY})["sites"]))
    assert [fault["detail"] for fault in faults] == [
        "'scale' should be one of 'nrs', 'faces'.",
        "At most one label.",
    ]


async def test_at_most_fifty_faults_are_reported(client: httpx.AsyncClient) -> None:
    assert len(await refusal(client, entry(sites=[{}] * 60))) == 50


async def test_parameters_are_named_by_their_place(client: httpx.AsyncClient) -> None:
    response = await client.get(f"/v1/patients/{ID}/entries", params={"limit": CANARY}, headers={"If-Match": CANARY})
    assert response.status_code == 422
    assert CANARY not in response.text
    assert [fault["pointer"] for fault in response.json()["errors"]] == ["#query/limit", "#header/if-match"]


async def test_a_path_that_cannot_exist_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.get(f"/v1/patients/{CANARY}/entries", params={"limit": "x"})
    assert (response.status_code, response.json()["type"]) == (404, "/problems/not-found")


async def test_a_wrong_method_is_told_every_right_one(client: httpx.AsyncClient) -> None:
    response = await client.delete(f"/v1/patients/{ID}/entries")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")
    assert response.json()["type"] == "/problems/method-not-allowed"


@pytest.mark.parametrize(
    ("raised", "answered", "slug"),
    [
        (403, 403, "forbidden"),
        (413, 413, "too-large"),
        (418, 400, "malformed-request"),
        (500, 500, "internal-error"),
        (503, 503, "unavailable"),
        (504, 500, "internal-error"),
    ],
)
async def test_the_frameworks_own_errors_become_problems(
    client: httpx.AsyncClient, raised: int, answered: int, slug: str
) -> None:
    response = await client.get(f"/fail/{raised}")
    assert (response.status_code, response.json()["type"]) == (answered, f"/problems/{slug}")
    assert response.headers["x-reason"] == "maintenance"
    assert CANARY not in response.text


def test_a_value_validated_by_a_service_gets_the_same_pointers() -> None:
    with pytest.raises(errors.Invalid) as refused:
        validation.validated(Entry, sited({"scale": "faces", "value": 5}))
    (fault,) = refused.value.faults
    assert (fault.pointer, fault.code) == ("/sites/0/scores/0/value", "literal_error")
    assert validation.validated(Entry, entry()).id == ID


# What a message says of the rule; all else that Pydantic puts into one comes from the input.
OURS = {
    "class", "class_name", "decimal_places", "discriminator", "encoding", "expected", "expected_schemes",
    "expected_tags", "expected_version", "field_type", "ge", "gt", "le", "lt", "max_digits", "max_length",
    "method_name", "min_length", "multiple_of", "pattern", "tz_expected", "whole_digits",
}  # fmt: skip
# Their reason is one of a few fixed sentences about dates, tested below, or ours.
HARMLESS_REASONS = {
    "date_from_datetime_parsing", "date_parsing", "datetime_from_date_parsing", "datetime_parsing",
    "time_delta_parsing", "time_parsing", "value_error",
}  # fmt: skip


def known_error(kind: Any) -> PydanticKnownError:
    """The error with a canary wherever Pydantic may put the input; numbers are all 1."""
    context: dict[str, Any] = {}
    while True:
        try:
            return PydanticKnownError(kind, context or None)
        except TypeError as complaint:
            name = str(complaint).split(":")[-1].split("'")[1]
            context[name] = 1 if name in context else "ours" if name in OURS else CANARY


@pytest.mark.parametrize("kind", sorted(set(get_args(ErrorType)) - HARMLESS_REASONS))
def test_no_message_of_pydantic_carries_the_input_through(kind: str) -> None:
    error = known_error(kind)
    failure: Failure = {"type": kind, "loc": ("body",), "msg": error.message(), "ctx": error.context or {}}
    (fault,) = validation.faults([failure], {})
    assert CANARY not in fault.detail
    assert fault.detail


@pytest.mark.parametrize("text", ["zebra", "2025-13-01", "2025-01-01T00:00:00+99:00", "1e400", "25:61"])
@pytest.mark.parametrize("type_name", ["date", "datetime", "time", "timedelta"])
def test_sentences_about_dates_repeat_nothing(type_name: str, text: str) -> None:
    with pytest.raises(ValidationError) as failure:
        TypeAdapter(getattr(datetime, type_name)).validate_json(json.dumps(f"{text}{CANARY}"))
    failures = [validation.in_body(one) for one in failure.value.errors()]
    (fault,) = validation.faults(failures, None)
    assert CANARY not in fault.detail


# What a problem refers to is in the whole document, which tests/test_contract.py looks at.
REFERRED: dict[str, object] = {name: {} for name in ("ItemFault", "KnownRecord", "UnknownRecord")}
COMPONENTS = {"schemas": REFERRED | {"Problem": problems.PROBLEM_SCHEMA}}


def test_documented_responses_merge_kinds_of_one_status_and_are_valid_openapi() -> None:
    documented = problems.documented(problems.problem_types())
    assert set(documented[403]["content"]["application/problem+json"]["examples"]) == {
        "forbidden",
        "insufficient-scope",
        "step-up-required",
        "not-verified",
        "account-not-ready",
    }
    assert documented[401]["description"] == "Sign-in is needed · Sign-in failed"
    app = FastAPI()
    app.get("/", responses=problems.responses(*problems.problem_types()))(fail_stale)
    description = app.openapi()
    description["components"] = COMPONENTS
    validate(description)


def test_every_example_obeys_the_schema() -> None:
    validator = OAS31Validator(problems.PROBLEM_SCHEMA | {"components": COMPONENTS})
    for response in problems.documented(problems.problem_types()).values():
        for example in response["content"]["application/problem+json"]["examples"].values():
            validator.validate(example["value"])


def test_slugs_are_unique() -> None:
    slugs = [kind.slug for kind in problems.problem_types()]
    assert len(slugs) == len(set(slugs))
