"""How long an account or an address must wait after failed sign-ins: longer and longer, never for good.

Both are known by a keyed hash only, and an account that does not exist waits like one that does.
"""

import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.errors import TooManyRequests
from app.models import SignInDelay

# Failed sign-ins before the first wait, and the longest wait in seconds. An address is shared by many people,
# so it gets more of both tries and time.
ACCOUNT_LIMIT = (5, 60)
ADDRESS_LIMIT = (50, 300)
FORGET_FAILURES = timedelta(days=1)

Limits = dict[bytes, tuple[int, int]]  # account first, then address


def limits_of(secret: bytes, email: str, address: str | None) -> Limits:
    """What an attempt counts for, and how much each may fail."""
    account = hmac.digest(secret, f"account:{email.lower()}".encode(), "sha256")
    place = hmac.digest(secret, f"address:{address or ''}".encode(), "sha256")
    return {account: ACCOUNT_LIMIT, place: ADDRESS_LIMIT}


async def count(database: Database, limits: Limits, now: datetime) -> None:
    """Counts an attempt before it is made, so that parallel guesses are counted too; refuses while one must wait."""
    async with database.open_session() as session:
        fresh = [{"key": key, "failures": 0, "failed_at": now} for key in sorted(limits)]
        await session.execute(upsert(SignInDelay).values(fresh).on_conflict_do_nothing())
        waits = [_wait(delay, *limits[delay.key], now) for delay in await _lock(session, limits)]
        if any(waits):
            raise TooManyRequests(retry_after=max(waits))
        await session.execute(
            update(SignInDelay)
            .where(SignInDelay.key.in_(limits))
            .values(failures=func.least(SignInDelay.failures, 1000) + 1, failed_at=now)
        )
        old = select(SignInDelay.key).where(SignInDelay.failed_at < now - FORGET_FAILURES)
        await session.execute(
            delete(SignInDelay).where(SignInDelay.key.in_(old.with_for_update(skip_locked=True).scalar_subquery()))
        )


async def forgive(session: AsyncSession, limits: Limits) -> None:
    """A right password clears the account; of the address only this attempt, or an attacker could clear it."""
    account_key, address_key = limits
    await _lock(session, limits)
    await session.execute(delete(SignInDelay).where(SignInDelay.key == account_key))
    await session.execute(
        update(SignInDelay).where(SignInDelay.key == address_key).values(failures=SignInDelay.failures - 1)
    )


async def _lock(session: AsyncSession, keys: Iterable[bytes]) -> list[SignInDelay]:
    """The delays of these keys, locked in one order, so that parallel sign-ins queue instead of blocking each other."""
    held = select(SignInDelay).where(SignInDelay.key.in_(keys)).order_by(SignInDelay.key).with_for_update()
    return list(await session.scalars(held))


def _wait(delay: SignInDelay, free: int, longest: int, now: datetime) -> int:
    """Whole seconds still to wait: none for the first failures, then doubling up to the longest."""
    if delay.failures < free:
        return 0
    pause = timedelta(seconds=min(2 ** min(delay.failures - free, 20), longest))
    return max(0, -((now - delay.failed_at - pause) // timedelta(seconds=1)))
