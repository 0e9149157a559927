"""The kinds of record that a diary holds. A kind that is not in this list does not exist."""

from typing import Annotated, Union

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from app.schemas.base import OneOf, RecordId
from app.schemas.entries import ENTRY
from app.schemas.profile import PROFILE
from app.schemas.records import AnyKind
from app.schemas.treatment_events import TREATMENT_EVENT
from app.schemas.treatments import TREATMENT

KINDS: tuple[AnyKind, ...] = (ENTRY, TREATMENT, TREATMENT_EVENT, PROFILE)

BY_NAME = {kind.name: kind for kind in KINDS}
KindName = Annotated[str, OneOf(tuple(BY_NAME))]
OF_MANY = tuple(kind for kind in KINDS if kind.holds != "singleton")
SINGLETONS = tuple(kind for kind in KINDS if kind.holds == "singleton")
SCOPES = tuple(dict.fromkeys(kind.scope for kind in KINDS))
# What a scope is worth nothing without, one of these at least: whoever writes sees what is there, and a note is a part
# of something.
NEEDS = {f"{scope}:write": (f"{scope}:read",) for scope in SCOPES} | {
    "notes:read": tuple(dict.fromkeys(kind.read_scope for kind in KINDS if kind.has_note))
}

OUTS = tuple(kind.out for kind in KINDS)
KnownRecord = TypeAliasType(
    "KnownRecord",
    Annotated[Union[OUTS], Field(discriminator="kind")],  # type: ignore[valid-type]  # noqa: UP007 - made of a list
)


class UnknownRecord(BaseModel):
    """A record of a kind that came after this document. Keep it as it came, or pass over it."""

    model_config = ConfigDict(extra="allow")

    kind: str = Field(json_schema_extra={"not": {"enum": list(BY_NAME)}})
    id: RecordId
