"""Which members of records came when, and what a client of before leaves alone (ADR 18).

The records of a release have a schema with a number. A member that came later says with which number, and a client says
which number it was written for. What it cannot know it does not send; so its absence is no deletion.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, Field, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType

from app.schemas.base import Distinct, Json

SCHEMA = 1  # one more in a release that adds a kind of record or a member: tests/schemas/test_since.py asks for it


@dataclass(frozen=True)
class Since:
    """Annotation of a member: the number of the schema that it came with."""

    schema: int

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return handler(schema) | {"x-since": self.schema}


def servers_own() -> Any:
    """A member that the server adds to records since then, as those may send it back who keep what they do not know."""
    return Field(default=None, exclude=True, description="The server's own: taken, and ignored.")


def newest(model: type[BaseModel]) -> int:
    """The number of the newest member of a record, or inside of it."""
    return max((_since(field) for field in _all_fields(model, set())), default=1)


def keep_newer(body: BaseModel, sent: Json, held: Json, known: int) -> None:
    """Adds to what was sent the members of `held` that are newer than schema `known`; what was sent explicitly counts.

    `body` is what was sent as it was validated. Inside of lists the items that are the same, by what makes them
    distinct or else in all that they say, keep theirs.
    """
    for name, field in type(body).model_fields.items():
        wire = field.alias or name
        if wire not in held:
            continue
        if _since(field) <= known:
            keep_inside(field, getattr(body, name), sent.get(wire), held[wire], known)
        elif name not in body.model_fields_set:
            sent[wire] = held[wire]


def keep_inside(field: FieldInfo, value: object, sent: Any, held: Any, known: int) -> None:
    """The same for the value of one member: an object, or the objects of a list."""
    if isinstance(value, BaseModel) and isinstance(held, dict):
        keep_newer(value, sent, held, known)
    elif isinstance(value, list) and isinstance(held, list):
        keys: Collection[str] = next((one.fields for one in field.metadata if isinstance(one, Distinct)), ())
        for item, said in zip(value, sent, strict=True):
            same = next((one for one in held if isinstance(item, BaseModel) and _is_same(said, one, keys)), None)
            if same is not None:
                keep_newer(item, said, same, known)


def _is_same(said: Json, held: Json, keys: Collection[str]) -> bool:
    return all(said.get(key) == held.get(key) for key in keys or said)


def _since(field: FieldInfo) -> int:
    return next((one.schema for one in field.metadata if isinstance(one, Since)), 1)


def _all_fields(annotation: Any, seen: set[Any]) -> Iterator[FieldInfo]:
    """Every field of a model and of the models inside of it."""
    if isinstance(annotation, TypeAliasType):
        annotation = annotation.__value__
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            return
        seen.add(annotation)
        for field in annotation.model_fields.values():
            yield field
            yield from _all_fields(field.annotation, seen)
    for inner in get_args(annotation):
        yield from _all_fields(inner, seen)
