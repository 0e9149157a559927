"""Accounts as an operator sees them: who there is, who may not sign in any more, and who may again.

This needs the owner's URL, as do invitations; each change is in the audit trail as the operator's.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update

from app.models import DeviceSession, User
from app.services.invitations import Refused, as_owner, hold_writes, known_address, note


@dataclass(frozen=True, slots=True)
class Listed:
    """An account, since when it may do nothing, and when one of its devices was seen last."""

    email: str
    role: str
    display_name: str
    created_at: datetime
    disabled_at: datetime | None
    last_seen_at: datetime | None


async def list_accounts(url: str, role: str | None = None, *, disabled: bool = False) -> list[Listed]:
    """The accounts in the order of their addresses: those of a role, and only those that are disabled if so asked."""
    seen = select(func.max(DeviceSession.last_seen_at)).where(DeviceSession.user_id == User.id).scalar_subquery()
    found = select(User.email, User.role, User.display_name, User.created_at, User.disabled_at, seen)
    if role is not None:
        found = found.where(User.role == role)
    if disabled:
        found = found.where(User.disabled_at.is_not(None))
    async with as_owner(url) as connection:
        return [Listed(*row) for row in await connection.execute(found.order_by(User.email))]


async def disable(url: str, email: str) -> None:
    """Ends every right of the account on the next request, and waits for what it is writing now.

    Its sessions and consents stay, and are good for nothing until it is enabled.
    """
    await _change(url, email, disable=True)


async def enable(url: str, email: str) -> None:
    """Gives the account back what it had."""
    await _change(url, email, disable=False)


async def _change(url: str, email: str, *, disable: bool) -> None:
    async with as_owner(url) as connection:
        user_id = await connection.scalar(select(User.id).where(User.email == known_address(email)))
        if user_id is None:
            raise Refused("There is no account with this address.")
        if disable:
            await hold_writes(connection, user_id)
        since = func.coalesce(User.disabled_at, func.now()) if disable else None
        await connection.execute(update(User).where(User.id == user_id).values(disabled_at=since))
        await note(connection, "accounts.disable" if disable else "accounts.enable", user_id)
