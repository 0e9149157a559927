"""The account that is signed in, and the devices it is signed in on."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response

from app.http import etags
from app.http import record_responses as responses
from app.http.deps import (
    CallerOf,
    ChargeOf,
    CurrentUser,
    Cursor,
    IfNoneMatch,
    Limit,
    Now,
    Parts,
    Transaction,
    current_user,
)
from app.schemas.auth import DeviceSessionList, DeviceSessionOut, EndedSessionOut, MeOut
from app.schemas.care_team import GrantList, Panel
from app.services import care_team, costs, sessions

router = APIRouter(prefix="/v1/me", tags=["me"])


@router.get("", summary="Who am I?", response_model_exclude_none=True)
async def read_me(user: CurrentUser) -> MeOut:
    """The account behind the access token, and the patient whose diary it keeps."""
    return MeOut(
        id=str(user.user_id),
        role=user.role,
        email=user.email,
        display_name=user.display_name,
        locale=user.locale,
        patient_id=str(user.patient_id) if user.patient_id else None,
    )


@router.get("/sessions", summary="List my devices", response_model_exclude_none=True)
async def list_sessions(transaction: Transaction, user: CurrentUser, caller: CallerOf, now: Now) -> DeviceSessionList:
    """Every device that is signed in, and what ended lately because somebody else may hold what a device held."""
    devices = await sessions.list_live(transaction, user.user_id, now)
    return DeviceSessionList(
        items=[
            DeviceSessionOut(
                id=str(device.id),
                device_name=device.device_name,
                created_at=device.created_at,
                last_seen_at=device.last_seen_at,
                expires_at=device.expires_at,
                clock_skew_seconds=device.clock_skew_seconds,
                current=device.id == caller.session_id,
            )
            for device in devices
        ],
        ended=[EndedSessionOut(**one) for one in await sessions.list_reused(transaction, user.user_id, now)],
    )


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    response_class=Response,
    summary="Sign a device out",
)
async def revoke_session(
    parts: Parts, user: CurrentUser, session_id: Annotated[UUID, Path(description="A device of the list.")]
) -> None:
    """Its very next request is refused, whatever its access token says."""
    await sessions.revoke_one(parts.database, user.user_id, session_id)


@router.delete("/sessions", status_code=204, response_class=Response, summary="Sign all other devices out")
async def revoke_other_sessions(
    parts: Parts, transaction: Transaction, user: CurrentUser, caller: CallerOf, now: Now
) -> None:
    """Ends every session but this one."""
    devices = await sessions.list_live(transaction, user.user_id, now)
    others = [device.id for device in devices if device.id != caller.session_id]
    await sessions.revoke(parts.database, user.user_id, others)


@router.get(
    "/patients",
    dependencies=[Depends(current_user)],
    summary="List the diaries I may see",
    **responses.showing(Panel),
)
async def list_patients(
    parts: Parts,
    caller: CallerOf,
    charge: ChargeOf,
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """By name: how far each has come, by which consent, and the last seven days at a glance."""
    panel = await care_team.read_panel(parts.database, parts.cursors, caller, limit, cursor)
    charge(len(panel.items) // costs.PANEL)
    body = panel.model_dump_json().encode()
    return responses.unless_known(body, f'"{etags.tag_of(body)}"', if_none_match)


@router.get(
    "/grants",
    dependencies=[Depends(current_user)],
    summary="List the consents I hold",
    response_model_exclude_none=True,
)
async def list_held_grants(transaction: Transaction, caller: CallerOf, charge: ChargeOf) -> GrantList:
    """Consents to me or to my organisation, in the words that the patient sees."""
    held = await care_team.list_held(transaction, caller)
    charge(len(held) // costs.GRANTS)
    return GrantList(items=held)
