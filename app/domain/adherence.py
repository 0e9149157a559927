"""Self-reported adherence: definitions, not one number. docs/adherence.md has each of them worked out by hand.

Known and unknown are never mixed: `value` is over the slots whose outcome is known, `lower` counts the unknown ones
as not taken and `upper` as taken, so that lower ≤ value ≤ upper always holds.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil

from app.domain.due import DueSlot, planned_days
from app.domain.matching import as_needed, is_done, match
from app.domain.moments import local_date
from app.domain.outcomes import DONE, ROUNDING, Doses, Event, Extra, Judged, Matching, Outcome, Word
from app.domain.prn import AsNeededUse, Reading, use
from app.domain.regimens import AsNeeded, Treatment, is_paused
from app.domain.treatments import is_medication

TAKING = (
    "Self-reported doses taken (early and late included, partial not) ÷ doses due whose outcome is known; "
    "held doses are not due, extra doses do not count and stand beside."
)
TIMING = "Self-reported doses taken inside the window ÷ doses due at a clock time whose outcome is known."
CORRECT_DAYS = (
    "Local days with exactly the prescribed number of self-reported doses, at whatever time ÷ days of the plan whose "
    "number is known, those without a dose due included."
)
SESSIONS = (
    "Self-reported sessions attended (in part does not count) ÷ sessions planned whose outcome is known; "
    "those that the provider cancelled or that fell into a pause are not planned."
)

_OUT = frozenset({Outcome.HELD, Outcome.NOT_DUE})


@dataclass(frozen=True)
class Ratio:
    """A share of what was due, with the bounds that the unknown leaves.

    `value` is numerator ÷ denominator, both of what is known; None when nothing is. `known_fraction` is the share
    of the due that is known. Bounds and known fraction are None when nothing was due.
    """

    numerator: int
    denominator: int
    value: float | None
    lower: float | None
    upper: float | None
    known_fraction: float | None
    definition: str


@dataclass(frozen=True)
class CappedRatio(Ratio):
    """A share that is never more than all, and what was done beyond it: a share of 1 alone would hide that."""

    extras: int


@dataclass(frozen=True)
class DoseAdherence:
    """Doses with a plan: how many slots had which outcome, the doses beyond them, and what that amounts to."""

    outcomes: Mapping[Outcome, int]
    extras: int
    taking: CappedRatio
    timing: Ratio
    correct_days: Ratio


@dataclass(frozen=True)
class SessionAdherence:
    """Sessions with a plan: how many had which outcome, those beyond it, and the share attended."""

    outcomes: Mapping[Outcome, int]
    extras: int
    attended: CappedRatio


@dataclass(frozen=True)
class Assessment:
    """One treatment over a time: doses or sessions by plan, and what was used as needed; None where it has none."""

    matching: Matching
    exact_days: tuple[bool | None, ...]
    doses: DoseAdherence | None
    sessions: SessionAdherence | None
    prn: AsNeededUse | None


@dataclass(frozen=True)
class Overall:
    """All treatments together: sums over what was due, sessions apart from doses."""

    doses: DoseAdherence
    sessions: SessionAdherence


def assess(
    treatment: Treatment,
    events: Sequence[Event],
    start: date,
    end: date,
    word: Word,
    readings: Sequence[Reading] = (),
) -> Assessment:
    """The figures of one treatment for the local days start…end, both included.

    Events of `due.margin(treatment)` around these days are needed too. `readings` are the patient's own pain
    scores now, on the scale of the events (0 to 10), in time order.
    """
    matching = match(treatment, events, start, end, word)
    kinds = {isinstance(regimen.schedule, AsNeeded) for regimen in treatment.regimens}
    planned, medication = False in kinds, is_medication(treatment.category)
    exact = tuple(_exact_days(treatment, events, matching, start, end, word)) if planned and medication else ()
    return Assessment(
        matching,
        exact,
        dose_figures([matching], exact) if planned and medication else None,
        session_figures([matching]) if planned and not medication else None,
        use(treatment, events, start, end, readings) if True in kinds else None,
    )


def overall(assessments: Sequence[Assessment]) -> Overall:
    """The figures of several treatments together; a day counts once for each treatment."""
    taken = [one for one in assessments if one.doses]
    return Overall(
        dose_figures([one.matching for one in taken], [day for one in taken for day in one.exact_days]),
        session_figures([one.matching for one in assessments if one.sessions]),
    )


def dose_figures(matchings: Sequence[Matching], exact_days: Iterable[bool | None]) -> DoseAdherence:
    """The figures of medications that are taken by plan."""
    judged = [one for matching in matchings for one in matching.judged]
    timed = [one for one in judged if isinstance(one.slot, DueSlot)]
    extras = sum(_doses_beyond(matching.extras) for matching in matchings)
    days = Counter(exact_days)
    return DoseAdherence(
        _outcomes(judged),
        extras,
        _capped(_share(judged, DONE, TAKING), extras),
        _share(timed, frozenset({Outcome.ON_TIME}), TIMING, frozenset({Outcome.UNKNOWN, Outcome.UNTIMED})),
        _figure(days[True], days[True] + days[False], days[None], CORRECT_DAYS),
    )


def session_figures(matchings: Sequence[Matching]) -> SessionAdherence:
    """The figures of treatments that are done in sessions."""
    judged = [one for matching in matchings for one in matching.judged]
    extras = sum(_doses_beyond(matching.extras) for matching in matchings)
    return SessionAdherence(_outcomes(judged), extras, _capped(_share(judged, DONE, SESSIONS), extras))


def _doses_beyond(extras: Iterable[Extra]) -> int:
    """How many doses or sessions these are: of each day those that were begun, and one for each that is not known."""
    days = defaultdict[date, Doses](int)
    unknown = 0
    for extra in extras:
        if extra.doses is None:
            unknown += 1
        else:
            days[extra.day] += extra.doses
    return unknown + sum(max(1, ceil(doses - ROUNDING)) for doses in days.values())


def _capped(figure: Ratio, extras: int) -> CappedRatio:
    return CappedRatio(**vars(figure), extras=extras)


def _outcomes(judged: Iterable[Judged]) -> dict[Outcome, int]:
    """How many slots had each outcome; what is not yet due is left out."""
    counted = Counter(one.outcome for one in judged)
    return {outcome: counted[outcome] for outcome in Outcome if outcome != Outcome.NOT_DUE}


def _share(
    judged: Iterable[Judged],
    met: frozenset[Outcome],
    definition: str,
    untold: frozenset[Outcome] = frozenset({Outcome.UNKNOWN}),
) -> Ratio:
    """The share of the due slots whose outcome is one of these; of the untold ones nobody knows."""
    counted = Counter(one.outcome for one in judged if one.outcome not in _OUT)
    unknown = sum(counted[outcome] for outcome in untold)
    return _figure(sum(counted[outcome] for outcome in met), counted.total() - unknown, unknown, definition)


def _figure(met: int, known: int, unknown: int, definition: str) -> Ratio:
    """The share met, over the known; over all that was due for the bounds."""
    due = known + unknown
    if not due:
        return Ratio(0, 0, None, None, None, None, definition)
    value = met / known if known else None
    return Ratio(met, known, value, met / due, (met + unknown) / due, known / due, definition)


def _exact_days(
    treatment: Treatment, events: Iterable[Event], matching: Matching, start: date, end: date, word: Word
) -> Iterable[bool | None]:
    """For each day of the plan that is over, whether the number of doses was exact; None: nobody can tell.

    Weekly targets prescribe no number for a day. A dose belongs to the day of the slot it took, what is over to the day
    it was taken; a day on which nothing was due is exact without any dose but those of a slot less than half a day
    away. A day on hold is among them only where a dose was taken.
    """
    due = defaultdict[date, list[Judged]](list)
    for one in matching.judged:
        if isinstance(one.slot, DueSlot) or one.slot.first == one.slot.last:
            due[one.slot.day].append(one)
    beyond = defaultdict[date, list[Doses | None]](list)
    for extra in matching.extras:
        beyond[extra.day].append(extra.doses)
    for day, places in due.items():
        asked = [one for one in places if one.outcome is not Outcome.HELD]
        if Outcome.NOT_DUE not in {one.outcome for one in asked} and (asked or beyond[day]):
            yield _is_exact(asked, beyond[day])
    quiet = list(planned_days(treatment, start, end, but=due))
    taken = _days_of_doses(treatment, events, matching) if quiet else set()
    for day, opens_at, closes_at in quiet:
        if closes_at > word.now:
            continue
        if day in taken:
            yield False
        elif not is_paused(treatment, opens_at, closes_at - timedelta.resolution):
            yield True if word.tells(closes_at) else None


def _days_of_doses(treatment: Treatment, events: Iterable[Event], matching: Matching) -> set[date]:
    """The days on which a dose by plan was taken, but for those of a slot less than half a day away."""
    near = {
        event
        for one in (*matching.judged, *matching.around)
        for event in one.events
        if isinstance(one.slot, DueSlot)
        and (not event.timed or abs(event.occurred_at - one.slot.due_at) < timedelta(hours=12))
    }
    return {
        local_date(event.occurred_at)
        for event in events
        if event not in near and is_done(treatment, event) and not as_needed(treatment, event)
    }


def _is_exact(due: Sequence[Judged], beyond: Sequence[Doses | None]) -> bool | None:
    """Whether as many doses were taken as were due; None where the unknown ones could make it so or not."""
    unknown = sum(one.outcome is Outcome.UNKNOWN for one in due)
    known: Doses = sum(one.doses for one in due)
    if beyond:
        known += sum(doses or 0 for doses in beyond)
    if None in beyond or any(one.outcome is Outcome.PARTIAL and not one.doses for one in due):
        return False
    missing = len(due) - known
    if not missing and not unknown:
        return True
    if unknown and -ROUNDING <= missing <= unknown + ROUNDING:
        return None
    return -ROUNDING <= missing <= ROUNDING * len(due)
