"""A connection to the database that is lost in silence costs whoever was on it one refusal, and others nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import Unavailable
from app.postgres import database, shares
from app.postgres.database import Database
from app.services import readiness
from app.services.sync import READ_HEADS
from tests.conftest import IMPATIENT, STATEMENT_SECONDS, connect, started, url_of
from tests.faults.wire import Wire, wire
from tests.people import Person, Phone, entry
from tests.routers.test_sync import push, put
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.anyio

SOON = 1.0  # instead of the service's own patience; nothing here is measured


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "STATEMENT_SECONDS", SOON)


@pytest.fixture
async def line(server_url: str, database_name: str) -> AsyncIterator[tuple[Wire, Settings]]:
    """The wire, and the settings of a service that uses it."""
    url = url_of(server_url, "diary_app", database_name)
    directory = url.partition("host=")[2].partition("&")[0]
    async with wire(directory) as (carrying, place):
        url = url.replace(directory, place)
        yield carrying, Settings(environment="development", database_url=SecretStr(url), database_wait_seconds=30)


@pytest.fixture
async def own(line: tuple[Wire, Settings]) -> AsyncIterator[Database]:
    own = Database(line[1])
    await own.start()
    yield own
    async with asyncio.timeout(PATIENCE):  # whatever was lost
        await own.stop()


async def test_whoever_is_on_a_lost_connection_is_refused_and_the_next_is_served(
    line: tuple[Wire, Settings], own: Database
) -> None:
    assert await own.execute("SELECT 1")
    assert line[0].swallow() == 2  # that of groups, and one for whoever goes alone
    async with asyncio.timeout(PATIENCE / 2):  # for a service that would wait for ever
        with pytest.raises(Unavailable):
            await own.execute("SELECT 1")
    assert await own.execute("SELECT 1")


async def test_the_connections_that_were_idle_then_are_not_tried_one_after_the_other(
    line: tuple[Wire, Settings], own: Database
) -> None:
    await asyncio.gather(*(own.execute("SELECT pg_sleep(0.1)") for _ in range(4)))
    assert line[0].swallow() > 1
    with pytest.raises(Unavailable):
        await own.execute("SELECT 1")
    for _ in range(5):
        assert await own.execute("SELECT 1")


async def assert_refused_once(own: Database, work: Callable[[AsyncSession], Awaitable[object]]) -> None:
    """A transaction that does this is refused, and the next is served."""

    async def do_it() -> None:
        async with own.open_transaction() as transaction:
            await work(transaction)

    with pytest.raises(Unavailable):
        await do_it()
    async with own.open_transaction() as transaction:
        assert await transaction.scalar(text("SELECT 3")) == 3


@pytest.mark.parametrize("replies_only", [False, True], ids=["requests too", "replies only"])
async def test_a_transaction_on_a_lost_connection_is_refused_and_the_next_is_served(
    line: tuple[Wire, Settings], own: Database, replies_only: bool
) -> None:
    line[0].replies_only = replies_only

    async def lose_it(transaction: AsyncSession) -> None:
        await transaction.execute(text("SELECT 1"))
        line[0].swallow()
        await transaction.execute(text("SELECT 2"))

    await assert_refused_once(own, lose_it)


async def test_a_commit_on_a_lost_connection_is_refused_and_the_next_is_served(
    line: tuple[Wire, Settings], own: Database
) -> None:
    async def lose_it(transaction: AsyncSession) -> None:
        await transaction.execute(text("SELECT 1"))
        line[0].swallow()

    await assert_refused_once(own, lose_it)


async def test_connections_of_transactions_that_were_lost_while_idle_are_found_out_by_the_first_alone(
    line: tuple[Wire, Settings], own: Database
) -> None:
    async def transact() -> None:
        async with own.open_transaction() as transaction:
            await transaction.execute(text("SELECT pg_sleep(0.1)"))

    found = 0

    def count(*_: object) -> None:
        nonlocal found
        found += 1

    await asyncio.gather(*(transact() for _ in range(3)))
    assert line[0].swallow() >= 3
    event.listen(own.engine.sync_engine.pool, "invalidate", count)
    async with asyncio.timeout(PATIENCE / 2):
        for _ in range(3):
            await transact()
    assert found == 1


async def test_what_was_lost_is_closed_on_both_sides(line: tuple[Wire, Settings], own: Database) -> None:
    await own.execute("SELECT 1")
    line[0].swallow()
    with pytest.raises(Unavailable):
        await own.execute("SELECT 1")
    assert await own.call_grouped(READ_HEADS(session=UUID(int=0)), UUID(int=0)) == []

    async def closed() -> bool:
        return line[0].lost == 0

    await until(closed)


@pytest.fixture
async def app(line: tuple[Wire, Settings]) -> AsyncIterator[FastAPI]:
    async with started(line[1]) as application:
        yield application


@pytest.fixture
async def phone(app: FastAPI) -> AsyncIterator[Phone]:
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


@pytest.mark.parametrize("replies_only", [False, True], ids=["requests too", "replies only"])
async def test_pushes_pages_and_entries_go_on_after_a_loss_and_nothing_is_lost_or_doubled(
    line: tuple[Wire, Settings], phone: Phone, replies_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "HEAVY_SECONDS", PATIENCE)  # all of them go over the one connection of groups
    line[0].replies_only = replies_only
    sent = entry()
    mutation = put("entry", entry())

    async def write() -> httpx.Response:
        return await push(phone, mutation)

    async def log() -> httpx.Response:
        return await phone.post("/entries", sent)

    async def read() -> httpx.Response:
        return await phone.get("/timeline")

    for call in (write, log, read):
        line[0].swallow()
        refused = await call()
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["Retry-After"]) > 0
        assert (await call()).is_success
    assert len((await read()).json()["items"]) == 2


async def test_readiness_goes_the_way_of_the_calls(
    line: tuple[Wire, Settings], phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    assert (await phone.http.get("/readyz")).status_code == 200
    line[0].swallow()
    assert (await phone.http.get("/readyz")).status_code == 503
    assert (await phone.http.get("/readyz")).status_code == 200


async def test_a_statement_that_the_server_ends_is_no_reason_to_leave_the_others(
    line: tuple[Wire, Settings], own: Database
) -> None:
    await own.execute("SELECT 1")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await own.execute("SELECT 1 / 0")
    assert await own.execute("SELECT 1")


def test_a_refusal_comes_within_six_seconds() -> None:
    assert int(IMPATIENT["statement_timeout"].removesuffix("s")) < STATEMENT_SECONDS
    assert STATEMENT_SECONDS + database.CLOSE_SECONDS < 6
