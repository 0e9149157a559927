"""Consent: share codes, the grants that come of them, and who looked at what.

A code becomes a pending grant when a clinician or caregiver redeems it, and an active one when the patient, who now
sees who that is, confirms it. Whatever changes consent locks the patient's clock first, so that it is ordered with
every write: what was granted less counts for the very next request.
"""

import hmac
import json
import math
from base64 import b32encode
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Fault, Gone, Invalid, NotFound, NotVerified, StepUpRequired, TooManyRequests
from app.models import DeviceSession, Grant, ShareCode
from app.postgres.database import Database, call_in
from app.postgres.functions import Function
from app.schemas.care_team import (
    AccessEvent,
    AccessLogPage,
    GrantOut,
    NarrowIn,
    Panel,
    PanelPatient,
    ShareCodeIn,
    ShareCodeOut,
)
from app.schemas.kinds import NEEDS
from app.security.cursors import Cursors
from app.services import access, throttle
from app.services.access import Caller, Diary

LOCK_DIARY = Function("lock_diary_v1", "session uuid, patient uuid")
REDEEM_SHARE_CODE = Function(
    "redeem_share_code_v1", "session uuid, user uuid, digest bytea, as_organisation boolean, request uuid, address inet"
)
GRANTS_OF_SESSION = Function("grants_of_session_v1", "session uuid, user uuid, grant uuid")
GRANTS_OF_DIARY = Function("grants_of_diary_v1", "grant uuid")
READ_PANEL = Function(
    "read_panel_v1", "session uuid, user uuid, action text, after uuid, limit integer, request uuid, address inet"
)
ACCESS_LOG = Function("access_log_v1", "own boolean, before bigint, limit integer")
CODE_LIFE = timedelta(minutes=10)
LIVE_CODES = 3  # that wait for somebody at the same time: who hands out more has lost sight of them
FRESH = timedelta(minutes=15)
# Crockford's alphabet: no letter that could be read as a digit.
_ALPHABET = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_MISREAD = str.maketrans("OIL", "011", " -")


async def own(transaction: AsyncSession, diary: Diary, action: str) -> None:
    """Authorize the patient, and nobody else, for the own diary; its clock stays locked until the transaction ends.

    Raises Unauthenticated, NotFound, Gone or InsufficientScope.
    """
    # Before anything is looked at: what was read before a lock may be over by the time the lock is held.
    await call_in(transaction, LOCK_DIARY(session=diary.caller.session_id, patient=diary.patient_id))
    await access.authorize_owner(transaction, diary, action)


async def share(
    transaction: AsyncSession, diary: Diary, secret: bytes, key: str, body: ShareCodeIn, now: datetime
) -> ShareCodeOut:
    """A share code on these terms. The same key and terms again answer the same code while it is good, then Gone.

    Other terms under that key are Invalid; TooManyRequests while three codes wait to be redeemed.
    """
    _check_scopes(body.scopes)
    await _check_fresh(transaction, diary.caller, now)
    code = _code(secret, diary.patient_id, key)
    terms = {
        "scopes": body.scopes,
        "data_from": body.data_from,
        "purpose": body.purpose,
        "grant_expires_at": now + timedelta(days=body.days),
    }
    terms_digest = hmac.digest(secret, body.model_dump_json().encode(), "sha256")
    await _check_live(transaction, _digest(secret, code), now)
    await transaction.execute(
        upsert(ShareCode)
        .values(
            patient_id=diary.patient_id,
            code_digest=_digest(secret, code),
            key_digest=hmac.digest(secret, key.encode(), "sha256"),
            terms_digest=terms_digest,
            expires_at=now + CODE_LIFE,
            **terms,
        )
        .on_conflict_do_nothing(index_elements=[ShareCode.code_digest])
    )
    made = await transaction.scalar(select(ShareCode).where(ShareCode.code_digest == _digest(secret, code)))
    if made is None or made.terms_digest != terms_digest:  # None: somebody else's code, by a chance of one in 2**40
        raise Invalid(faults=(Fault("#header/Idempotency-Key", "reused", "Use another key for other terms."),))
    if made.expires_at <= now:
        raise Gone("The code is over; use another Idempotency-Key for a new one.")
    return ShareCodeOut(
        id=str(made.id),
        code=f"{code[:4]}-{code[4:]}",
        expires_at=made.expires_at,
        grant_expires_at=made.grant_expires_at,
    )


async def redeem(
    database: Database, caller: Caller, secret: bytes, code: str, as_organisation: bool, now: datetime
) -> GrantOut:
    """The pending grant that comes of a code; the same caller may ask again. Wrong guesses make one wait."""
    limits = throttle.redeeming_limits(secret, str(caller.user_id), caller.address)
    await throttle.count(database, limits, now)
    [row] = await database.call_alone(
        REDEEM_SHARE_CODE(
            session=caller.session_id,
            user=caller.user_id,
            digest=_digest(secret, code.upper().translate(_MISREAD)),
            as_organisation=as_organisation,
            request=caller.request_id,
            address=caller.address,
        ),
        caller.user_id,
    )
    access.refuse(row["outcome"])
    if row["outcome"] == "unverified":
        raise NotVerified
    async with database.open_transaction() as transaction:
        await throttle.forgive(transaction, limits)
    found = await database.call_alone(
        GRANTS_OF_SESSION(session=caller.session_id, user=caller.user_id, grant=row["grant_id"]), caller.user_id
    )
    if not found:  # it went to an organisation that the caller has left since
        raise NotFound
    return GrantOut.model_validate_json(found[0][0])


async def confirm(transaction: AsyncSession, diary: Diary, grant_id: UUID, now: datetime) -> GrantOut:
    """Makes a pending grant active, in the place of the one that the grantee had; again, it changes nothing."""
    await _check_fresh(transaction, diary.caller, now)
    grant = await _live_grant(transaction, grant_id, now)
    if grant.status == "pending":
        same = and_(
            Grant.grantee_id.is_not_distinct_from(grant.grantee_id),
            Grant.organisation_id.is_not_distinct_from(grant.organisation_id),
        )
        await transaction.execute(
            update(Grant).where(same, Grant.status == "active", Grant.revoked_at.is_(None)).values(revoked_at=now)
        )
        grant.status, grant.confirmed_at = "active", now
        await transaction.flush()
    return await read(transaction, grant_id)


async def narrow(transaction: AsyncSession, grant_id: UUID, body: NarrowIn, now: datetime) -> GrantOut:
    """Takes away from a grant what the body leaves out; raises Invalid where it would give more."""
    _check_scopes(body.scopes or [])
    grant = await _live_grant(transaction, grant_id, now)
    faults = tuple(_widenings(grant, body))
    if faults:
        raise Invalid(faults=faults)
    less = {name: value for name, value in body if value is not None}
    if any(getattr(grant, name) != value for name, value in less.items()):
        await transaction.execute(update(Grant).where(Grant.id == grant_id).values(**less, version=Grant.version + 1))
    return await read(transaction, grant_id)


async def revoke(transaction: AsyncSession, grant_id: UUID, now: datetime) -> None:
    """Ends a grant, pending or active; ending it again changes nothing."""
    grant = await transaction.get(Grant, grant_id)
    if grant is None:
        raise NotFound
    if grant.revoked_at is None:
        grant.revoked_at = now
        await transaction.flush()


async def read(transaction: AsyncSession, grant_id: UUID) -> GrantOut:
    """One grant of the diary that the transaction is authorized for."""
    found = (await call_in(transaction, GRANTS_OF_DIARY(grant=grant_id))).scalar()
    if found is None:
        raise NotFound
    return GrantOut.model_validate_json(json.dumps(found))


async def list_given(transaction: AsyncSession) -> list[GrantOut]:
    """Every grant of the diary that the transaction is authorized for, newest first."""
    found = (await call_in(transaction, GRANTS_OF_DIARY())).scalars()
    return [GrantOut.model_validate_json(json.dumps(one)) for one in found]


async def list_held(transaction: AsyncSession, caller: Caller) -> list[GrantOut]:
    """Every grant to the caller or to their organisation, newest first."""
    held = GRANTS_OF_SESSION(session=caller.session_id, user=caller.user_id)
    found = (await call_in(transaction, held)).scalars()
    return [GrantOut.model_validate_json(json.dumps(one)) for one in found]


async def read_panel(database: Database, cursors: Cursors, caller: Caller, limit: int, cursor: str | None) -> Panel:
    """The diaries that the caller may see now, by name."""
    purpose = f"panel {caller.user_id}"
    after = cursors.open(purpose, cursor)[0] if cursor else None  # by id: a name has no place in a URL
    rows = await database.call_alone(
        READ_PANEL(
            session=caller.session_id,
            user=caller.user_id,
            action="panel.read",
            after=after,
            limit=limit,
            request=caller.request_id,
            address=caller.address,
        ),
        caller.user_id,
    )
    shown = rows[:limit]
    last = (str(shown[-1]["patient_id"]),) if len(rows) > limit else None
    return Panel(
        items=[PanelPatient.model_validate_json(row["item"]) for row in shown],
        next_cursor=cursors.seal(purpose, last) if last else None,
    )


async def read_access_log(
    transaction: AsyncSession, diary: Diary, own_too: bool, limit: int, cursor: str | None
) -> AccessLogPage:
    """Who did what to the diary that the transaction is authorized for, newest first."""
    purpose = f"access log {diary.patient_id} {own_too}"
    before = diary.cursors.open(purpose, cursor)[0] if cursor else None
    rows = (await call_in(transaction, ACCESS_LOG(own=own_too, before=before, limit=limit))).all()
    shown = rows[:limit]
    return AccessLogPage(
        items=[AccessEvent.model_validate_json(json.dumps(row.item)) for row in shown],
        next_cursor=diary.cursors.seal(purpose, (shown[-1].id,)) if len(rows) > limit else None,
    )


async def _live_grant(transaction: AsyncSession, grant_id: UUID, now: datetime) -> Grant:
    """A grant that has not ended; row security shows those of the diary only."""
    grant = await transaction.get(Grant, grant_id)
    if grant is None:
        raise NotFound
    if grant.revoked_at is not None or grant.expires_at <= now:
        raise Gone("The consent has ended; share a new code.")
    return grant


async def _check_fresh(transaction: AsyncSession, caller: Caller, now: datetime) -> None:
    """Giving consent needs more than a phone that lies about unlocked: a sign-in of the last minutes."""
    signed_in_at = await transaction.scalar(
        select(DeviceSession.created_at).where(DeviceSession.id == caller.session_id)
    )
    if signed_in_at is None or signed_in_at < now - FRESH:
        raise StepUpRequired


async def _check_live(transaction: AsyncSession, repeated: bytes, now: datetime) -> None:
    """Raises TooManyRequests where as many codes wait as may; a code that is asked for again is not one more."""
    if await transaction.scalar(select(ShareCode.id).where(ShareCode.code_digest == repeated)):
        return
    waiting = select(ShareCode.expires_at).where(ShareCode.redeemed_by.is_(None), ShareCode.expires_at > now)
    ends = list(await transaction.scalars(waiting))
    if len(ends) >= LIVE_CODES:
        seconds = math.ceil((min(ends) - now).total_seconds())
        raise TooManyRequests(f"{LIVE_CODES} codes wait to be redeemed.", retry_after=seconds)


def _check_scopes(scopes: list[str]) -> None:
    """Raises Invalid where somebody could write what they cannot read, or read notes of nothing."""
    given = set(scopes)
    faults = [
        Fault("/scopes", "unreadable", f"{needing} needs {' or '.join(needed)}.")
        for needing, needed in NEEDS.items()
        if needing in given and given.isdisjoint(needed)
    ]
    if faults:
        raise Invalid(faults=tuple(faults))


def _widenings(grant: Grant, body: NarrowIn) -> Iterator[Fault]:
    """Where the body gives more than the grant."""
    if body.scopes is not None and not set(body.scopes) <= set(grant.scopes):
        yield Fault("/scopes", "wider", "A scope was not granted; share a new code.")
    if body.data_from is not None and grant.data_from is not None and body.data_from < grant.data_from:
        yield Fault("/data_from", "wider", "It lies before what was granted; share a new code.")
    if body.expires_at is not None and body.expires_at > grant.expires_at:
        yield Fault("/expires_at", "wider", "It lies after what was granted; share a new code.")


def _code(secret: bytes, patient_id: UUID, key: str) -> str:
    """Eight characters that follow from the key, so that a repeated request needs no stored code."""
    derived = hmac.digest(secret, f"share code\n{patient_id}\n{key}".encode(), "sha256")
    return b32encode(derived[:5]).decode().translate(_ALPHABET)


def _digest(secret: bytes, code: str) -> bytes:
    return hmac.digest(secret, f"share code digest\n{code}".encode(), "sha256")
