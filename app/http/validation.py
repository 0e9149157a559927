"""Pydantic's errors as faults that never repeat the input.

A fault has its location as
    /sites/0/scores/0/value    a JSON pointer (RFC 6901) into the body, "" for the body itself
    #query/limit               a query parameter; likewise #path/…, #header/… and #cookie/…
and an unknown member by its own name where that could be one of ours, else at the object that holds it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NotRequired, TypedDict, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.errors import Fault, Invalid

MAX_FAULTS = 50  # a body of half a megabyte may hold a hundred thousand, and nobody reads on after some

Model = TypeVar("Model", bound=BaseModel)

# Pydantic's own sentences for these repeat a part of the input, or a pattern that nobody can read.
_SENTENCES = {
    "assertion_error": "The value breaks a rule",
    "bytes_invalid_encoding": "Data should be validly encoded",
    "datetime_object_invalid": "Input should be a valid datetime",
    "dict_type": "Input should be an object",
    "get_attribute_error": "Input should be a valid object",
    "iteration_error": "Input should be iterable",
    "json_invalid": "Input should be valid JSON",
    "mapping_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "model_type": "Input should be an object",
    "no_such_attribute": "Input has an unknown attribute",
    "string_pattern_mismatch": "Input should be text of the form that the documentation shows",
    "timezone_offset": "Input should have another UTC offset",
    "url_parsing": "Input should be a valid URL",
    "url_syntax_violation": "Input should be a valid URL",
    "uuid_parsing": "Input should be a valid UUID",
}
_NOWHERE = object()
# Also a name as other programs write theirs, and a header's with hyphens.
_FIELD_NAME = re.compile(r"(?=.{1,64}$)[A-Za-z_][A-Za-z0-9_]*(-[a-z]+)*")


class Failure(TypedDict):
    """One of Pydantic's errors, without the input."""

    type: str
    loc: tuple[str | int, ...]
    msg: str
    ctx: NotRequired[Mapping[str, object]]


def validated(model: type[Model], value: object) -> Model:
    """The value as a model; raises Invalid, pointing into the value, where it is none."""
    try:
        return model.model_validate(value)
    except ValidationError as failure:
        located = [in_body(error) for error in failure.errors(include_url=False, include_input=False)]
        raise Invalid(faults=faults(located, value)) from None


def in_body(error: ErrorDetails) -> Failure:
    """An error that Pydantic found in a value, located in a request whose body that value is."""
    return {"type": error["type"], "loc": ("body", *error["loc"]), "msg": error["msg"], "ctx": error.get("ctx", {})}


def faults(failures: Sequence[Failure], body: object) -> tuple[Fault, ...]:
    """Pydantic's errors about a parsed body (or parameters) as at most 50 faults, without the input.

    `loc` starts with `body`, `query`, `path`, `header` or `cookie`, as FastAPI's do.
    """
    return tuple(dict.fromkeys(_fault(failure, body) for failure in failures[:MAX_FAULTS]))


def in_request(where: str, *path: str | int) -> str:
    """The location of what is not in the body: #query/limit; without a name that could be none of ours."""
    return "/".join([f"#{where}", *_names(path)])


def pointer_to(path: Iterable[str | int]) -> str:
    """The JSON pointer to a place in the body."""
    return "".join(f"/{name}" for name in _names(path))


def _fault(failure: Failure, body: object) -> Fault:
    where, *path = failure["loc"]
    if where != "body":
        return Fault(in_request(str(where), *path), failure["type"], _detail(failure))
    location = _existing(path, body)
    if failure["type"].startswith("missing") and location[-1:] != path[-1:]:  # missing_end, say, of a null too
        location += path[-1:]
    return Fault(pointer_to(location), failure["type"], _detail(failure))


def _existing(path: list[str | int], body: object) -> list[str | int]:
    """The steps of a location that exist in the body: Pydantic also names union members and validators."""
    steps = []
    here = body
    for part in path:
        child = _child(here, part)
        if child is not _NOWHERE:
            steps.append(part)
            here = child
    return steps


def _child(here: object, part: str | int) -> object:
    if isinstance(here, dict):
        return here.get(part, _NOWHERE)
    if isinstance(here, list) and isinstance(part, int) and part < len(here):
        return here[part]
    return _NOWHERE


def _names(parts: Iterable[str | int]) -> Iterator[str]:
    """The parts up to the first that cannot be a field of ours, so nothing is left to escape as ~0 or ~1."""
    for part in parts:
        if isinstance(part, str) and not _FIELD_NAME.fullmatch(part):
            return
        yield str(part)


def _detail(failure: Failure) -> str:
    """What is wrong, as a sentence."""
    return f"{_wording(failure).removesuffix('.')}."


def _wording(failure: Failure) -> str:
    kind, message, context = failure["type"], failure["msg"], failure.get("ctx", {})
    if kind == "union_tag_invalid":
        return f"{context['discriminator']} should be one of {context['expected_tags']}"
    if "reason" in context:  # an e-mail address, with the characters that are wrong
        return str(message).partition(":")[0]
    return _SENTENCES.get(kind) or str(message).removeprefix("Value error, ")
