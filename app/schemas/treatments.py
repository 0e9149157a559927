"""The treatment on the wire: what was agreed, from when on, and how each change of it reads."""

from collections.abc import Iterator
from datetime import datetime, timedelta
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
    Says,
    Strict,
    TimeZone,
    line,
    listed,
    partial,
    refuse,
)
from app.schemas.envelope import Note, RecordFields, RecordKey, RecordOut
from app.schemas.records import Facts, RecordKind
from app.schemas.schedules import Calendar, Prn, Schedule
from app.schemas.treatment_examples import (
    EXAMPLE_STOP,
    EXAMPLE_TREATMENT,
    EXAMPLES,
    MINIMAL_TREATMENT,
    STORED_TREATMENT,
)
from app.schemas.units import Dose, Quantity

TreatmentCategory = TypeAliasType("TreatmentCategory", Annotated[str, CodeOf("treatment_categories")])
DoseForm = TypeAliasType("DoseForm", Annotated[str, CodeOf("dose_forms")])
Route = TypeAliasType("Route", Annotated[str, CodeOf("routes")])
Author = TypeAliasType("Author", Literal["patient", "clinician"])
TreatmentStatus = TypeAliasType("TreatmentStatus", Literal["draft", "active", "on_hold", "stopped", "completed"])
NOT_OVER = "What is stopped or completed has ended: let it end now or before, or leave it active until then."
CLOCKS_DIFFER = timedelta(minutes=15)  # a phone that says "now" may be so much ahead of the server
LineName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9_-]{1,40}$", examples=["weekend"]),
    Says("line", "Give 1 to 40 of a-z, 0-9, - and _, as weekend."),
]


class Ingredient(Strict):
    """An active ingredient, and how much of it is in one unit of the form."""

    name: Annotated[str, line(200)] = Field(examples=["ibuprofen"])
    rxnorm: str | None = Field(
        default=None, pattern=r"^[0-9]{1,10}$", description="The RxNorm code, where one was given.", examples=["5640"]
    )
    strength: Quantity | None = None


class Regimen(Strict):
    """One version of the plan: dose and schedule, and from when to when they were agreed.

    A change of dose or schedule, and a move to another zone, is a new regimen: the past is judged by the one
    that applied then. What is agreed side by side, as one dose on weekdays and another on weekends, is in lines.
    """

    line: LineName | None = Field(
        default=None,
        description="Which of several plans side by side it is a version of. Versions follow one another within a "
        "line; lines overlap freely. Absent: the line without a name.",
    )
    valid_from: Instant
    valid_to: Instant | None = Field(
        default=None,
        description="The first instant it no longer applies; by default the start of the next of its line, if any.",
    )
    time_zone: TimeZone = Field(description="The zone whose wall clock the schedule follows.")
    dose: Dose | None = Field(default=None, description="How much each time; of medications only.")
    schedule: Schedule

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            refuse([BodyFault(("valid_to",), "ended_before_start", "It must be after valid_from.")])
        if self.dose is not None and self.dose.high is not None:
            refuse(_range(self.dose.value, self.dose.high, self.schedule))
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
        min_length=1,
        max_length=100,
        description="Each line in the order of `valid_from`, none overlapping the next of its line.",
    )
    pauses: Annotated[list[Pause], FirstAtFault()] = listed(
        max_length=100, description="In order, none overlapping the next."
    )
    status: TreatmentStatus = Field(
        default="active",
        description="What is due follows from regimens and pauses, and the status never contradicts them: `stopped` "
        "and `completed` need `valid_to` in the last regimen of each line, now at the latest; `on_hold` needs a pause "
        "that holds now; neither a change nor a new plan (as of `recorded_at`) leaves either `active`.",
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


def dates_rule(body: TreatmentFields, current: TreatmentFields | None, now: datetime) -> Iterator[errors.Fault]:
    """Status and dates say the same at the time of the change; a phone's clock may be a little ahead.

    What was true when it was saved is true when it is sent again. What a change leaves as it was is not judged anew.
    """
    if current is not None and _times(body) == _times(current):
        return
    saved_at = now if current else body.recorded_at or body.occurred_at
    soon, lasts = now + CLOCKS_DIFFER, last_of_lines(body)
    if body.status in ("stopped", "completed"):
        for index, ended_at in lasts.items():
            if ended_at is not None and ended_at > soon:
                yield errors.Fault(f"/regimens/{index}/valid_to", "not_over", NOT_OVER)
        return
    if body.status == "on_hold" and not _is_on_hold(body, soon, saved_at):
        yield errors.Fault("/pauses", "missing_pause", "Say since when: give a pause that holds now.")
    if current is not None:
        yield from _goes_on(body, now)


def new_rule(body: TreatmentFields, now: datetime) -> Iterator[errors.Fault]:
    """A new plan says of a course that is over how it ended; of one that a phone saved offline, as of that time."""
    yield from _goes_on(body, min(now, body.recorded_at or now))


def _goes_on(body: TreatmentFields, at: datetime) -> Iterator[errors.Fault]:
    """What is active or on hold has not ended at this instant, and what is active is not on hold."""
    if body.status not in ("active", "on_hold"):
        return
    if all(ended_at is not None and ended_at <= at for ended_at in last_of_lines(body).values()):
        yield errors.Fault(
            "/status", "over", "The plan has ended: say stopped or completed, or give it a later end or none."
        )
    elif body.status == "active" and _is_on_hold(body, at, at):
        yield errors.Fault("/status", "on_hold", "It is on hold now: say on_hold, or end the pause.")


def last_of_lines(treatment: TreatmentShape) -> dict[int, datetime | None]:
    """The place of the last regimen of each line, and when that ends."""
    last = {regimen.line: index for index, regimen in enumerate(treatment.regimens)}
    return {index: treatment.regimens[index].valid_to for index in sorted(last.values())}


def _is_on_hold(treatment: TreatmentFields, begun: datetime, over: datetime) -> bool:
    """Whether a pause had begun at the one instant and is not over at the other."""
    return any(pause.from_ <= begun and (pause.to is None or pause.to > over) for pause in treatment.pauses)


def _times(treatment: TreatmentFields) -> tuple[object, ...]:
    """What the status and the dates of the plan are."""
    return treatment.status, last_of_lines(treatment), treatment.pauses


def _range(low: float, high: float, schedule: object) -> Iterator[BodyFault]:
    """A range is of what is taken as needed; else nobody could say what was due."""
    if not isinstance(schedule, Prn):
        yield BodyFault(("dose", "high"), "only_as_needed", "Only what is taken as needed has a range.")
    if high <= low:
        yield BodyFault(("dose", "high"), "contradiction", "It must be more than value.")


def _regimens(treatment: TreatmentFields) -> Iterator[BodyFault]:
    """Each regimen starts after the one before it in its line, and not before that one has ended."""
    latest = dict[str | None, Regimen]()
    for i, later in enumerate(treatment.regimens):
        earlier = latest.get(later.line)
        latest[later.line] = later
        if earlier is None:
            continue
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
        *(
            (("regimens", i, "schedule", "at", j, "dose"), at.dose)
            for i, regimen in enumerate(treatment.regimens)
            if isinstance(regimen.schedule, Calendar)
            for j, at in enumerate(regimen.schedule.at)
        ),
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
    if treatment.status in ("stopped", "completed"):
        for index, ends_at in last_of_lines(treatment).items():
            if ends_at is None:
                yield BodyFault(("regimens", index, "valid_to"), "missing_end", "Say when the plan ended.")
    if treatment.status == "on_hold" and not treatment.pauses:
        yield BodyFault(("pauses",), "missing_pause", "Say since when: give a pause that holds now.")


RULES = (_regimens, _pauses, _medication, _wear, _acknowledgement, _status)


def _facts(treatment: TreatmentFields) -> Facts:
    """Until when the plan holds, by the line that ends last, which decides whether it lies in the window of a grant."""
    ends = list(last_of_lines(treatment).values())
    return {"valid_to": "infinity" if None in ends else max(filter(None, ends)).isoformat()}


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
