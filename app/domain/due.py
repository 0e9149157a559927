"""What a plan makes due: wall-clock times and elapsed hours turned into instants.

Every instant here carries a fixed offset, as `moments.parse_instant` gives it, so that differences between two
of them are real minutes whatever the clocks did in between.
"""

from calendar import monthrange
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from operator import attrgetter

from app.domain.days import days, most_days_between
from app.domain.regimens import (
    DAY,
    DAY_MINUTES,
    Amount,
    AsNeeded,
    ElapsedTime,
    FixedTimes,
    Frequency,
    Meal,
    PlanVersion,
    Schedule,
    Treatment,
    ends_at,
)

LONGEST_PERIOD = 31 * DAY


@dataclass(frozen=True)
class DueSlot:
    """One dose or session with a clock time: when it is due, and the window, both ends included, that is on time."""

    due_at: datetime
    opens_at: datetime
    closes_at: datetime
    regimen: int
    dose: Amount | None
    meal: Meal | None = None

    @property
    def day(self) -> date:
        """The local day it is due on."""
        return self.due_at.date()


@dataclass(frozen=True)
class DuePeriod:
    """A local day, ISO week or month in which `count` doses or sessions are due, `closes_at` not included."""

    first: date
    last: date
    opens_at: datetime
    closes_at: datetime
    regimen: int
    dose: Amount | None
    count: int
    minutes: int | None

    @property
    def day(self) -> date:
        """The local day by whose end they are due."""
        return self.last


def slots(treatment: Treatment, start: date, end: date) -> list[DueSlot]:
    """The slots whose local day, in their regimen's own zone, lies in start…end, both included, in time order."""
    found = [
        slot for index, regimen in _agreed(treatment) for slot in _slots(treatment, index, regimen.schedule, start, end)
    ]
    return sorted(found, key=attrgetter("due_at"))  # in the gap of a clock change, later times can come first


def periods(treatment: Treatment, start: date, end: date) -> list[DuePeriod]:
    """The days, weeks and months of the target regimens whose last day lies in start…end, both included, in time order.

    A period belongs to the regimen that applies at its end and began on or before its first day. One that no
    regimen covers so is left out: nobody agreed how much of the target a part of a week is.
    """
    found = [
        period
        for index, regimen in _agreed(treatment)
        if isinstance(regimen.schedule, Frequency)
        for period in _periods(treatment, index, regimen.schedule, start, end)
    ]
    return sorted(found, key=attrgetter("opens_at"))


def days_covered(treatment: Treatment, index: int, start: date, end: date) -> int:
    """On how many of the local days start…end, in its own zone, both included, this regimen applies."""
    return len(_covered(treatment, index, start, end))


def planned_days(
    treatment: Treatment, start: date, end: date, but: Container[date]
) -> Iterator[tuple[date, datetime, datetime]]:
    """The local days start…end, but some, for which the plan prescribes a number; once each, with their bounds.

    Each lies wholly in a regimen that does so. A target of a week or month leaves the day open, and so does what is
    taken as needed, also for what is due beside it.
    """
    numbered, free = list[int](), list[int]()
    for index, regimen in _agreed(treatment):
        (free if _leaves_day_open(regimen.schedule) else numbered).append(index)
    seen = set[date]()
    if len(treatment.lines) > 1:
        seen = {start + day * DAY for index in free for day in _covered(treatment, index, start, end)}
    for index in numbered:
        for day, opens_at, closes_at in _whole_days(treatment, index, start, end, but):
            if day not in seen:
                seen.add(day)
                yield day, opens_at, closes_at


def _leaves_day_open(schedule: Schedule) -> bool:
    return isinstance(schedule, AsNeeded) or (isinstance(schedule, Frequency) and schedule.per != "day")


def _whole_days(
    treatment: Treatment, index: int, start: date, end: date, but: Container[date]
) -> Iterator[tuple[date, datetime, datetime]]:
    """The local days, but some, that lie wholly in this regimen, and their bounds."""
    regimen, until = treatment.regimens[index], ends_at(treatment, index)
    day = max(start, regimen.valid_from.astimezone(regimen.zone).date())
    while day <= end:
        if day not in but:
            opens_at, closes_at = (_instant(d, time.min, regimen.zone) for d in (day, day + DAY))
            if closes_at > until:
                return
            if opens_at >= regimen.valid_from:
                yield day, opens_at, closes_at
        day += DAY


def most_due(treatment: Treatment, start: date, end: date) -> int:
    """A number that what is due on the local days start…end never exceeds, found without expanding it."""
    return sum(
        _daily(regimen.schedule) * days_covered(treatment, index, start, end) for index, regimen in _agreed(treatment)
    )


def margin(treatment: Treatment) -> timedelta:
    """How far outside a period, in whole days, slots and events still decide what happened inside it."""
    return max((_reach(regimen.schedule) for regimen in treatment.regimens), default=DAY) + DAY


def _reach(schedule: Schedule) -> timedelta:
    """The days to the next slot, over one week or month, or over the time that a PRN limit looks back."""
    if isinstance(schedule, AsNeeded):
        return DAY + timedelta(minutes=schedule.min_interval_minutes or 0) // DAY * DAY
    if isinstance(schedule, ElapsedTime):
        return -(-schedule.every_minutes // DAY_MINUTES) * DAY
    if isinstance(schedule, Frequency):
        return LONGEST_PERIOD if schedule.per == "month" else 7 * DAY
    return most_days_between(schedule.days) * DAY


def _daily(schedule: Schedule) -> int:
    """How much is due on a day at most, which may have an hour more."""
    if isinstance(schedule, AsNeeded):
        return 0
    if isinstance(schedule, ElapsedTime):
        return -(-(DAY_MINUTES + 60) // schedule.every_minutes)
    return schedule.count if isinstance(schedule, Frequency) else len(schedule.at)


def _covered(treatment: Treatment, index: int, start: date, end: date) -> range:
    """The days, counted from `start`, of start…end on which this regimen applies, in its own zone."""
    regimen = treatment.regimens[index]
    began, ended = regimen.valid_from, ends_at(treatment, index) - timedelta.resolution
    first, last = (moment.astimezone(regimen.zone).date() for moment in (began, ended))
    return range((max(start, first) - start).days, (min(end, last) - start).days + 1)


def _agreed(treatment: Treatment) -> Iterator[tuple[int, PlanVersion]]:
    """The regimens with their index; none of a draft, which nobody has agreed to."""
    if treatment.status != "draft":
        yield from enumerate(treatment.regimens)


def _slots(treatment: Treatment, index: int, schedule: Schedule, start: date, end: date) -> Iterator[DueSlot]:
    """The slots of one regimen."""
    regimen = treatment.regimens[index]
    covered = _covered(treatment, index, start, end)
    if not covered or not isinstance(schedule, FixedTimes | ElapsedTime):
        return
    early, late = timedelta(minutes=schedule.early_minutes), timedelta(minutes=schedule.late_minutes)
    first, last = start + covered[0] * DAY, start + covered[-1] * DAY
    if isinstance(schedule, ElapsedTime):
        found = _elapsed(regimen, schedule, first, last)
    else:
        found = _at_times(regimen, schedule, first, last)
    for day, due_at, is_steady, dose, meal in found:
        if first < day < last or regimen.valid_from <= due_at < treatment.ends[index]:
            opens_at, closes_at = due_at - early, due_at + late
            if not is_steady:
                due_at, opens_at, closes_at = (_local(t, regimen.zone) for t in (due_at, opens_at, closes_at))
            yield DueSlot(due_at, opens_at, closes_at, index, dose, meal)


Due = tuple[date, datetime, bool, Amount | None, Meal | None]  # with whether the day has one offset all around


def _at_times(regimen: PlanVersion, schedule: FixedTimes, first: date, last: date) -> Iterator[Due]:
    """What is due at times of day from `first` to `last`."""
    began = regimen.valid_from.astimezone(regimen.zone).date()
    for day in days(schedule.days, began, first, last):
        offset = _offset_around(day, regimen.zone)
        for at in schedule.at:
            due_at = datetime.combine(day, at.time, offset) if offset else _instant(day, at.time, regimen.zone)
            yield day, due_at, offset is not None, at.dose or regimen.dose, at.meal


def _elapsed(regimen: PlanVersion, schedule: ElapsedTime, first: date, last: date) -> Iterator[Due]:
    """What is due after elapsed time on the local days from `first` to `last`."""
    step, due = timedelta(minutes=schedule.every_minutes), regimen.valid_from.astimezone(UTC)
    opens_at = _instant(first, time.min, regimen.zone)
    due += max(0, -((due - opens_at) // step)) * step
    day = first
    while day <= last:
        offset, closes_at = _offset_around(day, regimen.zone), _instant(day + DAY, time.min, regimen.zone)
        while due < closes_at:
            yield day, due.astimezone(offset or UTC), offset is not None, regimen.dose, None
            due += step
        day += DAY


def _periods(treatment: Treatment, index: int, target: Frequency, start: date, end: date) -> Iterator[DuePeriod]:
    """The whole periods of one regimen."""
    regimen, until = treatment.regimens[index], ends_at(treatment, index)
    began = regimen.valid_from.astimezone(regimen.zone).date()
    last = _last_day(target, max(start, began))
    while last <= end:
        first = _first_day(target, last)
        opens_at, closes_at = (_local(_instant(d, time.min, regimen.zone), regimen.zone) for d in (first, last + DAY))
        if closes_at > until:
            return
        if began <= first:
            yield DuePeriod(first, last, opens_at, closes_at, index, regimen.dose, target.count, target.minutes)
        last = _last_day(target, last + DAY)


def _first_day(target: Frequency, day: date) -> date:
    """The first day of the day, ISO week or month in which this day lies."""
    if target.per == "month":
        return day.replace(day=1)
    return day - day.weekday() * DAY if target.per == "week" else day


def _last_day(target: Frequency, day: date) -> date:
    if target.per == "month":
        return day.replace(day=monthrange(day.year, day.month)[1])
    return day + (6 - day.weekday()) * DAY if target.per == "week" else day


def _instant(day: date, at: time, zone: tzinfo) -> datetime:
    """The instant, in UTC, at which the zone's wall clock shows this time.

    A time that the clock skips is read by the offset before the gap, which moves it forward by the gap; of a
    time that it shows twice this is the first (both are what fold=0 means, PEP 495).
    """
    return datetime.combine(day, at, zone).astimezone(UTC)


def _local(moment: datetime, zone: tzinfo) -> datetime:
    """The UTC instant on the zone's wall clock, with the offset of that instant fixed."""
    local = moment.astimezone(zone)
    return local.replace(tzinfo=_fixed(local.utcoffset() or timedelta()))


@lru_cache(maxsize=4096)
def _offset_around(day: date, zone: tzinfo) -> timezone | None:
    """The one offset from a day before this local day to a day after it; None around a change of the clocks."""
    before, after = (datetime.combine(day + days * DAY, time.min, zone).utcoffset() for days in (-1, 2))
    return _fixed(before or timedelta()) if before == after else None


@lru_cache(maxsize=128)
def _fixed(offset: timedelta) -> timezone:
    return timezone(offset)
