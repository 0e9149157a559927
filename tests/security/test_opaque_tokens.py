"""Tokens of which only a digest is stored."""

from hashlib import sha256

from app.security import opaque_tokens


def test_no_two_tokens_are_the_same_and_each_begins_with_its_prefix() -> None:
    tokens = {opaque_tokens.create("pdr_") for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("pdr_") and len(token) == 47 for token in tokens)


def test_the_digest_is_sha_256_of_the_token() -> None:
    assert opaque_tokens.digest("pdr_x") == sha256(b"pdr_x").digest()
