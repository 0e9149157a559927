"""Precompiled routes: what FastAPI works out anew for each request, worked out once.

Routes are declared, described and checked by FastAPI. Those that return a Response themselves and whose dependencies
are plain coroutines are precompiled: the same calls in the same order, with the same validation and errors, for a
quarter less of the server's processor time (docs/performance.md). Every other route, and every route while a dependency
is overridden, is served by FastAPI.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from fastapi import FastAPI, Response
from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import RouteContext
from pydantic_core import PydanticUndefined
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Problem
from app.http import problems
from app.http.deps import tree

Call = Callable[..., Awaitable[object]]
Values = dict[str, object]  # arguments by name
Errors = list[object]  # as Pydantic tells them and RequestValidationError takes them


class FastPath:
    """Serves the precompiled routes, which `entrance` found; passes every other request on."""

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self.app = app
        self.api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        known = scope["type"] == "http" and not self.api.dependency_overrides
        route: PrecompiledRoute | None = scope["state"].get("precompiled") if known else None
        if route is None:
            return await self.app(scope, receive, send)
        try:
            response = await route.respond(Request(scope, receive))
        except (Problem, RequestValidationError) as failure:
            response = problems.respond_to_failure(failure, scope["state"]["request_id"])
        return await response(scope, receive, send)


@dataclass(slots=True)
class Step:
    """One dependency, or at last the endpoint: what it takes, and where that comes from."""

    call: Call
    needs: list[tuple[str, int]]  # argument, number of the step that gives it
    waits: list[int]  # steps that must not have failed
    request: str | None
    parameters: "list[Parameters]"

    def arguments(self, request: Request, done: list[object]) -> tuple[Values, Errors]:
        """What to call it with, and what is wrong with it."""
        values: Values = {name: done[number] for name, number in self.needs}
        errors: Errors = []
        if self.request is not None:
            values[self.request] = request
        for parameters in self.parameters:
            errors += parameters.take(values, request)
        return values, errors


class Parameters:
    """What a step takes from one location of the request: the path, the query or the header."""

    def __init__(self, location: str, fields: list[ModelField]) -> None:
        self.location = location  # as an attribute of a request
        self.fields = fields
        self.single = all(map(_is_single, fields))
        self.known = [(one.alias, one.name, one.field_info.is_required(), one.default, one.validate) for one in fields]

    def take(self, values: Values, request: Request) -> Errors:
        """Adds what was sent to the values; returns what is wrong with it, told as FastAPI does."""
        received = getattr(request, self.location)
        taken = self._valid(received) if self.single else None
        errors: Errors = []
        if taken is None:  # FastAPI validates once more, slowly, for errors that are exactly its own
            taken, errors = request_params_to_args(self.fields, received)
        values |= taken
        return errors

    def _valid(self, received: Mapping[str, str]) -> Values | None:
        """The values by name, or None where one is missing or wrong."""
        taken: Values = {}
        for alias, name, required, default, validate in self.known:
            sent = received.get(alias)
            if sent is None and required:
                return None
            taken[name], errors = (default, None) if sent is None else validate(sent)
            if errors:
                return None
        return taken


@dataclass(slots=True)
class PrecompiledRoute:
    """A route as the steps that lead to its response."""

    context: RouteContext
    body: list[ModelField]
    steps: list[Step] = field(default_factory=list)

    async def respond(self, request: Request) -> Response:
        """The endpoint's response; raises what its dependencies raise, and RequestValidationError as FastAPI would."""
        done: list[object] = [None] * len(self.steps)
        failed: set[int] = set()
        errors: Errors = []
        *dependencies, endpoint = self.steps
        for number, step in enumerate(dependencies):
            values, found = step.arguments(request, done)
            # What depends on a failed step cannot run; the others do, so that all errors are told at once.
            if found or not failed.isdisjoint(step.waits):
                errors += found
                failed.add(number)
            else:
                done[number] = await step.call(**values)
        values, found = endpoint.arguments(request, done)
        errors += found
        sent = request.scope["state"].get("body", PydanticUndefined) if self.body else None
        if self.body:
            taken, wrong = await request_body_to_args(self.body, sent, embed_body_fields=False)
            values |= taken
            errors += wrong
        if errors:
            raise RequestValidationError(errors, body=sent)
        return cast(Response, await endpoint.call(**values))


def precompile(context: RouteContext) -> PrecompiledRoute | None:
    """The precompiled form of a route; None for one that FastAPI serves."""
    if not all(map(_is_plain, tree(context.dependant))) or not _returns_response(context):
        return None
    route = PrecompiledRoute(context, context.dependant.body_params)
    _add(route.steps, {}, context.dependant)
    return route


def _add(steps: list[Step], known: dict[Call, int], node: Dependant) -> int:
    """The number of the step for this node, which comes after those it needs; one that is known comes once."""
    call = cast(Call, node.call)  # _is_plain() has seen that it is a coroutine function
    if call in known:
        return known[call]
    inner = [(one.name, _add(steps, known, one)) for one in node.dependencies]
    steps.append(
        Step(
            call=call,
            needs=[(name, number) for name, number in inner if name is not None],
            waits=[number for _, number in inner],
            request=node.request_param_name,
            parameters=[
                Parameters(location, fields)
                for location, fields in (
                    ("path_params", node.path_params),
                    ("query_params", node.query_params),
                    ("headers", node.header_params),
                )
                if fields
            ],
        )
    )
    known[call] = len(steps) - 1
    return known[call]


def _is_single(field: ModelField) -> bool:
    """Whether a parameter is one value under one name, and its default good as it is."""
    info = field.field_info
    names = {field.alias, field.validation_alias or field.alias}
    return len(names) == 1 and not info.validate_default and not field_annotation_is_sequence(info.annotation)


def _is_plain(node: Dependant) -> bool:
    """Whether it can be precompiled: a coroutine that asks for parameters, the request and other dependencies only."""
    special = (
        node.cookie_params,
        node.websocket_param_name,
        node.http_connection_param_name,
        node.response_param_name,
        node.background_tasks_param_name,
        node.security_scopes_param_name,
        node.concurrency,
    )
    call = node.call if inspect.isfunction(node.call) else getattr(node.call, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(call) and not any(special)


def _returns_response(context: RouteContext) -> bool:
    """Whether the endpoint makes its own Response, from at most one body."""
    assert context.endpoint is not None  # noqa: S101 - an APIRoute has one
    returned = inspect.signature(context.endpoint).return_annotation
    return returned is Response and len(context.dependant.body_params) <= 1
