"""Every failure as `application/problem+json` (RFC 9457): the exception says what, this module how it looks.

What a caller sent is never repeated; how a fault tells its location, `validation` says.
"""

import json
from collections.abc import Iterable, Iterator
from typing import NotRequired, TypedDict
from uuid import UUID

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app import errors
from app.errors import Fault, NotReady, Problem, ResyncRequired, TooManyRequests
from app.http import validation
from app.http.validation import MAX_FAULTS
from app.schemas.entries import MINIMAL_ENTRY
from app.schemas.envelope import example_stored

MEDIA_TYPE = "application/problem+json"


class ExampleDoc(TypedDict):
    """OpenAPI's Example."""

    summary: str
    value: object


class MediaDoc(TypedDict):
    """OpenAPI's Media Type, as far as it is looked into here."""

    schema: dict[str, object]
    examples: dict[str, ExampleDoc]


class ResponseDoc(TypedDict):
    """OpenAPI's Response."""

    description: str
    content: dict[str, MediaDoc]
    headers: NotRequired[dict[str, object]]


PROBLEM_SCHEMA: dict[str, object] = {
    "title": "Problem",
    "description": "What went wrong, after RFC 9457. `type` is the address of a page that says what to do.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["/problems/invalid"]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri", "description": "`urn:uuid:` and the request id."},
        "request_id": {"type": "string", "format": "uuid"},
        "errors": {"type": "array", "maxItems": MAX_FAULTS, "items": {"$ref": "#/components/schemas/ItemFault"}},
        "action": {"type": "string", "enum": ["reload", "reoffer"], "description": "How to sync again."},
        "challenge": {
            "type": "string",
            "description": "Of a sign-in: find an `answer` with which the SHA-256 of `<challenge>.<answer>` begins "
            "with as many zero bits as the number before its first dot says, and sign in again with both as `proof`.",
        },
        "current": {
            "anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("KnownRecord", "UnknownRecord")],
            "description": "The record as the server has it now.",
        },
        "reads": {"type": "boolean", "description": "Whether diaries can be read now."},
        "writes": {"type": "boolean", "description": "Whether diaries can be written to now."},
    },
}

_EXAMPLE_ID = UUID("01980c5e-7a10-7000-8000-000000000000")
_EXAMPLE_FAULT = Fault("/sites/0/scores/0/value", "less_than_equal", "Input should be less than or equal to 10.")
_EXAMPLE_RECORD = json.dumps(example_stored("entry", MINIMAL_ENTRY) | {"version": 2}).encode()
_HEADERS: dict[int, dict[str, object]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    405: {"Allow": {"description": "The methods of this address", "schema": {"type": "string"}}},
    412: {"ETag": {"description": "The current version", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}},
}


def install(app: FastAPI) -> None:
    """Makes the app answer problems, failed validations and the framework's own errors as problem+json."""
    app.add_exception_handler(Problem, _on_failure)
    app.add_exception_handler(RequestValidationError, _on_failure)
    app.add_exception_handler(HTTPException, _on_http_exception)


def respond(problem: Problem, request_id: UUID) -> Response:
    """The problem as a response with its headers; `current` stands in it exactly as it was stored."""
    members: dict[str, object] = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request_id.urn,
        "request_id": str(request_id),
    }
    if isinstance(problem, ResyncRequired):
        members["action"] = problem.action
    if isinstance(problem, NotReady):
        members |= {"reads": problem.reads, "writes": problem.writes}
    if isinstance(problem, TooManyRequests) and problem.challenge is not None:
        members["challenge"] = problem.challenge
    if problem.faults:
        members["errors"] = [vars(fault) for fault in problem.faults]
    body = json.dumps(members, ensure_ascii=False).encode()
    if problem.current is not None:
        body = b'%b, "current": %b}' % (body[:-1], problem.current)  # parsed and written anew it could differ
    return Response(body, problem.status, _headers(problem), MEDIA_TYPE)


def respond_to_failure(failure: Problem | RequestValidationError, request_id: UUID) -> Response:
    """The response to a problem, or to a request that failed its validation: 422, or 404 where its path is at fault."""
    if isinstance(failure, Problem):
        return respond(failure, request_id)
    failures = failure.errors()
    if any(one["loc"][0] == "path" for one in failures):  # an address that names nothing, not a body to correct
        return respond(errors.NotFound(), request_id)
    return respond(errors.Invalid(faults=validation.faults(failures, failure.body)), request_id)


def responses(*types: type[Problem]) -> dict[int | str, dict[str, object]]:
    """`responses` of a route that may raise these problems, as FastAPI takes them."""
    return {status: dict(response) for status, response in documented(types).items()}


def documented(types: Iterable[type[Problem]]) -> dict[int, ResponseDoc]:
    """OpenAPI responses for problems of these types: one per status, in it one example per type."""
    found: dict[int, ResponseDoc] = {}
    for one in types:
        response = found.setdefault(one.status, _response(one.status))
        response["description"] = " · ".join(filter(None, [response["description"], one.title]))
        response["content"][MEDIA_TYPE]["examples"][one.slug] = {"summary": one.title, "value": example(one)}
    return found


def example(problem_type: type[Problem]) -> object:
    """The body of a problem of this type, made up."""
    problem = problem_type(
        faults=(_EXAMPLE_FAULT,) if problem_type.status == 422 else (),
        current=_EXAMPLE_RECORD if problem_type.status in (409, 412) else None,
    )
    return json.loads(bytes(respond(problem, _EXAMPLE_ID).body))


def problem_types(root: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Every type of problem below the root, parents before children."""
    for one in root.__subclasses__():
        yield one
        yield from problem_types(one)


async def _on_failure(request: Request, exception: Exception) -> Response:
    assert isinstance(exception, Problem | RequestValidationError)  # noqa: S101 - for the type checker
    request_id: UUID = request.scope["state"]["request_id"]
    return respond_to_failure(exception, request_id)


async def _on_http_exception(request: Request, exception: Exception) -> Response:
    assert isinstance(exception, HTTPException)  # noqa: S101 - for the type checker
    if exception.status_code == 405:
        return await _on_failure(request, errors.MethodNotAllowed(headers={"Allow": _allowed(request)}))
    fallback = errors.BadRequest if exception.status_code < 500 else errors.Internal
    problem_type = next((one for one in problem_types() if one.status == exception.status_code), fallback)
    return await _on_failure(request, problem_type(headers=dict(exception.headers or {})))


def _allowed(request: Request) -> str:
    """All methods of the address: Starlette itself names those of the first route that fits only."""
    path = request.scope["path"]
    fitting = (route for route in iter_route_contexts(request.app.routes) if route.path_regex.match(path))
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))


def _headers(problem: Problem) -> dict[str, str]:
    headers = dict(problem.headers)
    if problem.status == 401:  # RFC 9110 asks for it (15.5.2)
        headers["WWW-Authenticate"] = "Bearer"
    if problem.etag is not None:
        headers["ETag"] = problem.etag
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    return headers


def _response(status: int) -> ResponseDoc:
    content: dict[str, MediaDoc] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}
    response: ResponseDoc = {"description": "", "content": content}
    if status in _HEADERS:
        response["headers"] = dict(_HEADERS[status])
    return response
