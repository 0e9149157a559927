"""Entity tags in requests (RFC 9110, section 13.1): which versions a client holds, and which one it wants changed."""

import re
from hashlib import sha256

ANY = "*"  # stands for whatever version there is

# "0" is no version: to the write path it means that nothing is there yet.
_VERSION = re.compile(r'"([1-9][0-9]{0,8})"')


def known(if_none_match: str | None) -> tuple[str, ...]:
    """The opaque tags of an If-None-Match, without quotes; ANY where it is `*`.

    Weak tags count like strong ones: If-None-Match compares weakly (13.1.2).
    """
    tags = (if_none_match or "").split(",")
    return tuple(tag.strip().removeprefix("W/").strip('"') for tag in tags)


def tag_of(content: bytes) -> str:
    """The opaque tag of a content: other content has another."""
    return sha256(content).hexdigest()[:32]


def holds(if_none_match: str | None, etag: str) -> bool:
    """Whether an If-None-Match names this entity tag, which is given as it is answered."""
    return not {ANY, etag.removeprefix("W/").strip('"')}.isdisjoint(known(if_none_match))


def version(if_match: str) -> int | None:
    """The version, 1 to 999 999 999, that an If-Match of exactly one strong tag names; else None.

    A weak tag never matches here: If-Match compares strongly (13.1.1).
    """
    named = _VERSION.fullmatch(if_match)
    return None if named is None else int(named[1])
