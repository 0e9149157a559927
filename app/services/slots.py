"""Treatments: the plan, and what it makes due."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from app.domain import regimens
from app.errors import Fault
from app.schemas.slots import Period, Slot, SlotsOut
from app.schemas.treatments import TreatmentFields, TreatmentOut, plan_of
from app.services import record_store
from app.services.access import Diary
from app.services.records import Kind

ACKNOWLEDGING = {"acknowledged_at", "occurred_at", "time_zone", "recorded_at", "performer", "source"}


def _facts(body: TreatmentFields) -> dict[str, Any]:
    """Until when the plan holds, which decides whether it lies in the window of a grant."""
    last = body.regimens[-1]
    return {"valid_to": last.valid_to.isoformat() if last.valid_to else "infinity"}


def _authorship(role: str, body: TreatmentFields, current: TreatmentFields | None) -> Iterator[Fault]:
    """A clinician's plan is written by clinicians; the patient acknowledges it as it is, or makes it their own."""
    if role == "clinician":
        if body.authored_by != "clinician":
            yield Fault("/authored_by", "not_yours", "What a clinician writes is a clinician's plan.")
        if body.acknowledged_at is not None:
            yield Fault("/acknowledged_at", "not_yours", "Only the patient acknowledges, and a changed plan anew.")
    elif body.authored_by == "clinician" and (current is None or _agreed(body) != _agreed(current)):
        sentence = "A plan that the patient changes is the patient's; a clinician's can be acknowledged as it is."
        yield Fault("/authored_by", "not_yours", sentence)


def _agreed(body: TreatmentFields) -> dict[str, Any]:
    """What the plan says, without when and by what device it was acknowledged."""
    return body.model_dump(
        exclude={"acknowledged_at", "occurred_at", "time_zone", "recorded_at", "performer", "source"}
    )


TREATMENT = Kind("treatment", "treatments", "treatments", TreatmentFields, _facts, _authorship)


async def read_slots(diary: Diary, treatment_id: UUID, start: date, end: date) -> SlotsOut:
    """What a stored treatment makes due on the local days start…end, both included."""
    _, stored = await record_store.read(diary, "treatments.expand", TREATMENT.read, TREATMENT.name, treatment_id)
    return expanded(TreatmentOut.model_validate_json(stored), start, end)


def expanded(treatment: TreatmentOut, start: date, end: date) -> SlotsOut:
    """What the treatment makes due on the local days start…end, both included."""
    plan = plan_of(treatment)
    return SlotsOut(
        treatment_id=treatment.id,
        from_=start,
        to=end,
        slots=[_slot(treatment, plan, slot) for slot in regimens.slots(plan, start, end)],
        periods=[_period(treatment, plan, period) for period in regimens.periods(plan, start, end)],
    )


def _slot(treatment: TreatmentOut, plan: regimens.Treatment, slot: regimens.Slot) -> Slot:
    """A slot as it is answered."""
    regimen = treatment.regimens[slot.regimen]
    return Slot(
        due_at=slot.due_at,
        opens_at=slot.opens_at,
        closes_at=slot.closes_at,
        local_date=slot.day,
        time_zone=regimen.time_zone,
        dose=regimen.dose,
        on_hold=regimens.is_paused(plan, slot.due_at, slot.due_at),
    )


def _period(treatment: TreatmentOut, plan: regimens.Treatment, period: regimens.Period) -> Period:
    """A day or week as it is answered."""
    regimen = treatment.regimens[period.regimen]
    return Period(
        first=period.first,
        last=period.last,
        opens_at=period.opens_at,
        closes_at=period.closes_at,
        time_zone=regimen.time_zone,
        count=period.count,
        minutes=period.minutes,
        dose=regimen.dose,
        on_hold=regimens.is_paused(plan, period.opens_at, period.closes_at - timedelta.resolution),
    )
