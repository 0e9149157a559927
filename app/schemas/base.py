"""What every JSON body shares: no coercion, no unknown member, and no message that repeats what was sent."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from app import vocabularies
from app.domain import moments

_TEXT = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$"  # control characters but tab and line feed
_LINE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"

Json = dict[str, Any]  # an object, of which only a schema knows what its members are
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A body that means exactly what it says."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class BodyFault(NamedTuple):
    """A fault that only the whole shows: where (as a path into the value), a code and a sentence."""

    place: tuple[str | int, ...]
    code: str
    sentence: str


def refuse(faults: Iterable[BodyFault]) -> None:
    """Raise the faults, if there are any, each at its own place; for use in a validator of the whole."""
    details = [
        InitErrorDetails(type=PydanticCustomError(code, sentence), loc=place, input=None)
        for place, code, sentence in faults
    ]
    if details:
        raise ValidationError.from_exception_data("body", details)


@dataclass(frozen=True)
class Says:
    """Annotation: whatever is wrong with the value, this sentence is the answer."""

    code: str
    sentence: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self.around(handler(source))

    def around(self, schema: CoreSchema) -> CoreSchema:
        """The schema, its faults replaced by this one."""
        return core_schema.custom_error_schema(schema, custom_error_type=self.code, custom_error_message=self.sentence)


@dataclass(frozen=True)
class ParsedBy:
    """Annotation: text that becomes what the function makes of it; refused by its ValueError.

    What the server itself puts into an answer is parsed already and passes; JSON holds no such value.
    """

    parse: Callable[[str], object]

    def __get_pydantic_core_schema__(self, source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        parsed = core_schema.no_info_after_validator_function(self.parse, core_schema.str_schema(strict=True))
        if source is str:
            return parsed
        return core_schema.union_schema([parsed, core_schema.is_instance_schema(source)], mode="left_to_right")


@dataclass(frozen=True)
class OneOf:
    """Annotation of a string: one of these, an `enum` in the JSON schema."""

    codes: tuple[str, ...]

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.codes))


@dataclass(frozen=True)
class CodeOf:
    """Annotation of a string: a code of the vocabulary of this name, an `enum` in the JSON schema."""

    vocabulary: str

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        codes = vocabularies.load(self.vocabulary).ordered_codes
        says = Says("unknown_code", f"Give a code of /v1/vocabularies/{self.vocabulary}.")
        return says.around(core_schema.literal_schema(list(codes)))


@dataclass(frozen=True)
class Words:
    """Annotation of a string: at most so many code points of the characters that are allowed."""

    limit: int
    pattern: str

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        says = Says("text", f"Give 1 to {self.limit} characters of plain text, no control characters.")
        words: CoreSchema = core_schema.str_schema(
            strict=True, min_length=1, max_length=self.limit, pattern=self.pattern
        )
        if self.pattern is _TEXT:
            words = core_schema.no_info_before_validator_function(_with_line_feeds, words)
        return says.around(words)


def _with_line_feeds(value: object) -> object:
    """Text with each end of a line as one line feed, whatever the platform writes: the same on every phone."""
    if isinstance(value, str) and "\r" in value:
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return value


@dataclass(frozen=True)
class DescribedAs:
    """Annotation: the JSON schema tells of this type, which need not be the one that validates."""

    described: Any

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return handler(TypeAdapter(self.described).core_schema)


def listed(**more: Any) -> Any:
    """A field that is an empty list where it is absent. Of a default Pydantic would make a deep copy each time."""
    return Field(default_factory=list, json_schema_extra={"default": []}, **more)


def text(limit: int) -> Words:
    """Annotation of a string: 1 to so many code points; of control characters only tab, and line feed for CR LF."""
    return Words(limit, _TEXT)


def line(limit: int) -> Words:
    """Annotation of a string: 1 to so many code points on one line, without control characters."""
    return Words(limit, _LINE)


@dataclass(frozen=True)
class FirstAtFault:
    """Annotation of a long list: of the items that are wrong the first is told.

    To collect the faults of all would take longer than anybody reads on.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast(CoreSchema, {**handler(source), "fail_fast": True})


class Distinct:
    """Annotation of a list: no two items are equal in these fields, or as a whole when none is named."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields
        self._key: Callable[[object], object] = attrgetter(*fields) if fields else lambda item: item

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return handler(schema) | {"uniqueItems": True}

    def _check(self, items: list[object]) -> list[object]:
        if len(items) < 2:
            return items
        keys = [self._key(item) for item in items]
        if len(set(keys)) < len(keys):
            refuse(
                BodyFault((index,), "duplicate", "This is in the list already.")
                for index, key in enumerate(keys)
                if key in keys[:index]
            )
        return items


def _zone(name: str) -> str:
    """The name itself, when it is a zone's."""
    if not moments.is_zone(name):
        raise ValueError("not a zone")
    return name


_INSTANT_SCHEMA: Json = {
    "type": "string",
    "format": "date-time",
    "description": "RFC 3339 with seconds and offset (-12:00 to +14:00, or Z), years 1900 to 2199. "
    "Answers have whole seconds; a fraction that is sent is dropped.",
    "examples": ["2026-03-29T08:00:00+02:00"],
}
_DATE_SCHEMA: Json = {
    "type": "string",
    "format": "date",
    "description": "A calendar day, years 1900 to 2199.",
    "examples": ["2026-03-29"],
}
Instant = Annotated[
    datetime,
    ParsedBy(moments.parse_instant),
    Says("instant", "Give an instant as 2026-03-29T08:00:00+02:00, in the years 1900 to 2199."),
    PlainSerializer(moments.render_instant, return_type=str),
    WithJsonSchema(_INSTANT_SCHEMA),
]
LocalDate = Annotated[
    date,
    ParsedBy(moments.parse_date),
    Says("date", "Give a date as 2026-03-29, in the years 1900 to 2199."),
    PlainSerializer(date.isoformat, return_type=str),
    WithJsonSchema(_DATE_SCHEMA),
]
InstantOrDay = Annotated[
    datetime,
    ParsedBy(moments.parse_instant_or_day),
    Says("instant", "Give an instant as 2026-03-29T08:00:00+02:00, or a day as 2026-03-29."),
    PlainSerializer(moments.render_instant_or_day, return_type=str),
    WithJsonSchema({"anyOf": [_INSTANT_SCHEMA, _DATE_SCHEMA]}),
]
TimeZone = Annotated[
    str,
    ParsedBy(_zone),
    Says("time_zone", "Give an IANA time zone, as Europe/Berlin, or a fixed offset, as +05:30."),
    WithJsonSchema(
        {
            "type": "string",
            "format": "time-zone",
            "maxLength": 64,
            "description": "An IANA time zone name; or, where only that is known, a fixed offset (-12:00 to +14:00).",
            "examples": ["Europe/Berlin", "+05:30"],
        }
    ),
]
RecordId = Annotated[
    str,
    Field(
        pattern=_UUID,
        description="A UUID of version 4 or 7, in lower case.",
        examples=["0195d3f4-8e2a-7c31-9b1e-5a2f6c7d8e90"],
        json_schema_extra={"format": "uuid"},
    ),
    Says("uuid", "Give a UUID of version 4 or 7, in lower case with hyphens."),
]


def partial(model: type[Model]) -> type[Model]:
    """Class decorator: the same fields as a merge patch, each of them optional and null to delete it.

    Rules across fields are not asked of a patch but of what it makes.
    """
    annotated: Any = Annotated  # subscripted with values, which no type checker follows
    fields: Json = {}
    for name, field in model.model_fields.items():
        parts = field.asdict()
        attributes = {
            k: v for k, v in parts["attributes"].items() if k not in ("default", "default_factory", "json_schema_extra")
        }
        inner = annotated[(parts["annotation"], Field(), *parts["metadata"])]
        fields[name] = (annotated[(inner | None, Field(**attributes))], None)
    base = type(model.__name__, (Strict,), {"model_config": model.model_config, "__module__": model.__module__})
    return create_model(model.__name__, __base__=base, __doc__=model.__doc__, __module__=model.__module__, **fields)
