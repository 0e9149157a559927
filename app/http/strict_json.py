"""JSON as every reader reads it alike: what is not, is refused with the rule that it breaks, and never repeated."""

import json
import math
import re
from codecs import BOM_UTF8
from typing import NoReturn

from app.errors import BadRequest
from app.security.encoding import DuplicateKey, unique_members

MAX_DEPTH = 32
MAX_VALUES = 12_000  # twice what a full push holds; each costs time before any field is known
MAX_MEMBERS_OF_ONE = 128  # of one object: several times what any has, and each that is unknown is a fault
MAX_INTEGER = 2**53  # beyond it a phone that reads numbers as doubles would see another one
MAX_NUMBER_LENGTH = 64  # characters; keeps the conversion of a literal cheap

TOO_DEEP = f"The body is nested more than {MAX_DEPTH} levels deep."
TOO_LARGE = "An integer is outside ±2^53."
NOT_FINITE = f"A number is not finite, or longer than {MAX_NUMBER_LENGTH} characters."
NO_NUMBER = "NaN and Infinity are not JSON."

_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},:"))
_ONE_DIGIT = bytes.maketrans(b"123456789", b"000000000")
_SIXTEEN_DIGITS = b"0" * 16  # an integer with fewer is within MAX_INTEGER
_SURROGATES = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..", re.DOTALL)  # a whole pair
_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def parse(body: bytes) -> object:
    """The JSON value of a body, or BadRequest that names the broken rule and never what was sent.

    However it is made, half a megabyte takes some milliseconds: nobody else is served meanwhile.
    """
    if body.startswith(BOM_UTF8):
        raise BadRequest("The body starts with a byte order mark.")
    # Counted on the bytes: the decoder would recurse, or build the objects, before it could tell.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH or body.count(b",") > MAX_VALUES:
        _check_structure(body)
    exact = _SIXTEEN_DIGITS in body.translate(_ONE_DIGIT)
    try:
        value: object = (_EXACT if exact else _DECODER).decode(body.decode())
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.") from None
    except DuplicateKey:
        raise BadRequest("An object holds the same key twice.") from None
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    if b"\\u" in body:
        _check_escapes(body)
    return value


def _check_structure(body: bytes) -> None:
    """Refuses what is nested too deeply, or consists of too many values."""
    if is_too_deep(check_counts(body)):
        raise BadRequest(TOO_DEEP)


def is_too_deep(brackets: bytes) -> bool:
    """Whether these brackets are nested more than MAX_DEPTH levels deep."""
    rest = brackets
    for _ in range(MAX_DEPTH // 2):  # takes at most two levels off at a time
        rest = rest.replace(b"{}", b"").replace(b"[]", b"")
        if not rest:
            return False
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def check_counts(body: bytes) -> bytes:
    """Refuses what consists of too many values; returns the brackets outside of strings."""
    # Without escaped quotes every quote begins or ends a string, and every second part lies outside.
    parts = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if parts.count(b'"') > 4 * MAX_VALUES:  # a name and a value at most, each with two quotes
        raise BadRequest("The body holds too many values.")
    structure = b"".join(parts.split(b'"')[::2]).translate(None, delete=_NOT_STRUCTURE)
    if structure.count(b":") > MAX_VALUES:
        raise BadRequest("The body has too many members.")
    if structure.count(b",") > MAX_VALUES or structure.count(b"[") + structure.count(b"{") > MAX_VALUES:
        raise BadRequest("The body holds too many values.")
    brackets = structure.translate(None, delete=b",:")
    if len(brackets) > 2 * MAX_VALUES:
        raise BadRequest("The body holds too many values.")
    return brackets


def _check_escapes(body: bytes) -> None:
    """Refuses the escapes of NUL and of half a surrogate pair, in a text that is valid JSON."""
    escapes = body.replace(rb"\\", b"  ")  # now each backslash begins an escape
    if _UNSTORABLE.search(escapes) and _UNSTORABLE.search(_SURROGATES.sub(b"", escapes)):
        raise BadRequest("A string holds a NUL character or half of a surrogate pair.")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MAX_MEMBERS_OF_ONE:  # each that is unknown would be told as a fault of its own
        raise BadRequest("An object has too many members.")
    return unique_members(pairs)


def read_integer(literal: str) -> int | None:
    """The integer; None where it is one that not every reader of JSON sees alike."""
    # The length comes first: int() takes quadratic time.
    if len(literal) <= MAX_NUMBER_LENGTH and -MAX_INTEGER <= (number := int(literal)) <= MAX_INTEGER:
        return number
    return None


def read_decimal(literal: str) -> float | None:
    """The number; None where it is too long or not finite.

    Without a fraction it is an integer, however it is written (JSON Schema, 6.1.1: 7.0, 6e0).
    """
    if len(literal) > MAX_NUMBER_LENGTH or not math.isfinite(number := float(literal)):
        return None
    return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else number


def _integer(literal: str) -> int:
    if (number := read_integer(literal)) is None:
        raise BadRequest(TOO_LARGE)
    return number


def _float(literal: str) -> float:
    if (number := read_decimal(literal)) is None:
        raise BadRequest(NOT_FINITE)
    return number


def _constant(_literal: str) -> NoReturn:
    raise BadRequest(NO_NUMBER)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
# Calls a function for each integer, where one may be too large.
_EXACT = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)
