"""For those who run the service: is it alive, is it ready, what does it count."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from app.errors import Unavailable
from app.http import metrics
from app.http.problems import responses

router = APIRouter(tags=["operations"])


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The service accepts requests and reaches its database."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready"}]})

    status: Literal["ready"] = "ready"


@router.get("/livez", summary="Is the process alive?")
async def read_liveness() -> Alive:
    """Answers 200 as long as the process can answer at all; restart it when this fails."""
    return Alive()  # the database is not asked: a restart of ours would not bring it back


@router.get(
    "/readyz",
    summary="Is the service ready for requests?",
    responses=responses(Unavailable),
)
async def read_readiness(request: Request) -> Ready:
    """Answers 200 when requests can be served, 503 while it closes down or cannot reach its database."""
    state = request.app.state
    if state.lifecycle.draining or not await state.ready():
        raise Unavailable
    return Ready()


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics() -> Response:
    """Counters, durations and requests in progress, by method, route template and status."""
    text, media_type = metrics.exposition()
    return Response(text, media_type=media_type)
