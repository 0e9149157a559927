"""What may have ended since a backup was made is not live again once it was restored."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest
from anyio.to_thread import run_sync as in_thread
from fastapi import FastAPI

from app.config import Settings
from app.services import invitations, restores
from tests.conftest import connect, make_database, started, url_of
from tests.people import Person, Phone, consent, lent, make_clinician, share
from tests.routers.test_sync import push

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def restored_url(server_url: str) -> str:
    """The superuser's URL of a database of its own: what is taken back is everybody's."""
    return url_of(server_url, "postgres", await make_database(server_url))


@pytest.fixture(scope="module")
async def app(restored_url: str, settings: Settings) -> AsyncIterator[FastAPI]:
    """The application on that database."""
    async with started(settings, restored_url.replace("//postgres@", "//diary_app@")) as application:
        yield application


@pytest.fixture
async def superuser(restored_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(restored_url)
    yield connection
    await connection.close()


async def sign_in_again(phone: Phone) -> None:
    answer = await phone.person.sign_in(phone.http)
    assert answer.status_code == 201, answer.text
    phone.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


async def grants_of(phone: Phone) -> dict[str, str]:
    """The status of each consent that a patient gave."""
    return {grant["id"]: grant["status"] for grant in (await phone.get("/grants")).json()["items"]}


async def test_sessions_end_and_consents_wait_until_their_patient_confirms_them(
    ada: Phone, bob: Phone, app: FastAPI, restored_url: str, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with connect(app) as http:
        weber = await make_clinician(superuser, await Person().register_and_sign_in(http))
        kept, revoked = await consent(ada, weber), await consent(ada, bob)
        before = (await lent(weber, ada).get("/sync/pull")).json()["cursor"]
        refresh = ada.tokens["refresh_token"]

        done = await in_thread(restores.take_back, restored_url)
        assert (done.diaries, done.grants) == (2, 2)  # Ada's and Bob's
        assert done.sessions >= 3
        for phone in (ada, bob, weber):
            assert (await phone.http.get("/v1/me")).status_code == 401
        assert (await http.post("/v1/auth/refresh", json={"refresh_token": refresh})).status_code == 401

        for phone in (ada, bob, weber):
            await sign_in_again(phone)
        for reader in (lent(bob, ada), lent(weber, ada)):
            assert (await reader.get("/timeline")).status_code == 404
        assert await grants_of(ada) == {kept: "pending", revoked: "pending"}

        assert (await ada.post(f"/grants/{kept}/confirm", {})).status_code == 200
        assert (await ada.http.delete(f"{ada.diary}/grants/{revoked}")).status_code == 204
        assert await grants_of(ada) == {kept: "active", revoked: "revoked"}
        assert (await lent(weber, ada).get("/timeline")).status_code == 200
        assert (await lent(bob, ada).get("/timeline")).status_code == 404
        assert (await lent(weber, ada).get("/sync/pull", params={"cursor": before})).status_code == 410
        log = (await ada.get("/access-log")).json()["items"]
        assert [item["grant_id"] for item in log if item["action"] == "grants.suspend"] in (
            [kept, revoked],
            [revoked, kept],
        )


async def test_what_was_over_stays_over(
    ada: Phone, bob: Phone, restored_url: str, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    ended, revoked = await consent(ada, bob), "SELECT revoked_at FROM sessions WHERE id = $1"
    await ada.http.delete(f"{ada.diary}/grants/{ended}")
    await in_thread(restores.take_back, restored_url.replace("//postgres@", "//diary_owner@"))
    since = await superuser.fetchval(revoked, UUID(ada.session_id))
    await in_thread(restores.take_back, restored_url)
    assert await superuser.fetchval(revoked, UUID(ada.session_id)) == since
    await sign_in_again(ada)
    assert await grants_of(ada) == {ended: "revoked"}


async def test_a_link_or_code_of_the_time_before_lets_nobody_in(ada: Phone, bob: Phone, restored_url: str) -> None:
    code = (await share(ada)).json()["code"]
    token = await invitations.invite_admin(restored_url, "olga@example.org", None)
    done = await in_thread(restores.take_back, restored_url)
    assert done.links == 1
    accepted = await ada.http.post("/v1/auth/activate", json={"token": token, "password": ada.person.password})
    assert accepted.status_code == 404
    await sign_in_again(bob)
    assert (await bob.http.post("/v1/share-codes/redeem", json={"code": code})).status_code == 404


async def test_silence_is_unknown_until_a_phone_confirms_again(
    ada: Phone, restored_url: str, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    confirmed = "SELECT last_sync_confirmation($1)"
    assert (await ada.log()).status_code == 201
    assert (await push(ada, outbox_empty=True)).status_code == 200
    assert await superuser.fetchval(confirmed, UUID(ada.patient_id)) is not None
    await in_thread(restores.take_back, restored_url)
    assert await superuser.fetchval(confirmed, UUID(ada.patient_id)) is None
    await sign_in_again(ada)
    assert (await push(ada, outbox_empty=True)).status_code == 200
    assert await superuser.fetchval(confirmed, UUID(ada.patient_id)) <= datetime.now(UTC)
