"""The OpenAPI document, from which integrators write their clients: complete, and true in itself."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import SecretStr

from app.config import Settings
from app.http.open_answers import BOUNDS
from app.main import create_app
from app.schemas.care_team import EXAMPLE_GRANT, GrantOut
from app.schemas.kinds import KINDS
from tests.access_rules import operations_of

pytestmark = pytest.mark.anyio

PROBLEM = "application/problem+json"
JSON = ("application/json", "application/merge-patch+json")

OF_KINDS = {  # by the verb of an operation of records
    "create": "200 201 400 401 403 404 409 410 413 415 422 429 503",
    "list": "200 304 400 401 403 404 410 422 429 503",
    "read": "200 400 401 403 404 410 422 429 503",
    "replace": "200 400 401 403 404 409 410 412 413 415 422 428 429 503",
    "revise": "200 400 401 403 404 409 410 412 413 415 422 428 429 503",
    "delete": "204 400 401 403 404 410 412 422 428 429 503",
    "undelete": "200 400 401 403 404 409 410 412 422 428 429 503",
    "list_versions": "200 400 401 403 404 410 422 429 503",
}
STATUSES = {
    **{name: OF_KINDS[verb] for kind in KINDS for verb, name in operations_of(kind).items()},
    "register": "202 400 413 415 422 429 503",
    "activate": "204 400 404 413 415 422 429 503",
    "sign_in": "201 400 401 403 413 415 422 429 503",
    "refresh_tokens": "200 400 401 413 415 422 429 503",
    "read_jwks": "200 400 422 429",
    "read_me": "200 400 401 422 429 503",
    "list_patients": "200 304 400 401 422 429 503",
    "list_held_grants": "200 400 401 422 429 503",
    "list_sessions": "200 400 401 422 429 503",
    "revoke_session": "204 400 401 404 422 429 503",
    "revoke_other_sessions": "204 400 401 422 429 503",
    "read_patient": "200 400 401 403 404 410 422 429 503",
    "read_slots": "200 400 401 403 404 410 422 429 503",
    "read_adherence": "200 304 400 401 403 404 410 422 429 503",
    "read_timeline": "200 304 400 401 403 404 410 422 429 503",
    "create_share_code": "201 400 401 403 404 410 413 415 422 429 503",
    "redeem_share_code": "202 400 401 403 404 413 415 422 429 503",
    "list_grants": "200 400 401 403 404 410 422 429 503",
    "confirm_grant": "200 400 401 403 404 410 422 429 503",
    "narrow_grant": "200 400 401 403 404 410 413 415 422 429 503",
    "revoke_grant": "204 400 401 403 404 410 422 429 503",
    "list_accesses": "200 400 401 403 404 410 422 429 503",
    "push_changes": "200 400 401 403 404 410 413 415 422 429 503",
    "pull_changes": "200 400 401 403 404 410 422 429 503",
    "compare_diaries": "200 400 401 403 404 410 413 415 422 429 503",
    "read_heads": "200 400 401 422 429 503",
    "list_vocabularies": "200 400 422 429",
    "read_vocabulary": "200 304 400 404 422 429",
    "read_liveness": "200 400 422 429",
    "read_readiness": "200 400 422 429 503",
    "read_metrics": "200 400 403 422 429",
}
OPEN = {
    "register",
    "activate",
    "sign_in",
    "refresh_tokens",
    "read_jwks",
    "list_vocabularies",
    "read_vocabulary",
    "read_liveness",
    "read_readiness",
    "read_metrics",
}


class Shown(NamedTuple):
    """A schema, the examples beside it, and where both stand."""

    place: str
    schema: dict[str, Any]
    examples: list[Any]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application, not started: its description needs no database."""
    directory = tmp_path_factory.mktemp("state")
    return create_app(
        Settings(environment="development", database_url=SecretStr("postgresql://"), state_directory=directory)
    )


@pytest.fixture
def document(described: FastAPI) -> Any:
    """The document as JSON makes it."""
    return json.loads(json.dumps(described.openapi()))


@pytest.fixture
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by its id."""
    found = [operation for path in document["paths"].values() for operation in path.values()]
    named = {operation["operationId"]: operation for operation in found}
    assert len(named) == len(found), "two operations have one id"
    return named


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


async def test_it_is_served(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    assert (await client.get("/openapi.json")).json() == document


def test_every_operation_says_what_it_does(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    sections = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert sections.issuperset(operation["tags"]), name
    assert sections == {tag for operation in operations.values() for tag in operation["tags"]}


def test_every_parameter_says_what_it_is(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (name, parameter["name"])


def test_an_operation_is_called_like_its_function(described: FastAPI, operations: dict[str, dict[str, Any]]) -> None:
    routes = [context.original_route for context in iter_route_contexts(described.routes)]
    shown = [route for route in routes if isinstance(route, APIRoute) and route.include_in_schema]
    functions = {route.endpoint.__name__ for route in shown}
    assert set(operations) == functions
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in operations)


def test_sign_in_is_asked_for_everywhere_but_at_the_open_operations(operations: dict[str, dict[str, Any]]) -> None:
    assert {name for name, operation in operations.items() if not operation.get("security")} == OPEN


def test_each_operation_names_every_status_it_answers(operations: dict[str, dict[str, Any]]) -> None:
    assert {name: " ".join(operation["responses"]) for name, operation in operations.items()} == STATUSES


def test_every_integer_of_a_request_fits_into_those_of_the_database(
    operations: dict[str, dict[str, Any]], document: dict[str, Any]
) -> None:
    """SQL takes 32 bits: beyond them a value that passed here would be refused by PostgreSQL, and told as our fault."""
    seen = 0
    for name, operation in operations.items():
        for part in [*operation.get("parameters", []), operation.get("requestBody", {})]:
            for schema in _parts(document, part):
                if "integer" in schema.get("type", ()):
                    assert -(2**31) <= schema["minimum"] <= schema["maximum"] < 2**31, (name, schema)
                    seen += 1
    assert seen > 50


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for place, value in _walk(document):
        if place.endswith("/$ref"):
            assert _resolve(document, value), place


def test_nothing_of_the_frameworks_own_failures_is_left(document: dict[str, Any]) -> None:
    assert "ValidationError" not in json.dumps(document)


def test_answers_are_open_and_requests_are_strict(document: dict[str, Any]) -> None:
    sent = _schemas(document, [one.get("requestBody", {}) for one in _operations(document)])
    answered = _schemas(document, [one["responses"] for one in _operations(document)])
    assert [place for place in sent.keys() & answered if "x-extensible-enum" not in sent[place]] == []
    for name, schema in sent.items():
        assert schema.get("type") != "object" or schema["additionalProperties"] is False, name
    for name, schema in answered.items():
        assert schema.get("additionalProperties", True) is True, name
        assert {"enum", *BOUNDS}.isdisjoint(schema), name


def test_what_an_answer_may_leave_out_is_never_null(document: dict[str, Any]) -> None:
    for name, schema in _schemas(document, [one["responses"] for one in _operations(document)]).items():
        optional = schema.get("properties", {}).keys() - schema.get("required", ())
        nullable = {one for one in optional if {"type": "null"} in schema["properties"][one].get("anyOf", ())}
        assert nullable == set(), name


def test_every_list_of_codes_in_a_request_has_a_name_and_is_open_where_it_is_also_answered(
    document: dict[str, Any],
) -> None:
    sent = _schemas(document, [one.get("requestBody", {}) for one in _operations(document)])
    named = {place for place in sent if re.fullmatch(r"#/components/schemas/\w+", place)}
    lists = {place for place, schema in sent.items() if _has(schema, "enum") or _has(schema, "x-extensible-enum")}
    assert lists <= named
    assert [place for place in lists if _has(sent[place], "enum")] == ["#/components/schemas/MutationOp"]
    assert len(lists) > 30


def test_a_record_is_told_apart_by_its_kind_wherever_one_is_sent_or_answered(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    any_record = [{"$ref": f"#/components/schemas/{name}"} for name in ("KnownRecord", "UnknownRecord")]
    for name, member in (("Change", "record"), ("PushResult", "record"), ("Problem", "current")):
        assert schemas[name]["properties"][member]["anyOf"] == any_record
    for name, suffix in (("KnownRecord", "Out"), ("AnyMutation", "Mutation")):
        models = {kind.name: f"#/components/schemas/{kind.title}{suffix}" for kind in KINDS}
        assert schemas[name]["discriminator"] == {"propertyName": "kind", "mapping": models}
    for kind in KINDS:
        data = schemas[f"{kind.title}Mutation"]["properties"]["data"]
        assert data["anyOf"][0] == {"$ref": f"#/components/schemas/{kind.fields.__name__}"}


async def test_the_document_leads_to_the_guides(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    guides = [one["externalDocs"]["url"] for one in (document, *document["tags"]) if "externalDocs" in one]
    assert guides == ["/guides/integrate", "/guides/adherence", "/guides/sync"]
    assert [(await client.get(guide)).status_code for guide in guides] == [200, 200, 200]


def test_every_request_and_answer_in_json_has_an_example(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    for name, operation in operations.items():
        parts = {status: response for status, response in operation["responses"].items() if status < "300"}
        if "requestBody" in operation:
            parts["request"] = operation["requestBody"]
        for part, holder in parts.items():
            shown = [_shown(document, name, media) for kind, media in _content(holder) if kind in JSON]
            assert all(one.examples for one in shown), (name, part)


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    shown = list(_all_shown(document))
    assert len(shown) > 100
    for place, schema, examples in shown:
        whole = {**schema, "components": document["components"]}
        validator = OAS31Validator(whole, format_checker=oas31_format_checker)
        for example in examples:
            assert list(validator.iter_errors(example)) == [], place


def test_the_example_of_a_consent_says_in_words_what_it_says_in_fields() -> None:
    fields = {name: value for name, value in EXAMPLE_GRANT.items() if name != "words"}
    assert GrantOut.model_validate_json(json.dumps(fields)).words == EXAMPLE_GRANT["words"]


async def test_every_failure_is_a_problem_whose_type_is_a_page(
    client: httpx.AsyncClient, operations: dict[str, dict[str, Any]]
) -> None:
    pages: set[str] = set()
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            [(kind, media)] = _content(response)
            assert (kind, media["schema"]) == (PROBLEM, {"$ref": "#/components/schemas/Problem"}), (name, status)
            examples = [example["value"] for example in media["examples"].values()]
            assert examples, (name, status)
            assert {example["status"] for example in examples} == {int(status)}, name
            pages.update(example["type"] for example in examples)
    for page in sorted(pages):
        answer = await client.get(page)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8"), page


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def _schemas(document: dict[str, Any], holders: Any) -> dict[str, dict[str, Any]]:
    """Every schema that these lead to, by its place; those inside of others too."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [value for place, value in _walk(holders) if place.endswith("/$ref")]
    while waiting:
        reference = waiting.pop()
        if reference not in found:
            for place, value in _walk(_resolve(document, reference), reference):
                if isinstance(value, dict) and not re.search(r"/(examples?/|(properties|mapping|not)$)", place):
                    found[place] = value
                waiting += [value] if place.endswith("/$ref") else []
    return found


def _has(value: Any, key: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(key), list)


def _content(holder: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(holder.get("content", {}).items())


def _shown(document: dict[str, Any], place: str, holder: dict[str, Any]) -> Shown:
    """A media type's or parameter's schema with the examples at it or, where it has none, at its schema."""
    own = [example["value"] for example in holder.get("examples", {}).values()]
    own += [holder["example"]] if "example" in holder else []
    schema = holder["schema"]
    target = _resolve(document, schema["$ref"]) if "$ref" in schema else schema
    return Shown(place, schema, own or target.get("examples", []))


def _all_shown(document: dict[str, Any]) -> Iterator[Shown]:
    """Every example of the document with its schema: at media types, headers and parameters, and in schemas."""
    for place, value in _walk(document):
        if isinstance(value, dict) and isinstance(value.get("schema"), dict):
            yield _shown(document, place, value)
        if isinstance(value, dict) and isinstance(value.get("examples"), list):
            yield Shown(place, value, value["examples"])


def _walk(value: Any, place: str = "#") -> Iterator[tuple[str, Any]]:
    yield place, value
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from _walk(member, f"{place}/{key}")


def _parts(document: dict[str, Any], value: Any, known: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Every schema that a part of a request consists of, references followed."""
    if isinstance(value, list):
        for one in value:
            yield from _parts(document, one, known)
    elif isinstance(value, dict):
        reference = value.get("$ref")
        if reference is not None and reference not in known:
            yield from _parts(document, _resolve(document, reference), (*known, reference))
        yield value
        for name, one in value.items():
            if name not in ("example", "examples"):
                yield from _parts(document, one, known)


def _resolve(document: dict[str, Any], reference: str) -> Any:
    here: Any = document
    for step in reference.removeprefix("#/").split("/"):
        here = here[step]
    return here
