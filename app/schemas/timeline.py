"""The timeline's pages: records of every kind and the changes of plans, told apart by `kind`."""

from typing import Annotated, Literal, Union

from pydantic import ConfigDict, Field
from typing_extensions import TypeAliasType

from app.schemas.base import Instant, Json, LocalDate, RecordId, Strict, TimeZone, line
from app.schemas.entries import STORED_ENTRY
from app.schemas.envelope import example_page
from app.schemas.kinds import OF_MANY, SINGLETONS, UnknownRecord
from app.schemas.treatment_events import STORED_EVENT
from app.schemas.treatment_examples import STORED_TREATMENT
from app.schemas.treatments import Regimen

EXAMPLE_CHANGE: Json = {
    "kind": "treatment_change",
    "id": "6c1f8a42-5d3e-4b97-8f60-2a9d7e4c1b35",
    "patient_id": STORED_TREATMENT["patient_id"],
    "treatment_id": STORED_TREATMENT["id"],
    "treatment_name": STORED_TREATMENT["name"],
    "change": "regimen_changed",
    "occurred_at": STORED_TREATMENT["regimens"][1]["valid_from"],
    "local_date": STORED_TREATMENT["regimens"][1]["valid_from"][:10],
    "time_zone": STORED_TREATMENT["regimens"][1]["time_zone"],
    "regimen": STORED_TREATMENT["regimens"][1],
    "previous": STORED_TREATMENT["regimens"][0],
}
EXAMPLE_TIMELINE = example_page(STORED_ENTRY) | {"items": [STORED_EVENT, STORED_ENTRY, EXAMPLE_CHANGE]}


class TreatmentChangeOut(Strict):
    """A plan that begins, changes, pauses or ends. It is read from the treatment, not stored, and has no version."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_CHANGE]})

    kind: Literal["treatment_change"]
    id: RecordId
    patient_id: RecordId
    treatment_id: RecordId
    treatment_name: Annotated[str, line(200)]
    change: Literal["started", "regimen_changed", "paused", "resumed", "ended"]
    occurred_at: Instant = Field(description="From when on it applies; still to come only where a `to` reaches so far.")
    local_date: LocalDate
    time_zone: TimeZone
    regimen: Regimen | None = Field(default=None, description="What applies from then on; of a start or change.")
    previous: Regimen | None = Field(default=None, description="What applied until then; of a change or an end.")


# Records as they are, what is read from them, and what always holds.
ITEMS = (*(kind.out for kind in OF_MANY), TreatmentChangeOut, *(kind.out for kind in SINGLETONS))
ITEM_KINDS = (*(kind.name for kind in OF_MANY), "treatment_change", *(kind.name for kind in SINGLETONS))
KnownItem = TypeAliasType(
    "KnownItem",
    Annotated[Union[ITEMS], Field(discriminator="kind")],  # type: ignore[valid-type]  # noqa: UP007 - made of a list
)


class TimelinePage(Strict):
    """Records and changes of plans, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_TIMELINE]})

    items: list[KnownItem | UnknownRecord] = Field(max_length=200)
    next_cursor: str | None = Field(description="Ask for the next page with it; null when there is none.")
