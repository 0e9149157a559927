"""What a treatment makes due: its plan as slots and periods."""

from datetime import date, timedelta
from uuid import UUID

from app.domain import due, regimens
from app.domain.moments import name_of
from app.errors import Fault, Invalid
from app.schemas.slots import MOST, Period, Slot, SlotsOut, plan_of
from app.schemas.treatments import TREATMENT, TreatmentOut
from app.schemas.units import Quantity
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
    if due.most_due(plan, start, end) > MOST:
        raise Invalid(faults=(Fault("#query/to", "too_much", f"Ask for fewer days: at most {MOST} slots fit."),))
    return SlotsOut(
        treatment_id=treatment.id,
        from_=start,
        to=end,
        slots=[_slot(plan, slot) for slot in due.slots(plan, start, end)],
        periods=[_period(plan, period) for period in due.periods(plan, start, end)],
    )


def _slot(plan: regimens.Treatment, slot: due.DueSlot) -> Slot:
    """A slot as it is answered."""
    regimen = plan.regimens[slot.regimen]
    return Slot(
        due_at=slot.due_at,
        opens_at=slot.opens_at,
        closes_at=slot.closes_at,
        local_date=slot.day,
        time_zone=name_of(regimen.zone),
        dose=_dose(slot.dose),
        meal=slot.meal,
        line=regimen.line,
        on_hold=regimens.is_paused(plan, slot.due_at, slot.due_at),
    )


def _period(plan: regimens.Treatment, period: due.DuePeriod) -> Period:
    """A day or week as it is answered."""
    regimen = plan.regimens[period.regimen]
    return Period(
        first=period.first,
        last=period.last,
        opens_at=period.opens_at,
        closes_at=period.closes_at,
        time_zone=name_of(regimen.zone),
        count=period.count,
        minutes=period.minutes,
        dose=_dose(period.dose),
        line=regimen.line,
        on_hold=regimens.is_paused(plan, period.opens_at, period.closes_at - timedelta.resolution),
    )


def _dose(amount: regimens.Amount | None) -> Quantity | None:
    return Quantity(value=amount.value, unit=amount.unit) if amount else None
