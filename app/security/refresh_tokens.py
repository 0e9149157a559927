"""Refresh tokens: they name their session under a keyed hash, and can be answered again from what is stored of them.

Stored are the digest and a salt; neither is worth anything without the server's secret. A token is good only while its
digest is stored. One that is ours and whose digest is gone was good once.
"""

import hmac
from uuid import UUID

from app.security.encoding import from_base64url, to_base64url

PREFIX = "pdr_"  # tells secret scanners what they found
SALT_BYTES = 16
TAG_BYTES = 32


def token_of(secret: bytes, session_id: UUID, salt: bytes) -> str:
    """The token of a session with this salt."""
    named = session_id.bytes + salt
    return PREFIX + to_base64url(named + _tag(secret, named))


def session_of(secret: bytes, token: str) -> UUID | None:
    """The session that a token of ours names, whether or not it is still good; None for anything else."""
    try:
        raw = from_base64url(token.removeprefix(PREFIX))
    except ValueError:
        return None
    named, tag = raw[:-TAG_BYTES], raw[-TAG_BYTES:]
    if len(named) != 16 + SALT_BYTES or not hmac.compare_digest(tag, _tag(secret, named)):
        return None
    return UUID(bytes=named[:16])


def _tag(secret: bytes, named: bytes) -> bytes:
    return hmac.digest(secret, b"refresh token\n" + named, "sha256")
