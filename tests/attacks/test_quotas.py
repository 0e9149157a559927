"""What one account may take: sessions, and changes to a diary in a day."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.main import create_app
from tests.answers import told
from tests.conftest import connect
from tests.people import Person, Phone, entry, grant, lent, without_id

pytestmark = pytest.mark.anyio
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

QUOTA = 5
SESSIONS = 3


@pytest.fixture(scope="module")
async def strict(settings: Settings) -> AsyncIterator[FastAPI]:
    """A service that takes five changes to a diary in a day, and knows three devices of an account."""
    app = create_app(settings.model_copy(update={"changes_per_day": QUOTA, "sessions_per_account": SESSIONS}))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def phone(strict: FastAPI) -> AsyncIterator[Phone]:
    """A new patient there."""
    async with connect(strict) as http:
        yield await Person().register_and_sign_in(http)


def mutations(count: int) -> list[dict[str, Any]]:
    """So many new entries, to be pushed."""
    made = [entry() for _ in range(count)]
    fields = {"op": "put", "kind": "entry", "base_version": 0}
    return [fields | {"mutation_id": str(uuid4()), "id": one["id"], "data": without_id(one)} for one in made]


async def push(phone: Phone, sent: list[dict[str, Any]], **more: Any) -> httpx.Response:
    body = {"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": sent, **more}
    return await phone.post("/sync/push", body)


async def test_a_diary_takes_so_many_changes_a_day_and_says_when_it_takes_more(
    phone: Phone, superuser: Connection
) -> None:
    written = (await phone.log()).json()
    assert (await push(phone, mutations(QUOTA - 1))).status_code == 200
    url = f"/entries/{written['id']}"
    sent = mutations(1)
    refused = [
        await phone.log(),
        await push(phone, sent),
        await phone.patch(url, {"mood": 3}),
        await phone.put(url, without_id(entry())),
        await phone.delete(url),
    ]
    assert {told(answer) for answer in refused} == {(429, "quota-used")}
    assert all(0 < int(answer.headers["Retry-After"]) <= 86_400 for answer in refused)
    assert (await phone.get()).json()["head"] == QUOTA
    assert (await phone.get("/timeline")).status_code == 200
    assert (await push(phone, [], outbox_empty=True)).status_code == 200  # changes nothing

    await superuser.execute("UPDATE patient_clocks SET day = day - 1 WHERE patient_id = $1", UUID(phone.patient_id))
    assert (await push(phone, sent)).json()["results"][0]["status"] == "created"
    assert (await push(phone, mutations(QUOTA - 1))).status_code == 200
    assert told(await phone.log()) == (429, "quota-used")


async def test_whoever_writes_to_the_diary_counts_and_other_diaries_do_not(
    strict: FastAPI, phone: Phone, superuser: Connection
) -> None:
    async with connect(strict) as http:
        other = await Person().register_and_sign_in(http)
        await grant(superuser, phone, other)
        helper = lent(other, phone)
        assert [(await helper.log()).status_code for _ in range(QUOTA)] == [201] * QUOTA
        assert told(await helper.log()) == told(await phone.log()) == (429, "quota-used")
        assert (await other.log()).status_code == 201


async def test_a_crowd_of_phones_does_not_get_past_the_quota(phone: Phone) -> None:
    answers = await asyncio.gather(*(phone.log() for _ in range(4 * QUOTA)))
    assert sorted(answer.status_code for answer in answers) == [201] * QUOTA + [429] * 3 * QUOTA


async def test_the_refusal_says_by_the_clock_of_the_database_when_the_day_is_over(
    strict: FastAPI, phone: Phone
) -> None:
    """The day is counted there; this machine's clock may be hours off."""
    await push(phone, mutations(QUOTA))
    clock = strict.state.diary.database.clock
    clock.set(clock.now() + timedelta(hours=3 if clock.now().hour < 12 else -3))
    tokens = (await phone.person.sign_in(phone.http)).json()
    phone.http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    tomorrow = datetime.combine(clock.now() + timedelta(days=1), time(), UTC)
    latest = tomorrow - clock.now()
    seconds = int((await phone.log()).headers["Retry-After"])
    assert tomorrow - clock.now() <= timedelta(seconds=seconds) <= latest + timedelta(seconds=1)


async def test_a_refusal_is_in_the_trail(phone: Phone, superuser: Connection) -> None:
    await push(phone, mutations(QUOTA))
    await phone.log()
    trail = "SELECT outcome FROM audit_events WHERE patient_id = $1 ORDER BY id DESC LIMIT 1"
    assert await superuser.fetchval(trail, UUID(phone.patient_id)) == "quota_used"


async def test_one_device_more_signs_out_the_one_that_was_idle_longest(phone: Phone, superuser: Connection) -> None:
    tablet, watch, newest = [(await phone.person.sign_in(phone.http)).json() for _ in range(3)]
    idle = "UPDATE sessions SET last_seen_at = last_seen_at - $2::interval WHERE id = $1"

    async def works(tokens: dict[str, Any]) -> bool:
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        return (await phone.http.get("/v1/me", headers=headers)).status_code == 200

    assert [await works(one) for one in (phone.tokens, tablet, watch, newest)] == [False, True, True, True]
    for hours, tokens in enumerate((tablet, newest, watch)):
        await superuser.execute(idle, UUID(tokens["session_id"]), timedelta(hours=hours))
    assert (await phone.person.sign_in(phone.http)).status_code == 201
    assert [await works(one) for one in (tablet, watch, newest)] == [True, False, True]


async def test_ten_sign_ins_at_once_leave_as_many_sessions_as_an_account_may_have(
    phone: Phone, superuser: Connection
) -> None:
    answers = await asyncio.gather(*(phone.person.sign_in(phone.http) for _ in range(10)))
    assert [answer.status_code for answer in answers].count(201) >= SESSIONS  # some are too many for the throttle
    alive = "SELECT count(*) FROM sessions WHERE user_id = $1 AND revoked_at IS NULL"
    assert await superuser.fetchval(alive, UUID(phone.user_id)) == SESSIONS
