"""The profile on the wire: what is to be known of the patient to read the diary right. There is one per patient."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypeAliasType

from app.domain.moments import at_place, local_date
from app.schemas.auth import Locale
from app.schemas.base import BodyFault, CodeOf, Distinct, Json, LocalDate, Strict, listed, partial, refuse
from app.schemas.births import BirthDatePrecision, birth_faults
from app.schemas.envelope import RecordFields, RecordOut, example_stored
from app.schemas.records import RecordKind

Condition = TypeAliasType("Condition", Annotated[str, CodeOf("conditions")])
PregnancyStatus = TypeAliasType("PregnancyStatus", Literal["pregnant", "not_pregnant", "unknown"])
SexAtBirth = TypeAliasType("SexAtBirth", Literal["female", "male", "intersex", "unknown"])
Allergy = TypeAliasType("Allergy", Annotated[str, CodeOf("allergies")])

MINIMAL_PROFILE: Json = {
    "occurred_at": "2026-03-29T08:00:00+02:00",
    "time_zone": "Europe/Berlin",
    "birth_date": "1980-05-17",
}
EXAMPLE_PROFILE: Json = MINIMAL_PROFILE | {
    "occurred_precision": "minute",
    "recorded_at": "2026-03-29T08:02:19+02:00",
    "performer": "self",
    "source": {"app": "diary-phone", "app_version": "1.4.0", "device_model": "Pixel 9", "schema_version": 1},
    "birth_date_precision": "day",
    "sex_at_birth": "female",
    "locale": "de-DE",
    "weight": {"value": 68.5, "on": "2026-03-20"},
    "pregnancy": {"status": "pregnant", "due_date": "2026-09-14"},
    "breastfeeding": False,
    "conditions": ["back_pain", "migraine"],
    "allergies": ["nsaid"],
    "cognitive_impairment": False,
}
STORED_PROFILE = example_stored("profile", EXAMPLE_PROFILE) | {"id": "0195d3f4-0c1d-7b2e-8f3a-4d5e6f708192"}


class Weight(Strict):
    """A body weight, and the day it was taken."""

    value: float = Field(ge=0.3, le=500, description="In kilograms.")
    on: LocalDate


class Pregnancy(Strict):
    """Whether the patient is pregnant, and until when."""

    status: PregnancyStatus
    due_date: LocalDate | None = Field(default=None, description="With `pregnant` only.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.due_date is not None and self.status != "pregnant":
            refuse([BodyFault(("due_date",), "contradiction", "Give it only with the status pregnant.")])
        return self


class ProfileShape(RecordFields):
    """The members of a profile, without the rules between them."""

    birth_date: LocalDate = Field(description="Not after the local day of `occurred_at`.")
    birth_date_precision: BirthDatePrecision = "day"
    sex_at_birth: SexAtBirth | None = None
    locale: Locale | None = None
    weight: Weight | None = None
    pregnancy: Pregnancy | None = None
    breastfeeding: bool | None = None
    conditions: Annotated[list[Condition], Distinct()] = listed(max_length=64)
    allergies: Annotated[list[Allergy], Distinct()] = listed(max_length=64)
    cognitive_impairment: bool | None = Field(default=None, description="Decides which scales and questions suit.")


class ProfileFields(ProfileShape):
    """The profile as PUT replaces it."""

    model_config = ConfigDict(json_schema_extra={"examples": [MINIMAL_PROFILE, EXAMPLE_PROFILE]})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse((*birth_faults(self.birth_date, self.birth_date_precision), *_birth(self)))
        return self


@partial
class ProfilePatch(ProfileFields):
    """A merge patch (RFC 7396) of the profile: null deletes a field, lists are replaced whole.

    What it makes of the profile must be a valid profile.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"weight": {"value": 70, "on": "2026-04-02"}}, {"pregnancy": None, "conditions": []}]
        }
    )


class ProfileOut(ProfileShape, RecordOut):
    """The profile as it is stored; its id is the patient's."""

    model_config = ConfigDict(json_schema_extra={"examples": [STORED_PROFILE]})

    kind: Literal["profile"]


def _birth(profile: ProfileFields) -> Iterator[BodyFault]:
    """Nobody keeps a diary before being born."""
    if profile.birth_date > local_date(at_place(profile.occurred_at, profile.time_zone)):
        yield BodyFault(("birth_date",), "after_occurred_at", "It must not be after the day of occurred_at.")


PROFILE = RecordKind(
    name="profile",
    plural="profile",
    scope="profile",
    noun="the profile",
    about="What is to be known of the patient to read the diary right.",
    holds="singleton",
    fields=ProfileFields,
    examples=(MINIMAL_PROFILE, EXAMPLE_PROFILE),
    patch=ProfilePatch,
    out=ProfileOut,
)
