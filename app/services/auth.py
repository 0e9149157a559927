"""Accounts and sign-in: registering, passwords to tokens, the chain of refresh tokens, and the device list.

A refresh rotates: the token that comes is answered with its successor. The answer may get lost, so the token
stays good until its successor is first used, for a day at most; a token from before that use means that two
parties hold the chain, and ends the session.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.domain.people import Role
from app.errors import (
    AccountNotReady,
    Fault,
    Invalid,
    NotFound,
    SignInFailed,
    Unauthenticated,
)
from app.models import DeviceSession, Patient, PatientClock, RefreshToken, User
from app.postgres.database import Database, call_in
from app.postgres.functions import Function
from app.schemas.auth import RegistrationIn, SignInIn
from app.security import opaque_tokens, passwords
from app.services import throttle

PREFIX = "pdr_"  # tells secret scanners what they found
RETRY_PERIOD = timedelta(hours=24)
REVOKE_SESSIONS = Function("revoke_sessions_v1", "user uuid, sessions uuid[]")
SESSION_ACCOUNT = Function("session_account_v1", "session uuid")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session and the refresh token that continues it."""

    user_id: UUID
    role: Role
    patient_id: UUID | None
    session_id: UUID
    refresh_token: str


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
class Credentials:
    """What a sign-in is checked against. It never leaves this module."""

    id: UUID
    role: Role
    password_hash: str = field(repr=False)
    password_changed_at: datetime
    disabled_at: datetime | None
    email_verified_at: datetime | None
    second_factor_at: datetime | None


@dataclass(frozen=True, slots=True)
class RefreshLink:
    """A link of a session's chain of refresh tokens; `models/auth.py` says what its states mean."""

    state: str
    first_used_at: datetime | None
    session_id: UUID
    user_id: UUID
    role: Role


async def register(database: Database, body: RegistrationIn, address: str | None, secret: bytes, now: datetime) -> None:
    """Makes a patient with an account; hashes alike and says nothing where the address has one already."""
    weakness = passwords.weakness(body.password, second_factor=False, email=body.email)
    if weakness:
        raise Invalid(faults=(Fault("/password", "weak_password", weakness),))
    if body.birth_date > now.astimezone(ZoneInfo(body.time_zone)).date():
        raise Invalid(faults=(Fault("/birth_date", "in_the_future", "It lies in the future."),))
    await throttle.count(database, throttle.registration_limits(secret, address), now)
    # Hashed before it is known whether the address is free: the time of an answer would tell who has an account.
    encoded = await passwords.hash_password(body.password)
    async with database.open_transaction() as transaction:
        user_id, patient_id = uuid4(), uuid4()
        added = await transaction.execute(
            upsert(User)
            .values(
                id=user_id,
                email=body.email.lower(),
                password_hash=encoded,
                display_name=body.display_name,
                role="patient",
                locale=body.locale,
            )
            .on_conflict_do_nothing(index_elements=[User.email])
            .returning(User.id)
        )
        if added.scalar() is None:
            return
        await add_patient(transaction, patient_id, user_id, body)


async def add_patient(transaction: AsyncSession, patient_id: UUID, user_id: UUID, body: RegistrationIn) -> None:
    """Adds a patient and the clock without which nothing can be written for them."""
    await transaction.execute(
        insert(Patient)
        .values(
            id=patient_id,
            user_id=user_id,
            display_name=body.display_name,
            birth_date=body.birth_date,
            time_zone=body.time_zone,
            locale=body.locale,
        )
        .inline()
    )
    await transaction.execute(insert(PatientClock).values(patient_id=patient_id).inline())


async def sign_in(
    database: Database, settings: Settings, body: SignInIn, address: str | None, secret: bytes, now: datetime
) -> SignedIn:
    """A new session for the right address and password; every wrong combination fails alike and counts."""
    limits = throttle.sign_in_limits(secret, body.email, address)
    await throttle.count(database, limits, now)
    async with database.open_transaction() as transaction:
        account = await _credentials(transaction, body.email.lower())
    fits = await passwords.verify_password(body.password, account.password_hash if account else None)
    if not fits or account is None or account.disabled_at is not None:
        raise SignInFailed
    if settings.require_verified_email and account.email_verified_at is None:
        raise SignInFailed  # told apart, it would show who had an account before somebody else registered the address
    _refuse_unready(settings, account)
    changes = {}
    if passwords.needs_rehash(account.password_hash):
        changes["password_hash"] = await passwords.hash_password(body.password)
    # Nothing was held open while the password was verified: a hash takes longer than a connection may be kept.
    async with database.open_transaction() as transaction:
        await _check_unchanged(transaction, account)
        await throttle.forgive(transaction, limits)
        if changes:
            await transaction.execute(update(User).where(User.id == account.id).values(changes))
        signed_in = await _start_session(
            transaction, account, body.device_name, now + timedelta(days=settings.session_days)
        )
        await _end_surplus(transaction, account.id, settings.sessions_per_account, now)
        return signed_in


async def refresh(database: Database, settings: Settings, token: str, now: datetime) -> SignedIn:
    """The next link of a session's chain; raises Unauthenticated for a token that continues none."""
    async with database.open_transaction() as transaction:
        link = await _lock_chain(transaction, token, now)
        if link is not None and link.state != "retired":
            return await _rotate(transaction, link, token, now, settings)
    if link is not None:  # a retired token: two parties hold the chain, and nobody can tell which is the thief
        await revoke(database, link.user_id, [link.session_id])
    raise Unauthenticated


async def revoke(database: Database, user_id: UUID, session_ids: list[UUID]) -> int:
    """Ends sessions of a user and returns how many were alive; no write of theirs commits after this."""
    [row] = await database.call(REVOKE_SESSIONS(user=user_id, sessions=session_ids))
    ended: int = row[0]
    return ended


async def revoke_one(database: Database, user_id: UUID, session_id: UUID) -> None:
    """Ends one session of the user; NotFound where it is not theirs or already over."""
    if not await revoke(database, user_id, [session_id]):
        raise NotFound


async def _end_surplus(transaction: AsyncSession, user_id: UUID, most: int, now: datetime) -> None:
    """Ends what was idle longest of a user's sessions beyond so many; the account's row is locked meanwhile."""
    devices = await live_sessions(transaction, user_id, now)
    if surplus := [device.id for device in devices[most:]]:
        await call_in(transaction, REVOKE_SESSIONS(user=user_id, sessions=surplus))


async def live_sessions(transaction: AsyncSession, user_id: UUID, now: datetime) -> list[DeviceSession]:
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


async def account_of(transaction: AsyncSession, session_id: UUID) -> Account:
    """The account behind a live session; raises Unauthenticated once it has ended."""
    account = (await call_in(transaction, SESSION_ACCOUNT(session=session_id))).mappings().one_or_none()
    if account is None:
        raise Unauthenticated
    return Account(**account)


async def _credentials(transaction: AsyncSession, email: str) -> Credentials | None:
    found = await transaction.execute(
        select(
            User.id,
            User.role,
            User.password_hash,
            User.password_changed_at,
            User.disabled_at,
            User.email_verified_at,
            User.second_factor_at,
        ).where(User.email == email)
    )
    account = found.one_or_none()
    return None if account is None else Credentials(*account)


async def _check_unchanged(transaction: AsyncSession, account: Credentials) -> None:
    """Locks the account; a password that was replaced while it was verified starts no session, and stays replaced."""
    changed_at = select(User.password_changed_at).where(User.id == account.id).with_for_update(key_share=True)
    if await transaction.scalar(changed_at) != account.password_changed_at:
        raise SignInFailed


def _refuse_unready(settings: Settings, account: Credentials) -> None:
    if settings.require_second_factor and account.second_factor_at is None:
        raise AccountNotReady("Enrol a second factor first.")
    if account.second_factor_at is not None:  # rather nobody than with the password alone
        raise AccountNotReady("Second factors cannot be checked yet.")


async def _start_session(
    transaction: AsyncSession, account: Credentials, device_name: str | None, expires_at: datetime
) -> SignedIn:
    device = DeviceSession(id=uuid4(), user_id=account.id, device_name=device_name, expires_at=expires_at)
    transaction.add(device)
    await transaction.flush()
    return await _signed_in(transaction, account.id, account.role, device.id)


async def _signed_in(transaction: AsyncSession, user_id: UUID, role: Role, session_id: UUID) -> SignedIn:
    token = opaque_tokens.create(PREFIX)
    await transaction.execute(
        insert(RefreshToken).values(digest=opaque_tokens.digest(token), session_id=session_id, state="successor")
    )
    account = await account_of(transaction, session_id)
    return SignedIn(user_id, role, account.patient_id, session_id, token)


async def _lock_chain(transaction: AsyncSession, token: str, now: datetime) -> RefreshLink | None:
    """The token's link, with its session locked so that parallel refreshes go one after another."""
    digest = opaque_tokens.digest(token)
    await transaction.execute(
        select(literal(1))
        .select_from(RefreshToken)
        .join(DeviceSession, DeviceSession.id == RefreshToken.session_id)
        .where(RefreshToken.digest == digest)
        .with_for_update(of=DeviceSession)
    )
    found = await transaction.execute(
        select(
            RefreshToken.state,
            RefreshToken.first_used_at,
            RefreshToken.session_id,
            User.id,
            User.role,
        )
        .join(DeviceSession, DeviceSession.id == RefreshToken.session_id)
        .join(User, User.id == DeviceSession.user_id)
        .where(
            RefreshToken.digest == digest,
            DeviceSession.revoked_at.is_(None),
            DeviceSession.expires_at > now,
            User.disabled_at.is_(None),
        )
    )
    link = found.one_or_none()
    return None if link is None else RefreshLink(*link)


async def _rotate(
    transaction: AsyncSession, link: RefreshLink, token: str, now: datetime, settings: Settings
) -> SignedIn:
    if link.state == "replaced" or _is_retry_too_late(link, now):
        raise Unauthenticated
    chain = update(RefreshToken).where(RefreshToken.session_id == link.session_id)
    if link.state == "successor":
        await transaction.execute(chain.where(RefreshToken.state == "current").values(state="retired"))
        await transaction.execute(
            chain.where(RefreshToken.digest == opaque_tokens.digest(token)).values(state="current", first_used_at=now)
        )
    else:
        await transaction.execute(chain.where(RefreshToken.state == "successor").values(state="replaced"))
    await transaction.execute(
        update(DeviceSession)
        .where(DeviceSession.id == link.session_id)
        .values(last_seen_at=now, expires_at=now + timedelta(days=settings.session_days))
    )
    return await _signed_in(transaction, link.user_id, link.role, link.session_id)


def _is_retry_too_late(link: RefreshLink, now: datetime) -> bool:
    """Whether a token that was used already comes back after the time in which an answer may have got lost."""
    return link.state == "current" and link.first_used_at is not None and link.first_used_at + RETRY_PERIOD < now
