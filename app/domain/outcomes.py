"""What became of a slot or period, made of what was given to it.

A place holds an amount, not an event: doses add up, and what is over is extra.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from fractions import Fraction
from itertools import chain

from app.domain.due import DuePeriod, DueSlot
from app.domain.moments import local_date
from app.domain.regimens import Amount


class Outcome(StrEnum):
    """What became of a slot, best first. Each slot has exactly one."""

    ON_TIME = "on_time"  # done inside the window
    EARLY = "early"  # done before it
    LATE = "late"  # done after it
    UNTIMED = "untimed"  # done on its day, and nobody knows when
    PARTIAL = "partial"  # done in part
    SKIPPED = "skipped"  # the patient says: not done (session: not attended, cancelled by the patient)
    HELD = "held"  # on hold, or a session that the provider cancelled: out of every denominator
    MISSED = "missed"  # no word of it, though the phone has since said that it has nothing left to send
    UNKNOWN = "unknown"  # no word of it, and none from the phone since: nobody can tell
    NOT_DUE = "not_due"  # its window is still open: out of every figure


DONE = frozenset({Outcome.ON_TIME, Outcome.EARLY, Outcome.LATE, Outcome.UNTIMED})

IN_FULL = frozenset({"taken", "attended"})
DOSES = IN_FULL | {"partial"}  # of sessions as well: what fills a place
_NOT_DONE = {
    "skipped": Outcome.SKIPPED,
    "not_attended": Outcome.SKIPPED,
    "cancelled_by_patient": Outcome.SKIPPED,
    "held": Outcome.HELD,
    "cancelled_by_provider": Outcome.HELD,
}
_BEST_FIRST = list(Outcome).index
ROUNDING = Fraction(1, 100)  # of a dose: three thirds written as 0.33 are one
_WHOLE = 1 - ROUNDING

Doses = Fraction | int


@dataclass(frozen=True)
class Event:
    """What was really done, or said not to be; its own offset tells which day it was for the patient.

    Of what is not `timed` the day is all that is known.
    """

    occurred_at: datetime
    status: str
    scheduled_for: datetime | None = None
    amount: Amount | None = None
    pain_before: int | None = None
    pain_after: int | None = None
    id: str = ""
    timed: bool = True


@dataclass(frozen=True)
class Judged:
    """A slot, or one of the places of a period, with its outcome and the events that made it.

    `doses` is how much of one dose was taken, as far as it is known.
    """

    slot: DueSlot | DuePeriod
    outcome: Outcome
    events: tuple[Event, ...] = ()
    doses: Doses = 0


@dataclass(frozen=True)
class Extra:
    """What was done beyond what was due, in prescribed doses; None where it cannot be told in them."""

    event: Event
    doses: Doses | None

    @property
    def day(self) -> date:
        """The day it was for the patient."""
        return local_date(self.event.occurred_at)


@dataclass(frozen=True)
class Uncounted:
    """Events of the days asked for that are in no figure of these days, by the reason."""

    no_plan: tuple[Event, ...] = ()  # said not to be done where nothing was due, or it was done after all
    not_comparable: tuple[Event, ...] = ()  # in another unit than the dose, so that nobody can tell whether it was all
    not_yet_due: tuple[Event, ...] = ()  # their slot or period is still open
    other_days: tuple[Event, ...] = ()  # their slot or period belongs to a day that was not asked for


@dataclass(frozen=True)
class Matching:
    """Every slot of the days asked for, what was done on those days beyond them, and what is in no figure."""

    judged: tuple[Judged, ...]
    extras: tuple[Extra, ...]
    left_out: Uncounted
    around: tuple[Judged, ...]  # the slots of the days before and after


@dataclass(frozen=True)
class Word:
    """How much can be known: the time it is, and when the patient's phone last had nothing left to send."""

    now: datetime
    outbox_empty_at: datetime | None = None

    def tells(self, until: datetime) -> bool:
        """Whether what happened up to then must have arrived."""
        return self.outbox_empty_at is not None and self.outbox_empty_at > until


@dataclass(slots=True)
class Place:
    """A slot or a period, and what was given to it. `inside` and `filled` count doses: those in its window, and all."""

    slot: DueSlot | DuePeriod
    count: int
    paused: bool
    doses: list[tuple[Event, Doses, bool]] = field(default_factory=list)  # how many doses, and whether that is known
    words: list[Event] = field(default_factory=list)
    inside: Doses = 0
    filled: Doses = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of it."""
        return not self.doses and not self.words

    def outcome_of(self, event: Event) -> Outcome:
        """What this dose is for it."""
        if not event.timed and isinstance(self.slot, DueSlot):
            return Outcome.UNTIMED
        return self.outcome_at(event.occurred_at)

    def outcome_at(self, moment: datetime) -> Outcome:
        """What a dose at this moment is for it."""
        if moment < self.slot.opens_at:
            return Outcome.EARLY
        over = moment > self.slot.closes_at or (moment == self.slot.closes_at and isinstance(self.slot, DuePeriod))
        return Outcome.LATE if over else Outcome.ON_TIME


class Found:
    """What is found about the events of some days."""

    def __init__(self, start: date, end: date) -> None:
        self.start, self.end = start, end
        self.judged: list[Judged] = []
        self.extras: list[Extra] = []
        self.left_out: dict[str, list[Event]] = {}
        self.around: list[Judged] = []

    def add_extra(self, event: Event, doses: Doses | None) -> None:
        """Notes what was done beyond what was due; None where it cannot be told in doses."""
        self.extras.append(Extra(event, doses))

    def leave_out(self, reason: str, event: Event) -> None:
        """Notes that an event is in no figure."""
        self.left_out.setdefault(reason, []).append(event)

    def matching(self) -> Matching:
        """All of it that belongs to these days."""
        left_out = {
            reason: tuple(event for event in events if self._has(local_date(event.occurred_at)))
            for reason, events in self.left_out.items()
        }
        extras = tuple(extra for extra in self.extras if self._has(extra.day))
        return Matching(tuple(self.judged), extras, Uncounted(**left_out), tuple(self.around))

    def judge(self, slot: DueSlot | DuePeriod, judged: Sequence[Judged]) -> None:
        """Notes what became of a slot or period, or why its events are in no figure."""
        asked = self._has(slot.day)
        (self.judged if asked else self.around).extend(judged)
        for one in judged:
            if not asked:
                reason = "other_days"
            elif one.outcome is Outcome.NOT_DUE:
                reason = "not_yet_due"
            elif one.outcome is Outcome.UNKNOWN:
                reason = "not_comparable"
            else:
                continue
            for event in one.events:
                self.leave_out(reason, event)

    def _has(self, day: date) -> bool:
        return self.start <= day <= self.end


def is_whole(doses: Doses) -> bool:
    """Whether these are one dose or more, but for rounding."""
    return doses >= 1 or (doses > 0 and doses >= _WHOLE)


def judge(place: Place, word: Word, found: Found) -> None:
    """What became of a slot, or of each place of a period."""
    slot = place.slot
    if place.paused:
        for event, part, _ in place.doses:
            found.add_extra(event, part or None)
        judged = [Judged(slot, Outcome.HELD, tuple(place.words))] + [Judged(slot, Outcome.HELD)] * (place.count - 1)
    else:
        judged = _filled(place, word, found)
    if slot.closes_at >= word.now:
        judged = [Judged(slot, Outcome.NOT_DUE, one.events) for one in judged]
    found.judge(slot, judged)


def _filled(place: Place, word: Word, found: Found) -> list[Judged]:
    """What became of each place: those done in full first, then in part, not done and cancelled, without a word.

    What was done in the window is counted first, so that nothing which was done outside of it makes it worse.
    """
    silent = Outcome.MISSED if word.tells(place.slot.closes_at) else Outcome.UNKNOWN
    if not place.doses and not place.words:
        return [Judged(place.slot, silent)] * place.count
    if place.count == 1 and len(place.doses) == 1 and place.filled == 1 and not place.words:
        [(event, part, _)] = place.doses
        return [Judged(place.slot, place.outcome_of(event), (event,), part)]
    shares = [_Share() for _ in range(place.count)]
    timed = [(place.outcome_of(event), event, part) for event, part, _ in place.doses if part]
    for time, event, part in sorted(timed, key=lambda one: one[0] is not Outcome.ON_TIME):
        _pour(shares, event, part, time, found)
    for event, part, known in place.doses:
        if not part:
            _add_vague(shares, event, Outcome.PARTIAL if known else Outcome.UNKNOWN, found)
    for event in sorted(place.words, key=lambda event: _BEST_FIRST(_NOT_DONE[event.status])):
        free = next((share for share in shares if share.outcome is None), None)
        if free is None:
            found.leave_out("no_plan", event)
        else:
            free.events.append(event)
            free.said = _NOT_DONE[event.status]
    return [Judged(place.slot, share.outcome or silent, tuple(share.events), share.doses) for share in shares]


@dataclass
class _Share:
    """What one place of a slot or period has got: doses with the worst time of them, and what is said beside."""

    doses: Doses = 0
    time: Outcome = Outcome.ON_TIME
    said: Outcome | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome | None:
        if is_whole(self.doses):
            return self.time
        return self.said or (Outcome.PARTIAL if self.doses else None)


def _pour(shares: Sequence[_Share], event: Event, part: Doses, time: Outcome, found: Found) -> None:
    """Fills the places that have room with so many doses; what is over is extra. The event stands at the first."""
    left = part
    for share in shares:
        if is_whole(share.doses) or (left < part and left <= ROUNDING):
            continue
        if left == part:
            share.events.append(event)
        share.time = max(share.time, time, key=_BEST_FIRST)
        poured = min(left, 1 - share.doses)
        share.doses += poured
        left -= poured
    if left == part or left > ROUNDING:
        found.add_extra(event, left)


def _add_vague(shares: Sequence[_Share], event: Event, said: Outcome, found: Found) -> None:
    """Adds a dose of which nobody knows how much it was to one that was begun, else to the first that is empty."""
    room = [share for share in shares if not is_whole(share.doses)]
    begun = (share for share in room if share.doses and not share.said)
    empty = (share for share in room if share.outcome is None)
    share = next(chain(begun, empty, room), None)
    if share is None:
        found.add_extra(event, None)
        return
    share.events.append(event)
    share.said = max(share.said or said, said, key=_BEST_FIRST)
