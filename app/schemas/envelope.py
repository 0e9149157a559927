"""The envelope that every kind of record shares: what the phone says of it, and what the server adds."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from app.schemas.base import Instant, LocalDate, RecordId, Strict, TimeZone, line

Performer = TypeAliasType(
    "Performer",
    Annotated[
        Literal["self", "caregiver", "clinician_observer"],
        Field(description="Who gave the answers: the patient, a caregiver, or a clinician who watched."),
    ],
)


class Source(Strict):
    """The program and device that wrote a record."""

    app: Annotated[str, line(80)] | None = Field(default=None, description="Name of the app.", examples=["diary-phone"])
    app_version: Annotated[str, line(40)] | None = Field(default=None, examples=["1.4.0"])
    device_model: Annotated[str, line(80)] | None = Field(default=None, examples=["Pixel 9"])
    schema_version: int | None = Field(default=None, ge=1, le=10_000, description="Of the app's own record format.")


class RecordFields(Strict):
    """What a phone says of any record, whatever its kind."""

    occurred_at: Instant = Field(description="When it was, as the patient says; the offset is that of the place.")
    time_zone: TimeZone = Field(description="The IANA time zone of the place.")
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
    local_date: LocalDate = Field(description="The day of `occurred_at` by its own offset.")
    received_at: Instant = Field(description="The server's clock when it stored this version.")
    author_id: RecordId = Field(description="The user who wrote this version.")
