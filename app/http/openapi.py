"""What the OpenAPI document says beyond what the routes declare: the failures that belong to a kind of operation."""

from collections.abc import Iterator
from sys import modules
from typing import Any, NotRequired, TypedDict, cast

from fastapi import FastAPI
from pydantic import BaseModel

from app.errors import (
    BadRequest,
    Gone,
    InsufficientScope,
    Invalid,
    NotFound,
    Problem,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from app.http import problems
from app.http.open_answers import open_answers
from app.http.problems import ResponseDoc
from app.schemas.base import Strict
from app.schemas.kinds import KINDS, OF_MANY, SINGLETONS
from app.schemas.since import SCHEMA

DESCRIPTION = """\
A pain diary: phones log where it hurts, how long, how much and of what character; whoever the patient trusts
reads an honest timeline. Times are RFC 3339 with an offset, every failure is `application/problem+json`, and
`next_cursor`, ETags and ids are opaque. Sign in with `POST /v1/auth/sessions` and send the access token as a
bearer token. Whoever sends more than `RateLimit` allows is answered 429 and waits as long as `Retry-After` says.
"""
GUIDE = {"description": "How to write a client", "url": "/guides/integrate"}
SERVERS = [{"url": "/", "description": "The server that answered this document."}]
TAGS = [
    {"name": "sign-in", "description": "Registering, signing in, refreshing, and the keys that verify tokens."},
    {"name": "me", "description": "The account that is signed in, and its devices."},
    {
        "name": "patients",
        "description": "Whose diary it is. A patient one may not know of is answered like a missing one.",
    },
    *({"name": kind.path, "description": kind.about} for kind in OF_MANY),
    {
        "name": "adherence",
        "description": "How much of what was agreed was done, and how much of that is known.",
        "externalDocs": {"description": "Every figure with worked examples", "url": "/guides/adherence"},
    },
    *({"name": kind.path, "description": kind.about} for kind in SINGLETONS),
    {"name": "consent", "description": "Who may see a diary, for how long, and who did."},
    {
        "name": "sync",
        "description": "For phones that are mostly offline: push, pull, compare.",
        "externalDocs": {"description": "The protocol", "url": "/guides/sync"},
    },
    {"name": "timeline", "description": "Records of every kind in one stream, newest first."},
    {"name": "vocabularies", "description": "The coded lists, with text to display."},
    {"name": "operations", "description": "For those who run the service."},
]
RATE_LIMIT_HEADERS: dict[str, object] = {
    "RateLimit-Policy": {
        "description": "How many requests (`q`) may be sent in how many seconds (`w`): by a `session`, by all of an "
        "`account`, or by an `address` that is not signed in. After draft-ietf-httpapi-ratelimit-headers-11.",
        "schema": {"type": "string"},
        "example": '"session";q=600;w=10',
    },
    "RateLimit": {
        "description": "How many requests more (`r`) may be sent in the next so many seconds (`t`).",
        "schema": {"type": "string"},
        "example": '"session";r=599;t=10',
    },
}

Schema = dict[str, object]  # JSON Schema


class Parameter(TypedDict):
    """OpenAPI's Parameter, as far as it is looked into here; likewise those below."""

    name: str
    required: bool
    schema: Schema


class Operation(TypedDict):
    """OpenAPI's Operation."""

    responses: dict[str, ResponseDoc]
    parameters: NotRequired[list[Parameter]]
    requestBody: NotRequired[object]
    security: NotRequired[object]


class Components(TypedDict):
    """OpenAPI's Components."""

    schemas: dict[str, Schema]
    headers: dict[str, object]


class Document(TypedDict):
    """The whole document."""

    info: dict[str, object]
    paths: dict[str, dict[str, Operation]]
    components: Components


def install(app: FastAPI) -> None:
    """Makes `app.openapi()` answer the completed document, built once."""
    generate = app.openapi

    def complete() -> dict[str, object]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(cast(Document, generate()))
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]  # the documented way to extend it


def _completed(document: Document) -> dict[str, object]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_problems(operation["responses"], problems.documented(_common(path, operation)))
            _add_rate_limit(operation["responses"])
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _never_null(parameter["schema"])
                parameter["required"] |= parameter["name"] == "If-Match"  # declared optional, for 428 instead of 422
    schemas = document["components"]["schemas"]
    document["components"]["headers"] = RATE_LIMIT_HEADERS
    schemas["Problem"] = problems.PROBLEM_SCHEMA
    for name, examples in (*_examples_of_kinds(), *_examples()):
        if name in schemas:
            schemas[name] = schemas[name] | {"examples": examples}
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422, which nothing answers
        schemas.pop(name, None)
    open_answers(cast(dict[str, Any], document))
    document["info"]["x-record-schema"] = SCHEMA
    return {**document, "servers": SERVERS, "tags": TAGS, "externalDocs": GUIDE}


def _never_null(schema: Schema) -> Schema:
    """What a parameter may be where it is given; FastAPI describes an optional one as if a URL could hold null."""
    given = [one for one in cast(list[Schema], schema.get("anyOf", [])) if one != {"type": "null"}]
    if len(given) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | given[0]


def _examples(root: type[BaseModel] = Strict) -> Iterator[tuple[str, object]]:
    """Each body with its examples as they were written: FastAPI drops a null, and here it says something."""
    for body in root.__subclasses__():
        extra = body.model_config.get("json_schema_extra")
        if isinstance(extra, dict) and getattr(modules[body.__module__], body.__name__, None) is body:
            yield body.__name__, extra["examples"]
        yield from _examples(body)


def _examples_of_kinds() -> Iterator[tuple[str, object]]:
    """The same of the bodies that are made of the declaration of a kind. What PUT takes has its id in the path."""
    for kind in KINDS:
        yield (
            kind.fields.__name__,
            [{name: value for name, value in one.items() if name != "id"} for one in kind.examples],
        )
        for body in (kind.create, kind.patch, kind.out, kind.page, kind.history):
            extra = body.model_config.get("json_schema_extra")
            if body is not kind.fields and isinstance(extra, dict):
                yield body.__name__, extra["examples"]


def _common(path: str, operation: Operation) -> Iterator[type[Problem]]:
    """What any such operation may be refused with: by body validation, the query string, sign-in and consent."""
    yield from (BadRequest, Invalid)
    if "requestBody" in operation:
        yield from (TooLarge, UnsupportedMediaType)
    if "security" in operation:
        yield from (Unauthenticated, Unavailable)
    if "{" in path:
        yield NotFound
    if "{patient_id}" in path:
        yield from (InsufficientScope, Gone)
    if "429" not in operation["responses"]:
        yield TooManyRequests


def _add_problems(declared: dict[str, ResponseDoc], common: dict[int, ResponseDoc]) -> None:
    """Puts the common problems beside those that the route declares itself, and orders all by status."""
    for status, response in common.items():
        own = declared.get(str(status))
        content = own.get("content", {}).get(problems.MEDIA_TYPE) if own else None
        if own is None or content is None:
            declared[str(status)] = response
        else:
            own["description"] = f"{response['description']} · {own['description']}"
            content["examples"] = response["content"][problems.MEDIA_TYPE]["examples"] | content["examples"]
    ordered = sorted(declared.items())
    declared.clear()
    declared.update(ordered)


def _add_rate_limit(responses: dict[str, ResponseDoc]) -> None:
    """Tells of the headers where a client looks for them: at what succeeds, and at the refusal."""
    for status, response in responses.items():
        if status < "400" or status == "429":
            headers = response.setdefault("headers", {})
            for name in RATE_LIMIT_HEADERS:
                headers[name] = {"$ref": f"#/components/headers/{name}"}
