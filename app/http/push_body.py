"""The body of a push that breaks a rule of strict JSON: read once more, so that only the items at fault are refused.

`strict_json` refuses a body whole, which is fast and enough for what somebody types. A push brings what a phone has
gathered for days, and one note that ends in half an emoji must not keep all the rest from the server.
"""

import json
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from app.errors import BadRequest, Fault
from app.http import strict_json
from app.http.strict_json import MAX_DEPTH, MAX_MEMBERS_OF_ONE
from app.http.validation import MAX_FAULTS, pointer_to
from app.schemas.sync import MOST_MUTATIONS, refused_item

PATH = "/sync/push"  # how the path of a push ends

TOO_DEEP = Fault("", "too_deep", strict_json.TOO_DEEP)
TOO_LARGE = Fault("", "number", strict_json.TOO_LARGE)
NOT_FINITE = Fault("", "number", strict_json.NOT_FINITE)
NO_NUMBER = Fault("", "number", strict_json.NO_NUMBER)
NO_TEXT = Fault("", "text", "A string holds a NUL character, half of a surrogate pair, or what is not UTF-8.")
TWICE = Fault("", "duplicate_key", "The object holds this key twice.")
TOO_MANY = Fault("", "too_many_members", "The object has too many members.")

_CUT = b"-Infinity"  # in the place of what is too deep: a word that the decoder asks about, and that is no JSON
_STRING = re.compile(rb'"[^"]*"?')
_BRACKET = re.compile(rb"[][{}]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

Path = tuple[str | int, ...]


def parse(body: bytes, refusal: BadRequest) -> object:
    """The push, a RefusedItem in the place of each item that breaks a rule; raises `refusal` if not only items do."""
    too_deep = strict_json.is_too_deep(strict_json.check_counts(body))
    push = _decoded(_cut(body) if too_deep else body, refusal)
    if not isinstance(push, dict) or not isinstance(push.get("mutations"), list):
        raise refusal
    if len(push["mutations"]) > MOST_MUTATIONS:
        raise refusal
    frame = {name: value for name, value in push.items() if name != "mutations"}
    if next(_faults(frame, ()), None) is not None:
        raise refusal
    return frame | {"mutations": [_item(item) for item in push["mutations"]]}


def _decoded(body: bytes, refusal: BadRequest) -> Any:
    """The JSON value, with a Fault in the place of each value that breaks a rule."""
    if body.startswith(BOM_UTF8):
        raise refusal
    try:
        return _DECODER.decode(body.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        raise refusal from None


def _cut(body: bytes) -> bytes:
    """The body without what is nested more than MAX_DEPTH levels deep: the decoder would recurse."""
    # Of the same length, without escapes and strings, so that each bracket that is left stands where it stood.
    bare = body.replace(rb"\\", b"  ").replace(rb"\"", b"  ")
    bare = _STRING.sub(lambda string: b" " * len(string[0]), bare)
    kept, start, depth = [], 0, 0
    for bracket in _BRACKET.finditer(bare):
        if bracket[0] in b"[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += [body[start : bracket.start()], _CUT]
                start = len(body)
        else:
            if depth == MAX_DEPTH + 1:
                start = bracket.end()
            depth -= 1
    return b"".join((*kept, body[start:]))


def _item(item: object) -> object:
    """The item as it came, or a RefusedItem with where it breaks a rule."""
    faults = tuple(islice(_faults(item, ()), MAX_FAULTS))
    return refused_item(item, faults) if faults else item


def _faults(value: object, path: Path) -> Iterator[Fault]:
    """What may not be stored inside of a value, each with its pointer."""
    if isinstance(value, Fault):
        # What is too deep has no place that anybody would look for: the member that it begins in has.
        yield replace(value, pointer=pointer_to(path[:2] if value is TOO_DEEP else path))
    elif isinstance(value, str):
        if _UNSTORABLE.search(value):
            yield replace(NO_TEXT, pointer=pointer_to(path))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _faults(name, path)
            yield from _faults(inner, (*path, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _faults(inner, (*path, place))


def _object(pairs: list[tuple[str, object]]) -> object:
    members = dict(pairs)
    if len(pairs) > MAX_MEMBERS_OF_ONE:
        return TOO_MANY
    if len(members) < len(pairs):
        times = Counter(name for name, _ in pairs)
        members |= {name: TWICE for name in members if times[name] > 1}
    return members


def _integer(literal: str) -> int | Fault:
    number = strict_json.read_integer(literal)
    return TOO_LARGE if number is None else number


def _float(literal: str) -> float | Fault:
    number = strict_json.read_decimal(literal)
    return NOT_FINITE if number is None else number


def _constant(literal: str) -> Fault:
    return TOO_DEEP if literal.encode() == _CUT else NO_NUMBER


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)
