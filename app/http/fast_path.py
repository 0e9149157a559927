"""The short way from the gate to an endpoint: what FastAPI works out anew for each request, worked out once.

Routes are declared, described and checked by FastAPI. Those that answer a Response themselves and whose dependencies
are plain coroutines get a lane: the same calls in the same order, with the same validation and errors, for a quarter
less of the server's processor time (docs/performance.md). Everything else, and everything while a dependency is
overridden, goes on.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from re import Match
from typing import Any

from fastapi import FastAPI, Response
from fastapi._compat import field_annotation_is_sequence
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic_core import PydanticUndefined
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Problem
from app.http import problems
from app.http.deps import tree

Fields = list[Any]  # FastAPI's ModelField


class Lanes:
    """Serves the routes that have a lane; hands on what has none."""

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self.app = app
        self.api = api
        self.lanes: dict[str, list[Lane]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        lane = self._find(scope) if scope["type"] == "http" and not self.api.dependency_overrides else None
        if lane is None:
            return await self.app(scope, receive, send)
        try:
            answer = await lane.answer(Request(scope, receive))
        except (Problem, RequestValidationError) as failure:
            answer = problems.answer(scope["state"]["request_id"], failure)
        return await answer(scope, receive, send)

    def _find(self, scope: Scope) -> "Lane | None":
        if self.lanes is None:  # every route is declared by the time of the first request
            self.lanes = build(self.api)
        for lane in self.lanes.get(scope["method"], ()):
            if found := lane.match(scope["path"]):
                scope.update(route=lane.route, endpoint=lane.route.endpoint, path_params=found.groupdict())
                return lane
        return None


@dataclass(slots=True)
class Step:
    """One dependency, or at last the endpoint: what it takes, and where that comes from."""

    call: Any
    needs: list[tuple[str, int]]  # argument, number of the step that gives it
    waits: list[int]  # steps that must not have failed
    request: str | None
    parameters: "list[Parameters]"

    def arguments(self, request: Request, done: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """What to call it with, and what is wrong with it."""
        values = {name: done[number] for name, number in self.needs}
        faults: list[Any] = []
        if self.request is not None:
            values[self.request] = request
        for parameters in self.parameters:
            faults += parameters.take(values, request)
        return values, faults


class Parameters:
    """What a step takes from one place: the path, the query or the header."""

    def __init__(self, place: str, fields: Fields) -> None:
        self.place = place  # as an attribute of a request
        self.fields = fields
        self.single = all(map(_is_single, fields))
        self.known = [(one.alias, one.name, one.field_info.is_required(), one.default, one.validate) for one in fields]

    def take(self, values: dict[str, Any], request: Request) -> list[Any]:
        """Adds what was sent to the values; what is wrong with it is told as FastAPI does."""
        received = getattr(request, self.place)
        taken = self._good(received) if self.single else None
        faults: list[Any] = []
        if taken is None:
            taken, faults = request_params_to_args(self.fields, received)
        values |= taken
        return faults

    def _good(self, received: Mapping[str, Any]) -> dict[str, Any] | None:
        """The values by name, or None where one is missing or wrong."""
        taken = {}
        for alias, name, required, default, validate in self.known:
            sent = received.get(alias)
            if sent is None and required:
                return None
            taken[name], faults = (default, None) if sent is None else validate(sent)
            if faults:
                return None
        return taken


@dataclass(slots=True)
class Lane:
    """A route as the steps that lead to its answer."""

    route: Any  # FastAPI's RouteContext
    match: Callable[[str], Match[str] | None]
    body: Fields
    steps: list[Step] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        """What the endpoint answers; raises what its dependencies raise, RequestValidationError as FastAPI would."""
        done: list[Any] = [None] * len(self.steps)
        failed: set[int] = set()
        faults: list[Any] = []
        *dependencies, endpoint = self.steps
        for number, step in enumerate(dependencies):
            values, found = step.arguments(request, done)
            if found or not failed.isdisjoint(step.waits):
                faults += found
                failed.add(number)
            else:
                done[number] = await step.call(**values)
        values, found = endpoint.arguments(request, done)
        faults += found
        sent = request.scope["state"].get("body", PydanticUndefined) if self.body else None
        if self.body:
            taken, found = await request_body_to_args(self.body, sent, embed_body_fields=False)
            values |= taken
            faults += found
        if faults:
            raise RequestValidationError(faults, body=sent)
        answer: Response = await endpoint.call(**values)
        return answer


def build(api: FastAPI) -> dict[str, list[Lane]]:
    """The lanes by method, in the order in which the routes were declared."""
    lanes: dict[str, list[Lane]] = {}
    for route in iter_route_contexts(api.routes):
        if (
            isinstance(route.original_route, APIRoute)
            and all(map(_is_plain, tree(route.dependant)))
            and _answers(route)
        ):
            lane = Lane(route, route.path_regex.match, route.dependant.body_params)
            _add(lane.steps, {}, route.dependant)
            for method in route.methods or ():
                lanes.setdefault(method, []).append(lane)
    return lanes


def _add(steps: list[Step], known: dict[Any, int], node: Dependant) -> int:
    """The number of the step for this node, which comes after those it needs; one that is known comes once."""
    if node.call in known:
        return known[node.call]
    inner = [(one.name, _add(steps, known, one)) for one in node.dependencies]
    steps.append(
        Step(
            call=node.call,
            needs=[(name, number) for name, number in inner if name is not None],
            waits=[number for _, number in inner],
            request=node.request_param_name,
            parameters=[
                Parameters(place, fields)
                for place, fields in (
                    ("path_params", node.path_params),
                    ("query_params", node.query_params),
                    ("headers", node.header_params),
                )
                if fields
            ],
        )
    )
    known[node.call] = len(steps) - 1
    return known[node.call]


def _is_single(field: Any) -> bool:
    """Whether a parameter is one value under one name, and its default good as it is."""
    info = field.field_info
    names = {field.alias, field.validation_alias or field.alias}
    return len(names) == 1 and not info.validate_default and not field_annotation_is_sequence(info.annotation)


def _is_plain(node: Dependant) -> bool:
    """Whether a lane can do it: a coroutine that asks for parameters, the request and other dependencies only."""
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


def _answers(route: Any) -> bool:
    """Whether the endpoint makes its own Response, from at most one body."""
    returned = inspect.signature(route.endpoint).return_annotation
    return returned is Response and len(route.dependant.body_params) <= 1
