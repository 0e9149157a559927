"""The demo year: the same for everybody, believable, logged like anybody's diary, and never in production."""

from datetime import date, timedelta
from statistics import mean
from typing import TypeAlias

import anyio.to_thread
import asyncpg
import httpx
import pytest

from app.config import Settings
from app.schemas.entries import EntryIn
from app.services import demo
from tests.people import Person, Phone

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
LAST_DAY = date(2026, 11, 21)
FIRST_DAY = LAST_DAY - timedelta(days=demo.DAYS - 1)
YEAR = list(demo.year_of_entries(LAST_DAY))


def back_pain(first: int, last: int) -> float:
    """The mean score of the back between two days of the year."""
    scores = [
        entry.sites[0].scores[0].value if entry.sites else 0
        for entry in YEAR
        if first <= (entry.occurred_at.date() - FIRST_DAY).days < last
        if not entry.sites or entry.sites[0].region == "lower_back_left"
    ]
    return mean(scores)


def test_the_year_is_the_same_each_time_it_is_made() -> None:
    assert list(demo.year_of_entries(LAST_DAY)) == YEAR


def test_a_year_that_ends_on_another_day_tells_the_same_story() -> None:
    later = list(demo.year_of_entries(LAST_DAY + timedelta(days=3)))
    assert [entry.sites for entry in later] == [entry.sites for entry in YEAR]
    assert [entry.id for entry in later] == [entry.id for entry in YEAR]


def test_the_year_has_days_with_several_entries_and_days_without_a_word() -> None:
    days = [entry.occurred_at.date() for entry in YEAR]
    assert FIRST_DAY <= min(days) < max(days) <= LAST_DAY
    assert 1.0 < len(YEAR) / demo.DAYS < 2.0
    assert 20 < demo.DAYS - len(set(days)) < 100


def test_the_pain_gets_better_over_the_year_but_for_a_flare_in_the_middle() -> None:
    before, flare, after = back_pain(0, 120), back_pain(175, 205), back_pain(260, 365)
    assert after + 1 < before < flare - 1
    assert back_pain(0, 60) > back_pain(305, 365) + 1


def test_the_year_holds_what_real_diaries_hold() -> None:
    used = {name for entry in YEAR for name in entry.model_dump(exclude_defaults=True)}
    assert used >= {"sites", "no_pain", "note", "sleep", "mood", "triggers", "relief", "onset", "associated_symptoms"}
    assert any(entry.sites and entry.sites[0].region == "head_front_right" for entry in YEAR)
    assert {entry.occurred_at.utcoffset() for entry in YEAR} == {timedelta(hours=1), timedelta(hours=2)}
    assert len({entry.id for entry in YEAR}) == len(YEAR)


def test_an_entry_is_saved_soon_after_the_pain_it_tells_of() -> None:
    for entry in YEAR:
        assert entry.recorded_at is not None
        assert timedelta() < entry.recorded_at - entry.occurred_at < timedelta(minutes=10)


def test_every_entry_is_one_that_a_phone_could_have_sent() -> None:
    for entry in YEAR:
        assert EntryIn.model_validate(entry.model_dump(mode="json")) == entry


async def test_seeding_twice_makes_one_patient_with_one_year(
    settings: Settings, client: httpx.AsyncClient, superuser: Connection
) -> None:
    for _ in range(2):
        await anyio.to_thread.run_sync(demo.seed, settings)
    answer = await Person(email=demo.EMAIL, password=demo.PASSWORD).sign_in(client)
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    robin = Phone(client, Person(), answer.json())
    assert (await robin.get()).json()["head"] == len(YEAR)
    assert await superuser.fetch("SELECT * FROM verify_diaries() WHERE patient::text = $1", robin.patient_id) == []


async def test_outside_development_nothing_is_seeded(settings: Settings) -> None:
    production = settings.model_copy(update={"environment": "production"})
    with pytest.raises(RuntimeError, match="for development only"):
        demo.seed(production)
