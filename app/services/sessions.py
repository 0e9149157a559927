"""The devices a person is signed in on: who calls, the chain of refresh tokens, and how a session ends.

A refresh rotates: the token that comes is answered with its successor. The answer may get lost, so for a short grace
the same token gets the same successor, however often and from however many threads it comes; after that a retry gets a
new one and makes the one before void. A token is current until its successor is first used, for a day at most. Whatever
comes later than that, or void for longer than the grace, means that two parties hold the chain. Nobody can tell which
of them is the thief: the session ends, and the person is told (ADR 23).
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Final, Literal, TypedDict
from uuid import UUID

from sqlalchemy import delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.domain.people import Role
from app.errors import NotFound, Unauthenticated, Unavailable
from app.models import DeviceSession, RefreshToken, User
from app.postgres.database import Database, call_in
from app.postgres.functions import Function
from app.security import opaque_tokens, refresh_tokens
from app.services import throttle

GRACE = timedelta(minutes=10)  # in which an answer that got lost is asked for again
RETRY_PERIOD = timedelta(hours=24)
TOLD_FOR = timedelta(days=30)  # so long a person is told that a session ended because its token came back
PURGE_SECONDS = 600
REUSED: Final = "token_reused"
REVOKE_SESSIONS = Function("revoke_sessions_v1", "user uuid, sessions uuid[], reason text")
SESSION_ACCOUNT = Function("session_account_v1", "session uuid, user uuid")
PURGE = Function("purge_v1", "")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session and the refresh token that continues it."""

    user_id: UUID
    role: Role
    patient_id: UUID | None
    session_id: UUID
    refresh_token: str


class Ended(TypedDict):
    """A session that ended because its token came back, as the person is told of it."""

    id: str
    device_name: str | None
    ended_at: datetime
    reason: Literal["token_reused"]


@dataclass(frozen=True, slots=True)
class Account:
    """Whose session it is, as `session_account()` answers; `patient_id` is that of the own diary, None without one."""

    user_id: UUID
    role: Role
    display_name: str
    locale: str
    email: str
    patient_id: UUID | None


@dataclass(frozen=True, slots=True)
class Chain:
    """A live session with the link of its chain that came; without a state the link was good once, and is gone."""

    session_id: UUID
    user_id: UUID
    role: Role
    state: str | None = None
    first_used_at: datetime | None = None
    replaced_at: datetime | None = None

    def held_by_two(self, now: datetime) -> bool:
        """Whether what came is a token that the device itself does not send any more."""
        if self.state == "successor":
            return False
        since, period = (self.first_used_at, RETRY_PERIOD) if self.state == "current" else (self.replaced_at, GRACE)
        return since is None or since + period < now


async def start(
    transaction: AsyncSession, settings: Settings, secret: bytes, session: DeviceSession, role: Role, now: datetime
) -> SignedIn:
    """A new session of a device, with the first token of its chain."""
    session.created_at = session.last_seen_at = now
    session.expires_at = now + timedelta(days=settings.session_days)
    transaction.add(session)
    await transaction.flush()
    return await _hand_out(transaction, secret, Chain(session.id, session.user_id, role), now)


async def refresh(
    database: Database, settings: Settings, token: str, address: str | None, secret: bytes, now: datetime
) -> SignedIn:
    """The next link of a session's chain; raises Unauthenticated for a token that continues none."""
    async with database.open_transaction() as transaction:
        chain = await _lock_chain(transaction, token, secret, now)
        if chain is not None and not chain.held_by_two(now):
            mark = throttle.network_mark(secret, chain.user_id, address)
            seen = {"last_seen_at": now, "expires_at": now + timedelta(days=settings.session_days), "network": mark}
            await transaction.execute(update(DeviceSession).where(DeviceSession.id == chain.session_id).values(seen))
            return await _continue(transaction, chain, token, secret, now)
    if chain is not None:
        await revoke(database, chain.user_id, [chain.session_id], REUSED)
    raise Unauthenticated


async def revoke(database: Database, user_id: UUID, session_ids: list[UUID], reason: str | None = None) -> int:
    """Ends sessions of a user and returns how many were alive; no write of theirs commits after this."""
    [row] = await database.call(REVOKE_SESSIONS(user=user_id, sessions=session_ids, reason=reason))
    ended: int = row[0]
    return ended


async def revoke_one(database: Database, user_id: UUID, session_id: UUID) -> None:
    """Ends one session of the user; NotFound where it is not theirs or already over."""
    if not await revoke(database, user_id, [session_id]):
        raise NotFound


async def end_surplus(transaction: AsyncSession, user_id: UUID, most: int, now: datetime) -> None:
    """Ends what was idle longest of a user's sessions beyond so many; the account's row is locked meanwhile."""
    devices = await list_live(transaction, user_id, now)
    if surplus := [device.id for device in devices[most:]]:
        await call_in(transaction, REVOKE_SESSIONS(user=user_id, sessions=surplus, reason=None))


async def list_live(transaction: AsyncSession, user_id: UUID, now: datetime) -> list[DeviceSession]:
    """The devices a user is signed in on, the most recently seen first."""
    found = await transaction.scalars(
        select(DeviceSession)
        .where(
            DeviceSession.user_id == user_id,
            DeviceSession.revoked_at.is_(None),
            DeviceSession.expires_at > now,
        )
        .order_by(DeviceSession.last_seen_at.desc(), DeviceSession.id)
    )
    return list(found)


async def list_reused(transaction: AsyncSession, user_id: UUID, now: datetime) -> list[Ended]:
    """The user's sessions that ended lately because their refresh token came back, the last one first."""
    found = await transaction.scalars(
        select(DeviceSession)
        .where(
            DeviceSession.user_id == user_id,
            DeviceSession.ended_because == REUSED,
            DeviceSession.revoked_at > now - TOLD_FOR,
        )
        .order_by(DeviceSession.revoked_at.desc(), DeviceSession.id)
        .limit(20)
    )
    return [
        {"id": str(one.id), "device_name": one.device_name, "ended_at": one.revoked_at, "reason": REUSED}
        for one in found
        if one.revoked_at is not None
    ]


async def account_of(transaction: AsyncSession, session_id: UUID, user_id: UUID) -> Account:
    """The account behind its live session; raises Unauthenticated once that has ended, or is somebody else's."""
    account = (await call_in(transaction, SESSION_ACCOUNT(session=session_id, user=user_id))).mappings().one_or_none()
    if account is None:
        raise Unauthenticated
    return Account(**account)


async def purge_regularly(database: Database) -> None:
    """Removes what is long over again and again until it is cancelled."""
    while True:
        await asyncio.sleep(PURGE_SECONDS)
        with suppress(Unavailable):
            await purge(database)


async def purge(database: Database) -> None:
    """Removes what is long over, however much it is: in short transactions, so that nobody waits for them."""
    more = True
    while more:
        [[more]] = await database.call(PURGE())


async def _lock_chain(transaction: AsyncSession, token: str, secret: bytes, now: datetime) -> Chain | None:
    """The token's live session, locked so that parallel refreshes go one after another; None where there is none."""
    digest = opaque_tokens.digest(token)
    link = select(RefreshToken.session_id).where(RefreshToken.digest == digest)
    session_id = await transaction.scalar(link) or refresh_tokens.session_of(secret, token)
    await transaction.execute(
        select(literal(1)).select_from(DeviceSession).where(DeviceSession.id == session_id).with_for_update()
    )
    found = await transaction.execute(
        select(
            DeviceSession.id,
            User.id,
            User.role,
            RefreshToken.state,
            RefreshToken.first_used_at,
            RefreshToken.replaced_at,
        )
        .join(User, User.id == DeviceSession.user_id)
        .outerjoin(RefreshToken, (RefreshToken.session_id == DeviceSession.id) & (RefreshToken.digest == digest))
        .where(
            DeviceSession.id == session_id,
            DeviceSession.revoked_at.is_(None),
            DeviceSession.expires_at > now,
            User.disabled_at.is_(None),
        )
    )
    chain = found.one_or_none()
    return None if chain is None else Chain(*chain)


async def _continue(transaction: AsyncSession, chain: Chain, token: str, secret: bytes, now: datetime) -> SignedIn:
    links = RefreshToken.session_id == chain.session_id
    gone = (RefreshToken.state == "replaced") & (RefreshToken.replaced_at < now - GRACE)
    if chain.state == "successor":
        await transaction.execute(delete(RefreshToken).where(links, gone | (RefreshToken.state == "current")))
        used = update(RefreshToken).where(RefreshToken.digest == opaque_tokens.digest(token))
        await transaction.execute(used.values(state="current", first_used_at=now))
        return await _hand_out(transaction, secret, chain, now)
    successor = await transaction.scalar(select(RefreshToken).where(links, RefreshToken.state == "successor"))
    if successor is not None and successor.handed_out_at + GRACE >= now:
        again = refresh_tokens.token_of(secret, chain.session_id, successor.salt)
        if opaque_tokens.digest(again) == successor.digest:  # else the secret is another by now
            return await _signed_in(transaction, chain, again)
    await transaction.execute(delete(RefreshToken).where(links, gone))
    void = update(RefreshToken).where(links, RefreshToken.state == "successor")
    await transaction.execute(void.values(state="replaced", replaced_at=now))
    return await _hand_out(transaction, secret, chain, now)


async def _hand_out(transaction: AsyncSession, secret: bytes, chain: Chain, now: datetime) -> SignedIn:
    """A new successor."""
    salt = token_bytes(refresh_tokens.SALT_BYTES)
    token = refresh_tokens.token_of(secret, chain.session_id, salt)
    new = {"digest": opaque_tokens.digest(token), "session_id": chain.session_id, "state": "successor", "salt": salt}
    await transaction.execute(insert(RefreshToken).values(**new, handed_out_at=now))
    return await _signed_in(transaction, chain, token)


async def _signed_in(transaction: AsyncSession, chain: Chain, token: str) -> SignedIn:
    account = await account_of(transaction, chain.session_id, chain.user_id)
    return SignedIn(chain.user_id, chain.role, account.patient_id, chain.session_id, token)
