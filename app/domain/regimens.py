"""The plan as it was agreed, and which part of it applied when.

Every instant here carries a fixed offset, as `moments.parse_instant` gives it, so that differences between two
of them are real minutes whatever the clocks did in between.
"""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from typing import Literal

from app.domain.days import Days, EveryNthDay

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAILY = EveryNthDay()
DAY_MINUTES = 1440

Meal = Literal["before", "with", "after"]


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
class ClockTime:
    """A time on the wall clock, with a dose of its own or that of the regimen, and how it lies to a meal."""

    time: time
    dose: Amount | None = None
    meal: Meal | None = None


@dataclass(frozen=True)
class FixedTimes:
    """At these local times, in their order, on the days of a rule."""

    at: tuple[ClockTime, ...]
    days: Days = DAILY
    early_minutes: int = 60
    late_minutes: int = 60


@dataclass(frozen=True)
class ElapsedTime:
    """When the regimen begins, and again after so many minutes each time, whatever the clocks do."""

    every_minutes: int
    early_minutes: int = 60
    late_minutes: int = 60


@dataclass(frozen=True)
class AsNeeded:
    """When it is needed, within these limits; `max_interval_minutes` is advice."""

    min_interval_minutes: int | None = None
    max_doses_24h: int | None = None
    max_amount_24h: Amount | None = None
    max_interval_minutes: int | None = None
    indication: str | None = None


@dataclass(frozen=True)
class Frequency:
    """So often in a local day, ISO week or calendar month, whenever it suits."""

    count: int
    per: Literal["day", "week", "month"]
    minutes: int | None = None


Schedule = FixedTimes | ElapsedTime | AsNeeded | Frequency


@dataclass(frozen=True)
class PlanVersion:
    """One version of the plan; without `valid_to` it applies until the next one of its line does.

    As needed, the dose may be anything from `dose` to `dose_up_to`.
    """

    valid_from: datetime
    zone: tzinfo
    schedule: Schedule
    dose: Amount | None = None
    valid_to: datetime | None = None
    dose_up_to: Amount | None = None
    line: str | None = None


@dataclass(frozen=True)
class Hold:
    """A time on hold, `from_` included, `to` not; without `to` it lasts."""

    from_: datetime
    to: datetime | None = None


@dataclass(frozen=True)
class Treatment:
    """What was agreed: regimens, in one line or in several side by side, and pauses; in order, none overlapping."""

    category: str
    regimens: tuple[PlanVersion, ...]
    pauses: tuple[Hold, ...] = ()
    status: str = "active"
    content: Content | None = None

    @cached_property
    def lines(self) -> tuple[tuple[int, ...], ...]:
        """The places of the regimens of each line."""
        found = defaultdict[str | None, list[int]](list)
        for index, regimen in enumerate(self.regimens):
            found[regimen.line].append(index)
        return tuple(map(tuple, found.values()))

    @cached_property
    def ends(self) -> tuple[datetime, ...]:
        """The first instant at which each regimen no longer applies."""
        found = [regimen.valid_to or FOREVER for regimen in self.regimens]
        for index, later in (pair for line in self.lines for pair in pairwise(line)):
            found[index] = self.regimens[index].valid_to or self.regimens[later].valid_from
        return tuple(found)


def regimens_at(treatment: Treatment, moment: datetime) -> list[PlanVersion]:
    """The regimens that apply at this instant: one of each line at most."""
    return [treatment.regimens[index] for index in _begun(treatment, moment) if moment < treatment.ends[index]]


def nearest_regimens(treatment: Treatment, moment: datetime) -> list[PlanVersion]:
    """The regimens that apply at this instant, else the last that ended before it, else the first."""
    applying = regimens_at(treatment, moment)
    if applying:
        return applying
    begun = _begun(treatment, moment)
    if begun:
        return [treatment.regimens[max(begun, key=treatment.ends.__getitem__)]]
    return [min(treatment.regimens, key=attrgetter("valid_from"))]


def nearest_dose(treatment: Treatment, moment: datetime) -> Amount | None:
    """How much one dose was by the plan nearest to this instant: that of the nearest time of day, where they differ."""
    near = nearest_regimens(treatment, moment)
    planned = [regimen for regimen in near if not isinstance(regimen.schedule, AsNeeded)]
    return _dose_near((planned or near)[0], moment)


def _dose_near(regimen: PlanVersion, moment: datetime) -> Amount | None:
    if not isinstance(regimen.schedule, FixedTimes) or not any(one.dose for one in regimen.schedule.at):
        return regimen.dose
    now = _minutes(moment.astimezone(regimen.zone).time())
    apart = [(now - _minutes(one.time)) % DAY_MINUTES for one in regimen.schedule.at]
    nearest = min(range(len(apart)), key=lambda index: min(apart[index], DAY_MINUTES - apart[index]))
    return regimen.schedule.at[nearest].dose or regimen.dose


def _minutes(at: time) -> int:
    return 60 * at.hour + at.minute


def _begun(treatment: Treatment, moment: datetime) -> list[int]:
    """The last regimen of each line that had begun at this instant."""
    found = list[int]()
    for line in treatment.lines:
        place = bisect_right(line, moment, key=lambda index: treatment.regimens[index].valid_from)
        if place:
            found.append(line[place - 1])
    return found


def ends_at(treatment: Treatment, index: int) -> datetime:
    """The first instant at which this regimen no longer applies."""
    return treatment.ends[index]


def is_paused(treatment: Treatment, first: datetime, last: datetime) -> bool:
    """Whether the treatment is on hold at any time from `first` to `last`, both included."""
    index = bisect_right(treatment.pauses, last, key=lambda pause: pause.from_) - 1
    return index >= 0 and first < (treatment.pauses[index].to or FOREVER)
