"""Consent: the patient shares a code, sees who redeemed it, confirms, narrows, ends; and sees who looked."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from app.errors import Gone, NotFound, NotVerified, StepUpRequired, TooManyRequests
from app.http import problems
from app.http.deps import (
    CallerOf,
    ChargeOf,
    Cursor,
    Limit,
    Now,
    Parts,
    PlainBoolean,
    Transaction,
    counts_as,
    own_diary,
)
from app.schemas.care_team import AccessLogPage, GrantList, GrantOut, NarrowIn, RedeemIn, ShareCodeIn, ShareCodeOut
from app.services import care_team, costs
from app.services.access import Diary

router = APIRouter(prefix="/v1", tags=["consent"])
GrantId = Annotated[UUID, Path(description="A consent.")]
COUNTED = Depends(counts_as(costs.CONSENT))
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=8,
        max_length=100,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen anew for each code: with it a repeated request answers the same code instead of another.",
        examples=["0195d3f4-8e2a-7c31-9b1e-5a2f6c7d8e90"],
    ),
]


@router.post(
    "/patients/{patient_id}/share-codes",
    dependencies=[COUNTED],
    status_code=201,
    summary="Share a code",
    responses=problems.responses(StepUpRequired, Gone, TooManyRequests),
)
async def create_share_code(
    parts: Parts,
    transaction: Transaction,
    diary: Annotated[Diary, Depends(own_diary("share_code.create"))],
    key: IdempotencyKey,
    now: Now,
    body: ShareCodeIn,
) -> ShareCodeOut:
    """A code of eight characters, good once and for ten minutes, for a clinician or caregiver to redeem. At most three
    wait at a time. The same key again answers the same code while it is good, and 410 after that."""
    return await care_team.share(transaction, diary, parts.secret, key, body, now)


@router.post(
    "/share-codes/redeem",
    dependencies=[COUNTED],
    status_code=202,
    summary="Redeem a share code",
    response_model_exclude_none=True,
    responses=problems.responses(NotFound, NotVerified, TooManyRequests),
)
async def redeem_share_code(parts: Parts, caller: CallerOf, now: Now, body: RedeemIn) -> GrantOut:
    """A consent that waits for the patient to confirm it. A code that is wrong, used or over is just not found."""
    return await care_team.redeem(parts.database, caller, parts.secret, body.code, body.as_organisation, now)


@router.get(
    "/patients/{patient_id}/grants",
    dependencies=[Depends(own_diary("grants.list"))],
    summary="List the consents I gave",
    response_model_exclude_none=True,
)
async def list_grants(transaction: Transaction, charge: ChargeOf) -> GrantList:
    """Every consent to see this diary, newest first: waiting, active and ended."""
    given = await care_team.list_given(transaction)
    charge(len(given) // costs.GRANTS)
    return GrantList(items=given)


@router.post(
    "/patients/{patient_id}/grants/{grant_id}/confirm",
    dependencies=[COUNTED],
    summary="Confirm a consent",
    response_model_exclude_none=True,
    responses=problems.responses(StepUpRequired),
)
async def confirm_grant(
    transaction: Transaction, diary: Annotated[Diary, Depends(own_diary("grant.confirm"))], grant_id: GrantId, now: Now
) -> GrantOut:
    """Now that one sees who redeemed the code: it counts from the next request on, in the place of an earlier one."""
    return await care_team.confirm(transaction, diary, grant_id, now)


@router.patch(
    "/patients/{patient_id}/grants/{grant_id}",
    dependencies=[Depends(own_diary("grant.narrow")), COUNTED],
    summary="Narrow a consent",
    response_model_exclude_none=True,
)
async def narrow_grant(transaction: Transaction, grant_id: GrantId, now: Now, body: NarrowIn) -> GrantOut:
    """Fewer scopes, a later start or an earlier end, from the next request on."""
    return await care_team.narrow(transaction, grant_id, body, now)


@router.delete(
    "/patients/{patient_id}/grants/{grant_id}",
    status_code=204,
    response_class=Response,
    dependencies=[Depends(own_diary("grant.revoke")), COUNTED],
    summary="End a consent",
)
async def revoke_grant(transaction: Transaction, grant_id: GrantId, now: Now) -> None:
    """The very next request under it is refused; doing it again is no error."""
    await care_team.revoke(transaction, grant_id, now)


@router.get("/patients/{patient_id}/access-log", summary="See who looked")
async def list_accesses(
    transaction: Transaction,
    diary: Annotated[Diary, Depends(own_diary("accesses.list"))],
    include_own: Annotated[bool, PlainBoolean, Query(description="Also what I did myself.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> AccessLogPage:
    """Who read or changed the diary, when and by which consent, and who was refused; newest first."""
    page = await care_team.read_access_log(transaction, diary, include_own, limit, cursor)
    diary.charge(len(page.items) // costs.ACCESSES)
    return page
