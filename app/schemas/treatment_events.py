"""The treatment event on the wire: what was really done, or not, and why."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypeAliasType

from app.domain import moments, outcomes
from app.schemas.base import (
    BodyFault,
    CodeOf,
    Distinct,
    Instant,
    InstantOrDay,
    Json,
    RecordId,
    Strict,
    line,
    listed,
    partial,
    refuse,
)
from app.schemas.entries import EXAMPLE_ENTRY, Rating, ReliefRating, Severity
from app.schemas.envelope import Note, RecordFields, RecordKey, RecordOut, example_stored
from app.schemas.records import RecordKind
from app.schemas.treatment_examples import EXAMPLE_PRN, EXAMPLE_SESSIONS
from app.schemas.units import Quantity, quantity_of

SkipReason = TypeAliasType("SkipReason", Annotated[str, CodeOf("skip_reasons")])
SideEffectCode = TypeAliasType("SideEffectCode", Annotated[str, CodeOf("side_effects")])
EventStatus = TypeAliasType(
    "EventStatus",
    Annotated[
        Literal[
            "taken",
            "partial",
            "skipped",
            "held",
            "attended",
            "not_attended",
            "cancelled_by_patient",
            "cancelled_by_provider",
        ],
        Field(
            description="Of doses: taken, partial, skipped, held. Of sessions: attended, partial, not_attended, "
            "cancelled_by_patient, cancelled_by_provider."
        ),
    ],
)
EventFlag = TypeAliasType("EventFlag", Literal["status_does_not_fit", "treatment_missing"])
WITH_AMOUNT = frozenset({"taken", "partial"})
WITH_REASON = frozenset({"skipped", "partial", "held", "not_attended", "cancelled_by_patient"})

MINIMAL_EVENT: Json = {
    "id": "0195d3f4-9c52-7b63-9e08-7a4d1f3c6b25",
    "occurred_at": "2026-03-29T17:00:00+02:00",
    "time_zone": "Europe/Berlin",
    "treatment_id": EXAMPLE_SESSIONS["id"],
    "status": "attended",
}
EXAMPLE_EVENT: Json = {
    "id": "0195d3f4-9b07-7e55-a3d8-4c1f0e2b9a76",
    "occurred_at": "2026-03-29T18:40:00+02:00",
    "time_zone": "Europe/Berlin",
    "occurred_precision": "minute",
    "recorded_at": "2026-03-29T18:41:03+02:00",
    "performer": "self",
    "source": {"app": "diary-phone", "app_version": "1.4.0", "device_model": "Pixel 9", "schema_version": 1},
    "treatment_id": EXAMPLE_PRN["id"],
    "status": "taken",
    "amount": {"value": 400, "unit": "mg"},
    "relief_rating": "good",
    "pain_before": 7,
    "pain_after": 3,
    "side_effects": [{"code": "heartburn", "severity": "mild"}, {"code": "drowsiness"}],
    "entry_id": EXAMPLE_ENTRY["id"],
    "note": "With food this time.",
}
EXAMPLE_SKIPPED: Json = {
    "id": "0195d3f4-9d19-7f04-8b6a-5e2c0d7f4a91",
    "occurred_at": "2026-03-29T21:00:00+02:00",
    "time_zone": "Europe/Berlin",
    "treatment_id": "0195d3f4-6a2c-7f10-9d4e-2b8c5a7e1f36",
    "scheduled_for": "2026-03-29T20:00:00+02:00",
    "status": "skipped",
    "reason": "no_pain",
}
EXAMPLE_SESSION: Json = MINIMAL_EVENT | {"minutes": 30, "pain_before": 5, "pain_after": 3}
EXAMPLES = [MINIMAL_EVENT, EXAMPLE_EVENT, EXAMPLE_SKIPPED, EXAMPLE_SESSION]
STORED_EVENT = example_stored("treatment_event", EXAMPLE_EVENT) | {"treatment_name": EXAMPLE_PRN["name"], "flags": []}


class SideEffect(Strict):
    """An unwanted effect of the treatment, as the patient sees it."""

    code: SideEffectCode
    severity: Severity | None = None


class TreatmentEventShape(RecordFields):
    """The members of a treatment event, without the rules between them."""

    treatment_id: RecordId = Field(description="The treatment meant; it may arrive after the event.")
    scheduled_for: Instant | None = Field(
        default=None,
        description="What it was for, whenever it was done: the `due_at` of a slot, or any instant of the day or week "
        "of a target.",
    )
    status: EventStatus
    amount: Quantity | None = Field(default=None, description="How much was taken; with `taken` and `partial` only.")
    minutes: int | None = Field(default=None, ge=0, le=1440, description="How long it lasted.")
    reason: SkipReason | None = Field(
        default=None,
        description="Why not, or not all; with `skipped`, `partial`, `held`, `not_attended`, `cancelled_by_patient`.",
    )
    relief_rating: ReliefRating | None = Field(default=None, description="How much it helped.")
    pain_before: Rating | None = Field(default=None, description="On the numeric rating scale, 0 to 10.")
    pain_after: Rating | None = Field(default=None, description="On the numeric rating scale, 0 to 10.")
    side_effects: Annotated[list[SideEffect], Distinct("code")] = listed(max_length=32)
    entry_id: RecordId | None = Field(default=None, description="The entry it goes with; it may arrive later.")
    note: Note | None = Field(default=None, description="Plain text; the only free text of an event.")


class TreatmentEventFields(TreatmentEventShape):
    """A treatment event as PUT replaces it: a dose or a session, done or not.

    A status that does not fit the treatment's category is stored and flagged, for the treatment may arrive later.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{k: v for k, v in e.items() if k != "id"} for e in EXAMPLES]}
    )

    scheduled_for: InstantOrDay | None = Field(
        default=None,
        description="What it was for, whenever it was done: the `due_at` of a slot, or any instant of the day or week "
        "of a target. Of a target a day will do: it is kept as an instant within that day, in `time_zone`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _within_the_day(cls, sent: Any) -> Any:
        """A day that the event names as an instant, as everything else that is stored names it."""
        named = sent.get("scheduled_for") if isinstance(sent, dict) else None
        if not isinstance(named, str) or len(named) != len("YYYY-MM-DD"):
            return sent
        try:
            within = moments.instant_within(moments.parse_date(named), sent["time_zone"])
        except (KeyError, TypeError, ValueError):  # the fields tell what is wrong
            return sent
        return sent | {"scheduled_for": moments.render_instant(within)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(_status(self))
        return self


class TreatmentEventIn(TreatmentEventFields, RecordKey):
    """A new treatment event, with the id the phone chose. The smallest is a treatment and a status."""

    model_config = ConfigDict(json_schema_extra={"examples": [*EXAMPLES]})


@partial
class TreatmentEventPatch(TreatmentEventFields):
    """A merge patch (RFC 7396) of a treatment event: null deletes a field, lists are replaced whole.

    What it makes of the event must be a valid event.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"pain_after": 2, "relief_rating": "good"}, {"entry_id": None}]}
    )


class TreatmentEventOut(TreatmentEventShape, RecordOut):
    """A treatment event as it is stored. Without the right to read notes, `note` is absent."""

    model_config = ConfigDict(json_schema_extra={"examples": [STORED_EVENT]})

    kind: Literal["treatment_event"]
    treatment_name: Annotated[str, line(200)] | None = Field(
        default=None, description="The name of its treatment; absent until that has arrived."
    )
    flags: list[EventFlag] = listed(
        description="What keeps it out of figures: its status or its treatment is not what it should be."
    )


def event_of(event: TreatmentEventIn | TreatmentEventOut) -> outcomes.Event:
    """The event as arithmetic takes it."""
    return outcomes.Event(
        occurred_at=moments.at_place(event.occurred_at, event.time_zone),
        status=event.status,
        scheduled_for=event.scheduled_for,
        amount=quantity_of(event.amount),
        pain_before=event.pain_before,
        pain_after=event.pain_after,
        id=event.id,
        timed=event.occurred_precision == "minute",
    )


def _status(event: TreatmentEventFields) -> Iterator[BodyFault]:
    """What was not taken has no amount, and what was done in full needs no reason."""
    if event.amount is not None and event.status not in WITH_AMOUNT:
        yield BodyFault(("amount",), "contradiction", "Give it only with the status taken or partial.")
    if event.reason is not None and event.status not in WITH_REASON:
        yield BodyFault(("reason",), "contradiction", "Give it only where the patient did not do it, or not all of it.")


TREATMENT_EVENT = RecordKind(
    name="treatment_event",
    plural="treatment_events",
    scope="treatments",
    noun="a treatment event",
    about="What was really done: doses and sessions, or why not.",
    holds="moment",
    fields=TreatmentEventFields,
    examples=(MINIMAL_EVENT, EXAMPLE_EVENT),
    facts=lambda event: {"treatment_id": event.treatment_id},
    computed={"treatment_name": EXAMPLE_PRN["name"], "flags": []},
    create=TreatmentEventIn,
    patch=TreatmentEventPatch,
    out=TreatmentEventOut,
)
