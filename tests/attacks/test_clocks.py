"""The server's wall clock is wrong by an hour: the database's decides what expires."""

import sys
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.postgres.clock import Clock
from app.security import opaque_tokens
from app.services import invitations
from tests.attacks.test_sign_in import attack, proof
from tests.conftest import connect
from tests.people import Person, consent, redeem, share

if TYPE_CHECKING:
    from asyncpg import Connection, Record

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


async def move(superuser: "Connection[Record]", table: str, column: str, left: str, **which: object) -> None:
    """Lets a row be over in so long, by the database's clock."""
    [(name, value)] = which.items()
    moved = f"UPDATE {table} SET {column} = now() + $1::text::interval WHERE {name} = $2"
    assert await superuser.execute(moved, left, value) == "UPDATE 1"


GOOD, OVER = "5 minutes", "-5 minutes"  # by the database's clock, from which the server's is an hour away


@pytest.mark.usefixtures("wrong_clock")
async def test_consents_and_codes_are_over_when_the_database_says_so(
    app: FastAPI, client: httpx.AsyncClient, superuser: "Connection[Record]"
) -> None:
    ada = await Person().register_and_sign_in(client)
    async with connect(app) as http:
        caregiver = await Person().register_and_sign_in(http)
        grant_id = UUID(await consent(ada, caregiver))
        for left, status in ((GOOD, 200), (OVER, 404)):
            await move(superuser, "grants", "expires_at", left, id=grant_id)
            assert (await caregiver.http.get(f"{ada.diary}/timeline")).status_code == status
        for key, left, redeemed, again in ((uuid4().hex, GOOD, 202, 201), (uuid4().hex, OVER, 404, 410)):
            made = (await share(ada, key)).json()
            await move(superuser, "share_codes", "expires_at", left, id=UUID(made["id"]))
            assert (await share(ada, key)).status_code == again
            assert (await redeem(caregiver, made["code"])).status_code == redeemed


@pytest.mark.usefixtures("wrong_clock")
async def test_sessions_and_replaced_tokens_are_over_when_the_database_says_so(
    client: httpx.AsyncClient, superuser: "Connection[Record]"
) -> None:
    for left, status in ((GOOD, 200), (OVER, 401)):
        ada = await Person().register_and_sign_in(client)
        user_id = UUID(ada.user_id)
        await move(superuser, "sessions", "expires_at", left, user_id=user_id)
        assert (await client.get("/v1/me")).status_code == status
        assert (await refresh(client, ada.tokens["refresh_token"])).status_code == status
    for ago, status in (("-5 minutes", 200), ("-15 minutes", 401)):  # ten minutes are the grace
        first = (await Person().register_and_sign_in(client)).tokens["refresh_token"]
        second = await successor(client, first)
        await move(superuser, "refresh_tokens", "handed_out_at", "-5 minutes", digest=opaque_tokens.digest(second))
        assert await successor(client, first) == second
        await move(superuser, "refresh_tokens", "handed_out_at", "-15 minutes", digest=opaque_tokens.digest(second))
        assert await successor(client, first) != second
        await move(superuser, "refresh_tokens", "replaced_at", ago, digest=opaque_tokens.digest(second))
        assert (await refresh(client, second)).status_code == status


async def successor(client: httpx.AsyncClient, token: str) -> str:
    """The token that comes after this one."""
    answer = await refresh(client, token)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["refresh_token"])


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    """The answer to a refresh token."""
    return await client.post("/v1/auth/refresh", json={"refresh_token": token})


@pytest.mark.usefixtures("wrong_clock")
async def test_links_are_over_when_the_database_says_so_and_proven_work_is_good(
    app: FastAPI, client: httpx.AsyncClient, superuser: "Connection[Record]", owner_url: str
) -> None:
    for left, status in ((GOOD, 204), (OVER, 404)):
        person = Person()
        token = await invitations.invite_admin(owner_url, person.email, None)
        await move(superuser, "invitations", "expires_at", left, digest=opaque_tokens.digest(token))
        answer = await client.post("/v1/auth/activate", json={"token": token, "password": person.password})
        assert answer.status_code == status, answer.text
    ada = Person()
    await ada.register(client)
    await attack(app, ada, 100_000)
    work = proof(await ada.sign_in(client))
    assert (await ada.sign_in(client, proof=work)).status_code == 201


@pytest.mark.usefixtures("wrong_clock")
async def test_pages_go_on_and_limits_count_whatever_the_servers_clock_says(client: httpx.AsyncClient) -> None:
    ada = await Person().register_and_sign_in(client)
    for _ in range(3):
        assert (await ada.log()).status_code == 201
    seen, cursor = [], ""
    while True:
        page = (await ada.get(f"/timeline?limit=1{cursor}")).json()
        seen += [item["id"] for item in page["items"]]
        if page.get("next_cursor") is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == 3
    answer = await ada.get("/timeline?limit=1")
    assert answer.headers["ratelimit"].partition("t=")[2] in {str(seconds) for seconds in range(11)}
