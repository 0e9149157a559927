"""Adherence on the wire: what became of what was due. Every member is always there; null means that nobody can tell."""

from typing import Annotated

from pydantic import ConfigDict, Field

from app.domain import adherence, prn
from app.schemas.base import Instant, Json, LocalDate, RecordId, Strict, line
from app.schemas.treatments import TreatmentCategory, TreatmentStatus
from app.schemas.units import Unit

LONGEST_DAYS = 366
MOST = 20_000  # treatments, places due and events together: half a second of the server's time

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Figure(Strict):
    """A share of what was due, with the bounds that the unknown leaves: lower ≤ value ≤ upper."""

    numerator: Count
    denominator: Count = Field(description="What was due and of which the outcome is known.")
    value: Share | None = Field(description="Numerator ÷ denominator; null when nothing is known. Silence is not 0.")
    lower: Share | None = Field(description="With all that is unknown counted as not done; null when nothing was due.")
    upper: Share | None = Field(description="With all that is unknown counted as done; null when nothing was due.")
    known_fraction: Share | None = Field(description="How much of the due is known; null when nothing was due.")
    definition: str = Field(description="What was divided by what.")


class CappedFigure(Figure):
    """A share that is never more than 1, and beside it what was done beyond what was due, which it does not show."""

    extras: Count = Field(description="Doses or sessions beyond what was due; a share of 1 alone would hide them.")


class Outcomes(Strict):
    """How much of what was due had which outcome; each has exactly one. What is not yet over is not counted."""

    on_time: Count = Field(description="Done inside the window; of a target: inside the day or week.")
    early: Count = Field(description="Done before the window, by half the interval to the slot before at most.")
    late: Count = Field(description="Done after the window and before the next one opens, or when the event says so.")
    untimed: Count = Field(description="Done on its day, and nobody knows when: taken, of timing nothing is known.")
    partial: Count = Field(description="Done in part, by the amounts where they are given; not taken in `value`.")
    skipped: Count = Field(description="The patient says: not done.")
    held: Count = Field(description="On hold, or cancelled by the provider; out of every denominator.")
    missed: Count = Field(description="No word of it, and every pushing device has since said it has nothing left.")
    unknown: Count = Field(
        description="No word of it, and not every pushing device has said so since; or an amount that cannot be "
        "compared with the dose."
    )


class DoseFigures(Strict):
    """Doses with a plan. Those taken as needed are not among them."""

    outcomes: Outcomes
    extras: Count = Field(description="Doses beyond what was due, also within one event; in no share.")
    taking: CappedFigure
    timing: Figure
    correct_days: Figure


class SessionFigures(Strict):
    """Sessions with a plan."""

    outcomes: Outcomes
    extras: Count = Field(description="Sessions beyond what was due; in no share.")
    attended: CappedFigure


class Median(Strict):
    """The median of n values."""

    value: float | None = Field(description="Null without any.")
    n: Count
    definition: str = Field(description="The median of what.")


class TotalAmount(Strict):
    """Several amounts in one unit, added up."""

    value: float
    unit: Unit


class PrnUse(Strict):
    """What was taken as needed. Never a percentage: there is no number that should have been taken."""

    doses: Count
    outside_plan: Count = Field(description="Of these, taken before the plan began or after it ended.")
    use_days: Count = Field(description="Local days with a dose.")
    doses_per_use_day: float | None = Field(description="Null without any.")
    most_doses_24h: Count = Field(description="In any 24 hours.")
    most_amount_24h: list[TotalAmount] = Field(
        strict=False,
        max_length=64,
        description="In any 24 hours, for each unit that cannot be compared with another: grams of all sizes as mg, "
        "and tablets as what is in them where the one ingredient has a strength.",
    )
    interval_breaches: list[Instant] = Field(
        strict=False, max_length=MOST, description="The doses closer to the one before than the minimum interval."
    )
    maximum_breaches: list[Instant] | None = Field(
        strict=False,
        max_length=MOST,
        description="The doses that brought the 24 hours above a maximum; null where none did for certain and of some "
        "nobody can tell. Silence is not safety.",
    )
    not_comparable: list[Instant] = Field(
        strict=False,
        max_length=MOST,
        description="The doses of which nobody can tell whether they brought the 24 hours above the largest amount: "
        "some of these hours have none, or one in a unit that cannot be compared with it.",
    )
    pain_before: Median
    change_after: Median
    definition: str


class TreatmentAdherence(Strict):
    """One treatment. Doses, sessions or use as needed are null where its plan, of any time, has none."""

    treatment_id: RecordId
    name: Annotated[str, line(200)]
    category: TreatmentCategory
    status: TreatmentStatus = Field(description="As of now; never `draft`, for nobody has agreed to a draft.")
    doses: DoseFigures | None
    sessions: SessionFigures | None
    prn: PrnUse | None


class OverallAdherence(Strict):
    """Sums of numerators and denominators over the treatments; sessions are never added to doses."""

    doses: DoseFigures
    sessions: SessionFigures


class LeftOut(Strict):
    """The events of these days that are in no figure, and why."""

    treatment_missing: Count = Field(description="Their treatment has not arrived, or was deleted.")
    status_does_not_fit: Count = Field(description="A dose's status on a treatment done in sessions, or the reverse.")
    no_plan: Count = Field(
        description="They say that something was not done where no plan made it due, or which was done after all; or "
        "their plan is a draft."
    )
    not_comparable: Count = Field(
        description="Their amount cannot be compared with the dose, so nobody can tell whether it was all of it."
    )
    not_yet_due: Count = Field(description="The window of their slot, or their day or week, is still open.")
    other_days: Count = Field(description="Their slot or period belongs to a day that was not asked for.")


def _figure(definition: str, done: int, known: int, due: int) -> Json:
    return {
        "numerator": done,
        "denominator": known,
        "value": done / known,
        "lower": done / due,
        "upper": (done + due - known) / due,
        "known_fraction": known / due,
        "definition": definition,
    }


def _doses(
    taking: tuple[int, int, int], timing: tuple[int, int, int], days: tuple[int, int, int], **outcomes: int
) -> Json:
    return {
        "outcomes": dict.fromkeys(Outcomes.model_fields, 0) | outcomes,
        "extras": 0,
        "taking": _figure(adherence.TAKING, *taking) | {"extras": 0},
        "timing": _figure(adherence.TIMING, *timing),
        "correct_days": _figure(adherence.CORRECT_DAYS, *days),
    }


def _sessions() -> Json:
    return {
        "outcomes": dict.fromkeys(Outcomes.model_fields, 0) | {"on_time": 6, "skipped": 1, "held": 1},
        "extras": 0,
        "attended": _figure(adherence.SESSIONS, 6, 7, 7) | {"extras": 0},
    }


_NONE = {"doses": None, "sessions": None, "prn": None}
EXAMPLE_ADHERENCE: Json = {  # the worked examples of docs/adherence.md, one after the other
    "from": "2026-06-01",
    "to": "2026-07-19",
    "as_of": "2026-07-20T10:00:00Z",
    "outbox_empty_at": "2026-07-16T20:00:00Z",
    "overall": {
        "doses": _doses((16, 18, 21), (16, 18, 21), (9, 11, 14), on_time=16, partial=1, missed=1, unknown=3),
        "sessions": _sessions(),
    },
    "treatments": [
        _NONE
        | {
            "treatment_id": "0195d3f4-6c83-7a55-b1f7-6d0e4b2a9c14",
            "name": "Physiotherapy",
            "category": "physical_therapy",
            "status": "completed",
            "sessions": _sessions(),
        },
        _NONE
        | {
            "treatment_id": "0195d3f4-6b11-7c40-8e2d-3f9a1c5b7d82",
            "name": "Ibuprofen 400 mg",
            "category": "otc_medication",
            "status": "active",
            "prn": {
                "doses": 5,
                "outside_plan": 0,
                "use_days": 2,
                "doses_per_use_day": 2.5,
                "most_doses_24h": 4,
                "most_amount_24h": [{"value": 1600, "unit": "mg"}],
                "interval_breaches": ["2026-06-14T10:00:00+02:00"],
                "maximum_breaches": ["2026-06-14T22:00:00+02:00", "2026-06-15T06:00:00+02:00"],
                "not_comparable": [],
                "pain_before": {"value": 7, "n": 5, "definition": prn.PAIN_BEFORE},
                "change_after": {"value": -2, "n": 4, "definition": prn.CHANGE_AFTER},
                "definition": prn.PRN,
            },
        },
        _NONE
        | {
            "treatment_id": "0195d3f4-6d27-7e61-9a0c-8b3f5d1e7c46",
            "name": "Gabapentin",
            "category": "prescription_medication",
            "status": "stopped",
            "doses": _doses((12, 14, 14), (12, 14, 14), (5, 7, 7), on_time=12, partial=1, missed=1),
        },
        _NONE
        | {
            "treatment_id": "0195d3f4-6e90-7b18-8c5d-1f6a4e2d0b73",
            "name": "Amitriptyline",
            "category": "prescription_medication",
            "status": "active",
            "doses": _doses((4, 4, 7), (4, 4, 7), (4, 4, 7), on_time=4, unknown=3),
        },
    ],
    "left_out": {
        "treatment_missing": 1,
        "status_does_not_fit": 0,
        "no_plan": 0,
        "not_comparable": 0,
        "not_yet_due": 0,
        "other_days": 0,
    },
}


class AdherenceOut(Strict):
    """Self-reported adherence on some local days: how much of what was agreed was done, as far as the diary can tell.

    It is several figures, not one number, and none of them is PDC or MPR: those need pharmacy fills and are not
    computed from a diary.
    """

    model_config = ConfigDict(
        serialize_by_alias=True, validate_by_name=True, json_schema_extra={"examples": [EXAMPLE_ADHERENCE]}
    )

    from_: LocalDate = Field(alias="from", description="The first local day, as asked for.")
    to: LocalDate = Field(description="The last local day, included.")
    as_of: Instant = Field(description="The server's clock. What was still open then is in no figure.")
    outbox_empty_at: Instant | None = Field(
        description="Up to when all is known: the earliest of the last words of the patient's devices that push, each "
        "saying that it had nothing left to send, or of its sign-in while it has not said so; null while none has."
    )
    overall: OverallAdherence
    treatments: list[TreatmentAdherence] = Field(
        max_length=MOST,
        description="Those with a plan or an event on these days, in the order in which they began; no drafts.",
    )
    left_out: LeftOut
