"""Strict readings of what a caller wrote: each value has one spelling, and any other is a ValueError.

Python's own decoders are lenient: base64 skips characters it does not know and ignores spare bits, JSON lets the last
of two equal keys win. What is signed or stored under one spelling could then come back under another.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TypeVar

Value = TypeVar("Value")


class DuplicateKey(ValueError):
    """A JSON object holds the same key twice."""


def to_base64url(data: bytes) -> str:
    """The bytes in base64url without padding (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes that `to_base64url` writes as this text; raises ValueError for any other text."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if to_base64url(data) != text:  # the decoder skips what it does not know
        raise ValueError("not the canonical base64url of anything")
    return data


def unique_members(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    """The members of a JSON object, as `object_pairs_hook`; raises DuplicateKey."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise DuplicateKey("an object holds the same key twice")
    return members
