"""What was used as needed. Never a percentage: there is no number of doses that should have been taken."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from statistics import median

from app.domain.amounts import converted
from app.domain.matching import as_needed, is_done
from app.domain.moments import local_date
from app.domain.outcomes import Event
from app.domain.regimens import (
    DAY,
    FOREVER,
    Amount,
    AsNeeded,
    PlanVersion,
    Treatment,
    nearest_dose,
    nearest_regimens,
    regimens_at,
)

PRN = (
    "Self-reported doses taken as needed, partial ones included. A rolling 24 hours ends with a dose and does not "
    "include the instant 24 hours before it. A dose without an amount counts as one prescribed dose, of a range as the "
    "least. Amounts are added up in one unit, where they can be; where a maximum cannot be compared with them, nobody "
    "can tell. Of a dose of which only the day is known the whole day is added up, and of those around it nobody can "
    "tell."
)
PAIN_BEFORE = "Median of the pain noted before a dose, 0 to 10."
CHANGE_AFTER = (
    "Median of pain after − pain before, each from the same dose: the pain noted with it, else the first score 30 to "
    "180 minutes later and before the next dose. Doses are taken at peaks: part of the fall would have come anyway."
)

_SOONEST, _LATEST = timedelta(minutes=30), timedelta(minutes=180)
_VAGUE = (
    2 * DAY
)  # a dose of which only the day is known may be within 24 hours of what is so close to the time it names


@dataclass(frozen=True)
class Reading:
    """A pain score from 0 to 10, as the patient gave it at that time."""

    at: datetime
    value: int


@dataclass(frozen=True)
class SampleMedian:
    """The median of n values; None without any."""

    value: float | None
    n: int
    definition: str


@dataclass(frozen=True)
class AsNeededUse:
    """What was used, how close together, and how the pain was.

    `most_amount_24h` has one sum for each unit that cannot be compared with another. A breach is named by the instant
    of the dose that made it; `not_comparable` names the doses of which nobody can tell whether they made one, and then
    `maximum_breaches` is None unless some are certain. `outside_plan` of the doses were taken before the plan began or
    after it ended.
    """

    doses: int
    outside_plan: int
    use_days: int
    doses_per_use_day: float | None
    most_doses_24h: int
    most_amount_24h: tuple[Amount, ...]
    interval_breaches: tuple[datetime, ...]
    maximum_breaches: tuple[datetime, ...] | None
    not_comparable: tuple[datetime, ...]
    pain_before: SampleMedian
    change_after: SampleMedian
    definition: str


@dataclass(frozen=True)
class _Dose:
    """One dose with its limits, its distance to the doses around it, and what the 24 hours up to it add up to.

    `unknown_24h` of the doses of these hours have no amount; of a range, as 1 to 2 tablets, they add up to
    `amount_24h` at least and to `most_24h` at most. Outside of the plan the limits nearest in time apply. The hours are
    not `certain` where there may be more in them: where of a dose close by only the day is known.
    """

    event: Event
    limits: AsNeeded
    outside_plan: bool
    since: timedelta | None
    next_at: datetime
    doses_24h: int
    amount_24h: dict[str, Fraction]
    most_24h: dict[str, Fraction]
    unknown_24h: int
    certain: bool


def use(
    treatment: Treatment, events: Iterable[Event], start: date, end: date, readings: Sequence[Reading] = ()
) -> AsNeededUse:
    """What was used as needed on the local days start…end, both included, by the event's own offset.

    Every dose of the treatment counts towards the limits, also one taken by plan or before `start`; `readings` are
    in time order.
    """
    done = sorted((event for event in events if is_done(treatment, event)), key=lambda e: (e.occurred_at, e.id))
    doses = sorted(_doses(treatment, done), key=lambda dose: (dose.event.occurred_at, dose.event.id))
    used = [dose for dose in doses if start <= local_date(dose.event.occurred_at) <= end]
    days = {local_date(dose.event.occurred_at) for dose in used}
    before = (dose.event.pain_before for dose in used if dose.event.pain_before is not None)
    judged = [(dose.event.occurred_at, _is_too_much(dose, treatment)) for dose in used]
    breaches = tuple(moment for moment, too_much in judged if too_much)
    not_comparable = tuple(moment for moment, too_much in judged if too_much is None)
    return AsNeededUse(
        doses=len(used),
        outside_plan=sum(dose.outside_plan for dose in used),
        use_days=len(days),
        doses_per_use_day=len(used) / len(days) if days else None,
        most_doses_24h=max((dose.doses_24h for dose in used), default=0),
        most_amount_24h=_most(used),
        interval_breaches=tuple(dose.event.occurred_at for dose in used if _is_too_soon(dose)),
        maximum_breaches=breaches if breaches or not not_comparable else None,
        not_comparable=not_comparable,
        pain_before=_median(before, PAIN_BEFORE),
        change_after=_median(_changes(used, readings), CHANGE_AFTER),
        definition=PRN,
    )


def _doses(treatment: Treatment, done: Sequence[Event]) -> Iterator[_Dose]:
    """The doses taken as needed, each with what lies around it; those of which only the day is known come last.

    What is added up for one of these is its whole day, for others only what was surely taken in the 24 hours.
    """
    timed, vague = ([event for event in done if event.timed is known] for known in (True, False))
    needed = [as_needed(treatment, event) for event in timed]
    amounts = [_amounts(treatment, event, one) for event, one in zip(timed, needed, strict=True)]
    total, most = defaultdict[str | None, Fraction](Fraction), defaultdict[str, Fraction](Fraction)
    oldest = 0
    for index, event in enumerate(timed):
        _add(total, most, amounts[index], 1)
        while event.occurred_at - timed[oldest].occurred_at >= DAY:
            _add(total, most, amounts[oldest], -1)
            oldest += 1
        if needed[index]:
            since = event.occurred_at - timed[index - 1].occurred_at if index else None
            next_at = timed[index + 1].occurred_at if index + 1 < len(timed) else FOREVER
            sums = {unit: value for unit, value in total.items() if unit and value}
            certain = all(abs(event.occurred_at - other.occurred_at) > _VAGUE for other in vague)
            limits = _limits(treatment, event)
            doses = index - oldest + 1
            yield _Dose(event, *limits, since, next_at, doses, sums, dict(most), int(total[None]), certain)
    for event in vague:
        if as_needed(treatment, event):
            yield _of_day(treatment, event, done)


def _of_day(treatment: Treatment, event: Event, done: Iterable[Event]) -> _Dose:
    """A dose of which only the day is known, with what was taken on that day."""
    total, most = defaultdict[str | None, Fraction](Fraction), defaultdict[str, Fraction](Fraction)
    same = [one for one in done if local_date(one.occurred_at) == local_date(event.occurred_at)]
    for one in same:
        _add(total, most, _amounts(treatment, one, as_needed(treatment, one)), 1)
    sums = {unit: value for unit, value in total.items() if unit}
    limits = _limits(treatment, event)
    return _Dose(event, *limits, None, FOREVER, len(same), sums, dict(most), int(total[None]), False)


def _add(
    total: dict[str | None, Fraction],
    most: dict[str, Fraction],
    amount: tuple[str | None, Fraction, Fraction],
    sign: int,
) -> None:
    """Adds a dose to the sums, the least and the most it can have been, or takes it away."""
    unit, least, largest = amount
    total[unit] += sign * least
    if unit:
        most[unit] += sign * largest


def _limits(treatment: Treatment, event: Event) -> tuple[AsNeeded, bool]:
    """The limits that are nearest in time, and whether the dose was taken outside of their plan."""
    regimen = _needed_regimen(treatment, event)
    assert isinstance(regimen.schedule, AsNeeded)  # noqa: S101 - it was looked for
    return regimen.schedule, regimen not in regimens_at(treatment, event.occurred_at)


def _amounts(treatment: Treatment, event: Event, needed: bool) -> tuple[str | None, Fraction, Fraction]:
    """What was taken, as unit and exact numbers, the least and the most; one unknown.

    As much as was prescribed where the event does not say.
    """
    regimen = _needed_regimen(treatment, event) if needed else None
    amount = event.amount or (regimen.dose if regimen else nearest_dose(treatment, event.occurred_at))
    if amount is None:
        return None, Fraction(1), Fraction(1)
    unit, least = converted(amount, treatment.content)
    if event.amount or regimen is None or regimen.dose_up_to is None:
        return unit, least, least
    return unit, least, converted(regimen.dose_up_to, treatment.content)[1]


def _needed_regimen(treatment: Treatment, event: Event) -> PlanVersion:
    """The regimen as needed that is nearest to a dose that was taken so."""
    near = nearest_regimens(treatment, event.occurred_at)
    return next(regimen for regimen in near if isinstance(regimen.schedule, AsNeeded))


def _most(used: Iterable[_Dose]) -> tuple[Amount, ...]:
    """The largest sum of each unit."""
    largest = dict[str, Fraction]()
    for dose in used:
        for unit, value in dose.amount_24h.items():
            largest[unit] = max(value, largest.get(unit, value))
    return tuple(Amount(float(value), unit) for unit, value in sorted(largest.items()))


def _is_too_soon(dose: _Dose) -> bool:
    """Whether the dose before it was less than the least interval ago."""
    least = dose.limits.min_interval_minutes
    return least is not None and dose.since is not None and dose.since < timedelta(minutes=least)


def _is_too_much(dose: _Dose, treatment: Treatment) -> bool | None:
    """Whether the 24 hours up to it hold more doses, or a larger amount, than they may; None where nobody can tell."""
    doses, amount = dose.limits.max_doses_24h, dose.limits.max_amount_24h
    if doses is not None and dose.doses_24h > doses:
        return True
    if amount is None:
        return False if dose.certain or doses is None else None
    unit, most = converted(amount, treatment.content)
    if dose.amount_24h.get(unit, 0) > most:
        return True
    known = dose.certain and not dose.unknown_24h and dose.amount_24h.keys() <= {unit}
    return False if known and dose.most_24h.get(unit, 0) <= most else None


def _changes(used: Iterable[_Dose], readings: Sequence[Reading]) -> Iterator[int]:
    """Pain after minus pain before, of the doses that have both."""
    for dose in used:
        before, after = dose.event.pain_before, dose.event.pain_after
        if after is None:
            after = _score_after(dose, readings)
        if before is not None and after is not None:
            yield after - before


def _score_after(dose: _Dose, readings: Sequence[Reading]) -> int | None:
    """The first score 30 to 180 minutes after the dose and before the next one; None where they are not certain."""
    if not dose.certain:
        return None
    soonest, latest = dose.event.occurred_at + _SOONEST, dose.event.occurred_at + _LATEST
    index = bisect_left(readings, soonest, key=lambda reading: reading.at)
    if index == len(readings) or readings[index].at > latest or readings[index].at >= dose.next_at:
        return None
    return readings[index].value


def _median(values: Iterable[int], definition: str) -> SampleMedian:
    """The median of these values."""
    known = list(values)
    return SampleMedian(float(median(known)) if known else None, len(known), definition)
