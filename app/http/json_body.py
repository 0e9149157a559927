"""The raw-body gate: what must hold for bytes before Pydantic or PostgreSQL may see them."""

import json
import math
import re
import zlib
from codecs import BOM_UTF8
from typing import NoReturn

from app.errors import BadRequest, TooLarge

MAX_DEPTH = 32
MAX_RATIO = 200  # of what gzip unpacks to what arrived; real pushes reach about 20
MAX_MEMBERS = 20_000  # many times what a full push holds; each costs time before any field is known
MAX_INTEGER = 2**53  # beyond it a phone that reads numbers as doubles would see another one
MAX_NUMBER_LENGTH = 64  # characters; keeps the conversion of a literal cheap

# The closing quote is optional: an open string then ends with the body, and no second start is ever tried.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# All escapes of a valid JSON text, or none of its lone surrogates and NULs: a pair is read as one unit.
_CLEAN_ESCAPES = re.compile(
    rb"(?:[^\\]++"
    rb"|\\[^u]"
    rb"|\\u[dD][89abAB]..\\u[dD][c-fC-F].."
    rb"|\\u(?!0000|[dD][89a-fA-F]))*+",
    re.DOTALL,
)


def inflate(packed: bytes, most: int) -> bytes:
    """The body that was sent with gzip: TooLarge beyond `most` bytes or MAX_RATIO, BadRequest where it is none."""
    unpacking = zlib.decompressobj(wbits=31)  # the gzip container only
    try:
        body = unpacking.decompress(packed, min(most, MAX_RATIO * len(packed)) + 1)
    except zlib.error:
        raise BadRequest("The body is not in gzip.") from None
    if len(body) > min(most, MAX_RATIO * len(packed)):
        raise TooLarge
    if not unpacking.eof or unpacking.unused_data:
        raise BadRequest("The body is not one whole gzip stream.")
    return body


def parse(body: bytes) -> object:
    """The JSON value of a body, or BadRequest that names the broken rule and never what was sent."""
    if body.startswith(BOM_UTF8):
        raise BadRequest("The body starts with a byte order mark.")
    _check_depth(body)
    if body.count(b":") > MAX_MEMBERS and _STRING.sub(b"", body).count(b":") > MAX_MEMBERS:
        raise BadRequest("The body has too many members.")
    try:
        value: object = _DECODER.decode(body.decode())
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.") from None
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    if b"\\u" in body and not _CLEAN_ESCAPES.fullmatch(body):
        raise BadRequest("A string holds a NUL character or half of a surrogate pair.")
    return value


def _check_depth(body: bytes) -> None:
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    # Without escapes every quote begins or ends a string, and every second part lies outside.
    outside = _STRING.sub(b"", body) if b"\\" in body else b"".join(body.split(b'"')[::2])
    brackets = rest = outside.translate(None, delete=_NOT_BRACKETS)
    for _ in range(MAX_DEPTH // 2):  # takes at most two levels off at a time
        rest = rest.replace(b"{}", b"").replace(b"[]", b"")
        if not rest:
            return
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise BadRequest(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise BadRequest("An object holds the same key twice.")
    return members


def _integer(literal: str) -> int:
    if len(literal) > MAX_NUMBER_LENGTH or not -MAX_INTEGER <= int(literal) <= MAX_INTEGER:
        raise BadRequest("An integer is outside ±2^53.")
    return int(literal)


def _float(literal: str) -> float:
    if len(literal) > MAX_NUMBER_LENGTH:
        raise BadRequest(f"A number is longer than {MAX_NUMBER_LENGTH} characters.")
    number = float(literal)
    if not math.isfinite(number):
        raise BadRequest("A number is not finite.")
    return number


def _constant(_literal: str) -> NoReturn:
    raise BadRequest("NaN and Infinity are not JSON.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)
