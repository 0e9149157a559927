"""A believable year of one patient, for whoever tries the service out: the same for the same last day.

Nothing here is special: the patient registers, signs in and logs through the same calls as everybody.
"""

import asyncio
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import select

from app.config import Settings
from app.database import Database
from app.models import User
from app.pagination import Cursors
from app.schemas.auth import RegistrationIn, SignInIn
from app.schemas.entries import EntryIn
from app.services import auth, entries, records
from app.services.records import Caller, Diary

EMAIL = "patient@example.org"
PASSWORD = "demo-demo-demo-demo"  # noqa: S105 - it is printed at start; never seeded in production
ZONE = "Europe/Berlin"
DAYS = 365
BATCH = 100
NOTES = (
    "Stiff after the long drive.",
    "Better once I had walked a little.",
    "Woke up twice because of it.",
    "Gardening was too much.",
    "A good day.",
    "Could not finish the shopping.",
    "The exercises helped.",
)


def seed(settings: Settings) -> None:
    """Adds the demo patient where there is none; refuses outside development."""
    if not settings.development:
        raise RuntimeError("demo data are for development only")
    asyncio.run(_seed(settings))


async def _seed(settings: Settings) -> None:
    database = Database(settings)
    await database.start()
    try:
        async with database.open_session() as session:
            if await session.scalar(select(User.id).where(User.email == EMAIL)):
                return
        diary = await _open_diary(database, settings)
        year = list(year_of_entries(datetime.now(UTC).date() - timedelta(days=1)))
        for start in range(0, len(year), BATCH):
            changes = [entries.change_of(entry, entry.id, 0) for entry in year[start : start + BATCH]]
            await records.write(diary, "demo.seed", entries.WRITE, changes)
    finally:
        await database.stop()


async def _open_diary(database: Database, settings: Settings) -> Diary:
    person = {"email": EMAIL, "password": PASSWORD}
    registration = {"display_name": "Robin Demo", "birth_date": "1974-09-12", "time_zone": ZONE, "locale": "en"}
    now = datetime.now(UTC)
    await auth.register(database, RegistrationIn.model_validate(person | registration), None, b"demo", now)
    body = SignInIn.model_validate(person | {"device_name": "Robin's phone"})
    signed_in = await auth.sign_in(database, settings, body, None, b"demo", now)
    assert signed_in.patient_id is not None  # noqa: S101 - a registration makes a patient
    caller = Caller(signed_in.user_id, signed_in.session_id, uuid4(), None)
    return Diary(database, Cursors(b"demo"), caller, signed_in.patient_id)


def year_of_entries(last_day: date) -> Iterator[EntryIn]:
    """Low back pain that slowly gets better, a flare in the middle, bad nights, migraines, and days without a word."""
    random = Random(20260101)  # noqa: S311 - the same year for everybody, not a secret
    for day_number in range(DAYS):
        day = last_day - timedelta(days=DAYS - 1 - day_number)
        level = _level(day_number) + random.gauss(0, 0.9)
        for _ in range(random.choices((0, 1, 2, 3), (14, 46, 30, 10))[0]):
            yield EntryIn.model_validate(_entry(random, day, level))
        if random.random() < 0.03:
            yield EntryIn.model_validate(_migraine(random, day))


def _level(day_number: int) -> float:
    """The usual pain of a day, 0 to 10: it falls over the year, with a flare of about six weeks in between."""
    flare = 3 * math.exp(-(((day_number - 190) / 18) ** 2))
    return 5.8 - 2.4 * day_number / DAYS + flare + 0.4 * math.sin(day_number / 7 * 2 * math.pi)


def _entry(random: Random, day: date, level: float) -> dict[str, Any]:
    score = max(0, min(10, round(level + random.gauss(0, 1))))
    entry = _base(random, day, random.choice((7, 8, 9, 13, 18, 20, 21)))
    if score == 0:
        return entry | {"no_pain": True, "mood": 8}
    sites = [_site(random, "lower_back_left", score, ("aching", "dull"))]
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


def _migraine(random: Random, day: date) -> dict[str, Any]:
    return _base(random, day, random.choice((10, 14, 16))) | {
        "sites": [_site(random, "head_front_right", random.randint(6, 9), ("throbbing",))],
        "onset": "gradual",
        "associated_symptoms": [{"code": "nausea", "severity": "moderate"}, {"code": "sensitivity_to_light"}],
        "relief": [{"code": "dark_room", "effect": "good"}],
        "duration_minutes": random.choice((180, 300, 480)),
    }


def _base(random: Random, day: date, hour: int) -> dict[str, Any]:
    at = datetime(day.year, day.month, day.day, hour, random.randrange(60), tzinfo=ZoneInfo(ZONE))
    return {
        "id": str(UUID(int=random.getrandbits(128), version=4)),
        "occurred_at": at.isoformat(),
        "recorded_at": (at + timedelta(minutes=random.randrange(1, 9))).isoformat(),
        "time_zone": ZONE,
        "source": {"app": "demo", "app_version": "1.0"},
    }


def _site(random: Random, region: str, score: int, characters: tuple[str, ...]) -> dict[str, Any]:
    scores = [{"measure": "now", "scale": "nrs_0_10", "value": score}]
    if random.random() < 0.3:
        scores.append({"measure": "worst", "scale": "nrs_0_10", "value": min(10, score + random.randint(0, 2))})
    return {"region": region, "depth": "deep", "scores": scores, "characters": list(characters)}
