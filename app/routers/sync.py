"""Sync for phones that are mostly offline."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse

from app.errors import InvalidCursor, ResyncRequired
from app.http import problems, validation
from app.http.deps import CallerOf, ChargeOf, Cursor, DiaryOf, Now, Parts, PlainNumber, SchemaKnown, current_user
from app.http.record_responses import JSON
from app.schemas.sync import DigestIn, DigestOut, HeadsOut, PullOut, PushIn, PushOut
from app.services import costs, sync

router = APIRouter(prefix="/v1", tags=["sync"])


@router.post(
    "/patients/{patient_id}/sync/push",
    summary="Push",
    responses={200: {"model": PushOut}, **problems.responses(ResyncRequired)},
)
async def push_changes(diary: DiaryOf, now: Now, body: PushIn) -> Response:
    """Up to 100 mutations, decided in their order; a refused one blocks no other. 200 means that all is durable."""
    return JSONResponse(await sync.push(diary, body, validation.validated, now))


@router.get(
    "/patients/{patient_id}/sync/pull",
    summary="Pull",
    response_class=Response,
    responses={200: {"model": PullOut}, **problems.responses(InvalidCursor, ResyncRequired)},
)
async def pull_changes(
    diary: DiaryOf,
    now: Now,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many changes."), PlainNumber] = 200,
    cursor: Cursor = None,
    schema_version: SchemaKnown = 1,
) -> Response:
    """What changed after the cursor, oldest first, each record once as it is now; without a cursor from the start."""
    return Response(await sync.pull(diary, cursor, limit, schema_version, now), media_type=JSON)


@router.post(
    "/patients/{patient_id}/sync/digest",
    summary="Compare",
    response_class=Response,
    responses={200: {"model": DigestOut}},
)
async def compare_diaries(diary: DiaryOf, body: DigestIn) -> Response:
    """Which records of a thousand changes both sides do not hold in the same version."""
    return Response(await sync.compare(diary, body), media_type=JSON)


@router.get("/sync/heads", dependencies=[Depends(current_user)], summary="Which diaries moved?")
async def read_heads(parts: Parts, caller: CallerOf, charge: ChargeOf) -> HeadsOut:
    """How far each diary has come that one may see: pull those whose head is another than the last."""
    heads = await sync.read_heads(parts.database, caller)
    charge(len(heads) // costs.HEADS)
    return HeadsOut.model_validate({"items": heads})
