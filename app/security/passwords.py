"""Passwords: what is too weak, and argon2id in worker threads behind a bounded queue."""

import ctypes
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib.resources import files
from typing import TypeVar
from unicodedata import normalize

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from app import errors

Result = TypeVar("Result")

SHORTEST = 15
SHORTEST_WITH_SECOND_FACTOR = 8
LONGEST = 1024
FEWEST_DIFFERENT = 4
QUEUE_LENGTH = 64  # a second or two of work: whoever waits longer gives up, and it would be for nobody
M_MMAP_THRESHOLD, MEGABYTE = -3, 1 << 20  # of mallopt(3)

SEQUENCES = (
    "abcdefghijklmnopqrstuvwxyz",
    "0123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
)

MEMORY_KIB, PASSES = 19_456, 2  # OWASP's minimum for argon2id
# A well-formed hash of no password at all, as expensive to check as a real one: else the time that a sign-in takes
# would tell who has an account.
NOBODY = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${'A' * 22}${'A' * 43}"

_WORKERS = os.cpu_count() or 1  # more threads hash no faster, and each takes 19 MB
_threads = CapacityLimiter(_WORKERS)
_pending = 0


async def hash_password(password: str) -> str:
    """The encoded argon2id hash to store; raises Unavailable when too many callers wait."""
    return await _in_thread(partial(_hasher().hash, _normal(password)))


async def verify_password(password: str, encoded: str | None) -> bool:
    """Whether the password fits the stored hash; None (no such account) takes as long and is False."""
    fits = await _in_thread(partial(_fits, _normal(password), encoded or NOBODY))
    return fits and encoded is not None


def needs_rehash(encoded: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher().check_needs_rehash(encoded)


def weakness(password: str, *, second_factor: bool, email: str | None = None) -> str | None:
    """A sentence that says what is wrong with a new password, or None if it will do (NIST SP 800-63B)."""
    shortest = SHORTEST_WITH_SECOND_FACTOR if second_factor else SHORTEST
    # Normalising may lengthen a text as well as shorten it: one ligature becomes eighteen letters.
    if min(len(password), len(_normal(password))) < shortest:
        return f"The password needs at least {shortest} characters."
    if len(password) > LONGEST:
        return f"The password may have at most {LONGEST} characters."
    return _triviality(_normal(password).casefold(), _normal(email or "").casefold())


def _triviality(password: str, email: str) -> str | None:
    unit, squeezed_unit = _unit(password), _unit(_squeeze(password))
    if len(set(password)) < FEWEST_DIFFERENT or _is_sequence(squeezed_unit):
        return "The password is a repetition or a simple sequence."
    if unit in (email, email.partition("@")[0]):
        return "The password is the e-mail address."
    if not _blocked().isdisjoint((squeezed_unit, _squeeze(password))):
        return "The password is one of those that are guessed first."
    return None


def _unit(text: str) -> str:
    """The shortest text whose repetition gives this one."""
    return text[: (text + text).find(text, 1)]


def _is_sequence(text: str) -> bool:
    rounds = len(text) // 10 + 2  # ten is the shortest sequence; they may be entered anywhere and wrap around
    return any(text in sequence * rounds or text[::-1] in sequence * rounds for sequence in SEQUENCES)


def _squeeze(text: str) -> str:
    return re.sub(r"[\s._-]", "", text)


def _normal(password: str) -> str:
    return normalize("NFKC", password)  # the same keys on another keyboard give the same password


def _fits(password: str, encoded: str) -> bool:
    try:
        return _hasher().verify(encoded, password)
    except VerifyMismatchError:
        return False


async def _in_thread(work: Callable[[], Result]) -> Result:
    global _pending
    if _pending >= _WORKERS + QUEUE_LENGTH:
        raise errors.Unavailable
    _pending += 1
    try:
        return await to_thread.run_sync(work, limiter=_threads)
    finally:
        _pending -= 1


def prepare() -> None:
    """For the start of a server: reads the list of bad passwords, and makes the process return what a hash took."""
    _blocked()  # or the first registration would read it, and every other request would wait meanwhile
    _return_memory()


def _return_memory() -> None:
    """Makes malloc map blocks of a megabyte and more by themselves, and unmap them when they are freed.

    Else glibc would keep the 19 MB of a hash for the next one, in every thread.
    """
    with suppress(AttributeError):  # another C library, which has no such switch
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MEGABYTE)


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(memory_cost=MEMORY_KIB, time_cost=PASSES, parallelism=1)


@cache
def _blocked() -> frozenset[str]:
    """The passwords that are guessed first, in the form in which ours are compared with them."""
    lines = files("app.security").joinpath("blocked_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(_squeeze(_normal(line).casefold()) for line in lines)
