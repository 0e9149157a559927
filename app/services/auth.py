"""Accounts and sign-in: registering, and passwords to sessions."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.domain.moments import zone_of
from app.domain.people import Role
from app.errors import AccountNotReady, Fault, Invalid, SignInFailed
from app.models import DeviceSession, Patient, PatientClock, User
from app.postgres.database import Database
from app.schemas.auth import RegistrationIn, SignInIn
from app.security import passwords
from app.services import sessions, throttle
from app.services.sessions import Ended, SignedIn

KNOWN_FOR = timedelta(days=90)  # so long a network is known on which somebody was signed in


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


async def register(database: Database, body: RegistrationIn, address: str | None, secret: bytes, now: datetime) -> None:
    """Makes a patient with an account; hashes alike and says nothing where the address has one already."""
    weakness = passwords.weakness(body.password, second_factor=False, email=body.email)
    if weakness:
        raise Invalid(faults=(Fault("/password", "weak_password", weakness),))
    if body.birth_date > now.astimezone(zone_of(body.time_zone)).date():
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
            birth_date_precision=body.birth_date_precision,
            time_zone=body.time_zone,
            locale=body.locale,
        )
        .inline()
    )
    await transaction.execute(insert(PatientClock).values(patient_id=patient_id).inline())


async def sign_in(
    database: Database, settings: Settings, body: SignInIn, address: str | None, secret: bytes, now: datetime
) -> tuple[SignedIn, list[Ended]]:
    """A new session for the right address and password; every wrong combination fails alike and counts.

    With it come the sessions that ended lately because their token came back: the person has to be told.
    """
    async with database.open_transaction() as transaction:
        known = await _knows(transaction, body.email.lower(), address, secret, now)
    limits = throttle.sign_in_limits(secret, body.email, address, known=known)
    proof = throttle.Proof(body.proof.challenge, body.proof.answer) if body.proof else None
    await throttle.count_sign_in(database, limits, proof, secret, now)
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
        await throttle.forgive(transaction, limits.all)
        if changes:
            await transaction.execute(update(User).where(User.id == account.id).values(changes))
        mark = throttle.network_mark(secret, account.id, address)
        device = DeviceSession(id=uuid4(), user_id=account.id, device_name=body.device_name, network=mark)
        signed_in = await sessions.start(transaction, settings, secret, device, account.role, now)
        await sessions.end_surplus(transaction, account.id, settings.sessions_per_account, now)
        return signed_in, await sessions.list_reused(transaction, account.id, now)


async def _knows(transaction: AsyncSession, email: str, address: str | None, secret: bytes, now: datetime) -> bool:
    """Whether the account of this address has been signed in on this network, by a session that nobody stole."""
    marks = await transaction.execute(
        select(User.id, DeviceSession.network)
        .join(DeviceSession, DeviceSession.user_id == User.id)
        .where(
            User.email == email,
            DeviceSession.network.is_not(None),
            DeviceSession.ended_because.is_(None),
            DeviceSession.last_seen_at > now - KNOWN_FOR,
        )
        .order_by(DeviceSession.last_seen_at.desc())
        .limit(100)
    )
    return any(mark == throttle.network_mark(secret, user_id, address) for user_id, mark in marks)


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
