"""Self-reported adherence: definitions, not one number. docs/adherence.md has each of them worked out by hand.

Known and unknown are never mixed: `value` is over the slots whose outcome is known, `lower` counts the unknown ones
as not taken and `upper` as taken, so that lower ≤ value ≤ upper always holds.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from app.domain.matching import DONE, Event, Judged, Matching, Outcome, Word, match
from app.domain.moments import local_date
from app.domain.prn import AsNeededUse, Reading, use
from app.domain.regimens import AsNeeded, DueSlot, Treatment
from app.domain.treatments import is_medication

TAKING = (
    "Self-reported doses taken (early and late included, partial not) ÷ doses due whose outcome is known; "
    "held doses are not due, extra doses do not count."
)
TIMING = "Self-reported doses taken inside the window ÷ doses due at a clock time whose outcome is known."
CORRECT_DAYS = (
    "Local days with exactly the prescribed number of self-reported doses, at whatever time ÷ days with a dose due "
    "whose number is known."
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
class DoseAdherence:
    """Doses with a plan: how many slots had which outcome, the doses beyond them, and what that amounts to."""

    outcomes: Mapping[Outcome, int]
    extras: int
    taking: Ratio
    timing: Ratio
    correct_days: Ratio


@dataclass(frozen=True)
class SessionAdherence:
    """Sessions with a plan: how many had which outcome, those beyond it, and the share attended."""

    outcomes: Mapping[Outcome, int]
    extras: int
    attended: Ratio


@dataclass(frozen=True)
class Assessment:
    """One treatment over a time: doses or sessions by plan, and what was used as needed; None where it has none."""

    matching: Matching
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

    Events of `regimens.margin(treatment)` around these days are needed too. `readings` are the patient's own pain
    scores now, on the scale of the events (0 to 10), in time order.
    """
    matching = match(treatment, events, start, end, word)
    kinds = {isinstance(regimen.schedule, AsNeeded) for regimen in treatment.regimens}
    planned, medication = False in kinds, is_medication(treatment.category)
    return Assessment(
        matching,
        dose_figures([matching]) if planned and medication else None,
        session_figures([matching]) if planned and not medication else None,
        use(treatment, events, start, end, readings) if True in kinds else None,
    )


def overall(assessments: Sequence[Assessment]) -> Overall:
    """The figures of several treatments together; a day counts once for each treatment."""
    return Overall(
        dose_figures([one.matching for one in assessments if one.doses]),
        session_figures([one.matching for one in assessments if one.sessions]),
    )


def dose_figures(matchings: Sequence[Matching]) -> DoseAdherence:
    """The figures of medications that are taken by plan."""
    judged = [one for matching in matchings for one in matching.judged]
    timed = [one for one in judged if isinstance(one.slot, DueSlot)]
    days = Counter[bool | None]()
    for matching in matchings:
        days.update(_days(matching))
    return DoseAdherence(
        _outcomes(judged),
        sum(len(matching.extras) for matching in matchings),
        _share(judged, DONE, TAKING),
        _share(timed, frozenset({Outcome.ON_TIME}), TIMING),
        _figure(days[True], days[True] + days[False], days[None], CORRECT_DAYS),
    )


def session_figures(matchings: Sequence[Matching]) -> SessionAdherence:
    """The figures of treatments that are done in sessions."""
    judged = [one for matching in matchings for one in matching.judged]
    extras = sum(len(matching.extras) for matching in matchings)
    return SessionAdherence(_outcomes(judged), extras, _share(judged, DONE, SESSIONS))


def _outcomes(judged: Iterable[Judged]) -> dict[Outcome, int]:
    """How many slots had each outcome; what is not yet due is left out."""
    counted = Counter(one.outcome for one in judged)
    return {outcome: counted[outcome] for outcome in Outcome if outcome != Outcome.NOT_DUE}


def _share(judged: Iterable[Judged], met: frozenset[Outcome], definition: str) -> Ratio:
    """The share of the due slots whose outcome is one of these."""
    counted = Counter(one.outcome for one in judged if one.outcome not in _OUT)
    unknown = counted[Outcome.UNKNOWN]
    return _figure(sum(counted[outcome] for outcome in met), counted.total() - unknown, unknown, definition)


def _figure(met: int, known: int, unknown: int, definition: str) -> Ratio:
    """The share met, over the known; over all that was due for the bounds."""
    due = known + unknown
    if not due:
        return Ratio(0, 0, None, None, None, None, definition)
    value = met / known if known else None
    return Ratio(met, known, value, met / due, (met + unknown) / due, known / due, definition)


def _days(matching: Matching) -> Iterable[bool | None]:
    """For each day with a dose due and none still to come, whether the number was exact; None: nobody can tell.

    Weekly targets prescribe no number for a day. A dose belongs to the day of the slot it took, an extra one to the
    day it was taken.
    """
    days = defaultdict[date, list[Outcome]](list)
    for one in matching.judged:
        if isinstance(one.slot, DueSlot) or one.slot.first == one.slot.last:
            days[one.slot.day].append(one.outcome)
    extras = Counter(local_date(event.occurred_at) for event in matching.extras if event.status == "taken")
    for day, outcomes in days.items():
        due = [outcome for outcome in outcomes if outcome is not Outcome.HELD]
        if due and Outcome.NOT_DUE not in due:
            yield _is_exact(due, extras[day])


def _is_exact(due: Sequence[Outcome], extras: int) -> bool | None:
    """Whether as many doses were taken as were due; None where the unknown ones could make it so or not."""
    taken = sum(outcome in DONE for outcome in due) + extras
    unknown = due.count(Outcome.UNKNOWN)
    if unknown and taken <= len(due) <= taken + unknown:
        return None
    return taken == len(due)
