"""What a route asks for: each permission that opens a diary in a transaction names its call in the audit trail."""

import re
from collections.abc import Callable
from inspect import getclosurevars
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from app.http import deps

ACTIONS = {  # as they stand in the audit trail since its first row
    "read_patient": "patients.read",
    "create_share_code": "share_code.create",
    "list_grants": "grants.list",
    "confirm_grant": "grant.confirm",
    "narrow_grant": "grant.narrow",
    "revoke_grant": "grant.revoke",
    "list_accesses": "accesses.list",
}
MAKERS = (deps.own_diary("any"), deps.patient_read("any"))
pytestmark = pytest.mark.anyio


async def test_every_route_that_opens_a_diary_in_its_transaction_names_its_call(app: FastAPI) -> None:
    named, opening = {}, set()
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute):
            calls = [node.call for node in deps.tree(context.dependant) if node.call is not None]
            words = [getclosurevars(call).nonlocals["action"] for call in calls if is_permission(call)]
            if words:
                [named[context.original_route.name]] = words
            if {deps.open_transaction, deps.open_diary} <= set(calls):
                opening.add(context.original_route.name)
    assert named == ACTIONS
    assert opening == set(ACTIONS)


def is_permission(call: object) -> bool:
    return getattr(call, "__code__", None) in [getattr(maker, "__code__", ...) for maker in MAKERS]


@pytest.mark.parametrize("action", ACTIONS.values())
def test_an_action_is_a_noun_and_a_verb(action: str) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z]+", action)


class NamingIn(BaseModel):
    """A body that says whose diary."""

    patient_id: UUID


async def take_path(caller: deps.CallerOf, patient_id: UUID) -> None:
    """A caller, and any patient."""


async def take_other_name(caller: deps.CallerOf, whose: UUID) -> None:
    """The same by another name."""


async def take_nothing(caller: deps.CallerOf) -> None:
    """It could still read its path."""


async def take_query(caller: deps.CallerOf, patient_id: UUID) -> None:
    """The patient is in the query."""


async def take_header(caller: deps.CallerOf, patient: Annotated[str, Header(alias="X-Patient")]) -> None:
    """The patient is in the header."""


async def take_body(caller: deps.CallerOf, body: NamingIn) -> None:
    """The patient is in the body."""


async def take_inside(caller: deps.CallerOf, whose: Annotated[None, Depends(take_query)]) -> None:
    """A dependency of it takes the patient."""


async def take_openly(patient_id: UUID, allowed: Annotated[None, Depends(deps.public)]) -> None:
    """Open to everybody, and about a patient."""


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/hidden/{patient_id}", take_path),
        ("/v1/hidden/{whose}", take_other_name),
        ("/v1/hidden/{whose:path}", take_nothing),
        ("/v1/hidden", take_query),
        ("/v1/hidden", take_header),
        ("/v1/hidden", take_body),
        ("/v1/hidden", take_inside),
        ("/v1/hidden/{patient_id}", take_openly),
    ],
)
def test_a_route_that_is_told_of_a_patient_and_asks_for_no_permission_on_one_does_not_start(
    path: str, endpoint: Callable[..., Any]
) -> None:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.add_api_route(path, endpoint, methods=["POST"], include_in_schema=False)
    with pytest.raises(RuntimeError, match="declares no permission on a patient"):
        deps.declare_routes(app)


async def ask_for_nothing(request: Request) -> Response:
    """Answers whoever comes."""
    return Response(str(request.url))


def hide_operation(app: FastAPI) -> None:
    app.add_api_route("/v1/forgotten", ask_for_nothing, include_in_schema=False)


def hide_function(app: FastAPI) -> None:
    app.add_route("/v1/forgotten", ask_for_nothing)


def hide_socket(app: FastAPI) -> None:
    app.add_api_websocket_route("/v1/forgotten", ask_for_nothing)


def hide_mount(app: FastAPI) -> None:
    app.mount("/v1/forgotten", FastAPI())


@pytest.mark.parametrize("hide", [hide_operation, hide_function, hide_socket, hide_mount])
def test_a_route_that_declares_no_permission_does_not_start(hide: Callable[[FastAPI], None]) -> None:
    app = FastAPI(docs_url=None, redoc_url=None)
    hide(app)
    with pytest.raises(RuntimeError, match=r"/v1/forgotten (declares|can declare) no permission"):
        deps.declare_routes(app)
