"""What a kind of record is. A kind is declared once, in its schema file; `kinds.py` lists them all.

Everything else reads the declaration: the routes, sync, the timeline, scopes and what a consent needs, the tags of the
OpenAPI document, the SQL in `models/kinds.sql`, and the tests that walk over all kinds.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from app.errors import Fault
from app.schemas.base import Json, Strict, partial
from app.schemas.envelope import (
    Page,
    RecordFields,
    RecordKey,
    RecordOut,
    Version,
    example_history,
    example_page,
    example_stored,
)
from app.schemas.since import newest

Fields = TypeVar("Fields", bound=RecordFields)
Facts = Mapping[str, Any]  # columns of `records`, as JSON holds them
Holds = Literal["moment", "interval", "singleton"]

MADE: Any = None  # by __post_init__(), of the members before it


@dataclass(frozen=True, eq=False)
class RecordKind(Generic[Fields]):
    """A kind of record, as the service, its SQL and its documents know it.

    `fields` is what a client says of one, with the rules between its members; `examples` are records as a phone sends
    them, the smallest first. `create`, `patch` and `out` are made of these where the kind has nothing to add to them.
    """

    name: str  # of one record: in documents, SQL and sync
    plural: str  # of many: in the audit trail and, with hyphens, in paths and tags
    scope: str  # `<scope>:read` and `<scope>:write` open it; kinds that people share together share a scope
    noun: str  # with its article, for summaries
    about: str  # one sentence for the tag of the OpenAPI document
    # moment: it happened then. interval: it was agreed then and holds until `valid_to`, so a consent that begins later
    # shows it still. singleton: one for a patient, whose id is the patient's; it always holds, and is never deleted.
    holds: Holds
    fields: type[Fields]
    examples: tuple[Json, ...]
    patches: tuple[Json, ...] = ()
    # The promoted columns that SQL filters by, where there are any.
    facts: Callable[[Fields], Facts] | None = None
    # Faults of this role writing these fields in the place of the present ones, or of none: what nobody can tell from
    # the fields alone.
    author_rule: Callable[[str, Fields, Fields | None], Iterable[Fault]] | None = None
    # Faults of these fields in the place of the present ones, or of none, at this instant: what they say of a time is
    # true then. What was taken once is taken again, however much later: of what may become false nothing is said
    # without the present ones.
    dates_rule: Callable[[Fields, Fields | None, datetime], Iterable[Fault]] | None = None
    # Faults of a new record at this instant, which time brings: of what is there already nobody asks.
    new_rule: Callable[[Fields, datetime], Iterable[Fault]] | None = None
    computed: Json = field(default_factory=dict)  # what the server adds to the example of `out`
    create: type[Fields] = MADE
    patch: type[BaseModel] = MADE
    out: type[RecordOut] = MADE
    newest: int = field(init=False, default=MADE)  # the schema of its newest member
    page: type[BaseModel] = field(init=False, default=MADE)
    history: type[BaseModel] = field(init=False, default=MADE)  # a page of versions

    def __post_init__(self) -> None:
        """Makes the models that are not given."""
        object.__setattr__(self, "newest", newest(self.fields))
        for name, make in (
            ("create", self._make_create),
            ("patch", self._make_patch),
            ("out", self._make_out),
            ("page", self._make_page),
            ("history", self._make_history),
        ):
            if getattr(self, name) is MADE:
                object.__setattr__(self, name, make())

    @property
    def is_judged(self) -> bool:
        """Whether more than its fields tells what may be written."""
        return self.author_rule is not None or self.dates_rule is not None

    @property
    def title(self) -> str:
        """The name as a class begins with it: TreatmentEvent."""
        return self.name.title().replace("_", "")

    @property
    def path(self) -> str:
        """The step of its path below the patient's; also its tag."""
        return self.plural.replace("_", "-")

    @property
    def one(self) -> str:
        """The noun without its article: treatment event."""
        return self.noun.partition(" ")[2] or self.noun

    @property
    def words(self) -> str:
        """The plural in prose: treatment events."""
        return self.plural.replace("_", " ")

    @property
    def read_scope(self) -> str:
        """The scope to read it."""
        return f"{self.scope}:read"

    @property
    def write_scope(self) -> str:
        """The scope to write it, which needs the one to read it."""
        return f"{self.scope}:write"

    @property
    def has_note(self) -> bool:
        """Whether it holds free text, which `notes:read` opens."""
        return "note" in self.fields.model_fields

    @property
    def stored_example(self) -> Json:
        """The fullest example as it is answered."""
        example = example_stored(self.name, self.examples[-1]) | self.computed
        return example | {"id": example["patient_id"]} if self.holds == "singleton" else example

    def columns(self, body: Fields) -> Facts:
        """The promoted columns of this record; of what holds for a time also until when."""
        facts: Facts = {} if self.facts is None else self.facts(body)
        if self.holds == "moment":
            return facts
        ends = getattr(body, "valid_to", None)
        return {"valid_to": ends.isoformat() if ends else "infinity", **facts}

    def _make_create(self) -> type[BaseModel]:
        if self.holds == "singleton":
            return self.fields
        return self._model(
            "In", f"A new {self.one}, with the id the phone chose.", self.fields, RecordKey, self.examples
        )

    def _make_patch(self) -> type[BaseModel]:
        doc = (
            f"A merge patch (RFC 7396) of {self.noun}: null deletes a field, lists are replaced whole.\n\n"
            f"What it makes of the {self.one} must be a valid {self.one}."
        )
        return partial(self._model("Patch", doc, self.fields, None, self.patches))

    def _make_out(self) -> type[BaseModel]:
        hidden = " Without the right to read notes, `note` is absent." if self.has_note else ""
        doc = f"{self.noun[0].upper()}{self.noun[1:]} as it is stored.{hidden}"
        kind = {"kind": Literal[self.name]}
        return self._model("Out", doc, self.fields, RecordOut, [self.stored_example], kind)

    def _make_page(self) -> type[BaseModel]:
        page = Page[self.out]  # type: ignore[name-defined]  # a value here
        return self._model(
            "Page", f"{self.words.capitalize()}, newest first.", page, None, [example_page(self.stored_example)]
        )

    def _make_history(self) -> type[BaseModel]:
        change = f"One change of {self.noun}: who wrote it, on which device, and when it arrived."
        version = self._model("Version", change, _of(Version, self.out))
        what = self.noun if self.holds == "singleton" else f"one {self.one}"
        doc = f"The changes of {what}, newest first."
        return self._model("VersionPage", doc, _of(Page, version), None, [example_history(self.stored_example)])

    def _model(
        self,
        suffix: str,
        doc: str,
        base: type[Strict],
        other: type[Strict] | None = None,
        examples: Iterable[Any] = (),
        members: Mapping[str, object] = MappingProxyType({}),
    ) -> type[Strict]:
        """A model named for the kind, as if it stood in the kind's file."""
        namespace = {"__doc__": doc, "__module__": self.fields.__module__, "__annotations__": dict(members)}
        if examples:
            namespace["model_config"] = ConfigDict(json_schema_extra={"examples": list(examples)})
        bases = (base,) if other is None else (base, other)
        metaclass: Any = type(base)
        model: type[Strict] = metaclass(self.title + suffix, bases, namespace)
        return model


AnyKind = RecordKind[Any]


def _of(generic: Any, item: type[BaseModel]) -> type[Strict]:
    """A generic model of this item, which is known when the program runs only."""
    model: type[Strict] = generic[item]
    return model
