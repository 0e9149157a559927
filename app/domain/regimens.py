"""The plan as it was agreed, and what it makes due: wall-clock times turned into instants.

Every instant here carries a fixed offset, as `moments.parse_instant` gives it, so that differences between two
of them are real minutes whatever the clocks did in between.
"""

from bisect import bisect_right
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Literal

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Amount:
    """How much: a number and its UCUM unit."""

    value: float
    unit: str


@dataclass(frozen=True)
class Content:
    """What is in one unit of a medicine of a single ingredient: its strength, and the form that is counted."""

    strength: Amount
    form: str | None = None


@dataclass(frozen=True)
class FixedTimes:
    """At these local times, on these days of the week (1 Monday; None: all), every so many days."""

    times: tuple[time, ...]
    days_of_week: frozenset[int] | None = None
    every_n_days: int = 1
    early_minutes: int = 60
    late_minutes: int = 60


@dataclass(frozen=True)
class AsNeeded:
    """When it is needed, within these limits."""

    min_interval_minutes: int | None = None
    max_doses_24h: int | None = None
    max_amount_24h: Amount | None = None


@dataclass(frozen=True)
class Frequency:
    """So often in a local day or ISO week, whenever it suits."""

    count: int
    per: Literal["day", "week"]
    minutes: int | None = None


Schedule = FixedTimes | AsNeeded | Frequency


@dataclass(frozen=True)
class PlanVersion:
    """One version of the plan; without `valid_to` it applies until the next one does."""

    valid_from: datetime
    zone: tzinfo
    schedule: Schedule
    dose: Amount | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True)
class Hold:
    """A time on hold, `from_` included, `to` not; without `to` it lasts."""

    from_: datetime
    to: datetime | None = None


@dataclass(frozen=True)
class Treatment:
    """What was agreed: regimens and pauses in order, none overlapping the next."""

    category: str
    regimens: tuple[PlanVersion, ...]
    pauses: tuple[Hold, ...] = ()
    status: str = "active"
    content: Content | None = None


@dataclass(frozen=True)
class DueSlot:
    """One dose or session with a clock time: when it is due, and the window, both ends included, that is on time."""

    due_at: datetime
    opens_at: datetime
    closes_at: datetime
    regimen: int
    dose: Amount | None

    @property
    def day(self) -> date:
        """The local day it is due on."""
        return self.due_at.date()


@dataclass(frozen=True)
class DuePeriod:
    """A local day or ISO week in which `count` doses or sessions are due, `closes_at` not included."""

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
        slot
        for index, regimen in _agreed(treatment)
        if isinstance(regimen.schedule, FixedTimes)
        for slot in _slots(treatment, index, regimen.schedule, start, end)
    ]
    return sorted(found, key=lambda slot: slot.due_at)  # in the gap of a clock change, later times can come first


def periods(treatment: Treatment, start: date, end: date) -> list[DuePeriod]:
    """The days and weeks of the target regimens whose last day lies in start…end, both included, in time order.

    A period belongs to the regimen that applies at its end and began on or before its first day. One that no
    regimen covers so is left out: nobody agreed how much of the target a part of a week is.
    """
    return [
        period
        for index, regimen in _agreed(treatment)
        if isinstance(regimen.schedule, Frequency)
        for period in _periods(treatment, index, regimen.schedule, start, end)
    ]


def days_covered(treatment: Treatment, index: int, start: date, end: date) -> int:
    """On how many of the local days start…end, in its own zone, both included, this regimen applies."""
    regimen = treatment.regimens[index]
    began, ended = regimen.valid_from, ends_at(treatment, index) - timedelta.resolution
    first, last = (moment.astimezone(regimen.zone).date() for moment in (began, ended))
    return max(0, (min(end, last) - max(start, first)).days + 1)


def planned_days(
    treatment: Treatment, start: date, end: date, but: Container[date]
) -> Iterator[tuple[date, datetime, datetime]]:
    """The local days start…end, but some, that lie wholly in a regimen that prescribes a number for each; their bounds.

    A weekly target leaves the day open, and so does what is taken as needed.
    """
    for index, regimen in _agreed(treatment):
        if isinstance(regimen.schedule, AsNeeded) or (
            isinstance(regimen.schedule, Frequency) and regimen.schedule.per == "week"
        ):
            continue
        until = ends_at(treatment, index)
        day = max(start, regimen.valid_from.astimezone(regimen.zone).date())
        while day <= end:
            if day in but:
                day += DAY
                continue
            opens_at, closes_at = (_instant(d, time.min, regimen.zone) for d in (day, day + DAY))
            if closes_at > until:
                break
            if opens_at >= regimen.valid_from:
                yield day, opens_at, closes_at
            day += DAY


def most_due(treatment: Treatment, start: date, end: date) -> int:
    """A number that what is due on the local days start…end never exceeds, found without expanding it."""
    return sum(
        _daily(regimen.schedule) * days_covered(treatment, index, start, end) for index, regimen in _agreed(treatment)
    )


def regimen_at(treatment: Treatment, moment: datetime) -> PlanVersion | None:
    """The regimen that applies at this instant, if any."""
    index = bisect_right(treatment.regimens, moment, key=lambda regimen: regimen.valid_from) - 1
    if index < 0 or moment >= ends_at(treatment, index):
        return None
    return treatment.regimens[index]


def nearest_regimen(treatment: Treatment, moment: datetime) -> PlanVersion:
    """The regimen that applies at this instant, else the last that ended before it, else the first."""
    index = bisect_right(treatment.regimens, moment, key=lambda regimen: regimen.valid_from) - 1
    return treatment.regimens[max(index, 0)]


def ends_at(treatment: Treatment, index: int) -> datetime:
    """The first instant at which this regimen no longer applies."""
    later = treatment.regimens[index + 1 : index + 2]
    return treatment.regimens[index].valid_to or (later[0].valid_from if later else FOREVER)


def is_paused(treatment: Treatment, first: datetime, last: datetime) -> bool:
    """Whether the treatment is on hold at any time from `first` to `last`, both included."""
    index = bisect_right(treatment.pauses, last, key=lambda pause: pause.from_) - 1
    return index >= 0 and first < (treatment.pauses[index].to or FOREVER)


def margin(treatment: Treatment) -> timedelta:
    """How far outside a period, in whole days, slots and events still decide what happened inside it."""
    return max((_reach(regimen.schedule) for regimen in treatment.regimens), default=DAY) + DAY


def _reach(schedule: FixedTimes | AsNeeded | Frequency) -> timedelta:
    """The days to the next slot, over one week, or over the time that a PRN limit looks back."""
    if isinstance(schedule, AsNeeded):
        return DAY + timedelta(minutes=schedule.min_interval_minutes or 0) // DAY * DAY
    if isinstance(schedule, Frequency) or schedule.days_of_week is not None:
        return 7 * DAY
    return schedule.every_n_days * DAY


def _daily(schedule: FixedTimes | AsNeeded | Frequency) -> int:
    """How much is due on a day at most."""
    if isinstance(schedule, AsNeeded):
        return 0
    return schedule.count if isinstance(schedule, Frequency) else len(schedule.times)


def _agreed(treatment: Treatment) -> Iterator[tuple[int, PlanVersion]]:
    """The regimens with their index; none of a draft, which nobody has agreed to."""
    if treatment.status != "draft":
        yield from enumerate(treatment.regimens)


def _slots(treatment: Treatment, index: int, schedule: FixedTimes, start: date, end: date) -> Iterator[DueSlot]:
    """The slots of one regimen, day by day."""
    regimen, until = treatment.regimens[index], ends_at(treatment, index)
    early, late = timedelta(minutes=schedule.early_minutes), timedelta(minutes=schedule.late_minutes)
    began = regimen.valid_from.astimezone(regimen.zone).date()
    ended = until.astimezone(regimen.zone).date()
    for day in _days(schedule, began, max(start, began), min(end, ended)):
        for at in schedule.times:
            due = _instant(day, at, regimen.zone)
            if regimen.valid_from <= due < until:
                due_at, opens_at, closes_at = (_local(t, regimen.zone) for t in (due, due - early, due + late))
                yield DueSlot(due_at, opens_at, closes_at, index, regimen.dose)


def _days(schedule: FixedTimes, began: date, first: date, last: date) -> Iterator[date]:
    """The days of the schedule from `first` to `last`, counted from the day the regimen began."""
    offset = (began - first).days % schedule.every_n_days
    for days in range(offset, (last - first).days + 1, schedule.every_n_days):
        day = first + timedelta(days=days)
        if schedule.days_of_week is None or day.isoweekday() in schedule.days_of_week:
            yield day


def _periods(treatment: Treatment, index: int, target: Frequency, start: date, end: date) -> Iterator[DuePeriod]:
    """The whole periods of one regimen."""
    regimen, until = treatment.regimens[index], ends_at(treatment, index)
    length = DAY if target.per == "day" else 7 * DAY
    began = regimen.valid_from.astimezone(regimen.zone).date()
    last = max(start, began) - DAY
    if target.per == "week":
        last -= timedelta(days=last.isoweekday() % 7)
    while (last := last + length) <= end:
        first = last - length + DAY
        opens_at, closes_at = (_local(_instant(d, time.min, regimen.zone), regimen.zone) for d in (first, last + DAY))
        if closes_at > until:
            return
        if began <= first:
            yield DuePeriod(first, last, opens_at, closes_at, index, regimen.dose, target.count, target.minutes)


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


@lru_cache(maxsize=128)
def _fixed(offset: timedelta) -> timezone:
    return timezone(offset)
