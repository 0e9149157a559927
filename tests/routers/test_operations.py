"""Liveness, readiness and metrics."""

import asyncio
import re
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app import __version__
from app.config import Settings
from app.errors import Unavailable
from app.http import middleware, problems
from app.models.revision import REVISION
from app.postgres.database import Database
from app.routers import operations
from app.services import audit
from app.services.readiness import DatabaseState
from tests.people import Phone, entry
from tests.routers.test_sync import push, put
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def service() -> FastAPI:
    """An app of these routes only, ready and not draining."""
    app = FastAPI()
    app.include_router(operations.router)
    problems.install(app)
    middleware.install(app, Settings(environment="development"))
    app.state.lifecycle = SimpleNamespace(draining=False)
    see(app, DatabaseState(True, True))
    app.state.diary = SimpleNamespace(settings=Settings(environment="development"))
    app.state.sampler = SimpleNamespace(sample=lambda: None)
    return app


def see(app: FastAPI, state: DatabaseState) -> None:
    """Lets the service see its database in this state."""

    async def look() -> DatabaseState:
        return state

    app.state.readiness = SimpleNamespace(look=look)


async def get(app: FastAPI, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)


async def test_a_working_service_is_alive_and_ready(service: FastAPI) -> None:
    assert (await get(service, "/livez")).json() == {"status": "alive"}
    assert (await get(service, "/readyz")).json() == {"status": "ready", "reads": True, "writes": True}


async def test_a_draining_service_is_alive_but_not_ready(service: FastAPI) -> None:
    service.state.lifecycle.draining = True
    assert (await get(service, "/livez")).status_code == 200
    refused = await get(service, "/readyz")
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not-ready")
    assert int(refused.headers["retry-after"]) > 0


async def test_a_service_without_its_database_is_alive_but_not_ready(service: FastAPI) -> None:
    see(service, DatabaseState(False, False, "The database does not answer."))
    assert (await get(service, "/livez")).status_code == 200
    for path in ("/readyz", "/readyz?for=reads", "/readyz?for=writes"):
        refused = await get(service, path)
        body = refused.json()
        assert (refused.status_code, body["reads"], body["writes"]) == (503, False, False)
        assert body["detail"] == "The database does not answer."


async def test_a_service_that_can_only_read_is_ready_for_reads_only(service: FastAPI) -> None:
    see(service, DatabaseState(True, False, "The disk of the database is full."))
    assert (await get(service, "/readyz?for=reads")).json() == {"status": "ready", "reads": True, "writes": False}
    refused = await get(service, "/readyz")
    body = refused.json()
    assert (refused.status_code, body["reads"], body["writes"]) == (503, True, False)
    assert int(refused.headers["retry-after"]) > 0


async def test_metrics_count_what_was_answered(service: FastAPI) -> None:
    await get(service, "/livez")
    response = await get(service, "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'diary_http_requests_total{method="GET",route="/livez",status="200"}' in response.text
    assert 'diary_http_request_seconds_bucket{le="0.005",method="GET",route="/livez"}' in response.text


TOKEN = "a token that only the monitoring knows"


@pytest.mark.parametrize(
    ("addresses", "authorization", "status"),
    [
        (("127.0.0.1",), "", 200),
        (("127.0.0.0/8",), "", 200),
        (("10.0.0.0/8", "::1"), "", 403),
        ((), "", 403),
        ((), f"Bearer {TOKEN}", 200),
        ((), f"bearer {TOKEN}", 200),
        ((), f"Bearer {TOKEN}r", 403),
        ((), f"Basic {TOKEN}", 403),
        ((), "Bearer", 403),
    ],
)
async def test_metrics_are_for_named_addresses_or_a_token(
    service: FastAPI, addresses: tuple[str, ...], authorization: str, status: int
) -> None:
    chosen = {"metrics_addresses": addresses, "metrics_token": SecretStr(TOKEN)}
    service.state.diary.settings = Settings(environment="development").model_copy(update=chosen)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://test") as client:
        answer = await client.get("/metrics", headers={"Authorization": authorization})
    assert answer.status_code == status
    assert ("diary_http" in answer.text) is (status == 200)


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer None"])
async def test_without_a_token_nobody_bears_it(service: FastAPI, authorization: str) -> None:
    service.state.diary.settings = Settings(environment="development").model_copy(update={"metrics_addresses": ()})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://test") as client:
        assert (await client.get("/metrics", headers={"Authorization": authorization})).status_code == 403


def value(metrics: str, name: str) -> float:
    """The value of one series."""
    [line] = [line for line in metrics.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


def calls(metrics: str) -> float:
    """How many calls there were: on a busy machine one may have taken so long that the next go alone."""
    counted = re.findall(r'^diary_database_calls_total{way="(?:grouped|alone)"} (.+)$', metrics, re.MULTILINE)
    return sum(map(float, counted))


async def test_metrics_tell_of_the_pool_group_commit_sync_sealing_and_the_release(
    app: FastAPI, ada: Phone, client: httpx.AsyncClient
) -> None:
    created, invalid = 'diary_sync_mutations_total{outcome="created"}', 'diary_sync_mutations_total{outcome="invalid"}'
    assert (await push(ada, put("entry", entry()), put("entry", entry(mood=99)))).status_code == 200
    before = (await client.get("/metrics")).text
    assert (await push(ada, put("entry", entry()), put("entry", entry()), put("entry", entry(mood=99)))).is_success
    after = (await client.get("/metrics")).text
    assert value(after, created) == value(before, created) + 2
    assert value(after, invalid) == value(before, invalid) + 1
    assert calls(after) > calls(before)
    grouped = 'diary_database_calls_total{way="grouped"}'
    assert value(after, 'diary_database_statements_total{way="grouped"}') <= value(after, grouped)
    assert value(after, 'diary_database_connections{pool="calls",state="busy"}') == 0
    assert value(after, 'diary_database_connections{pool="calls",state="idle"}') >= 1
    assert value(after, "diary_database_calls_waiting") == 0
    assert value(after, f'diary_release{{migration="{REVISION}",version="{__version__}"}}') == 1
    assert await app.state.readiness.look() == DatabaseState(True, True)
    ready = (await client.get("/metrics")).text
    assert value(ready, 'diary_ready{what="writes"}') == 1


async def test_sealing_that_fails_is_counted_and_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([Unavailable(), KeyError(), None, (7, "digest")])

    async def seal(_: Database) -> object:
        outcome = next(outcomes, None)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(audit, "seal", seal)
    database = Database(settings)
    sealing = asyncio.create_task(audit.seal_regularly(database, 0))

    async def counted() -> bool:
        return database.tally.seals["sealed"] == 1

    await until(counted)
    sealing.cancel()
    assert database.tally.seals["failed"] == 2
    assert database.tally.seals["nothing_new"] >= 1
