"""How long an account or an address must wait after failed sign-ins: longer and longer, never for good.

Both are known by a keyed hash only, and an account that does not exist waits like one that does.
"""

import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import TooManyRequests
from app.models import SignInDelay
from app.postgres.database import Database
from app.security.client_address import network as network_of

# Failures before the first wait, and the longest wait in seconds. An account is watched from each network apart,
# so that somebody who guesses keeps the owner at home from nothing; over all networks it gets far more tries.
HERE_LIMIT = (5, 60)
ACCOUNT_LIMIT = (100, 60)
NETWORK_LIMIT = (50, 300)
REGISTRATION_LIMIT = (100, 60)
REDEEM_LIMIT = (5, 60)
FORGET_FAILURES = timedelta(days=1)

Limits = dict[bytes, tuple[int, int]]


def sign_in_limits(secret: bytes, email: str, address: str | None) -> Limits:
    """What a sign-in counts for: the account from this network, the account, and last the network."""
    network, account = network_of(address).hex(), email.lower()
    return {
        _key(secret, "here", account, network): HERE_LIMIT,
        _key(secret, "account", account): ACCOUNT_LIMIT,
        _key(secret, "network", network): NETWORK_LIMIT,
    }


def registration_limits(secret: bytes, address: str | None) -> Limits:
    """What a registration counts for."""
    return {_key(secret, "registration", network_of(address).hex()): REGISTRATION_LIMIT}


def redeeming_limits(secret: bytes, user_id: str, address: str | None) -> Limits:
    """What redeeming a share code counts for: the account, and the network."""
    return {
        _key(secret, "redeem", user_id): REDEEM_LIMIT,
        _key(secret, "redeem network", network_of(address).hex()): NETWORK_LIMIT,
    }


async def count(database: Database, limits: Limits, now: datetime) -> None:
    """Counts an attempt before it is made, so that parallel guesses are counted too; refuses while one must wait."""
    async with database.open_transaction() as transaction:
        fresh = [{"key": key, "failures": 0, "failed_at": now} for key in sorted(limits)]
        # A key that is new needs a row to lock, or the first guesses of a crowd would all count as the first.
        await transaction.execute(upsert(SignInDelay).values(fresh).on_conflict_do_nothing())
        waits = [_wait(delay, *limits[delay.key], now) for delay in await _lock(transaction, limits)]
        if any(waits):
            raise TooManyRequests(retry_after=max(waits))
        await transaction.execute(
            update(SignInDelay)
            .where(SignInDelay.key.in_(limits))
            .values(failures=func.least(SignInDelay.failures, 1000) + 1, failed_at=now)
        )
        old = select(SignInDelay.key).where(SignInDelay.failed_at < now - FORGET_FAILURES)
        await transaction.execute(
            delete(SignInDelay).where(SignInDelay.key.in_(old.with_for_update(skip_locked=True).scalar_subquery()))
        )


async def forgive(transaction: AsyncSession, limits: Limits) -> None:
    """For a right password: forgets the account's failures from this network, and of the other limits this attempt.

    Else whoever guesses could clear the network's count by signing in to an account of their own in between.
    """
    here, *others = limits
    await _lock(transaction, limits)
    await transaction.execute(delete(SignInDelay).where(SignInDelay.key == here))
    await transaction.execute(
        update(SignInDelay).where(SignInDelay.key.in_(others)).values(failures=SignInDelay.failures - 1)
    )


async def _lock(transaction: AsyncSession, keys: Iterable[bytes]) -> list[SignInDelay]:
    """The delays of these keys, locked in one order, so that parallel sign-ins queue instead of blocking each other."""
    held = select(SignInDelay).where(SignInDelay.key.in_(keys)).order_by(SignInDelay.key).with_for_update()
    return list(await transaction.scalars(held))


def _wait(delay: SignInDelay, free: int, longest: int, now: datetime) -> int:
    """Whole seconds still to wait: none for the first failures, then doubling up to the longest."""
    if delay.failures < free:
        return 0
    pause = timedelta(seconds=min(2 ** min(delay.failures - free, 20), longest))
    return max(0, -((now - delay.failed_at - pause) // timedelta(seconds=1)))


# Joined by a line break, which neither an e-mail address nor an id holds: no other parts give the same text.
def _key(secret: bytes, *parts: str) -> bytes:
    return hmac.digest(secret, "\n".join(parts).encode(), "sha256")
