"""A believable year of one patient, for whoever tries the service out: the same for the same last day.

The patient registers, signs in and logs through the same calls as everybody; only the phone's last word is set back.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

from sqlalchemy import select, update

from app.config import Settings
from app.database import Database
from app.models import DeviceSession, User
from app.pagination import Cursors
from app.schemas.auth import RegistrationIn, SignInIn
from app.services import auth, records
from app.services.demo_treatments import last_word_at, treatment_events, treatments
from app.services.demo_year import BIRTH_DATE, LOCALE, ZONE, profile, year_of_entries
from app.services.entries import ENTRY
from app.services.kinds import change_of
from app.services.profile import PROFILE
from app.services.records import Caller, Change, Diary
from app.services.treatment_events import TREATMENT_EVENT
from app.services.treatments import TREATMENT

EMAIL = "patient@example.org"
PASSWORD = "demo-demo-demo-demo"  # noqa: S105 - it is printed at start; never seeded in production
BATCH = 100


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
        await _fill(await _open_diary(database, settings), datetime.now(UTC).date() - timedelta(days=1))
    finally:
        await database.stop()


async def _fill(diary: Diary, last_day: date) -> None:
    """Writes the year; then the phone falls silent, so that of its last days it is not known what was missed."""
    await _write(diary, PROFILE.write, [change_of(PROFILE, profile(last_day), str(diary.patient_id), 0)])
    await _write(diary, TREATMENT.write, [change_of(TREATMENT, one, one.id, 0) for one in treatments(last_day)])
    await _write(diary, ENTRY.write, [change_of(ENTRY, one, one.id, 0) for one in year_of_entries(last_day)])
    events = [change_of(TREATMENT_EVENT, one, one.id, 0) for one in treatment_events(last_day)]
    await _write(diary, TREATMENT_EVENT.write, events)
    async with diary.database.open_session() as session:
        phone = update(DeviceSession).where(DeviceSession.id == diary.caller.session_id)
        await session.execute(phone.values(outbox_empty_at=last_word_at(last_day)))


async def _write(diary: Diary, scope: str, changes: Sequence[Change]) -> None:
    for start in range(0, len(changes), BATCH):
        await records.write(diary, "demo.seed", scope, list(changes[start : start + BATCH]))


async def _open_diary(database: Database, settings: Settings) -> Diary:
    person = {"email": EMAIL, "password": PASSWORD}
    registration = {"display_name": "Robin Demo", "birth_date": BIRTH_DATE, "time_zone": ZONE, "locale": LOCALE}
    now = datetime.now(UTC)
    await auth.register(database, RegistrationIn.model_validate(person | registration), None, b"demo", now)
    body = SignInIn.model_validate(person | {"device_name": "Robin's phone"})
    signed_in = await auth.sign_in(database, settings, body, None, b"demo", now)
    assert signed_in.patient_id is not None  # noqa: S101 - a registration makes a patient
    caller = Caller(signed_in.user_id, signed_in.session_id, uuid4(), None)
    return Diary(database, Cursors(b"demo"), caller, signed_in.patient_id)
