"""Who the demo patient is, and a believable year of entries: the same story whatever its last day."""

import math
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from random import Random
from uuid import UUID
from zoneinfo import ZoneInfo

from app.schemas.base import Json
from app.schemas.entries import EntryIn
from app.schemas.profile import ProfileFields

BIRTH_DATE = "1974-09-12"
LOCALE = "en"
ZONE = "Europe/Berlin"
DAYS = 365
NOTES = (
    "Stiff after the long drive.",
    "Better once I had walked a little.",
    "Woke up twice because of it.",
    "Gardening was too much.",
    "A good day.",
    "Could not finish the shopping.",
    "The exercises helped.",
)


def first_day(last_day: date) -> date:
    """The day the diary begins."""
    return last_day - timedelta(days=DAYS - 1)


def clock(day: date, hour: int, minute: int = 0) -> datetime:
    """The instant at which the patient's clock shows this time."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZoneInfo(ZONE))


def profile(last_day: date) -> ProfileFields:
    """Who the patient is, as filled in on the first day."""
    day = first_day(last_day)
    return ProfileFields.model_validate(
        {
            **stamp(clock(day, 6, 40), 5),
            "birth_date": BIRTH_DATE,
            "sex_at_birth": "female",
            "locale": LOCALE,
            "weight": {"value": 71.5, "on": (day - timedelta(days=9)).isoformat()},
            "pregnancy": {"status": "not_pregnant"},
            "breastfeeding": False,
            "conditions": ["back_pain", "migraine"],
            "allergies": ["codeine"],
            "cognitive_impairment": False,
        }
    )


def year_of_entries(last_day: date) -> Iterator[EntryIn]:
    """Low back pain that slowly gets better, a flare in the middle, bad nights, migraines, and days without a word."""
    random = Random(20260101)  # noqa: S311 - the same year for everybody, not a secret
    yield EntryIn.model_validate(_imported(first_day(last_day)))
    for day_number in range(DAYS):
        day = first_day(last_day) + timedelta(days=day_number)
        level = pain_level(day_number) + random.gauss(0, 0.9)
        for _ in range(random.choices((0, 1, 2, 3), (14, 46, 30, 10))[0]):
            yield EntryIn.model_validate(_entry(random, day, level))
        if random.random() < 0.03:
            yield from map(EntryIn.model_validate, _migraine(random, day))


def pain_level(day_number: int) -> float:
    """The usual pain of a day, 0 to 10: it falls over the year, with a flare of about six weeks in between."""
    flare = 3 * math.exp(-(((day_number - 190) / 18) ** 2))
    return 5.8 - 2.4 * day_number / DAYS + flare + 0.4 * math.sin(day_number / 7 * 2 * math.pi)


def envelope(random: Random, at: datetime) -> Json:
    """What every record of the year starts with: an id of its own, and when it was; saved some minutes later."""
    return {"id": str(UUID(int=random.getrandbits(128), version=4)), **stamp(at, random.randrange(1, 9))}


def stamp(at: datetime, saved_after_minutes: int) -> Json:
    """When and where it was, and when the phone saved it."""
    return {
        "occurred_at": at.isoformat(),
        "recorded_at": (at + timedelta(minutes=saved_after_minutes)).isoformat(),
        "time_zone": ZONE,
        "source": {"app": "demo", "app_version": "1.0"},
    }


def _imported(day: date) -> Json:
    """What the patient read in from an app of before: a day without a time, and a place that its list did not have."""
    return stamp(clock(day, 6, 30), 2) | {
        "id": "5b0f5c1e-3d0a-4c66-8f0e-2a7d91c4e8b3",
        "source": {"app": "demo", "app_version": "1.0", "system": "https://example.com/pain-log", "record_id": "2041"},
        "entry_mode": "imported",
        "occurred_precision": "day",
        "sites": [{"region": "other", "scores": [{"measure": "worst", "scale": "nrs_0_10", "value": 7}]}],
        "clinical_course": "acute_on_chronic",
        "note": "Behind the left shoulder blade.",
    }


def _entry(random: Random, day: date, level: float) -> Json:
    score = max(0, min(10, round(level + random.gauss(0, 1))))
    entry = _base(random, day, random.choice((7, 8, 9, 13, 18, 20, 21)))
    if score == 0:
        return entry | {"no_pain": True, "mood": 8}
    sites = [_site(random, "lower_back_left" if score > 1 else "unspecified", score, ("aching", "dull"))]
    if score >= 6:
        sites.append(_site(random, "buttock_left", score - 1, ("shooting", "burning")))
    entry |= {
        "sites": sites,
        "pattern": random.choice(("constant", "intermittent")),
        "mood": max(0, min(10, 9 - score + random.randint(-1, 1))),
        "triggers": [{"code": random.choice(("sitting", "lifting", "poor_sleep", "stress", "bending"))}],
        "relief": [{"code": random.choice(("walking", "heat", "rest", "stretching")), "effect": "some"}],
        "duration_minutes": random.choice((30, 60, 90, 120, 240)),
    }
    if random.random() < 0.4:
        hours = round(max(3.0, min(9.0, 8.2 - score / 3 + random.gauss(0, 0.5))) * 2) / 2
        entry["sleep"] = {"hours": hours, "quality": max(0, 9 - score), "awakenings": random.randint(0, score // 2)}
    if random.random() < 0.15:
        entry["note"] = random.choice(NOTES)
    return entry


def _migraine(random: Random, day: date) -> tuple[Json, Json]:
    """An attack in two readings: when it was bad, and four hours later."""
    bad = _base(random, day, random.choice((10, 14, 16))) | {
        "sites": [
            _site(random, "head_front_right", random.randint(6, 9), ("throbbing",)) | {"radiates_to": ["eye_right"]}
        ],
        "onset": "gradual",
        "associated_symptoms": [
            {"code": "nausea", "severity": "moderate"},
            {"code": "sensitivity_to_light"},
            {"code": "fever", "present": False},
        ],
        "ongoing": True,
        "duration_minutes": random.choice((60, 120, 180)),
    }
    bad["episode_id"] = bad["id"]
    later = stamp(datetime.fromisoformat(bad["occurred_at"]) + timedelta(hours=4), 3) | {
        "id": str(UUID(int=UUID(bad["id"]).int ^ 1)),
        "episode_id": bad["id"],
        "sites": [{"region": "head_front_right"}],  # still there; how much was not said
        "course": "improving",
        "relief": [{"code": "dark_room", "effect": "good"}],
    }
    return bad, later


def _base(random: Random, day: date, hour: int) -> Json:
    return envelope(random, clock(day, hour, random.randrange(60)))


def _site(random: Random, region: str, score: int, characters: tuple[str, ...]) -> Json:
    scores = [{"measure": "now", "scale": "nrs_0_10", "value": score}]
    if random.random() < 0.3:
        scores.append({"measure": "worst", "scale": "nrs_0_10", "value": min(10, score + random.randint(0, 2))})
    return {"region": region, "depth": "deep", "scores": scores, "characters": list(characters)}
