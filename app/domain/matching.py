"""Which dose or session was for which slot. docs/adherence.md has the rules, in their order."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise

from app.domain.amounts import ratio
from app.domain.due import LONGEST_PERIOD, DuePeriod, DueSlot, margin, periods, slots
from app.domain.moments import local_date
from app.domain.outcomes import DOSES, IN_FULL, Doses, Event, Found, Matching, Outcome, Place, Word, is_whole, judge
from app.domain.regimens import (
    DAY,
    FOREVER,
    Amount,
    AsNeeded,
    Treatment,
    ends_at,
    is_paused,
    nearest_dose,
    nearest_regimens,
    regimens_at,
)
from app.domain.treatments import fits


def is_done(treatment: Treatment, event: Event) -> bool:
    """Whether this is a dose taken or a session attended, at least in part."""
    return event.status in DOSES and fits(treatment.category, event.status)


def as_needed(treatment: Treatment, event: Event) -> bool:
    """Whether it was taken as needed: under a PRN regimen, or before or after it, unless it names what was due.

    Where something is due beside it, what was done in a window, or in the time of a target, was by plan.
    """
    planned = [not isinstance(one.schedule, AsNeeded) for one in nearest_regimens(treatment, event.occurred_at)]
    if all(planned):
        return False
    if event.scheduled_for and any(
        not isinstance(one.schedule, AsNeeded) for one in regimens_at(treatment, event.scheduled_for)
    ):
        return False
    return not any(planned) or not _is_due(treatment, event)


def _is_due(treatment: Treatment, event: Event) -> bool:
    """Whether it was in a slot's window, or where only its day is known on the day of one; or in a target's period."""
    moment, day = event.occurred_at, local_date(event.occurred_at)
    days = day - 2 * DAY, day + 2 * DAY
    for slot in slots(treatment, *days):
        if slot.opens_at <= moment <= slot.closes_at if event.timed else slot.day == day:
            return True
    return any(one.opens_at <= moment < one.closes_at for one in periods(treatment, days[0], days[1] + LONGEST_PERIOD))


def match(treatment: Treatment, events: Iterable[Event], start: date, end: date, word: Word) -> Matching:
    """What became of every slot due on the local days start…end, both included.

    Events of `margin(treatment)` before and after these days are needed too: they may take slots at the edges.
    """
    wide = start - margin(treatment), end + margin(treatment)
    due = _Due(treatment, slots(treatment, *wide), periods(treatment, *wide))
    found = Found(start, end)
    for event in due.place(_by_plan(treatment, events, found)):
        if event.status in DOSES:
            part, _ = due.part(event, nearest_dose(treatment, event.occurred_at))
            found.add_extra(event, part or None)
        else:
            found.leave_out("no_plan", event)
    for place in due.places:
        judge(place, word, found)
    return found.matching()


def _by_plan(treatment: Treatment, events: Iterable[Event], found: Found) -> list[Event]:
    """The events of what was due, in time order; what was said not to be taken as needed was never due."""
    planned = list[Event]()
    any_needed = any(isinstance(regimen.schedule, AsNeeded) for regimen in treatment.regimens)
    for event in sorted(events, key=lambda event: (event.occurred_at, event.id)):
        if not fits(treatment.category, event.status):
            continue
        if not any_needed or not as_needed(treatment, event):
            planned.append(event)
        elif event.status not in DOSES:
            found.leave_out("no_plan", event)
    return planned


class _Due:
    """The places of a treatment in time order, and what was given to each."""

    def __init__(self, treatment: Treatment, due: Sequence[DueSlot], periods: Sequence[DuePeriod]) -> None:
        self.treatment = treatment
        self.slots = [Place(slot, 1, is_paused(treatment, slot.due_at, slot.due_at)) for slot in due]
        self.periods = [
            Place(one, one.count, is_paused(treatment, one.opens_at, one.closes_at - timedelta.resolution))
            for one in periods
        ]
        self.due_at = [slot.due_at for slot in due]
        self.opens_at = [period.opens_at for period in periods]
        self.before, self.late_until = _reaches(treatment, due)
        self.earliest = max((slot.due_at - slot.opens_at for slot in due), default=timedelta())
        self.latest = max((slot.closes_at - slot.due_at for slot in due), default=timedelta())

    @property
    def places(self) -> Iterator[Place]:
        """Slots and periods."""
        yield from self.slots
        yield from self.periods

    def place(self, events: Iterable[Event]) -> list[Event]:
        """Gives the events, which are in time order, to their places; answers those that found none.

        First what names its place, whenever it was; then what was done in a window, nearest first; then what was done
        outside of one; then of what nobody knows when it was, in the slots of its day. What was not done comes last: a
        dose taken after all counts more than such a word.
        """
        doses, words = list[Event](), list[Event]()
        for event in events:
            place = self._named(event) or self._by_day(event)
            if place is not None:
                self._give(place, event)
            else:
                (doses if event.status in DOSES else words).append(event)
        timed = [event for event in doses if event.timed]
        rest = [event for event in self._fill_windows(timed) if not self._fill_after_or_before(event)]
        rest += [event for event in doses if not event.timed and not self._fill(self._of_day(event), event)]
        return rest + [event for event in words if not self._note(event)]

    def part(self, event: Event, dose: Amount | None) -> tuple[Doses, bool]:
        """How many doses it is: 0 where nobody can tell, and then whether that is because units cannot be compared."""
        if event.amount is None or dose is None:
            return int(event.status in IN_FULL), True
        share = ratio(event.amount, dose, self.treatment.content)
        return (0, False) if share is None else (share, True)

    def _named(self, event: Event) -> Place | None:
        """The slot due at the instant that the event names, the first that is not full; or the period around it."""
        if event.scheduled_for is None:
            return None
        first, last = (side(self.due_at, event.scheduled_for) for side in (bisect_left, bisect_right))
        same = self.slots[first:last]
        free = (place for place in same if not is_whole(place.filled))
        return next(free, same[0] if same else self._period_at(event.scheduled_for))

    def _by_day(self, event: Event) -> Place | None:
        """The period in which it was done; none of a dose in the window of a slot that is due side by side with it."""
        side_by_side = len(self.treatment.lines) > 1 and event.status in DOSES
        return None if side_by_side and self._open_at(event.occurred_at) else self._period_at(event.occurred_at)

    def _period_at(self, moment: datetime) -> Place | None:
        """The period in which this moment lies: of several the last to begin that has room, else the first."""
        found = None
        for index in range(bisect_right(self.opens_at, moment) - 1, -1, -1):
            place = self.periods[index]
            if moment < place.slot.closes_at:
                found = place
                if place.filled < place.count:
                    break
            elif moment - self.opens_at[index] > LONGEST_PERIOD + DAY:
                break
        return found

    def _give(self, place: Place, event: Event) -> None:
        """Gives an event to a place."""
        if event.status not in DOSES:
            place.words.append(event)
            return
        part, known = self.part(event, place.slot.dose)
        place.doses.append((event, part, known))
        place.filled += part
        if place.outcome_of(event) is Outcome.ON_TIME:
            place.inside += part

    def _fill_windows(self, events: Sequence[Event]) -> list[Event]:
        """Gives doses to the slot in whose window they are, nearest first, until it is full; answers the others."""
        near = [
            (abs(event.occurred_at - self.due_at[index]), index, number)
            for number, event in enumerate(events)
            for index in self._open_at(event.occurred_at)
        ]
        placed = set[int]()
        for _, index, number in sorted(near):
            if number not in placed and not is_whole(self.slots[index].inside):
                self._give(self.slots[index], events[number])
                placed.add(number)
        return [event for number, event in enumerate(events) if number not in placed]

    def _fill_after_or_before(self, event: Event) -> bool:
        """Gives a dose to the slot it is late or early for, if there is one that is not full."""
        return self._fill(self._around(event.occurred_at), event)

    def _fill(self, indices: Iterable[int], event: Event) -> bool:
        """Gives a dose to the first of these slots that is not full, if there is one."""
        for index in indices:
            if not is_whole(self.slots[index].filled):
                self._give(self.slots[index], event)
                return True
        return False

    def _of_day(self, event: Event) -> list[int]:
        """The slots of the day of an event, in their order; none that is on hold."""
        day = local_date(event.occurred_at)
        first, last = (
            side(self.due_at, event.occurred_at + reach)
            for side, reach in ((bisect_left, -2 * DAY), (bisect_right, 2 * DAY))
        )
        return [
            index for index in range(first, last) if self.slots[index].slot.day == day and not self.slots[index].paused
        ]

    def _note(self, event: Event) -> bool:
        """Gives the word that something was not done to the slot it was said of: one without any, if there is one."""
        inside = self._open_at(event.occurred_at) if event.timed else self._of_day(event)
        around = self._around(event.occurred_at) if event.timed else ()
        silent = [place for place in self._places([*inside, *around]) if place.is_empty]
        place = next(iter([*silent, *self._places(inside)]), None)
        if place is not None:
            self._give(place, event)
        return place is not None

    def _places(self, indices: Iterable[int]) -> list[Place]:
        return [self.slots[index] for index in indices]

    def _open_at(self, moment: datetime) -> list[int]:
        """The slots in whose window this is, nearest first."""
        first = bisect_left(self.due_at, moment - self.latest)
        last = bisect_right(self.due_at, moment + self.earliest)
        around = (
            index
            for index in range(first, last)
            if not self.slots[index].paused and self.slots[index].outcome_at(moment) is Outcome.ON_TIME
        )
        return sorted(around, key=lambda index: abs(moment - self.due_at[index]))

    def _around(self, moment: datetime) -> Iterator[int]:
        """The slots that a moment is late for, the latest first, and then those that it is early for."""
        following = bisect_right(self.due_at, moment)
        for index in range(following - 1, -1, -1):
            if moment >= self.late_until[index]:
                break
            if not self.slots[index].paused:
                yield index
        for index in range(following, len(self.slots)):
            if 2 * (self.due_at[index] - moment) > self.before[index]:
                break
            if not self.slots[index].paused:
                yield index


def _reaches(treatment: Treatment, due: Sequence[DueSlot]) -> tuple[list[timedelta], list[datetime]]:
    """For each slot the time since the one before it, and until when a dose is late for it: the next window's opening.

    Where the plan began, stopped or was interrupted there is no neighbour: the interval is then that on the other side,
    and a day for a slot that stands alone; it never reaches past the slot there is.
    """
    gaps = [(later.due_at - earlier.due_at, _joined(treatment, earlier, later)) for earlier, later in pairwise(due)]
    sides = [None, *(gap if joined else None for gap, joined in gaps), None]
    before = [
        min(gap, left or right or DAY)
        for gap, (left, right) in zip([timedelta.max, *(gap for gap, _ in gaps)], pairwise(sides), strict=True)
    ]
    late_until = list[datetime]()
    for index, slot in enumerate(due):
        opens_at = next((one.opens_at for one in due[index + 1 : index + 25] if one.due_at > slot.due_at), None)
        ends = opens_at or FOREVER
        if sides[index + 1] is None:
            ends = min(ends, slot.opens_at + (sides[index] or DAY))
        late_until.append(ends)
    return before, late_until


def _joined(treatment: Treatment, earlier: DueSlot, later: DueSlot) -> bool:
    """Whether one regimen, or one after or beside the other without a break, made both due."""
    if later.regimen == earlier.regimen:
        return True
    return treatment.regimens[later.regimen].valid_from <= ends_at(treatment, earlier.regimen)
