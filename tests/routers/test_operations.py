"""Liveness, readiness and metrics."""

from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.http import middleware, problems
from app.routers import operations
from app.services.readiness import State

pytestmark = pytest.mark.anyio


@pytest.fixture
def service() -> FastAPI:
    """An app of these routes only, ready and not draining."""
    app = FastAPI()
    app.include_router(operations.router)
    problems.install(app)
    middleware.install(app, Settings(environment="development"))
    app.state.lifecycle = SimpleNamespace(draining=False)
    see(app, State(True, True))
    return app


def see(app: FastAPI, state: State) -> None:
    """Lets the service see its database in this state."""

    async def look() -> State:
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
    see(service, State(False, False, "The database does not answer."))
    assert (await get(service, "/livez")).status_code == 200
    for path in ("/readyz", "/readyz?for=reads", "/readyz?for=writes"):
        refused = await get(service, path)
        body = refused.json()
        assert (refused.status_code, body["reads"], body["writes"]) == (503, False, False)
        assert body["detail"] == "The database does not answer."


async def test_a_service_that_can_only_read_is_ready_for_reads_only(service: FastAPI) -> None:
    see(service, State(True, False, "The disk of the database is full."))
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
