"""Proof of work: a challenge that costs whoever answers it some processor time, and us nothing but a hash.

A challenge says what it is for only under a keyed hash, so nothing is stored until it is answered. An answer is any
text with which the SHA-256 of `<challenge>.<answer>` begins with as many zero bits as the challenge says.
"""

import hmac
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count
from secrets import token_urlsafe

from app.security.encoding import to_base64url

LIFE = timedelta(minutes=5)


def challenge(secret: bytes, purpose: str, bits: int, now: datetime) -> str:
    """A new challenge of this difficulty, good for five minutes."""
    sealed = f"{bits}.{int((now + LIFE).timestamp())}.{token_urlsafe(12)}"
    return f"{sealed}.{_tag(secret, purpose, sealed)}"


def fits(secret: bytes, purpose: str, challenge: str, answer: str, now: datetime) -> bool:
    """Whether this is a challenge of ours for this purpose, still good, and answered."""
    sealed, _, tag = challenge.rpartition(".")
    if not hmac.compare_digest(tag.encode(), _tag(secret, purpose, sealed).encode()):
        return False
    bits, expires_at, _ = sealed.split(".")
    return int(expires_at) >= now.timestamp() and zero_bits(challenge, answer) >= int(bits)


def solve(challenge: str) -> str:
    """An answer to a challenge, as a client finds it."""
    bits = int(challenge.partition(".")[0])
    return next(str(number) for number in count() if zero_bits(challenge, str(number)) >= bits)


def zero_bits(challenge: str, answer: str) -> int:
    """With how many zero bits the hash of both begins."""
    return 256 - int.from_bytes(sha256(f"{challenge}.{answer}".encode()).digest()).bit_length()


def _tag(secret: bytes, purpose: str, sealed: str) -> str:
    return to_base64url(hmac.digest(secret, f"proof of work\n{purpose}\n{sealed}".encode(), "sha256"))
