"""The race pack: what may be done once, or so many times, is tried by many at the same moment."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app.postgres import shares
from tests.conftest import connect
from tests.forms import size
from tests.people import Person, Phone, entry, redeem, share, without_id
from tests.routers.test_sync import put
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.anyio, pytest.mark.scaled]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Attempt = Callable[[], Awaitable[httpx.Response]]

ROUNDS = size("RACES", 1, 25)
AT_ONCE = 16


async def at_once(attempts: list[Attempt]) -> Counter[int]:
    """How often each status was answered."""
    answers = await asyncio.gather(*(attempt() for attempt in attempts))
    return Counter(answer.status_code for answer in answers)


async def create(ada: Phone) -> list[Attempt]:
    """One id, with other words each time."""
    record = str(uuid4())
    return [partial(ada.log, id=record, note=f"by {number}") for number in range(AT_ONCE)]


async def replace(ada: Phone) -> list[Attempt]:
    """One version, replaced by other words each time."""
    record = (await ada.log()).json()["id"]
    bodies = [without_id(entry(note=f"by {number}")) for number in range(AT_ONCE)]
    return [partial(ada.put, f"/entries/{record}", body) for body in bodies]


@pytest.mark.parametrize(
    ("race", "once", "others"),
    [(create, 201, 409), (replace, 200, 412)],
    ids=["create", "replace"],
)
async def test_of_what_may_be_done_once_one_of_many_at_once_does_it(
    ada: Phone, race: Callable[[Phone], Awaitable[list[Attempt]]], once: int, others: int
) -> None:
    for _ in range(ROUNDS):
        assert await at_once(await race(ada)) == {once: 1, others: AT_ONCE - 1}


async def test_of_many_who_redeem_one_code_at_once_one_gets_the_consent(app: FastAPI, ada: Phone) -> None:
    for _ in range(ROUNDS):
        code = (await share(ada)).json()["code"]
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(app)) for _ in range(4)]
            phones = [await Person().register_and_sign_in(client) for client in clients]
            told = await at_once([partial(redeem, phone, code) for phone in phones * 2])
        assert told[202] == 2  # the same phone may ask again
        assert told[404] + told[429] == 6


async def test_of_writes_and_an_end_of_the_session_none_commits_after_the_end(
    app: FastAPI, superuser: Connection
) -> None:
    late = (
        "SELECT count(*) FROM records r JOIN sessions s ON s.id = r.session_id"
        " WHERE s.id = $1::uuid AND r.received_at > s.revoked_at"
    )
    for _ in range(ROUNDS):
        async with connect(app) as http, connect(app) as other:
            ada = await Person().register_and_sign_in(http)
            second = (await ada.person.sign_in(other)).json()
            other.headers["Authorization"] = f"Bearer {second['access_token']}"
            end = other.delete(f"/v1/me/sessions/{ada.session_id}")
            writes = [ada.log() for _ in range(2 * AT_ONCE)]
            ended, *answers = await asyncio.gather(end, *writes)
            assert ended.status_code == 204
            assert {answer.status_code for answer in answers} <= {201, 401}
            assert await superuser.fetchval(late, ada.session_id) == 0
            kept = await superuser.fetchval("SELECT count(*) FROM records WHERE session_id = $1::uuid", ada.session_id)
            assert kept == [answer.status_code for answer in answers].count(201)
            assert (await ada.log()).status_code == 401


async def test_a_borrowed_session_is_refused_in_a_group_and_nobody_beside_it_is(
    app: FastAPI, ada: Phone, bob: Phone, superuser: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that names one person and the session of another speaks for neither; others notice nothing."""
    monkeypatch.setattr(shares, "HEAVY_SECONDS", PATIENCE)  # so slow is no machine: all of them go together
    database, tokens = app.state.diary.database, app.state.diary.tokens
    token = tokens.issue(UUID(bob.user_id), UUID(ada.session_id), "patient", datetime.now(UTC))
    borrowed = {"headers": {"Authorization": f"Bearer {token}"}}
    mutation = {"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": [put("entry", entry())]}
    heads = "SELECT patient_id, head FROM patient_clocks ORDER BY 1"
    before = await superuser.fetch(heads)
    for path in ("/timeline", "/sync/pull"):
        statements, calls = database.tally.statements["grouped"], database.tally.calls["grouped"]
        asked = [phone.get(path, **given) for _ in range(4) for phone, given in ((bob, {}), (ada, borrowed), (ada, {}))]
        assert [one.status_code for one in await asyncio.gather(*asked)] == [200, 401, 200] * 4
        assert database.tally.statements["grouped"] - statements < database.tally.calls["grouped"] - calls == 12
    written = (ada.post("/entries", entry(), **borrowed), ada.post("/sync/push", mutation, **borrowed))
    assert [one.status_code for one in await asyncio.gather(*written)] == [401, 401]
    assert await superuser.fetch(heads) == before


async def test_a_mutation_that_many_devices_push_at_once_is_applied_once(app: FastAPI, ada: Phone) -> None:
    for _ in range(ROUNDS):
        mutation = put("entry", entry(note="once"))
        push = {"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": [mutation]}
        answers = await asyncio.gather(*(ada.post("/sync/push", push) for _ in range(AT_ONCE)))
        told = Counter(answer.json()["results"][0]["status"] for answer in answers)
        assert told == {"created": 1, "unchanged": AT_ONCE - 1}
