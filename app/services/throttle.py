"""How long an account or an address must wait after failed sign-ins: longer and longer, never for good.

Who guesses is stopped at an address and its network first. Over many networks the account waits too, but it admits an
ever smaller trickle, whoever proves work at once, and a network on which the person has been signed in as if nothing
were: nobody is locked out from outside. All are known by a keyed hash only, and an account that does not exist waits
like one that does.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import TooManyRequests
from app.models import SignInDelay
from app.postgres.database import Database
from app.security import client_address, proof_of_work

# Failures before the first wait, and the longest wait in seconds. An account is watched from each network apart,
# so that somebody who guesses keeps the owner at home from nothing; over all networks it gets far more tries.
HERE_LIMIT = (5, 60)
ACCOUNT_LIMIT = (100, 900)
NETWORK_LIMIT = (50, 300)
SITE_LIMIT = (500, 300)  # of the networks of one IPv6 site, of which it has 65 536
REGISTRATION_LIMIT = (100, 60)
REDEEM_LIMIT = (5, 60)
CLOCK_LEEWAY = timedelta(seconds=5)  # between the servers' readings of the database's clock
# A phone does 2**16 hashes in about a tenth of a second, 2**20 in a second or two.
FEWEST_BITS, MOST_BITS = 16, 20

Limits = dict[bytes, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Proof:
    """A challenge with the answer to it."""

    challenge: str
    answer: str


@dataclass(frozen=True, slots=True)
class SignInLimits:
    """What a sign-in counts for. `of_account` is what proven work lifts: the waits of this one account."""

    purpose: str
    all: Limits
    of_account: Limits


def sign_in_limits(secret: bytes, email: str, address: str | None, *, known: bool = False) -> SignInLimits:
    """What a sign-in counts for: the account from this network, the account (not where it is known), the network."""
    network, site = client_address.network(address).hex(), client_address.site(address).hex()
    account = email.lower()
    of_account = {_key(secret, "here", account, network): HERE_LIMIT}
    if not known:
        of_account[_key(secret, "account", account)] = ACCOUNT_LIMIT
    of_networks = {_key(secret, "network", network): NETWORK_LIMIT}
    if site:
        of_networks[_key(secret, "site", site)] = SITE_LIMIT
    return SignInLimits(_key(secret, "proof", account).hex(), of_account | of_networks, of_account)


def registration_limits(secret: bytes, address: str | None) -> Limits:
    """What a registration counts for."""
    return {_key(secret, "registration", client_address.network(address).hex()): REGISTRATION_LIMIT}


def redeeming_limits(secret: bytes, user_id: str, address: str | None) -> Limits:
    """What redeeming a share code counts for: the account, and the network."""
    return {
        _key(secret, "redeem", user_id): REDEEM_LIMIT,
        _key(secret, "redeem network", client_address.network(address).hex()): NETWORK_LIMIT,
    }


def network_mark(secret: bytes, user_id: UUID, address: str | None) -> bytes:
    """How a session remembers its network: a keyed hash that tells neither which it is, nor who else is on it."""
    return _key(secret, "known network", str(user_id), client_address.network(address).hex())


async def count(database: Database, limits: Limits, now: datetime) -> None:
    """Counts an attempt before it is made, so that parallel guesses are counted too; refuses while one must wait."""
    async with database.open_transaction() as transaction:
        held = await _lock_or_make(transaction, limits, now)
        wait = max(_wait(one, *limits[one.key], now) for one in held)
        if wait:
            raise TooManyRequests(retry_after=wait)
        await _add(transaction, limits, now)


async def count_sign_in(
    database: Database, limits: SignInLimits, proof: Proof | None, secret: bytes, now: datetime
) -> None:
    """The same of a sign-in. Proven work lifts the waits of the account; where only those are left, it is asked for."""
    async with database.open_transaction() as transaction:
        held = await _lock_or_make(transaction, limits.all, now)
        waits = {one.key: _wait(one, *limits.all[one.key], now) for one in held}
        wait, lasting = max(waits.values()), max(waits[key] for key in limits.all.keys() - limits.of_account.keys())
        if lasting:
            raise TooManyRequests(retry_after=wait)
        if wait and not await _take(transaction, limits.purpose, proof, secret, now):
            bits = _bits(max(one.failures for one in held if one.key in limits.of_account))
            challenge = proof_of_work.challenge(secret, limits.purpose, bits, now)
            raise TooManyRequests(retry_after=wait, challenge=challenge)
        await _add(transaction, limits.all, now)


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


async def _take(transaction: AsyncSession, purpose: str, proof: Proof | None, secret: bytes, now: datetime) -> bool:
    """Whether there is a proof that is good; it is no more after this."""
    if proof is None or not proof_of_work.fits(secret, purpose, proof.challenge, proof.answer, now):
        return False
    taken = {"key": _key(secret, "taken", proof.challenge), "failures": 0, "failed_at": now}
    new = upsert(SignInDelay).values(taken).on_conflict_do_nothing().returning(SignInDelay.key)
    return await transaction.scalar(new) is not None


async def _lock_or_make(transaction: AsyncSession, limits: Limits, now: datetime) -> list[SignInDelay]:
    """The delays of these limits; one that is new needs a row to lock, or a crowd's first guesses would all be one."""
    fresh = [{"key": key, "failures": 0, "failed_at": now} for key in sorted(limits)]
    await transaction.execute(upsert(SignInDelay).values(fresh).on_conflict_do_nothing())
    return await _lock(transaction, limits)


async def _add(transaction: AsyncSession, limits: Limits, now: datetime) -> None:
    """Counts a failure for each; purge_v1() forgets them after a day."""
    await transaction.execute(
        update(SignInDelay)
        .where(SignInDelay.key.in_(limits))
        .values(failures=func.least(SignInDelay.failures, 100_000) + 1, failed_at=now)
    )


async def _lock(transaction: AsyncSession, keys: Iterable[bytes]) -> list[SignInDelay]:
    """The delays of these keys, locked in one order, so that parallel sign-ins queue instead of blocking each other."""
    held = select(SignInDelay).where(SignInDelay.key.in_(keys)).order_by(SignInDelay.key).with_for_update()
    return list(await transaction.scalars(held))


def _wait(delay: SignInDelay, free: int, longest: int, now: datetime) -> int:
    """Whole seconds still to wait: none for the first failures, then doubling up to the longest.

    None either where the last failure lies in the future: the clock was set back, and nobody knows how long ago it was.
    """
    if delay.failures < free or delay.failed_at > now + CLOCK_LEEWAY:
        return 0
    pause = timedelta(seconds=min(2 ** min(delay.failures - free, 20), longest))
    return max(0, -((now - delay.failed_at - pause) // timedelta(seconds=1)))


def _bits(failures: int) -> int:
    """A bit more with each doubling of the failures: who goes on guessing pays more."""
    return min(MOST_BITS, FEWEST_BITS + max(0, (failures // ACCOUNT_LIMIT[0]).bit_length() - 1))


# Joined by a line break, which neither an e-mail address nor an id holds: no other parts give the same text.
def _key(secret: bytes, *parts: str) -> bytes:
    return hmac.digest(secret, "\n".join(parts).encode(), "sha256")
