"""Which dose or session was for which slot, and so what became of each slot."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from app.domain.moments import local_date
from app.domain.regimens import (
    DAY,
    Amount,
    AsNeeded,
    DuePeriod,
    DueSlot,
    Treatment,
    ends_at,
    is_paused,
    margin,
    periods,
    regimen_at,
    slots,
)
from app.domain.treatments import fits


class Outcome(StrEnum):
    """What became of a slot, best first. Each slot has exactly one."""

    ON_TIME = "on_time"  # done inside the window
    EARLY = "early"  # done before it
    LATE = "late"  # done after it
    PARTIAL = "partial"  # done in part
    SKIPPED = "skipped"  # the patient says: not done (session: not attended, cancelled by the patient)
    HELD = "held"  # on hold, or a session that the provider cancelled: out of every denominator
    MISSED = "missed"  # no word of it, though the phone has since said that it has nothing left to send
    UNKNOWN = "unknown"  # no word of it, and none from the phone since: nobody can tell
    NOT_DUE = "not_due"  # its window is still open: out of every figure


DONE = frozenset({Outcome.ON_TIME, Outcome.EARLY, Outcome.LATE})

_IN_FULL = frozenset({"taken", "attended"})
_DOSES = _IN_FULL | {"partial"}  # of sessions as well: what can take a slot by its time
_SAID = {
    "partial": Outcome.PARTIAL,
    "skipped": Outcome.SKIPPED,
    "not_attended": Outcome.SKIPPED,
    "cancelled_by_patient": Outcome.SKIPPED,
    "held": Outcome.HELD,
    "cancelled_by_provider": Outcome.HELD,
}
_BEST_FIRST = list(Outcome).index


@dataclass(frozen=True)
class Event:
    """What was really done, or said not to be; its own offset tells which day it was for the patient."""

    occurred_at: datetime
    status: str
    scheduled_for: datetime | None = None
    amount: Amount | None = None
    pain_before: int | None = None
    pain_after: int | None = None
    id: str = ""


@dataclass(frozen=True)
class Judged:
    """A slot, or one of the places of a period, with its outcome and the event that took it."""

    slot: DueSlot | DuePeriod
    outcome: Outcome
    event: Event | None = None


@dataclass(frozen=True)
class Matching:
    """Every slot of the days asked for, and the doses or sessions of those days that found none."""

    judged: tuple[Judged, ...]
    extras: tuple[Event, ...]


@dataclass(frozen=True)
class Word:
    """How much can be known: the time it is, and when the patient's phone last had nothing left to send."""

    now: datetime
    outbox_empty_at: datetime | None = None


def is_done(treatment: Treatment, event: Event) -> bool:
    """Whether this is a dose taken or a session attended, at least in part."""
    return event.status in _DOSES and fits(treatment.category, event.status)


def prn_limits(treatment: Treatment, event: Event) -> AsNeeded | None:
    """The limits it was done under as needed: those of a PRN regimen, unless the event names a slot."""
    regimen = regimen_at(treatment, event.occurred_at)
    if regimen is None or not isinstance(regimen.schedule, AsNeeded) or event.scheduled_for is not None:
        return None
    return regimen.schedule


def match(treatment: Treatment, events: Iterable[Event], start: date, end: date, word: Word) -> Matching:
    """What became of every slot due on the local days start…end, both included.

    Events of `margin(treatment)` before and after these days are needed too: they may take slots at the edges.
    """
    wide = start - margin(treatment), end + margin(treatment)
    weeks, inside, timed = periods(treatment, *wide), defaultdict[int, list[Event]](list), list[Event]()
    for event in sorted(events, key=lambda event: (event.occurred_at, event.id)):
        if not fits(treatment.category, event.status) or prn_limits(treatment, event) is not None:
            continue
        index = bisect_right(weeks, event.occurred_at, key=lambda week: week.opens_at) - 1
        if index >= 0 and event.occurred_at < weeks[index].closes_at:
            inside[index].append(event)
        else:
            timed.append(event)
    judged, left = _fill_slots(treatment, slots(treatment, *wide), timed, word)
    for index, week in enumerate(weeks):
        filled, too_many = _fill_period(treatment, week, inside[index], word)
        judged += filled
        left += too_many
    return Matching(
        tuple(one for one in judged if start <= one.slot.day <= end),
        tuple(event for event in left if event.status in _DOSES and start <= local_date(event.occurred_at) <= end),
    )


def _fill_period(
    treatment: Treatment, period: DuePeriod, events: Sequence[Event], word: Word
) -> tuple[list[Judged], list[Event]]:
    """The places of a period with what took them, and the events left over.

    What was done comes first, then what was done in part, not done, and cancelled by the provider: a cancelled
    session leaves the plan only when no other took its place.
    """
    paused = is_paused(treatment, period.opens_at, period.closes_at - timedelta.resolution)
    best = [] if paused else sorted(events, key=lambda event: _BEST_FIRST(_SAID.get(event.status, Outcome.ON_TIME)))
    takers: list[Event | None] = [*best[: period.count]]
    takers += [None] * (period.count - len(takers))
    judged = [Judged(period, _outcome(period, taker, paused, word), taker) for taker in takers]
    return judged, [*events] if paused else best[period.count :]


def _fill_slots(
    treatment: Treatment, due: Sequence[DueSlot], events: Sequence[Event], word: Word
) -> tuple[list[Judged], list[Event]]:
    """The slots with what took them, and the events left over.

    Doses before words: a dose that was taken after all counts more than the note that it would be skipped. Of
    each, who names a slot comes before who is matched by time.
    """
    places = _Places(treatment, due)
    doses = [event for event in events if event.status in _DOSES]
    said = [event for event in events if event.status not in _DOSES]
    doses = places.give(doses, places.named_and_near)
    left = places.give(doses, places.by_time)
    said = places.give(said, places.named)
    left += places.give(said, places.by_time)
    judged = [
        Judged(slot, _outcome(slot, taker, paused, word), taker)
        for slot, taker, paused in zip(due, places.takers, places.paused, strict=True)
    ]
    return judged, left


class _Places:
    """Slots in time order, what took each, and how far each reaches."""

    def __init__(self, treatment: Treatment, due: Sequence[DueSlot]) -> None:
        self.slots = due
        self.due_at = [slot.due_at for slot in due]
        self.paused = [is_paused(treatment, slot.due_at, slot.due_at) for slot in due]
        self.takers: list[Event | None] = [None] * len(due)
        self.before, self.after = _intervals(treatment, due)
        self.earliest = max((slot.due_at - slot.opens_at for slot in due), default=timedelta())
        self.latest = max((slot.closes_at - slot.due_at for slot in due), default=timedelta())

    def give(self, events: Iterable[Event], choose: Callable[[Event], int | None]) -> list[Event]:
        """Gives each event, in order, the free slot chosen for it; answers the events that got none."""
        left = []
        for event in events:
            index = choose(event)
            if index is None:
                left.append(event)
            else:
                self.takers[index] = event
        return left

    def named(self, event: Event) -> int | None:
        """The free slot that the event names."""
        if event.scheduled_for is None:
            return None
        first, last = (side(self.due_at, event.scheduled_for) for side in (bisect_left, bisect_right))
        return next((index for index in range(first, last) if self._is_free(index)), None)

    def named_and_near(self, event: Event) -> int | None:
        """The free slot that the dose names, unless a neighbouring slot was due by then."""
        index = self.named(event)
        if index is None:
            return None
        distance = event.occurred_at - self.due_at[index]
        near = -self.before[index] < distance < self.after[index]
        return index if near or self._is_open(index, event.occurred_at) else None

    def by_time(self, event: Event) -> int | None:
        """The earliest free slot whose window contains the event, else the nearest within half the interval."""
        moment = event.occurred_at
        first = bisect_left(self.due_at, moment - self.latest)
        last = bisect_right(self.due_at, moment + self.earliest)
        for index in range(first, last):
            if self._is_free(index) and self._is_open(index, moment):
                return index
        following = bisect_left(self.due_at, moment)
        around = [index for index in (following - 1, following) if self._reaches(index, moment)]
        return min(around, key=lambda index: abs(moment - self.due_at[index]), default=None)

    def _is_free(self, index: int) -> bool:
        return self.takers[index] is None and not self.paused[index]

    def _is_open(self, index: int, moment: datetime) -> bool:
        return self.slots[index].opens_at <= moment <= self.slots[index].closes_at

    def _reaches(self, index: int, moment: datetime) -> bool:
        """Whether this slot is free and the moment no farther from it than the midpoint to the neighbour."""
        if not 0 <= index < len(self.slots) or not self._is_free(index):
            return False
        return -self.before[index] <= 2 * (moment - self.due_at[index]) <= self.after[index]


def _intervals(treatment: Treatment, due: Sequence[DueSlot]) -> tuple[list[timedelta], list[timedelta]]:
    """The time from each slot to the one before it and to the one after it.

    Where the plan began, stopped or was interrupted there is no neighbour: the slot then reaches as far as to its
    other side, a slot that stands alone as if it were daily, and neither farther than to the next slot there is.
    """
    pairs = list(pairwise(due))
    gaps = [timedelta.max, *(later.due_at - earlier.due_at for earlier, later in pairs), timedelta.max]
    joined = (
        later.regimen == earlier.regimen
        or treatment.regimens[later.regimen].valid_from == ends_at(treatment, earlier.regimen)
        for earlier, later in pairs
    )
    sides = [None, *(gap if join else None for gap, join in zip(gaps[1:], joined, strict=False)), None]
    before = [min(gap, left or right or DAY) for gap, (left, right) in zip(gaps, pairwise(sides), strict=False)]
    after = [min(gap, right or left or DAY) for gap, (left, right) in zip(gaps[1:], pairwise(sides), strict=True)]
    return before, after


def _outcome(slot: DueSlot | DuePeriod, event: Event | None, paused: bool, word: Word) -> Outcome:
    """What became of a slot that this event, or none, has taken."""
    if slot.closes_at >= word.now:
        return Outcome.NOT_DUE
    if paused:
        return Outcome.HELD
    if event is None:
        told = word.outbox_empty_at is not None and word.outbox_empty_at > slot.closes_at
        return Outcome.MISSED if told else Outcome.UNKNOWN
    if event.status not in _IN_FULL:
        return _SAID[event.status]
    if event.occurred_at < slot.opens_at:
        return Outcome.EARLY
    return Outcome.LATE if event.occurred_at > slot.closes_at else Outcome.ON_TIME
