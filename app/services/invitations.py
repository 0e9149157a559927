"""Accounts that an operator makes: admins and clinicians get a one-time link and choose their own password.

What an operator asks for needs the owner's URL: the serving role can neither invite anybody nor verify a clinician.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.errors import Fault, Invalid, NotFound
from app.models import AuditEvent, Clinician, DeviceSession, Invitation, Organisation, Patient, User
from app.models.care_team import PROFESSIONS
from app.postgres import connections
from app.postgres.database import Database, call_in, owner_transaction
from app.schemas.auth import Email
from app.schemas.base import line
from app.security import opaque_tokens, passwords
from app.services.sessions import REVOKE_SESSIONS

LIFE = timedelta(days=7)
OPERATOR = "operator"  # in the audit trail: whoever holds the owner's URL, which names no person
_EMAIL: TypeAdapter[str] = TypeAdapter(Email)
_NAME: TypeAdapter[str] = TypeAdapter(Annotated[str, line(120)])


class Refused(Exception):
    """The operator asked for something that cannot be; the text says why in one sentence."""


async def add_organisation(url: str, name: str) -> UUID:
    """The id of the organisation of this name, made where there is none."""
    name = _name(name)
    async with as_owner(url) as connection:
        await connection.execute(upsert(Organisation).values(name=name).on_conflict_do_nothing())
        organisation_id = await _organisation(connection, name)
        await note(connection, "organisations.add", organisation_id)
        return organisation_id


async def invite_admin(url: str, email: str, name: str | None) -> str:
    """The token of a one-time link for a new admin; for an old one another, in the place of the link before."""
    email, name = known_address(email), _name(name) if name is not None else None
    async with as_owner(url) as connection:
        return await _invite(connection, await _account(connection, "admin", email, name))


async def invite_clinician(
    url: str, email: str, name: str, profession: str, organisation: str | None, *, unverified: bool
) -> str:
    """The token of a one-time link for a new clinician; for an old one another, and what is given here is changed.

    The operator vouches for a new clinician, unless `unverified`. An old one stays as verified as before, or less.
    """
    email, name = known_address(email), _name(name)
    if profession not in PROFESSIONS:
        raise Refused(f"The profession is one of {', '.join(PROFESSIONS)}.")
    facts: dict[str, object] = {"profession": profession}
    async with as_owner(url) as connection:
        user_id = await _account(connection, "clinician", email, name)
        if organisation is not None:
            facts["organisation_id"] = await _organisation(connection, _name(organisation))
        if unverified:
            facts["verified_at"] = None
        await hold_writes(connection, user_id)
        clinician = upsert(Clinician).values({"user_id": user_id, "verified_at": func.now()} | facts)
        await connection.execute(clinician.on_conflict_do_update(index_elements=[Clinician.user_id], set_=facts))
        return await _invite(connection, user_id)


async def verify_clinician(url: str, email: str) -> None:
    """Vouches for a clinician: from the next request on, what patients granted is open."""
    async with as_owner(url) as connection:
        user_id = await _clinician(connection, email)
        since = func.coalesce(Clinician.verified_at, func.now())
        await connection.execute(update(Clinician).where(Clinician.user_id == user_id).values(verified_at=since))
        await note(connection, "clinicians.verify", user_id)


async def unverify_clinician(url: str, email: str) -> None:
    """Vouches no longer: from the next request on, the clinician sees no health data."""
    async with as_owner(url) as connection:
        user_id = await _clinician(connection, email)
        await hold_writes(connection, user_id)
        await connection.execute(update(Clinician).where(Clinician.user_id == user_id).values(verified_at=None))
        await note(connection, "clinicians.unverify", user_id)


async def accept(database: Database, token: str, password: str, now: datetime) -> None:
    """Sets the password of the account that a one-time link is for, and signs its devices out.

    A link that is wrong, used, replaced or over is just not found; one that met a weak password stays good.
    """
    good = (Invitation.digest == opaque_tokens.digest(token), Invitation.used_at.is_(None), Invitation.expires_at > now)
    async with database.open_transaction() as transaction:
        invited = (await transaction.execute(select(User.id, User.email).join(Invitation).where(*good))).one_or_none()
    if invited is None:
        raise NotFound
    weakness = passwords.weakness(password, second_factor=False, email=invited.email)
    if weakness:
        raise Invalid(faults=(Fault("/password", "weak_password", weakness),))
    encoded = await passwords.hash_password(password)
    async with database.open_transaction() as transaction:
        await _set_password(transaction, invited.id, encoded, now)
        used = update(Invitation).where(*good).values(used_at=now).returning(Invitation.user_id)
        if await transaction.scalar(used) is None:
            raise NotFound  # somebody was quicker; the password is taken back with it


async def _set_password(transaction: AsyncSession, user_id: UUID, encoded: str, now: datetime) -> None:
    """The account comes first: whoever signs in to it, or invites anew, is done by then or waits for us."""
    changes = {"password_hash": encoded, "password_changed_at": now, "email_verified_at": now}
    await transaction.execute(update(User).where(User.id == user_id).values(changes))
    devices = await transaction.scalars(select(DeviceSession.id).where(DeviceSession.user_id == user_id))
    await call_in(transaction, REVOKE_SESSIONS(user=user_id, sessions=list(devices)))


@asynccontextmanager
async def as_owner(url: str) -> AsyncIterator[AsyncConnection]:
    """One transaction at this URL; raises Refused where the database is not migrated, or the URL not its owner's."""
    try:
        async with owner_transaction(url) as connection:
            if not await connection.scalar(text(connections.IS_OWNER)):
                raise Refused(connections.REFUSALS["42501"])
            yield connection
    except DBAPIError as failure:
        sqlstate = getattr(failure.orig, "sqlstate", "")
        if sqlstate not in ("42P01", "42501"):
            raise
        raise Refused(connections.REFUSALS[sqlstate]) from None


async def _account(connection: AsyncConnection, role: str, email: str, name: str | None) -> UUID:
    """The account of this address, made where there is none; locked, so that invitations go one after another."""
    account = upsert(User).values(
        # A hash that no password fits, as expensive to check as a real one.
        email=email,
        password_hash=passwords.NOBODY,
        display_name=name or "Administrator",
        role=role,
        locale="en",
    )
    same = account.on_conflict_do_update(
        index_elements=[User.email], set_={"display_name": name or User.display_name}, where=User.role == role
    )
    user_id: UUID | None = await connection.scalar(same.returning(User.id))
    if user_id is None:
        raise Refused("This address has an account of another role already.")
    return user_id


async def _invite(connection: AsyncConnection, user_id: UUID) -> str:
    token = opaque_tokens.create()
    await connection.execute(delete(Invitation).where(Invitation.user_id == user_id, Invitation.used_at.is_(None)))
    new = {"digest": opaque_tokens.digest(token), "user_id": user_id, "expires_at": func.clock_timestamp() + LIFE}
    await connection.execute(insert(Invitation).values(new))
    await note(connection, "accounts.invite", user_id)
    return token


async def note(connection: AsyncConnection, action: str, concerned: UUID) -> None:
    """Writes into the audit trail what an operator did, and to which account or organisation."""
    patient_id = await connection.scalar(select(Patient.id).where(Patient.user_id == concerned))
    done = {"role": OPERATOR, "action": action, "record_ids": [concerned], "patient_id": patient_id, "outcome": "ok"}
    await connection.execute(insert(AuditEvent).values(done))


async def _organisation(connection: AsyncConnection, name: str) -> UUID:
    found = await connection.scalar(select(Organisation.id).where(Organisation.name == name))
    if found is None:  # made on the way, a slip of the pen would be an organisation too
        raise Refused("There is no organisation of this name: `pain-diary admin organisation` adds one.")
    return found


async def _clinician(connection: AsyncConnection, email: str) -> UUID:
    clinicians = select(Clinician.user_id).join(User, User.id == Clinician.user_id)
    found = await connection.scalar(clinicians.where(User.email == known_address(email)))
    if found is None:
        raise Refused("There is no clinician with this address.")
    return found


async def hold_writes(connection: AsyncConnection, user_id: UUID) -> None:
    """Waits for what the account is writing, and lets nothing more be written until the transaction ends."""
    none = REVOKE_SESSIONS(user=user_id, sessions=[])
    await connection.exec_driver_sql(none.function.statement, none.arguments)


def known_address(email: str) -> str:
    """The address as it is stored; raises Refused for what is none."""
    try:
        return _EMAIL.validate_python(email).lower()
    except ValidationError:
        raise Refused("This is no e-mail address.") from None


def _name(name: str) -> str:
    try:
        return _NAME.validate_python(name.strip())
    except ValidationError:
        raise Refused("A name has 1 to 120 characters, on one line.") from None
