"""What the demo patient takes and does against the pain, and how it went: the same for the same last day."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from random import Random
from typing import NamedTuple

from app.demo.year import DAYS, ZONE, clock, envelope, first_day, pain_level, stamp, year_of_entries
from app.domain.due import DueSlot, slots
from app.domain.regimens import is_paused
from app.schemas.base import Json
from app.schemas.entries import EntryIn
from app.schemas.slots import plan_of
from app.schemas.treatment_events import TreatmentEventIn
from app.schemas.treatments import TreatmentIn

PREGABALIN = "6f1d3c52-9a47-4e0b-8c25-1b7e90d4a361"
IBUPROFEN = "a2c84b0e-57f3-4d19-b6e8-03d95c7f1e24"
PHYSIOTHERAPY = "d80e6b97-2c14-4f5a-93b1-7e46a0c2f5d8"
ALENDRONATE = "3b8f0e74-6d21-4c95-a7e3-9f50c2d1b846"
VITAMIN_B12 = "c51d9a28-0f76-4b3e-8d4a-62e7f1093b5c"
MAGNESIUM = "e94a7f13-b2c8-4d60-9a15-57d3086ce2f9"
LAST_WORD_DAYS_BEFORE = 2

MONTH = 30  # days of the year that lie before and after the change of dose, at least
DOSES = (50, 75)  # mg, before and after it
PAUSE_AFTER, PAUSE_DAYS = timedelta(days=12), timedelta(days=7)
COURSE_DAYS = 28  # of magnesium, up to the last day
NOTED_BY_DAY = (9, 10)  # days after the first on which nobody noted when it was
UNTOLD = {(1, 20), (0, 8)}  # days before the last, and hour: nothing is logged, and the phone says no more
INTERVAL, DAY, MAX_DOSES = timedelta(hours=6), timedelta(days=1), 3
BAD_DAYS = {176: ((7, 10), (10, 40)), 191: ((5, 50), (12, 0), (18, 5), (23, 50))}  # more than is allowed
WISH = {6: 0.35, 7: 0.6, 8: 0.85, 9: 1.0, 10: 1.0}  # how often such a pain asks for an ibuprofen
RELIEF = {"none": 0, "some": 2, "good": 4, "complete": 10}
SESSION_HOURS = {2: 16, 5: 10}  # Tuesday afternoon, Friday morning
SKIP_REASONS = ("forgot", "forgot", "side_effect", "no_pain", "felt_better", "unavailable", "fear_of_dependence")
CANCEL_REASONS = ("unavailable", "felt_better", "other")
TWICE_NOTES = ("Took it twice by mistake.", "Could not remember whether I had taken it.")
STOPPED_NOTES = ("Had to stop, it hurt too much.", "Came late, so it was short.")
SESSION_NOTES = ("New exercises for the hips.", "Told to walk more.", "Hard today, but it loosened things up.")


class Course(NamedTuple):
    """How it went: how often so, what the phone says of it if anything, and how late (least, most, usual minutes)."""

    weight: int
    status: str | None
    minutes: tuple[int, int, int] = (0, 20, 5)


DOSE_COURSES = (
    Course(70, "taken", (-40, 110, 5)),
    Course(10, "taken", (125, 215, 130)),
    Course(4, "taken", (-150, -65, -70)),
    Course(3, "partial", (-40, 110, 5)),
    Course(6, "skipped", (0, 120, 20)),
    Course(7, None),
)
PAUSED_COURSES = (Course(4, "held"), Course(6, None))
SESSION_COURSES = (
    Course(76, "attended"),
    Course(4, "partial"),
    Course(5, "not_attended"),
    Course(7, "cancelled_by_patient"),
    Course(5, "cancelled_by_provider"),
    Course(3, None),
)


def treatments(last_day: date) -> list[TreatmentIn]:
    """A medicine twice a day, its dose changed in spring, one as needed, and physiotherapy twice a week.

    And what is rarer or has doses of its own: once a week, every three months, 1-0-2.
    """
    plans = (_pregabalin(last_day), _ibuprofen(last_day), _physiotherapy(last_day), *_others(last_day))
    return [TreatmentIn.model_validate(plan) for plan in plans]


def treatment_events(last_day: date) -> list[TreatmentEventIn]:
    """A year of doses and sessions, most of them done, in the order they happened."""
    events = (
        *_pregabalin_events(last_day),
        *_ibuprofen_events(last_day),
        *_physiotherapy_events(last_day),
        *_other_events(last_day),
    )
    return sorted(map(TreatmentEventIn.model_validate, events), key=lambda event: event.occurred_at)


def last_word_at(last_day: date) -> datetime:
    """When the phone last said that it had nothing left to send: what it does not tell of after that is unknown."""
    return clock(last_day - timedelta(days=LAST_WORD_DAYS_BEFORE), 12)


def dose_changed_on(last_day: date) -> date:
    """A day in spring with a month of the year at least before and after it: 15 March where it is one, else 15 May."""
    springs = (date(year, month, 15) for year in (last_day.year, last_day.year - 1) for month in (3, 5))
    return next(day for day in springs if MONTH <= (last_day - day).days <= DAYS - MONTH)


def _pregabalin(last_day: date) -> Json:
    changed = dose_changed_on(last_day)
    schedule = {"type": "scheduled", "times": ["08:00", "20:00"], "early_minutes": 60, "late_minutes": 120}
    paused = changed + PAUSE_AFTER
    return _agreed(PREGABALIN, last_day) | {
        "category": "prescription_medication",
        "name": "Pregabalin 25 mg",
        "ingredients": [{"name": "pregabalin", "rxnorm": "187832", "strength": {"value": 25, "unit": "mg"}}],
        "form": "capsule",
        "route": "oral",
        "regimens": [
            _regimen(clock(first_day(last_day), 0), schedule, _mg(DOSES[0])),
            _regimen(clock(changed, 12), schedule, _mg(DOSES[1])),
        ],
        "pauses": [{"from": clock(paused, 14).isoformat(), "to": clock(paused + PAUSE_DAYS, 6).isoformat()}],
        "prescriber": "Dr. Weber, pain clinic",
        "authored_by": "clinician",
        "acknowledged_at": clock(first_day(last_day), 7, 30).isoformat(),
        "note": "The clinic paused it for a week because of the dizziness.",
    }


def _ibuprofen(last_day: date) -> Json:
    schedule = {
        "type": "prn",
        "min_interval_minutes": INTERVAL // timedelta(minutes=1),
        "max_doses_24h": MAX_DOSES,
        "max_amount_24h": _mg(1200),
        "indication": "Back pain or migraine of 6 or more",
    }
    return _agreed(IBUPROFEN, last_day) | {
        "category": "otc_medication",
        "name": "Ibuprofen 400 mg",
        "ingredients": [{"name": "ibuprofen", "rxnorm": "5640", "strength": {"value": 400, "unit": "mg"}}],
        "form": "tablet",
        "route": "oral",
        "regimens": [_regimen(clock(first_day(last_day), 0), schedule, _mg(400))],
    }


def _physiotherapy(last_day: date) -> Json:
    schedule = {"type": "target", "count": len(SESSION_HOURS), "per": "week", "minutes": 30}
    return _agreed(PHYSIOTHERAPY, last_day) | {
        "category": "physical_therapy",
        "name": "Physiotherapy",
        "regimens": [_regimen(clock(_first_monday(last_day), 0), schedule)],
        "prescriber": "Dr. Weber, pain clinic",
    }


def _others(last_day: date) -> Iterator[Json]:
    """Once a week before breakfast, an injection every three months, and a course of 1-0-2."""
    weekly = {"type": "weekly", "every_n_weeks": 1, "days_of_week": [7]}
    quarterly = {"type": "monthly", "every_n_months": 3, "days_of_month": [1]}
    began, course = clock(first_day(last_day), 0), clock(last_day - timedelta(days=COURSE_DAYS - 1), 0)
    yield _agreed(ALENDRONATE, last_day) | {
        "category": "prescription_medication",
        "name": "Alendronic acid 70 mg",
        "form": "tablet",
        "route": "oral",
        "regimens": [_regimen(began, _calendar(weekly, {"time": "07:00", "meal": "before"}), _counted(1, "tablet"))],
    }
    yield _agreed(VITAMIN_B12, last_day) | {
        "category": "prescription_medication",
        "name": "Vitamin B12",
        "form": "injection",
        "regimens": [_regimen(began, _calendar(quarterly, {"time": "10:00"}), _counted(1, "injection"))],
    }
    yield {"id": MAGNESIUM, **stamp(course + timedelta(hours=7), 10)} | {
        "category": "otc_medication",
        "name": "Magnesium 1-0-2",
        "form": "tablet",
        "route": "oral",
        "regimens": [
            _regimen(
                course,
                _calendar(
                    {"type": "daily", "every_n_days": 1},
                    {"time": "08:30", "dose": _counted(1, "tablet"), "meal": "with"},
                    {"time": "19:30", "dose": _counted(2, "tablet")},
                ),
            )
        ],
    }


def _calendar(days: Json, *at: Json) -> Json:
    return {"type": "calendar", "days": days, "at": [*at], "early_minutes": 60, "late_minutes": 120}


def _counted(value: float, what: str) -> Json:
    return {"value": value, "unit": f"{{{what}}}"}


def _first_monday(last_day: date) -> date:
    """The day from which weeks are whole."""
    day = first_day(last_day)
    return day + timedelta(days=-day.weekday() % 7)


def _agreed(treatment_id: str, last_day: date) -> Json:
    return {"id": treatment_id, **stamp(clock(first_day(last_day), 7), 10)}


def _regimen(since: datetime, schedule: Json, dose: Json | None = None) -> Json:
    return {"valid_from": since.isoformat(), "time_zone": ZONE, "dose": dose, "schedule": schedule}


def _mg(value: float) -> Json:
    return {"value": value, "unit": "mg"}


def _event(random: Random, treatment_id: str, at: datetime, status: str) -> Json:
    return envelope(random, at) | {"treatment_id": treatment_id, "status": status}


def _draw(random: Random, courses: Sequence[Course]) -> Course:
    return random.choices(courses, [course.weight for course in courses])[0]


def _late(random: Random, course: Course) -> timedelta:
    return timedelta(minutes=round(random.triangular(*course.minutes)))


def _side_effects(random: Random, share: float, *codes: str) -> Json:
    """One of these side effects, so often."""
    if random.random() >= share:
        return {}
    return {"side_effects": [{"code": random.choice(codes), "severity": random.choice(("mild", "moderate"))}]}


def _pregabalin_events(last_day: date) -> Iterator[Json]:
    """Most doses taken; drowsy on the new dose until the pause; now and then a second one by mistake."""
    random = Random(20260107)  # noqa: S311 - the same year for everybody, not a secret
    plan = plan_of(TreatmentIn.model_validate(_pregabalin(last_day)))
    by_day = {first_day(last_day) + timedelta(days=number) for number in NOTED_BY_DAY}
    for slot in slots(plan, first_day(last_day), last_day):
        course = _draw(random, PAUSED_COURSES if is_paused(plan, slot.due_at, slot.due_at) else DOSE_COURSES)
        if course.status is None or ((last_day - slot.day).days, slot.due_at.hour) in UNTOLD:
            continue
        at = slot.due_at + _late(random, course)
        event = _event(random, PREGABALIN, at, course.status) | _told(random, slot, course.status)
        if course.status != "taken":
            yield event
            continue
        if slot.day in by_day:
            event["occurred_precision"] = "day"
        is_new = slot.regimen == 1 and slot.due_at < plan.pauses[0].from_
        yield event | _side_effects(random, 0.4 if is_new else 0.02, "drowsiness", "dizziness")
        if random.random() < 0.008:
            again = _event(random, PREGABALIN, at + timedelta(minutes=random.randrange(10, 20)), "taken")
            yield again | {"amount": event["amount"], "note": random.choice(TWICE_NOTES)}


def _told(random: Random, slot: DueSlot, status: str) -> Json:
    """What is said of a dose: which one was meant (mostly), how much it was, or why it was not taken."""
    meant = {"scheduled_for": slot.due_at.isoformat()}
    if status == "held":
        return meant | {"reason": "told_to_stop"}
    if status == "skipped":
        return meant | {"reason": random.choice(SKIP_REASONS)}
    if status == "partial":
        return meant | {"amount": _mg(25), "reason": random.choice(("side_effect", "fear_of_dependence"))}
    return (meant if random.random() < 0.8 else {}) | {"amount": _mg(DOSES[slot.regimen])}


def _ibuprofen_events(last_day: date) -> Iterator[Json]:
    """A dose at bad pain where the limits allow it, and two bad days on which they were forgotten."""
    random = Random(20260103)  # noqa: S311 - the same year for everybody, not a secret
    taken = [
        clock(first_day(last_day) + timedelta(days=number), *time)
        for number, times in BAD_DAYS.items()
        for time in times
    ]
    for at in taken:
        yield _ibuprofen_event(random, at, random.randint(7, 9))
    for entry in year_of_entries(last_day):
        if entry.entry_mode == "imported" or entry.episode_id not in (None, entry.id):
            continue  # it was treated before, or when the attack began
        at = entry.occurred_at + timedelta(minutes=random.randrange(5, 50))
        if random.random() < _wish(entry) and _is_allowed(at, taken):
            taken.append(at)
            linked = {"entry_id": entry.id} if random.random() < 0.7 else {}
            yield _ibuprofen_event(random, at, _pain(entry)) | linked


def _ibuprofen_event(random: Random, at: datetime, pain: int) -> Json:
    event = _event(random, IBUPROFEN, at, "taken") | {"amount": _mg(400)}
    event |= _side_effects(random, 0.06, "heartburn", "stomach_pain")
    if random.random() < 0.15:
        return event
    event["pain_before"] = pain
    if random.random() < 0.15:
        return event
    relief = random.choices(tuple(RELIEF), (15, 55, 27, 3))[0]
    later = stamp(at, random.randrange(40, 65))  # saved when the effect was known
    return event | later | {"relief_rating": relief, "pain_after": max(0, pain - RELIEF[relief])}


def _pain(entry: EntryIn) -> int:
    return int(entry.sites[0].scores[0].value) if entry.sites else 0


def _wish(entry: EntryIn) -> float:
    """How likely this entry makes the patient want an ibuprofen: a migraine more than any back pain."""
    is_migraine = any(site.region.startswith("head") for site in entry.sites)
    return 0.9 if is_migraine else WISH.get(_pain(entry), 0)


def _is_allowed(at: datetime, taken: Sequence[datetime]) -> bool:
    """Whether a dose at this time keeps the interval and the maximum, whatever was taken before and after it."""
    distances = [abs(at - other) for other in taken]
    return min(distances) >= INTERVAL and sum(distance < DAY for distance in distances) < MAX_DOSES


def _physiotherapy_events(last_day: date) -> Iterator[Json]:
    """Two sessions a week: most attended, some cancelled by either side, a few not told of."""
    random = Random(20260104)  # noqa: S311 - the same year for everybody, not a secret
    for number in range((_first_monday(last_day) - first_day(last_day)).days, DAYS):
        day = first_day(last_day) + timedelta(days=number)
        if day.isoweekday() not in SESSION_HOURS:
            continue
        course = _draw(random, SESSION_COURSES)
        if course.status is None:
            continue
        at = clock(day, SESSION_HOURS[day.isoweekday()]) + _late(random, course)
        event = _event(random, PHYSIOTHERAPY, at, course.status)
        yield event | _told_of_session(random, at, course.status, round(pain_level(number)))


def _told_of_session(random: Random, at: datetime, status: str, pain: int) -> Json:
    """What is said of a session: how long it was and what it did, or why not."""
    if status == "partial":
        return stamp(at, 20) | {"minutes": 15, "reason": "other", "note": random.choice(STOPPED_NOTES)}
    if status == "not_attended":
        return {"reason": random.choice(("forgot", "unavailable"))}
    if status == "cancelled_by_patient":
        return {"reason": random.choice(CANCEL_REASONS)}
    if status == "cancelled_by_provider":
        return {}
    told = stamp(at, random.randrange(32, 60)) | {"minutes": 30} | _side_effects(random, 0.1, "soreness")
    if random.random() < 0.6:
        told |= {"pain_before": pain, "pain_after": max(0, pain - random.randrange(3))}
    if random.random() < 0.05:
        told["note"] = random.choice(SESSION_NOTES)
    return told


def _other_events(last_day: date) -> Iterator[Json]:
    """Most of the rest, in time, with the dose of its own time; of one in twelve nothing is said."""
    random = Random(20260105)  # noqa: S311 - the same year for everybody, not a secret
    for agreed in _others(last_day):
        for slot in slots(plan_of(TreatmentIn.model_validate(agreed)), first_day(last_day), last_day):
            if slot.dose is None or random.random() < 1 / 12:
                continue
            at = slot.due_at + timedelta(minutes=random.randrange(40))
            event = _event(random, agreed["id"], at, "taken") | {"scheduled_for": slot.due_at.isoformat()}
            yield event | {"amount": {"value": slot.dose.value, "unit": slot.dose.unit}}
