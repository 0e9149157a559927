"""Tokens that mean nothing by themselves: refresh tokens and one-time links. Only their digests are stored."""

from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe

TOKEN_BYTES = 32


def create(prefix: str = "") -> str:
    """A new token of 256 random bits in base64url, after the prefix."""
    return prefix + token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """What is stored of a token, 32 bytes. SHA-256 without a salt or a cost: nobody guesses 256 random bits."""
    return sha256(token.encode()).digest()


def bears(authorization: str, token: str) -> bool:
    """Whether an Authorization header names this token; how long the answer takes tells nothing of it."""
    scheme, _, named = authorization.partition(" ")
    return scheme.lower() == "bearer" and compare_digest(digest(named), digest(token))
