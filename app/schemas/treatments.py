"""The treatment on the wire: what was agreed, from when on, and how each change of it reads."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypeAliasType

from app import errors
from app.domain.treatments import is_medication
from app.schemas.base import (
    BodyFault,
    CodeOf,
    Distinct,
    FirstAtFault,
    Instant,
    Json,
    Says,
    Strict,
    TimeZone,
    line,
    listed,
    partial,
    refuse,
)
from app.schemas.envelope import Note, RecordFields, RecordKey, RecordOut, example_stored
from app.schemas.records import Facts, RecordKind
from app.schemas.treatment_dates import dates_rule, new_rule
from app.schemas.units import Quantity

TreatmentCategory = TypeAliasType("TreatmentCategory", Annotated[str, CodeOf("treatment_categories")])
DoseForm = TypeAliasType("DoseForm", Annotated[str, CodeOf("dose_forms")])
Route = TypeAliasType("Route", Annotated[str, CodeOf("routes")])
Author = TypeAliasType("Author", Literal["patient", "clinician"])
TargetPeriod = TypeAliasType("TargetPeriod", Literal["day", "week"])
TreatmentStatus = TypeAliasType("TreatmentStatus", Literal["draft", "active", "on_hold", "stopped", "completed"])
LocalTime = Annotated[
    str,
    Field(
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="A time of day on the wall clock.", examples=["08:00"]
    ),
    Says("local_time", "Give a time of day from 00:00 to 23:59, as 08:00."),
]
Weekday = Annotated[int, Field(ge=1, le=7)]
Window = Annotated[int, Field(ge=0, le=720)]

MINIMAL_TREATMENT: Json = {
    "id": "0195d3f4-6b11-7c40-8e2d-3f9a1c5b7d82",
    "occurred_at": "2026-03-02T08:00:00+01:00",
    "time_zone": "Europe/Berlin",
    "category": "otc_medication",
    "name": "Ibuprofen 400 mg",
    "regimens": [
        {"valid_from": "2026-03-02T00:00:00+01:00", "time_zone": "Europe/Berlin", "schedule": {"type": "prn"}}
    ],
}
EXAMPLE_TREATMENT: Json = {
    "id": "0195d3f4-6a2c-7f10-9d4e-2b8c5a7e1f36",
    "occurred_at": "2026-01-12T10:20:00+01:00",
    "time_zone": "Europe/Berlin",
    "occurred_precision": "minute",
    "recorded_at": "2026-01-12T10:24:41+01:00",
    "performer": "self",
    "source": {"app": "diary-phone", "app_version": "1.4.0", "device_model": "Pixel 9", "schema_version": 1},
    "category": "opioid_medication",
    "name": "Buprenorphine 5 µg/h patch",
    "ingredients": [{"name": "buprenorphine", "rxnorm": "1819", "strength": {"value": 5, "unit": "ug/h"}}],
    "form": "patch",
    "route": "transdermal",
    "regimens": [
        {
            "valid_from": "2026-01-12T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 1, "unit": "{patch}"},
            "schedule": {
                "type": "scheduled",
                "times": ["09:00"],
                "days_of_week": [1],
                "early_minutes": 60,
                "late_minutes": 180,
            },
        },
        {
            "valid_from": "2026-03-02T00:00:00+01:00",
            "valid_to": "2026-06-29T00:00:00+02:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 2, "unit": "{patch}"},
            "schedule": {
                "type": "scheduled",
                "times": ["09:00"],
                "every_n_days": 7,
                "early_minutes": 60,
                "late_minutes": 180,
            },
        },
    ],
    "pauses": [{"from": "2026-02-09T00:00:00+01:00", "to": "2026-02-16T00:00:00+01:00"}],
    "status": "active",
    "prescriber": "Dr. Weber, pain clinic",
    "authored_by": "clinician",
    "acknowledged_at": "2026-01-12T18:05:00+01:00",
    "wear_hours": 168,
    "note": "Change the place each week.",
}
EXAMPLE_PRN: Json = MINIMAL_TREATMENT | {
    "ingredients": [{"name": "ibuprofen", "rxnorm": "5640", "strength": {"value": 400, "unit": "mg"}}],
    "form": "tablet",
    "route": "oral",
    "regimens": [
        {
            "valid_from": "2026-03-02T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 400, "unit": "mg"},
            "schedule": {
                "type": "prn",
                "min_interval_minutes": 360,
                "max_doses_24h": 3,
                "max_amount_24h": {"value": 1200, "unit": "mg"},
                "indication": "Back pain of 5 or more",
            },
        }
    ],
}
EXAMPLE_SESSIONS: Json = {
    "id": "0195d3f4-6c83-7a55-b1f7-6d0e4b2a9c14",
    "occurred_at": "2026-03-02T08:00:00+01:00",
    "time_zone": "Europe/Berlin",
    "category": "physical_therapy",
    "name": "Physiotherapy",
    "regimens": [
        {
            "valid_from": "2026-03-02T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "schedule": {"type": "target", "count": 2, "per": "week", "minutes": 30},
        }
    ],
}
EXAMPLE_STOP: Json = {
    "status": "stopped",
    "regimens": [MINIMAL_TREATMENT["regimens"][0] | {"valid_to": "2026-04-13T00:00:00+02:00"}],
}
EXAMPLES = [MINIMAL_TREATMENT, EXAMPLE_TREATMENT, EXAMPLE_PRN, EXAMPLE_SESSIONS]
STORED_TREATMENT = example_stored("treatment", EXAMPLE_TREATMENT)


class Ingredient(Strict):
    """An active ingredient, and how much of it is in one unit of the form."""

    name: Annotated[str, line(200)] = Field(examples=["ibuprofen"])
    rxnorm: str | None = Field(
        default=None, pattern=r"^[0-9]{1,10}$", description="The RxNorm code, where one was given.", examples=["5640"]
    )
    strength: Quantity | None = None


class Scheduled(Strict):
    """At these times of day: every day, on some days of the week, or every so many days."""

    type: Literal["scheduled"]
    times: Annotated[list[LocalTime], Distinct()] = Field(
        min_length=1, max_length=24, description="On the wall clock of the regimen's zone: 08:00 stays 08:00."
    )
    days_of_week: Annotated[list[Weekday], Distinct()] | None = Field(
        default=None, min_length=1, max_length=7, description="1 Monday to 7 Sunday; excludes `every_n_days`."
    )
    every_n_days: int | None = Field(
        default=None, ge=2, le=365, description="Counted from the local day of `valid_from`; excludes `days_of_week`."
    )
    early_minutes: Window = Field(default=60, description="So much before the time is still on time.")
    late_minutes: Window = Field(default=60, description="So much after the time is still on time.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.days_of_week is not None and self.every_n_days is not None:
            refuse([BodyFault(("every_n_days",), "contradiction", "Give it only without days_of_week.")])
        return self


class Prn(Strict):
    """When it is needed, within these limits."""

    type: Literal["prn"]
    min_interval_minutes: int | None = Field(default=None, ge=1, le=10_080, description="Between two doses, at least.")
    max_doses_24h: int | None = Field(default=None, ge=1, le=100, description="In any 24 hours.")
    max_amount_24h: Quantity | None = Field(default=None, description="In any 24 hours.")
    indication: Annotated[str, line(200)] | None = Field(default=None, description="What it is for.")


class Target(Strict):
    """So often in a day or week, whenever it suits."""

    type: Literal["target"]
    count: int = Field(ge=1, le=100)
    per: TargetPeriod
    minutes: int | None = Field(default=None, ge=1, le=1440, description="How long each time.")


Schedule = TypeAliasType("Schedule", Annotated[Scheduled | Prn | Target, Field(discriminator="type")])


class Regimen(Strict):
    """One version of the plan: dose and schedule, and from when to when they were agreed.

    A change of dose or schedule, and a move to another zone, is a new regimen: the past is judged by the one
    that applied then.
    """

    valid_from: Instant
    valid_to: Instant | None = Field(
        default=None, description="The first instant it no longer applies; by default the next regimen's start, if any."
    )
    time_zone: TimeZone = Field(description="The zone whose wall clock the schedule follows.")
    dose: Quantity | None = Field(default=None, description="How much each time; of medications only.")
    schedule: Schedule

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            refuse([BodyFault(("valid_to",), "ended_before_start", "It must be after valid_from.")])
        return self


class Pause(Strict):
    """A time on hold: nothing was due in it."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: Instant = Field(alias="from")
    to: Instant | None = Field(default=None, description="The first instant after it; absent while it lasts.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.to is not None and self.to <= self.from_:
            refuse([BodyFault(("to",), "ended_before_start", "It must be after from.")])
        return self


class TreatmentShape(RecordFields):
    """The members of a treatment, without the rules between them."""

    category: TreatmentCategory
    name: Annotated[str, line(200)] = Field(description="As the patient knows it.")
    ingredients: Annotated[list[Ingredient], Distinct("name")] = listed(
        max_length=10, description="Of medications only."
    )
    form: DoseForm | None = Field(default=None, description="Of medications only.")
    route: Route | None = Field(default=None, description="Of medications only.")
    regimens: Annotated[list[Regimen], FirstAtFault()] = Field(
        min_length=1, max_length=100, description="In the order of `valid_from`, none overlapping the next."
    )
    pauses: Annotated[list[Pause], FirstAtFault()] = listed(
        max_length=100, description="In order, none overlapping the next."
    )
    status: TreatmentStatus = Field(
        default="active",
        description="What is due follows from regimens and pauses, and the status never contradicts them: `stopped` "
        "and `completed` need `valid_to` in the last regimen, now at the latest; `on_hold` needs a pause that holds "
        "now; a change leaves `active` neither.",
    )
    prescriber: Annotated[str, line(200)] | None = Field(default=None, description="Who prescribed or advised it.")
    authored_by: Author = Field(default="patient", description="Whose plan it is.")
    acknowledged_at: Instant | None = Field(
        default=None, description="When the patient took note of a clinician's plan."
    )
    wear_hours: int | None = Field(default=None, ge=1, le=720, description="How long a patch stays on; patches only.")
    note: Note | None = Field(default=None, description="Plain text; the only free text of a treatment.")


class TreatmentFields(TreatmentShape):
    """A treatment as PUT replaces it: what was agreed, and every earlier version of the plan."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{k: v for k, v in e.items() if k != "id"} for e in EXAMPLES]}
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(fault for rule in RULES for fault in rule(self))
        return self


class TreatmentIn(TreatmentFields, RecordKey):
    """A new treatment, with the id the phone chose. The smallest is a category, a name and one regimen."""

    model_config = ConfigDict(json_schema_extra={"examples": [*EXAMPLES]})


@partial
class TreatmentPatch(TreatmentFields):
    """A merge patch (RFC 7396) of a treatment: null deletes a field, lists (also regimens) are replaced whole.

    What it makes of the treatment must be a valid treatment.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [EXAMPLE_STOP, {"prescriber": None, "note": "Helps a little."}]}
    )


class TreatmentOut(TreatmentShape, RecordOut):
    """A treatment as it is stored. Without the right to read notes, `note` is absent."""

    model_config = ConfigDict(json_schema_extra={"examples": [STORED_TREATMENT]})

    kind: Literal["treatment"]


def _regimens(treatment: TreatmentFields) -> Iterator[BodyFault]:
    """Each regimen starts after the one before it, and not before that one has ended."""
    for i, (earlier, later) in enumerate(pairwise(treatment.regimens), start=1):
        if later.valid_from <= earlier.valid_from:
            yield BodyFault(("regimens", i, "valid_from"), "out_of_order", "It must be after the previous valid_from.")
        elif earlier.valid_to is not None and later.valid_from < earlier.valid_to:
            yield BodyFault(("regimens", i, "valid_from"), "overlap", "It must not be before the previous valid_to.")


def _pauses(treatment: TreatmentFields) -> Iterator[BodyFault]:
    """Each pause starts when the one before it is over."""
    for i, (earlier, later) in enumerate(pairwise(treatment.pauses), start=1):
        if earlier.to is None or later.from_ < earlier.to:
            yield BodyFault(("pauses", i, "from"), "overlap", "It must not be before the previous pause is over.")


def _medication(treatment: TreatmentFields) -> Iterator[BodyFault]:
    """Only a medication is made of something and given in doses."""
    if is_medication(treatment.category):
        return
    members: list[tuple[tuple[str | int, ...], object]] = [
        *(((name,), getattr(treatment, name)) for name in ("ingredients", "form", "route")),
        *((("regimens", i, "dose"), regimen.dose) for i, regimen in enumerate(treatment.regimens)),
    ]
    for place, value in members:
        if value:
            yield BodyFault(place, "only_for_medication", "Only a medication has it.")


def _wear(treatment: TreatmentFields) -> Iterator[BodyFault]:
    """Only a patch is worn."""
    if treatment.wear_hours is not None and treatment.form != "patch":
        yield BodyFault(("wear_hours",), "only_for_patch", "Give it only with the form patch.")


def _acknowledgement(treatment: TreatmentFields) -> Iterator[BodyFault]:
    """A patient acknowledges what somebody else planned."""
    if treatment.acknowledged_at is not None and treatment.authored_by == "patient":
        yield BodyFault(("acknowledged_at",), "contradiction", "Only a clinician's plan is acknowledged.")


def _status(treatment: TreatmentFields) -> Iterator[BodyFault]:
    """What has ended makes nothing due, so it says when; what is on hold says since when."""
    if treatment.status in ("stopped", "completed") and treatment.regimens[-1].valid_to is None:
        place = ("regimens", len(treatment.regimens) - 1, "valid_to")
        yield BodyFault(place, "missing_end", "Say when the plan ended.")
    if treatment.status == "on_hold" and not treatment.pauses:
        yield BodyFault(("pauses",), "missing_pause", "Say since when: give a pause that holds now.")


RULES = (_regimens, _pauses, _medication, _wear, _acknowledgement, _status)


def _facts(treatment: TreatmentFields) -> Facts:
    """Until when the plan holds, which decides whether it lies in the window of a grant."""
    ends = treatment.regimens[-1].valid_to
    return {"valid_to": ends.isoformat() if ends else "infinity"}


def _authorship(role: str, body: TreatmentFields, current: TreatmentFields | None) -> Iterator[errors.Fault]:
    """A clinician's plan is written by clinicians; the patient acknowledges it as it is, or makes it their own."""
    if role == "clinician":
        if body.authored_by != "clinician":
            yield errors.Fault("/authored_by", "not_yours", "What a clinician writes is a clinician's plan.")
        if body.acknowledged_at is not None:
            sentence = "Only the patient acknowledges, and a changed plan anew."
            yield errors.Fault("/acknowledged_at", "not_yours", sentence)
    elif body.authored_by == "clinician" and (current is None or _agreed(body) != _agreed(current)):
        sentence = "A plan that the patient changes is the patient's; a clinician's can be acknowledged as it is."
        yield errors.Fault("/authored_by", "not_yours", sentence)


def _agreed(treatment: TreatmentFields) -> dict[str, object]:
    """What the plan says, without when and by what device it was acknowledged."""
    return treatment.model_dump(
        exclude={"acknowledged_at", "occurred_at", "time_zone", "recorded_at", "performer", "source"}
    )


TREATMENT = RecordKind(
    name="treatment",
    plural="treatments",
    scope="treatments",
    noun="a treatment",
    about="What was agreed: plans with their regimens, and what they make due.",
    holds="interval",
    fields=TreatmentFields,
    examples=(MINIMAL_TREATMENT, EXAMPLE_TREATMENT),
    facts=_facts,
    author_rule=_authorship,
    dates_rule=dates_rule,
    new_rule=new_rule,
    create=TreatmentIn,
    patch=TreatmentPatch,
    out=TreatmentOut,
)
