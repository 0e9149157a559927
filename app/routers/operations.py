"""For those who run the service: is it alive, is it ready, what does it count."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from app.errors import Forbidden, NotReady
from app.http import metrics
from app.http.deps import Parts
from app.http.problems import responses
from app.security import client_address, opaque_tokens

router = APIRouter(tags=["operations"])
Asked = Annotated[
    Literal["reads", "writes"],
    Query(alias="for", description="What has to work; writing takes more than reading."),
]


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The service accepts requests, and its database is the one of this release."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready", "reads": True, "writes": True}]})

    status: Literal["ready"] = "ready"
    reads: bool
    writes: bool


@router.get("/livez", summary="Is the process alive?")
async def read_liveness() -> Alive:
    """Answers 200 as long as the process can answer at all; restart it when this fails."""
    return Alive()  # the database is not asked: a restart of ours would not bring it back


@router.get(
    "/readyz",
    summary="Is the service ready for requests?",
    responses=responses(NotReady),
)
async def read_readiness(request: Request, asked: Asked = "writes") -> Ready:
    """Answers 200 when requests can be served, 503 while it closes down or its database cannot do what is asked for.

    With `for=reads` it stays 200 while diaries can be read and not written to: where the disk of the database is full.
    """
    state = request.app.state
    if state.lifecycle.draining:
        raise NotReady("The service is closing down.")
    seen = await state.readiness.look()
    if not (seen.reads if asked == "reads" else seen.writes):
        raise NotReady(seen.reason, reads=seen.reads, writes=seen.writes)
    return Ready(reads=seen.reads, writes=seen.writes)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(Forbidden)},
)
async def read_metrics(request: Request, parts: Parts) -> Response:
    """Requests by method, route template and status; the database's pool and group commit; sync, sealing, version.

    Only for the addresses in `DIARY_METRICS_ADDRESSES`, and for whoever bears `DIARY_METRICS_TOKEN`.
    """
    token = parts.settings.metrics_token
    named = client_address.within(request.scope["state"]["address"], parts.settings.metrics_addresses)
    authorization = request.headers.get("Authorization", "")
    if not named and not (token and opaque_tokens.bears(authorization, token.get_secret_value())):
        raise Forbidden("Metrics are for named addresses, and for the bearer of their token.")
    request.app.state.sampler.sample()
    text, media_type = metrics.exposition()
    return Response(text, media_type=media_type)
