"""The envelope that every kind of record shares: what the phone says of it, and what the server adds."""

from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator
from typing_extensions import TypeAliasType

from app.domain import people
from app.schemas.base import BodyFault, Instant, Json, LocalDate, RecordId, Strict, TimeZone, line, refuse, text

Item = TypeVar("Item", bound=Strict)

Note = Annotated[str, text(4000)]  # the only free text of a record, so that hiding it hides all of it

EXAMPLE_CURSOR = "9Yk2m0b1c7Zs3uQ5x8v4HVsiMjAyNi0wMy0yOVQxNjozMDowMFoiXQ"

Performer = TypeAliasType(
    "Performer",
    Annotated[
        people.Performer,
        Field(description="Who gave the answers: the patient, a caregiver, or a clinician who watched."),
    ],
)


Precision = TypeAliasType("Precision", Literal["minute", "day"])


class Source(Strict):
    """The program and device that wrote a record, and the record of another system that it was imported from."""

    app: Annotated[str, line(80)] | None = Field(default=None, description="Name of the app.", examples=["diary-phone"])
    app_version: Annotated[str, line(40)] | None = Field(default=None, examples=["1.4.0"])
    device_model: Annotated[str, line(80)] | None = Field(default=None, examples=["Pixel 9"])
    schema_version: int | None = Field(default=None, ge=1, le=10_000, description="Of the app's own record format.")
    system: Annotated[str, line(200)] | None = Field(
        default=None, description="The system that an import came from.", examples=["https://example.com/headache-log"]
    )
    record_id: Annotated[str, line(200)] | None = Field(
        default=None,
        description="The record's id in that `system`. A diary has one record of a kind with it: an import that is "
        "repeated, under whatever ids, is no second one.",
        examples=["attack-2041"],
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.record_id is not None and self.system is None:
            refuse([BodyFault(("system",), "missing", "Say of which system the record_id is.")])
        return self


class RecordFields(Strict):
    """What a phone says of any record, whatever its kind."""

    occurred_at: Instant = Field(
        description="When it was, as the patient says; the offset is that of the place, or `Z` where the app keeps "
        "UTC: then `time_zone` tells the day."
    )
    time_zone: TimeZone = Field(description="The time zone of the place.")
    occurred_precision: Precision = Field(
        default="minute", description="`day`: only the day of `occurred_at` is known, and its time means nothing."
    )
    recorded_at: Instant | None = Field(default=None, description="The phone's clock when the record was saved.")
    performer: Performer = "self"
    source: Source | None = Field(default=None, description="The program and device that wrote it.")


class RecordKey(Strict):
    """The id that a phone gives to a new record; it means nothing outside the patient's diary."""

    id: RecordId = Field(description="Chosen by the phone: a UUID of version 4 or 7, in lower case.")


class RecordOut(RecordKey):
    """What the server adds to any record."""

    kind: str = Field(description="What kind of record this is.")
    patient_id: RecordId = Field(description="Whose diary it belongs to.")
    version: int = Field(ge=1, description="1 when created, one more with each change; also the ETag.")
    change_seq: int = Field(ge=1, description="The place of the last change in the patient's dense order of changes.")
    deleted: bool
    local_date: LocalDate = Field(
        description="The day of `occurred_at` for the patient: by its own offset, or where that is `Z` by `time_zone`."
    )
    offset_differs_from_zone: bool | None = Field(
        default=None,
        description="True where `occurred_at` has an offset that `time_zone` did not have then, else absent. It is "
        "kept as it was said, and decides the day.",
    )
    received_at: Instant = Field(description="The server's clock when it stored this version.")
    author_id: RecordId = Field(description="The user who wrote this version.")


class Page(Strict, Generic[Item]):
    """Records, newest first."""

    items: list[Item] = Field(max_length=200)
    next_cursor: str | None = Field(description="Ask for the next page with it; null when there is none.")


class Version(Strict, Generic[Item]):
    """One change of a record: who wrote it, on which device, and when it arrived."""

    version: int = Field(ge=1)
    change_seq: int = Field(ge=1)
    deleted: bool
    author_id: RecordId
    device_name: Annotated[str, line(120)] | None = None
    received_at: Instant
    record: Item | None = Field(default=None, description="The record as of this version; absent when deleted.")


def example_stored(kind: str, sent: Json) -> Json:
    """What a phone sent as it is answered; none of the examples is in UTC."""
    return sent | {
        "kind": kind,
        "patient_id": "0195d3f4-0c1d-7b2e-8f3a-4d5e6f708192",
        "version": 1,
        "change_seq": 42,
        "deleted": False,
        "local_date": sent["occurred_at"][:10],
        "received_at": "2026-03-29T19:05:14Z",
        "author_id": "0195d3f4-0c1d-7111-9222-333344445555",
    }


def example_page(item: Json) -> Json:
    """A page with this item on it."""
    return {"items": [item], "next_cursor": EXAMPLE_CURSOR}


def example_history(record: Json) -> Json:
    """A page of the history of this record."""
    shared = ("version", "change_seq", "deleted", "author_id", "received_at")
    return example_page({name: record[name] for name in shared} | {"device_name": "Ada's phone", "record": record})
