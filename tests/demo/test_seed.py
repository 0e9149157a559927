"""The demo patient and clinician: made like anybody, and never in production."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import anyio.to_thread
import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.demo import seed
from app.demo.treatments import treatment_events, treatments
from app.demo.year import year_of_entries
from tests.answers import told
from tests.conftest import connect
from tests.people import Person, Phone, lent

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def seed_demo(settings: Settings, owner_url: str) -> None:
    await anyio.to_thread.run_sync(seed.seed, settings, owner_url)


async def sign_in(http: httpx.AsyncClient, email: str) -> Phone:
    person = Person(email=email, password=seed.PASSWORD)
    answer = await person.sign_in(http)
    assert answer.status_code == 201, answer.text
    http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return Phone(http, person, answer.json())


@pytest.fixture
async def robin(app: FastAPI, settings: Settings, owner_url: str) -> AsyncIterator[Phone]:
    """The demo patient."""
    await seed_demo(settings, owner_url)
    async with connect(app) as http:
        yield await sign_in(http, seed.PATIENT)


@pytest.fixture
async def weber(app: FastAPI, robin: Phone) -> AsyncIterator[Phone]:
    """The demo clinician, pointed at the diary of the demo patient."""
    async with connect(app) as http:
        yield lent(await sign_in(http, seed.CLINICIAN), robin)


async def test_seeding_twice_makes_one_patient_with_one_year(
    robin: Phone, settings: Settings, owner_url: str, superuser: Connection
) -> None:
    await seed_demo(settings, owner_url)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    year = [*year_of_entries(yesterday), *treatments(yesterday), *treatment_events(yesterday)]
    assert (await robin.get()).json()["head"] == 1 + len(year)
    adherence = await robin.get(
        "/adherence", params={"from": str(yesterday - timedelta(days=29)), "to": str(yesterday)}
    )
    outcomes = adherence.json()["overall"]["doses"]["outcomes"]
    assert min(outcomes[name] for name in ("on_time", "skipped", "unknown")) > 0
    left_out = adherence.json()["left_out"]
    assert left_out.pop("other_days") <= 5  # at the edges: of the evening before, or of a week that is not over
    assert not any(left_out.values())
    assert await superuser.fetch("SELECT verify_diary_v1($1::uuid)", robin.patient_id) == []


async def test_the_clinician_of_the_demo_has_one_consent_in_the_words_that_the_patient_sees(
    robin: Phone, weber: Phone, settings: Settings, owner_url: str
) -> None:
    await seed_demo(settings, owner_url)
    [given], [held] = [
        answer.json()["items"] for answer in (await robin.get("/grants"), await weber.http.get("/v1/me/grants"))
    ]
    assert given == held
    assert (held["status"], held["scopes"]) == ("active", seed.TERMS.scopes)
    assert held["words"][0] == "Dr. Weber, physician, Pain clinic Mitte may, in the diary of Robin Demo:"


async def test_the_clinician_of_the_demo_reads_all_but_the_notes_and_logs_no_pain(robin: Phone, weber: Phone) -> None:
    [seen] = (await weber.http.get("/v1/me/patients")).json()["items"]
    assert (seen["id"], seen["head"]) == (robin.patient_id, (await robin.get()).json()["head"])
    pages = [(await phone.get("/entries", params={"limit": 200})).json()["items"] for phone in (robin, weber)]
    assert any("note" in entry for entry in pages[0])
    assert pages[1] == [{name: value for name, value in entry.items() if name != "note"} for entry in pages[0]]
    assert told(await weber.log()) == (403, "insufficient-scope")


async def test_a_demo_from_before_there_were_clinicians_gains_one(
    robin: Phone, app: FastAPI, settings: Settings, owner_url: str, superuser: Connection
) -> None:
    head = (await robin.get()).json()["head"]
    await superuser.execute("DELETE FROM grants WHERE patient_id = $1", UUID(robin.patient_id))
    await superuser.execute("DELETE FROM users WHERE email = $1", seed.CLINICIAN)
    await seed_demo(settings, owner_url)
    async with connect(app) as http:
        weber = lent(await sign_in(http, seed.CLINICIAN), robin)
        assert (await weber.get("/timeline")).status_code == 200
    assert (await robin.get()).json()["head"] == head


async def test_outside_development_nothing_is_seeded(settings: Settings, owner_url: str) -> None:
    production = settings.model_copy(update={"environment": "production"})
    with pytest.raises(RuntimeError, match="for development only"):
        seed.seed(production, owner_url)
