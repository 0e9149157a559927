"""The server's wall clock is wrong by an hour: the database's decides what expires."""

import sys
from datetime import datetime, timedelta, tzinfo

import httpx
import pytest
from fastapi import FastAPI

from app.postgres.clock import Clock
from tests.conftest import connect
from tests.people import Person, consent

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[-1, 1], ids=["an hour behind", "an hour ahead"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every module of the service reads a clock that is wrong."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Wrong":
            return super().now(tz) + timedelta(hours=request.param)

    for name, module in list(sys.modules.items()):
        if name.startswith("app.") and getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", Wrong)


@pytest.mark.usefixtures("wrong_clock")
async def test_what_is_new_is_good_though_the_servers_clock_is_wrong(app: FastAPI, client: httpx.AsyncClient) -> None:
    ada = await Person().register_and_sign_in(client)
    async with connect(app) as http:
        caregiver = await Person().register_and_sign_in(http)
        await consent(ada, caregiver)  # a code is made, redeemed and confirmed, under a fresh sign-in
        assert (await caregiver.http.get(f"{ada.diary}/timeline")).status_code == 200
    refreshed = await client.post("/v1/auth/refresh", json={"refresh_token": ada.tokens["refresh_token"]})
    assert refreshed.status_code == 200
    client.headers["Authorization"] = f"Bearer {refreshed.json()['access_token']}"
    assert (await ada.log()).status_code == 201


async def test_the_clock_goes_on_from_what_the_database_said_whatever_the_servers_says() -> None:
    seconds = 1000.0
    clock = Clock(lambda: seconds)
    told = datetime.fromisoformat("2026-03-29T08:00:00Z")
    clock.set(told)
    seconds += 90
    assert clock.now() == told + timedelta(seconds=90)
    clock.set(told - timedelta(days=1))  # the database's was set back
    assert clock.now() == told - timedelta(days=1)
