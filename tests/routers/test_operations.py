"""Liveness, readiness and metrics."""

from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.http import middleware, problems
from app.routers import operations

pytestmark = pytest.mark.anyio


@pytest.fixture
def service() -> FastAPI:
    """An app of these routes only, ready and not draining."""
    app = FastAPI()
    app.include_router(operations.router)
    problems.install(app)
    middleware.install(app, Settings(environment="development"))
    app.state.lifecycle = SimpleNamespace(draining=False)
    set_ready(app, True)
    return app


def set_ready(app: FastAPI, value: bool) -> None:
    async def ready() -> bool:
        return value

    app.state.ready = ready


async def get(app: FastAPI, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)


async def test_a_working_service_is_alive_and_ready(service: FastAPI) -> None:
    assert (await get(service, "/livez")).json() == {"status": "alive"}
    assert (await get(service, "/readyz")).json() == {"status": "ready"}


async def test_a_draining_service_is_alive_but_not_ready(service: FastAPI) -> None:
    service.state.lifecycle.draining = True
    assert (await get(service, "/livez")).status_code == 200
    refused = await get(service, "/readyz")
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
    assert int(refused.headers["retry-after"]) > 0


async def test_a_service_without_its_database_is_alive_but_not_ready(service: FastAPI) -> None:
    set_ready(service, False)
    assert (await get(service, "/livez")).status_code == 200
    assert (await get(service, "/readyz")).status_code == 503


async def test_metrics_count_what_was_answered(service: FastAPI) -> None:
    await get(service, "/livez")
    response = await get(service, "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'diary_http_requests_total{method="GET",route="/livez",status="200"}' in response.text
    assert 'diary_http_request_seconds_bucket{le="0.005",method="GET",route="/livez"}' in response.text
