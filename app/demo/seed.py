"""A believable year of one patient, for whoever tries the service out: the same for the same last day.

The patient registers, signs in, logs and shares, and the clinician is invited, through the same calls as everybody;
only the phone's last word is set back.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import select, update

from app.config import Settings
from app.demo.treatments import last_word_at, treatment_events, treatments
from app.demo.year import BIRTH_DATE, LOCALE, ZONE, profile, year_of_entries
from app.models import DeviceSession, User
from app.postgres.database import Database
from app.schemas.auth import RegistrationIn, SignInIn
from app.schemas.care_team import ShareCodeIn
from app.schemas.entries import ENTRY
from app.schemas.profile import PROFILE
from app.schemas.treatment_events import TREATMENT_EVENT
from app.schemas.treatments import TREATMENT
from app.security.cursors import Cursors
from app.services import auth, care_team, invitations, record_store
from app.services.access import Caller, Diary
from app.services.record_store import RecordWrite
from app.services.records import change_of
from app.services.sessions import SignedIn

PATIENT = "patient@example.org"
CLINICIAN = "clinician@example.org"
PASSWORD = "demo-demo-demo-demo"  # noqa: S105 - it is printed at start; never seeded in production
ORGANISATION = "Pain clinic Mitte"
TERMS = ShareCodeIn(
    scopes=["entries:read", "treatments:read", "treatments:write", "profile:read", "adherence:read"],
    purpose="Treatment at the pain clinic",
    days=365,
)  # without notes:read, so that the difference can be seen
BATCH = 100
_SECRET = b"demo"  # makes a code that is redeemed at once, and keys of delays that nobody meets again


def welcome(address: str) -> str:
    """Where the demo is, who may sign in, and what to do next."""
    return f"""
Docs:      {address}/docs
Patient:   {PATIENT} / {PASSWORD}
Clinician: {CLINICIAN} / {PASSWORD}
Next:      log pain and see it in the timeline, in another terminal: README.md, "Log pain"
Anew:      Ctrl-C, then `make reset`
Stop:      Ctrl-C
"""


def seed(settings: Settings, owner_url: str) -> None:
    """Adds the demo patient, and the clinician whom they trust, where there are none; for development only."""
    if not settings.development:
        raise RuntimeError("demo data are for development only")
    asyncio.run(_seed(settings, owner_url))


async def _seed(settings: Settings, owner_url: str) -> None:
    database = Database(settings)
    await database.start()
    try:
        async with database.open_transaction() as transaction:
            accounts = set(await transaction.scalars(select(User.email).where(User.email.in_((PATIENT, CLINICIAN)))))
        if PATIENT not in accounts:
            await _register(database)
            phone = await _sign_in(database, settings, PATIENT, "Robin's phone")
            await _fill(_own_diary(database, phone), datetime.now(UTC).date() - timedelta(days=1))
        if CLINICIAN not in accounts:
            await _invite(database, owner_url)
            browser = await _sign_in(database, settings, PATIENT, "Robin's browser")
            clinician = await _sign_in(database, settings, CLINICIAN, "Dr. Weber's desk")
            await _consent(_own_diary(database, browser), _caller(clinician))
    finally:
        await database.stop()


async def _register(database: Database) -> None:
    registration = {"display_name": "Robin Demo", "birth_date": BIRTH_DATE, "time_zone": ZONE, "locale": LOCALE}
    body = RegistrationIn.model_validate({"email": PATIENT, "password": PASSWORD} | registration)
    await auth.register(database, body, None, _SECRET, datetime.now(UTC))


async def _invite(database: Database, owner_url: str) -> None:
    """Makes the clinician as an operator would, who then follows the link."""
    await invitations.add_organisation(owner_url, ORGANISATION)
    token = await invitations.invite_clinician(
        owner_url, CLINICIAN, "Dr. Weber", "physician", ORGANISATION, unverified=False
    )
    await invitations.accept(database, token, PASSWORD, datetime.now(UTC))


async def _consent(diary: Diary, clinician: Caller) -> None:
    """Shared, redeemed and confirmed, as two people would do it."""
    now = datetime.now(UTC)
    async with diary.database.open_transaction() as transaction:
        await care_team.own(transaction, diary, "demo.seed")
        code = (await care_team.share(transaction, diary, _SECRET, uuid4().hex, TERMS, now)).code
    grant = await care_team.redeem(diary.database, clinician, _SECRET, code, False, now)
    async with diary.database.open_transaction() as transaction:
        await care_team.own(transaction, diary, "demo.seed")
        await care_team.confirm(transaction, diary, UUID(grant.id), now)


async def _sign_in(database: Database, settings: Settings, email: str, device: str) -> SignedIn:
    body = SignInIn(email=email, password=PASSWORD, device_name=device)
    signed_in, _ = await auth.sign_in(database, settings, body, None, _SECRET, datetime.now(UTC))
    return signed_in


def _own_diary(database: Database, signed_in: SignedIn) -> Diary:
    assert signed_in.patient_id is not None  # noqa: S101 - a registration makes a patient
    return Diary(database, Cursors(_SECRET), _caller(signed_in), signed_in.patient_id)


def _caller(signed_in: SignedIn) -> Caller:
    return Caller(signed_in.user_id, signed_in.session_id, uuid4(), None)


async def _fill(diary: Diary, last_day: date) -> None:
    """Writes the year; then the phone falls silent, so that of its last days it is not known what was missed."""
    await _write(diary, PROFILE.write_scope, [change_of(PROFILE, profile(last_day), str(diary.patient_id), 0)])
    await _write(diary, TREATMENT.write_scope, [change_of(TREATMENT, one, one.id, 0) for one in treatments(last_day)])
    await _write(diary, ENTRY.write_scope, [change_of(ENTRY, one, one.id, 0) for one in year_of_entries(last_day)])
    events = [change_of(TREATMENT_EVENT, one, one.id, 0) for one in treatment_events(last_day)]
    await _write(diary, TREATMENT_EVENT.write_scope, events)
    async with diary.database.open_transaction() as transaction:
        phone = update(DeviceSession).where(DeviceSession.id == diary.caller.session_id)
        await transaction.execute(phone.values(has_sent=True, outbox_empty_at=last_word_at(last_day)))


async def _write(diary: Diary, scope: str, changes: Sequence[RecordWrite]) -> None:
    for start in range(0, len(changes), BATCH):
        await record_store.write(diary, "demo.seed", scope, list(changes[start : start + BATCH]))
