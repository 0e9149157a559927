"""What a route may ask for. A route asks for a permission as a type; one that asks for none does not start."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Header, Path, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import HTTPBearer
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Scope

from app.config import Settings
from app.errors import BadRequest, Fault, Invalid, PreconditionRequired, Unauthenticated
from app.http import etags
from app.http.validation import MAX_FAULTS, in_request
from app.postgres.database import Database
from app.security.cursors import Cursors
from app.security.tokens import AccessTokens, Claims
from app.services import access, care_team, sessions
from app.services.access import Caller, Charge, Diary
from app.services.sessions import Account

PLACEHOLDER = re.compile(r"{(\w+)")
# What the path of a route may name that asks for no diary: a device of the caller's own, or what is the same for all.
OF_NO_PATIENT = {"session_id", "name", "slug"}
PLAIN_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class State:
    """What create_app() makes once and every request uses."""

    settings: Settings
    database: Database
    tokens: AccessTokens
    cursors: Cursors
    secret: bytes


async def state(request: Request) -> State:
    """The application's own parts."""
    found: State = request.app.state.diary
    return found


async def now(request: Request) -> datetime:
    """The present instant by the database's clock, which decides what expires; tests replace it."""
    parts: State = request.app.state.diary
    return parts.database.clock.now()


async def public() -> None:
    """The permission of a route that is open to everybody."""


async def charge(request: Request) -> Charge:
    """Counts the call as so many requests more, when it turns out to cost as much."""
    found: Charge = request.scope["state"]["charge"]
    return found


ChargeOf = Annotated[Charge, Depends(charge)]


def counts_as(requests: int) -> Callable[[Request], Awaitable[None]]:
    """A dependency: the call counts as so many requests."""

    async def counted(request: Request) -> None:
        request.scope["state"]["charge"](requests - 1)

    return counted


def of_account_counts_as(requests: int) -> Callable[[Request], Awaitable[None]]:
    """A dependency: with an access token, whose account may send more than an address, a call counts as so many."""

    async def counted(request: Request) -> None:
        if claims_of(request.scope) is not None:
            request.scope["state"]["charge"](requests - 1)

    return counted


def claims_of(scope: Scope) -> Claims | None:
    """What the verified access token of a request says, None without one; verified once, whoever asks."""
    known: dict[str, Any] = scope["state"]
    if "claims" not in known:
        known["claims"] = _verified(scope)
    claims: Claims | None = known["claims"]
    return claims


def _verified(scope: Scope) -> Claims | None:
    sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, token = sent.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":  # the name of a scheme is case-insensitive (RFC 9110, 11.1)
        return None
    parts: State = scope["app"].state.diary
    try:
        return parts.tokens.verify(token, parts.database.clock.now())
    except Unauthenticated:
        return None


class Identify(HTTPBearer):
    """Who calls, by a verified access token; raises Unauthenticated.

    Whether its session still lives is asked together with the data, in the same call: asked before, it could end in
    between.
    """

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]  # the caller, not the header
        claims = claims_of(request.scope)
        if claims is None:
            raise Unauthenticated
        context = request.scope["state"]
        return Caller(claims.user_id, claims.session_id, context["request_id"], context["address"], claims.role)


identify = Identify(scheme_name="AccessToken", bearerFormat="JWT", description="The access token of a sign-in.")


async def open_transaction(parts: Annotated[State, Depends(state)]) -> AsyncIterator[AsyncSession]:
    """The request's one transaction: committed before the response leaves, rolled back where something raises."""
    async with parts.database.open_transaction() as transaction:
        yield transaction


def _plain_boolean(value: object) -> object:
    if isinstance(value, str) and value not in ("true", "false"):
        raise PydanticCustomError("boolean", "Give true or false.")
    return value


def _plain_number(value: object) -> object:
    if isinstance(value, str) and not PLAIN_NUMBER.fullmatch(value):
        raise PydanticCustomError("number", "Give a number in plain digits.")
    return value


PlainBoolean = BeforeValidator(_plain_boolean)  # else "on", "y" and "1" are true too
PlainNumber = BeforeValidator(_plain_number)  # else "1_0", "+5" and digits of other scripts are numbers too
Parts = Annotated[State, Depends(state)]
Now = Annotated[datetime, Depends(now)]
# With FastAPI's default scope the commit would come after the answer, and a failed one would still say 201.
Transaction = Annotated[AsyncSession, Depends(open_transaction, scope="function")]
CallerOf = Annotated[Caller, Depends(identify)]
PatientId = Annotated[UUID, Path(description="Whose diary.")]


async def current_user(transaction: Transaction, caller: CallerOf) -> Account:
    """The account that is signed in, looked up in this transaction; raises Unauthenticated once its session ended."""
    return await sessions.account_of(transaction, caller.session_id, caller.user_id)


async def open_diary(request: Request, caller: CallerOf, patient_id: PatientId) -> Diary:
    """A patient's diary, for calls that check session and consent in the database together with their data."""
    parts: State = request.app.state.diary
    return Diary(parts.database, parts.cursors, caller, patient_id, charge=request.scope["state"]["charge"])


DiaryOf = Annotated[Diary, Depends(open_diary)]


async def write_diary(
    diary: DiaryOf,
    outbox_empty: Annotated[
        bool,
        PlainBoolean,
        Query(
            description="true: this device has nothing left to send after this call. A dose that nobody logged is "
            "called missed only once every device that pushes to the diary has said so; until then it is unknown."
        ),
    ] = False,
) -> Diary:
    """A patient's diary, for calls that write to it."""
    return replace(diary, outbox_empty=outbox_empty)


CurrentUser = Annotated[Account, Depends(current_user)]
DiaryToWrite = Annotated[Diary, Depends(write_diary)]


def patient_read(action: str) -> Callable[[AsyncSession, Diary], Awaitable[UUID]]:
    """A dependency: the id of a patient whom the caller may see. `action` names the call in the audit trail.

    Sets the row-security context of the request's transaction. Raises Unauthenticated, NotFound or Gone.
    """

    async def authorized_patient(transaction: Transaction, diary: DiaryOf) -> UUID:
        await access.authorize(transaction, diary, action)
        return diary.patient_id

    return authorized_patient


def own_diary(action: str) -> Callable[[AsyncSession, Diary], Awaitable[Diary]]:
    """A dependency: the caller's own diary, for what only the patient decides. `action` names the call in the audit.

    Locks the diary's clock until the transaction ends. Raises Unauthenticated, NotFound, Gone or InsufficientScope.
    """

    async def authorized_diary(transaction: Transaction, diary: DiaryOf) -> Diary:
        await care_team.own(transaction, diary, action)
        return diary

    return authorized_diary


Limit = Annotated[int, Query(ge=1, le=200, description="At most so many items."), PlainNumber]
Cursor = Annotated[str | None, Query(max_length=512, description="The `next_cursor` of the page before.")]
IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", max_length=200, description="The ETag you have: 304 if it still holds.")
]


async def base_version(
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match", max_length=200, description="The strong ETag of the version you read.", examples=['"1"']
        ),
    ] = None,
) -> int:
    """The version that If-Match names; raises PreconditionRequired without one and BadRequest for anything else."""
    if if_match is None:
        raise PreconditionRequired
    version = etags.version(if_match)
    if version is None:
        raise BadRequest('If-Match must be one strong ETag of this record, such as "3".')
    return version


SchemaKnown = Annotated[
    int,
    Query(
        alias="schema_version",
        ge=1,
        le=10_000,
        description="Which schema of records the client knows (docs/sync.md). What came later it did not mean to drop.",
    ),
    PlainNumber,
]
BaseVersion = Annotated[int, Depends(base_version)]


async def known_parameters(request: Request) -> None:
    """Refuses query parameters that the route does not know, and any that comes twice."""
    if not request.scope["query_string"]:
        return
    known = request.app.state.query_names[request.scope["endpoint"]]
    names = [name for name, _ in request.query_params.multi_items()]
    if known.issuperset(names) and len(set(names)) == len(names):
        return
    # A misspelt filter that is ignored shows more records than were asked for.
    unknown = dict.fromkeys(in_request("query", name) for name in names if name not in known)
    faults = [Fault(pointer, "unknown_parameter", "A query parameter is not known here.") for pointer in unknown]
    if not faults:
        faults = [Fault(f"#query/{name}", "repeated", "Give it once.") for name in known if names.count(name) > 1]
    raise Invalid(faults=tuple(faults[:MAX_FAULTS]))


def declare_routes(app: FastAPI) -> None:
    """Notes the query parameters of each route; fails when one asks for no permission: nothing is open by default."""
    app.state.query_names = {}
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute):
            nodes = list(tree(context.dependant))
            _refuse_undeclared(str(context.path), nodes)
            names = {field.alias for node in nodes for field in node.query_params}
            app.state.query_names[context.endpoint] = frozenset(names)
        elif context.path != app.openapi_url:  # a mount, a socket, a bare function: there is nothing to ask
            raise RuntimeError(f"{context.path} can declare no permission")


def _refuse_undeclared(path: str, nodes: list[Dependant]) -> None:
    """Raises RuntimeError where a route asks for no permission, or for none on the patient that it is told of."""
    calls = {node.call for node in nodes}
    if not {public, identify} & calls:
        raise RuntimeError(f"{path} declares no permission")
    in_path = set(PLACEHOLDER.findall(path))
    told = {name for node in nodes for name in _parameters(node) if "patient" in name.lower()}
    if open_diary not in calls and (told or not in_path <= OF_NO_PATIENT):
        raise RuntimeError(f"{path} takes {', '.join(sorted(told | in_path))} and declares no permission on a patient")


def _parameters(node: Dependant) -> Iterator[str]:
    """The names of whatever a request may say to it; of a body, its members too."""
    for field in (*node.path_params, *node.query_params, *node.header_params, *node.cookie_params, *node.body_params):
        yield field.alias
        yield from getattr(field.field_info.annotation, "model_fields", ())


def tree(dependant: Dependant) -> Iterator[Dependant]:
    """A route or dependency and everything that it depends on."""
    yield dependant
    for inner in dependant.dependencies:
        yield from tree(inner)
