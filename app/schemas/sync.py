"""Sync on the wire: what a phone pushes, what it pulls, and how both sides compare."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeAliasType

from app.errors import Fault
from app.schemas.base import DescribedAs, FirstAtFault, Instant, Json, RecordId, Strict, line
from app.schemas.entries import MINIMAL_ENTRY
from app.schemas.envelope import EXAMPLE_CURSOR
from app.schemas.kinds import KINDS, KindName, KnownRecord, UnknownRecord
from app.schemas.records import AnyKind

MOST_MUTATIONS = 100
MOST_COMPARED = 1_000  # changes of a diary in one digest, and so records
MOST_VERSIONS = 2_000_000_000  # of a record: SQL counts them in 32 bits
MOST_CHANGES = 2_000_000_000  # of a diary, in which the quota of a day leaves room for centuries

EXAMPLE_EPOCH = "5f0c1a9e-3b2d-4c61-9a70-8e1d6b4f2c35"
EXAMPLE_MUTATION: Json = {
    "mutation_id": "0195d3f4-a001-7c31-9b1e-5a2f6c7d8e90",
    "op": "put",
    "kind": "entry",
    "id": MINIMAL_ENTRY["id"],
    "base_version": 0,
    "data": {name: value for name, value in MINIMAL_ENTRY.items() if name != "id"},
}
EXAMPLE_PUSH: Json = {
    "device_id": "phone-7f3a",
    "client_now": "2026-03-29T08:02:00+02:00",
    "mutations": [EXAMPLE_MUTATION],
    "outbox_empty": True,
}
EXAMPLE_RESULT: Json = {
    "mutation_id": EXAMPLE_MUTATION["mutation_id"],
    "id": MINIMAL_ENTRY["id"],
    "status": "created",
    "version": 1,
    "change_seq": 42,
}


MutationOp = TypeAliasType("MutationOp", Literal["put", "delete", "undelete"])


SchemaVersion = Annotated[int, Field(ge=1, le=10_000)]


class Mutation(Strict):
    """One change that a phone made: the record as it shall be, its deletion, or that it was not to be deleted."""

    mutation_id: RecordId = Field(description="Chosen anew for each change; sent again, it is applied once.")
    op: MutationOp
    kind: KindName
    id: RecordId = Field(description="The record; the profile's is the patient's.")
    base_version: int | None = Field(
        default=None,
        ge=0,
        le=MOST_VERSIONS,
        description="The version that was changed; 0 creates. A delete without it deletes any version: "
        "some stores remember of what they deleted only the id. An undelete names the version of the deletion.",
    )
    data: Json | None = Field(default=None, description="With `put`: the record's fields, without its id.")
    schema_version: SchemaVersion = Field(
        default=1, description="Which schema of records the app knew that made the change: what came later stays."
    )
    reoffer: RecordId | None = Field(default=None, description="When offering again after a restore: the old epoch.")
    version: int | None = Field(
        default=None,
        ge=1,
        le=MOST_VERSIONS,
        description="With `reoffer`: the version that this was then. The server keeps the latest, "
        "whoever comes first; `base_version` plays no part.",
    )


def _of_kind(kind: AnyKind) -> type[Mutation]:
    """A mutation as the document tells of it. Whether data fit their kind is found out for each on its own."""
    data = Field(default=None, description="With `put`: the record as PUT takes it.")
    members: Any = {"kind": (Literal[kind.name], ...), "data": (kind.fields | None, data)}
    return create_model(f"{kind.title}Mutation", __base__=Mutation, __doc__=f"A change of {kind.noun}.", **members)


MUTATIONS = tuple(map(_of_kind, KINDS))
AnyMutation = TypeAliasType(
    "AnyMutation",
    Annotated[Union[MUTATIONS], Field(discriminator="kind")],  # type: ignore[valid-type]  # noqa: UP007 - made of a list
)


Item = TypeVar("Item")
Listed = Annotated[list[Item], Field(max_length=MOST_MUTATIONS)]
AnyUuid = Annotated[str, Field(pattern=r"^[0-9A-Fa-f-]{36}$", json_schema_extra={"format": "uuid"})]
_ANY_UUID = re.compile(r"[0-9A-Fa-f-]{36}")  # also one of a version or in letters that no record has


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """An item of a push that is no mutation: where it breaks a rule, and its ids where it has any."""

    mutation_id: str | None
    id: str | None
    faults: tuple[Fault, ...]


def refused_item(item: object, faults: tuple[Fault, ...]) -> RefusedItem:
    """The item as refused for these faults, which point into it."""
    members = item if isinstance(item, dict) else {}
    mutation_id, record_id = (
        sent if isinstance(sent, str) and _ANY_UUID.fullmatch(sent) else None
        for sent in (members.get("mutation_id"), members.get("id"))
    )
    return RefusedItem(mutation_id, record_id, faults)


class OrAsSent:
    """Annotation of a list: where an item is wrong, all come as they were sent, for whoever tells what of each.

    What is wrong inside of one mutation is no matter of the others.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_sent = core_schema.list_schema(strict=True, max_length=MOST_MUTATIONS)
        return core_schema.union_schema([handler(source), as_sent], mode="left_to_right")


class PushIn(Strict):
    """What a phone has to send, in the order in which it happened. It may be empty, to say that it has nothing left."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_PUSH]})

    device_id: Annotated[str, line(100)] = Field(
        description="The app's own name for this installation. Nothing depends on it: the session tells the device."
    )
    client_now: Instant = Field(description="The phone's clock; how far it is off is answered, nothing is rewritten.")
    epoch: RecordId | None = Field(
        default=None,
        description="As last answered: base versions speak of it. After a restore the push is refused with 410.",
    )
    mutations: Annotated[Listed[Mutation], OrAsSent(), DescribedAs(Listed[AnyMutation])]
    outbox_empty: bool = Field(default=False, description="The phone has nothing left to send after these.")


class ItemFault(Strict):
    """What is wrong with a request or one item of it, and where."""

    pointer: str = Field(
        description="A JSON pointer into the body, or `#query/<name>` and the like.",
        examples=["/sites/0/scores/0/value", "/mutations/1/data/note", "#query/limit"],
    )
    code: str = Field(examples=["less_than_equal"])
    detail: str = Field(examples=["Input should be less than or equal to 10."])


class PushResult(Strict):
    """What became of one mutation. A phone deletes its copy on nothing but created, updated, deleted or unchanged."""

    mutation_id: AnyUuid | None = Field(default=None, description="As it was sent; absent where that was no UUID.")
    id: AnyUuid | None = Field(default=None, description="The record, likewise.")
    status: Literal["created", "updated", "deleted", "unchanged", "conflict", "invalid", "forbidden"]
    version: int | None = Field(default=None, description="The version that the mutation made or found.")
    change_seq: int | None = None
    same_as: RecordId | None = Field(
        default=None,
        description="The diary has the record that this one was imported from (`source.record_id`), under this id: "
        "there is none under the id that was sent.",
    )
    deleted: bool | None = Field(default=None, description="Where the server has another copy: it is a tombstone.")
    record: KnownRecord | UnknownRecord | None = Field(
        default=None,
        description="The server's copy: with `conflict`, `same_as` and an undelete, and where others changed it since.",
    )
    errors: list[ItemFault] | None = Field(default=None, description="With `invalid`.")


class PushOut(Strict):
    """One result for each mutation, in their order; all of it is durable."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "server_now": "2026-03-29T06:02:01Z",
                    "clock_skew_seconds": 1,
                    "epoch": EXAMPLE_EPOCH,
                    "head": 42,
                    "results": [EXAMPLE_RESULT],
                }
            ]
        }
    )

    server_now: Instant
    clock_skew_seconds: int = Field(description="The server's clock minus the phone's.")
    epoch: RecordId = Field(description="Keep it: another one means that the server was restored from a backup.")
    head: int = Field(ge=0)
    results: list[PushResult] = Field(max_length=MOST_MUTATIONS)


class Change(Strict):
    """A record as it is now, or that it is no longer there: deleted, or withdrawn from this reader."""

    kind: KindName
    id: RecordId
    version: int = Field(ge=1)
    change_seq: int = Field(ge=1)
    deleted: bool
    reason: Literal["deleted", "withdrawn"] | None = None
    record: KnownRecord | UnknownRecord | None = Field(default=None, description="As it is now; none where deleted.")


class PullOut(Strict):
    """Changes after the cursor, oldest first; each record once, as it is now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "changes": [
                        {
                            "kind": "entry",
                            "id": MINIMAL_ENTRY["id"],
                            "version": 2,
                            "change_seq": 43,
                            "deleted": True,
                            "reason": "deleted",
                        }
                    ],
                    "cursor": EXAMPLE_CURSOR,
                    "has_more": False,
                    "epoch": EXAMPLE_EPOCH,
                    "head": 43,
                    "server_now": "2026-03-29T06:02:01Z",
                }
            ]
        }
    )

    changes: list[Change] = Field(max_length=500)
    cursor: str = Field(description="Store it together with the changes, in one transaction.")
    has_more: bool
    epoch: RecordId = Field(description="As in the answer of a push.")
    head: int = Field(ge=0)
    server_now: Instant


class Compared(Strict):
    """A record in one version."""

    id: RecordId
    version: int = Field(ge=1, le=MOST_VERSIONS)


class DigestIn(Strict):
    """What the phone holds of a thousand changes: each record of which it knows a `change_seq` there."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"records": [{"id": MINIMAL_ENTRY["id"], "version": 1}], "after": 0}]}
    )

    records: Annotated[list[Compared], FirstAtFault()] = Field(max_length=MOST_COMPARED)
    after: int = Field(
        default=0,
        ge=0,
        le=MOST_CHANGES,
        description=f"Compare the {MOST_COMPARED} changes after this one: `compared_to` of the answer before.",
    )


class Difference(Strict):
    """A record that both sides do not hold alike."""

    id: RecordId
    here: int | None = Field(description="The server's version; null where it has none that the reader may see.")
    there: int | None = Field(description="The phone's version; null where it has none.")
    deleted: bool = Field(description="The server's copy is a tombstone.")


class DigestOut(Strict):
    """What differs of these changes, by id, and how far the diary is compared."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "differences": [{"id": MINIMAL_ENTRY["id"], "here": 2, "there": 1, "deleted": False}],
                    "compared_to": 43,
                    "epoch": EXAMPLE_EPOCH,
                    "head": 43,
                }
            ]
        }
    )

    differences: list[Difference] = Field(max_length=2 * MOST_COMPARED)
    compared_to: int = Field(ge=0, description="Up to this change. There is more where it is less than `head`.")
    epoch: RecordId = Field(description="As in the answer of a push.")
    head: int = Field(ge=0)


class Head(Strict):
    """How far a diary has come."""

    patient_id: RecordId
    epoch: RecordId
    head: int = Field(ge=0)


class HeadsOut(Strict):
    """The diaries that one may see, by id."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "patient_id": "0195d3f4-0c1d-4b2e-8f3a-4d5e6f708192",
                            "epoch": EXAMPLE_EPOCH,
                            "head": 43,
                        }
                    ]
                }
            ]
        }
    )

    items: list[Head]
