"""Adherence: what the diary's treatments made due, and what became of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, NoReturn

from anyio import CapacityLimiter, to_thread
from pydantic import TypeAdapter

from app.domain import due, regimens
from app.domain.adherence import Assessment, assess, overall
from app.domain.moments import local_date, zone_of
from app.domain.outcomes import Event, Word
from app.domain.prn import Reading
from app.domain.treatments import flags
from app.errors import Fault, InsufficientScope, Invalid
from app.postgres.functions import Function
from app.schemas.adherence import MOST, AdherenceOut, LeftOut, OverallAdherence, TreatmentAdherence
from app.schemas.slots import plan_of
from app.schemas.treatment_events import TreatmentEventOut, event_of
from app.schemas.treatments import TreatmentOut
from app.services import costs
from app.services.access import Charge, Diary, free, refuse

SCOPE = "adherence:read"
READ_COURSE = Function(
    "read_course_v1",
    "session uuid, user uuid, patient uuid, scope text, action text, first_day date, last_day date, limit integer,"
    " request uuid, address inet",
)

_treatments = TypeAdapter(list[TreatmentOut])
_events = TypeAdapter(list[TreatmentEventOut])
_readings = TypeAdapter(list[tuple[datetime, int]])
_threads = CapacityLimiter(1)  # a year takes tens of milliseconds: others are answered meanwhile


@dataclass(frozen=True)
class _Followed:
    """A treatment with its plan and the events that belong to it."""

    treatment: TreatmentOut
    plan: regimens.Treatment
    events: Sequence[Event]


async def read(diary: Diary, start: date, end: date, now: datetime) -> AdherenceOut:
    """The figures of the local days start…end, both included, as far as the consent reaches back."""
    asked = {**diary.asked("adherence.read"), "scope": SCOPE, "first_day": start, "last_day": end, "limit": MOST}
    with costs.stopped_counts(diary.charge):
        [course] = await diary.database.call_alone(READ_COURSE(**asked), diary.caller.user_id)
    refuse(course["outcome"])
    first = max(start, _first_day(course["data_from"], course["time_zone"]))
    if first > end:
        raise InsufficientScope
    return await to_thread.run_sync(_computed, course, first, end, now, diary.charge, limiter=_threads)


def assessed(
    treatments: Sequence[TreatmentOut],
    events: Sequence[TreatmentEventOut],
    readings: Sequence[Reading],
    start: date,
    end: date,
    word: Word,
    charge: Charge = free,
) -> AdherenceOut:
    """The figures of the local days start…end, both included, of each treatment and of all together.

    Events and readings of `due.margin` of each plan around these days are needed too; readings in time order.
    Raises Invalid where the figures would keep the server from answering anybody else.
    """
    followed = _followed(treatments, events, start, end)
    charge(_work(followed, start, end) // costs.ADDED_UP)
    assessments = [assess(one.plan, one.events, start, end, word, readings) for one in followed]
    return AdherenceOut(
        from_=start,
        to=end,
        as_of=word.now,
        outbox_empty_at=word.outbox_empty_at,
        overall=OverallAdherence.model_validate(overall(assessments), from_attributes=True),
        treatments=[_assessed(one.treatment, found) for one, found in zip(followed, assessments, strict=True)],
        left_out=_left_out(treatments, events, assessments, start, end),
    )


def _first_day(data_from: datetime | None, zone: str) -> date:
    """The first day that lies wholly in the window of a grant, for a patient in this zone."""
    if data_from is None:
        return date.min
    local = data_from.astimezone(zone_of(zone))
    return local.date() + timedelta(days=local.time() > time.min)


def _computed(course: Any, start: date, end: date, now: datetime, charge: Charge) -> AdherenceOut:
    """The figures of what read_course() found."""
    treatments = _treatments.validate_json(course["treatments"])
    events = _events.validate_json(course["events"])
    charge(len(treatments) // costs.TREATMENTS + len(events) // costs.EVENTS)
    if max(len(treatments), len(events)) > MOST:
        _refuse_work()
    readings = [Reading(at, value) for at, value in _readings.validate_json(course["readings"])]
    return assessed(treatments, events, readings, start, end, Word(now, course["outbox_empty_at"]), charge)


def _followed(
    treatments: Iterable[TreatmentOut], events: Iterable[TreatmentEventOut], start: date, end: date
) -> list[_Followed]:
    """The treatments with a plan or an event on these days, in the order in which they began; no drafts."""
    done = defaultdict[str, list[Event]](list)
    for event in events:
        done[event.treatment_id].append(event_of(event))
    agreed = (treatment for treatment in treatments if treatment.status != "draft")
    found = [_Followed(treatment, plan_of(treatment), done[treatment.id]) for treatment in agreed]
    return sorted((one for one in found if _concerns(one, start, end)), key=_began)


def _concerns(one: _Followed, start: date, end: date) -> bool:
    """Whether a regimen applies, or anything was noted, on one of these days."""
    if any(due.days_covered(one.plan, index, start, end) for index in range(len(one.plan.regimens))):
        return True
    return any(start <= local_date(event.occurred_at) <= end for event in one.events)


def _began(one: _Followed) -> tuple[datetime, str]:
    return min(regimen.valid_from for regimen in one.plan.regimens), one.treatment.id


def _work(followed: Sequence[_Followed], start: date, end: date) -> int:
    """How much arithmetic it is; refuses more than may be done while others wait."""
    work = len(followed)
    for one in followed:
        around = due.margin(one.plan)
        work += due.most_due(one.plan, start - around, end + around) + len(one.events)
    if work > MOST:
        _refuse_work()
    return work


def _refuse_work() -> NoReturn:
    advice = f"Ask for fewer days at a time: at most {MOST} doses, sessions and events fit into one answer."
    raise Invalid(faults=(Fault("#query/to", "too_much", advice),))


def _assessed(treatment: TreatmentOut, assessment: Assessment) -> TreatmentAdherence:
    """One treatment's figures as they are answered."""
    members = {
        "treatment_id": treatment.id,
        "name": treatment.name,
        "category": treatment.category,
        "status": treatment.status,
        "doses": assessment.doses,
        "sessions": assessment.sessions,
        "prn": assessment.prn,
    }
    return TreatmentAdherence.model_validate(members, from_attributes=True)


def _left_out(
    treatments: Iterable[TreatmentOut],
    events: Iterable[TreatmentEventOut],
    assessments: Iterable[Assessment],
    start: date,
    end: date,
) -> LeftOut:
    """How many events of these days are in no figure, by the reason."""
    known = {treatment.id: treatment for treatment in treatments}
    counted = Counter[str]()
    for event in events:
        if start <= event.local_date <= end:
            treatment = known.get(event.treatment_id)
            found = flags(treatment.category if treatment else None, event.status)
            is_draft = treatment is not None and treatment.status == "draft"
            counted.update(found or ["no_plan"] * is_draft)
    for one in assessments:
        counted.update({reason: len(some) for reason, some in vars(one.matching.left_out).items()})
    return LeftOut(**{reason: counted[reason] for reason in LeftOut.model_fields})
