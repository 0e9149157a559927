"""What a schema refuses, as the API would tell it; and a way to put anything anywhere into a body."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.errors import Fault
from app.http import validation

CANARIES: tuple[Any, ...] = ("canary\x01", ["canary"], {"canary!": "canary"}, {"type": "canary"}, 4_242_424_242)


def refusals(model: type[BaseModel], body: Any) -> tuple[ValidationError, ValidationError]:
    """What is answered to the body as Python objects, and as bytes."""
    with pytest.raises(ValidationError) as objects:
        model.model_validate(body)
    with pytest.raises(ValidationError) as raw:
        model.model_validate_json(json.dumps(body))
    return objects.value, raw.value


def faults(model: type[BaseModel], body: Any) -> list[tuple[str, str]]:
    """Pointers and codes of what is wrong, the same for Python objects and for bytes."""
    objects, raw = ([(fault.pointer, fault.code) for fault in told] for told in _told(model, body))
    assert objects == raw
    return objects


def answers(model: type[BaseModel], body: Any) -> str:
    """Everything that is said about the body."""
    return str(list(_told(model, body)))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Everything inside a JSON value with its path."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*path, key), child
        yield from places(child, (*path, key))


def with_value(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the body with another value at that place."""
    whole = {"": deepcopy(body)}
    holder: Any = whole
    *way, last = ("", *path)
    for key in way:
        holder = holder[key]
    holder[last] = value
    return whole[""]


def with_more(body: Any, path: tuple[Any, ...]) -> Any:
    """A copy of the body with an unknown member in the object at that place."""
    return with_value(body, (*path, "canary"), 1)


def _told(model: type[BaseModel], body: Any) -> Iterator[tuple[Fault, ...]]:
    for refusal in refusals(model, body):
        yield validation.faults([validation.in_body(error) for error in refusal.errors()], body)
