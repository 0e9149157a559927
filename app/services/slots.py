"""What a treatment makes due: its plan as slots and periods."""

from datetime import date, timedelta
from uuid import UUID

from app.domain import regimens
from app.schemas.slots import Period, Slot, SlotsOut, plan_of
from app.schemas.treatments import TREATMENT, TreatmentOut
from app.services import costs, record_store
from app.services.access import Diary


async def read_slots(diary: Diary, treatment_id: UUID, start: date, end: date) -> SlotsOut:
    """What a stored treatment makes due on the local days start…end, both included."""
    _, stored = await record_store.read(diary, "treatments.expand", TREATMENT.read_scope, TREATMENT.name, treatment_id)
    found = expanded(TreatmentOut.model_validate_json(stored), start, end)
    diary.charge((len(found.slots) + len(found.periods)) // costs.PLACES)
    return found


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


def _slot(treatment: TreatmentOut, plan: regimens.Treatment, slot: regimens.DueSlot) -> Slot:
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


def _period(treatment: TreatmentOut, plan: regimens.Treatment, period: regimens.DuePeriod) -> Period:
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
