"""What a request shows before a byte of its body is read: an address that there is, and a token where it takes one."""

from collections.abc import Callable
from dataclasses import dataclass
from re import Match

from fastapi import FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Problem, Unauthenticated
from app.http import problems
from app.http.deps import claims_of, identify, tree
from app.http.fast_path import PrecompiledRoute, precompile
from app.http.json_body import check_url


@dataclass(frozen=True, slots=True)
class Door:
    """A route, whether it is for those only who are signed in, and its precompiled form if it has one."""

    context: RouteContext
    match: Callable[[str], Match[str] | None]
    guarded: bool
    precompiled: PrecompiledRoute | None


class Entrance:
    """Refuses a bad address, and whoever has no token for a route that needs one.

    A request that leads nowhere passes with `state["leads_nowhere"]`: FastAPI refuses it, and its body stays unread.
    """

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self.app = app
        self.api = api
        self.doors: dict[str, list[Door]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            check_url(scope)
            self._enter(scope)
        except Problem as problem:
            return await problems.respond(problem, scope["state"]["request_id"])(scope, receive, send)
        return await self.app(scope, receive, send)

    def _enter(self, scope: Scope) -> None:
        """Notes the route; raises Unauthenticated."""
        if self.doors is None:  # every route is declared by the time of the first request
            self.doors = doors_of(self.api)
        for door in self.doors.get(scope["method"], ()):
            if found := door.match(scope["path"]):
                # What Starlette's router would note: access log and metrics read the template from it.
                scope.update(route=door.context, endpoint=door.context.endpoint, path_params=found.groupdict())
                scope["state"]["precompiled"] = door.precompiled
                if door.guarded and identify not in self.api.dependency_overrides and claims_of(scope) is None:
                    raise Unauthenticated
                return
        scope["state"]["leads_nowhere"] = True


def doors_of(api: FastAPI) -> dict[str, list[Door]]:
    """The routes by method, the precompiled ones first: they are the hot ones."""
    doors: dict[str, list[Door]] = {}
    for context in iter_route_contexts(api.routes):
        if isinstance(context.original_route, APIRoute):
            guarded = any(node.call is identify for node in tree(context.dependant))
            door = Door(context, context.path_regex.fullmatch, guarded, precompile(context))
            for method in context.methods or ():
                doors.setdefault(method, []).append(door)
    for found in doors.values():
        found.sort(key=lambda door: door.precompiled is None)
    return doors
