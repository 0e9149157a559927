"""The demo patient: logged like anybody's diary, and never in production."""

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import anyio.to_thread
import asyncpg
import httpx
import pytest

from app.config import Settings
from app.services import demo
from app.services.demo_treatments import treatment_events, treatments
from app.services.demo_year import year_of_entries
from tests.people import Person, Phone

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def test_seeding_twice_makes_one_patient_with_one_year(
    settings: Settings, client: httpx.AsyncClient, superuser: Connection
) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    for _ in range(2):
        await anyio.to_thread.run_sync(demo.seed, settings)
    answer = await Person(email=demo.EMAIL, password=demo.PASSWORD).sign_in(client)
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    robin = Phone(client, Person(), answer.json())
    year = [*year_of_entries(yesterday), *treatments(yesterday), *treatment_events(yesterday)]
    assert (await robin.get()).json()["head"] == 1 + len(year)
    adherence = await robin.get(
        "/adherence", params={"from": str(yesterday - timedelta(days=29)), "to": str(yesterday)}
    )
    outcomes = adherence.json()["overall"]["doses"]["outcomes"]
    assert min(outcomes[name] for name in ("on_time", "skipped", "unknown")) > 0
    assert adherence.json()["left_out"] == {"treatment_missing": 0, "status_does_not_fit": 0}
    assert await superuser.fetch("SELECT * FROM verify_diaries() WHERE patient::text = $1", robin.patient_id) == []


async def test_outside_development_nothing_is_seeded(settings: Settings) -> None:
    production = settings.model_copy(update={"environment": "production"})
    with pytest.raises(RuntimeError, match="for development only"):
        demo.seed(production)
