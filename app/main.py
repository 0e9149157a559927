"""create_app(): the only place that wires routers, handlers, middleware and lifespan."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI

from app import __version__
from app.config import Settings
from app.http import deps, metrics, middleware, openapi, problems
from app.http.lifecycle import Lifecycle
from app.http.parts import assemble, started
from app.routers import (
    adherence,
    auth,
    care_team,
    entries,
    me,
    operations,
    pages,
    patients,
    profile,
    sync,
    timeline,
    treatment_events,
    treatments,
    vocabularies,
)
from app.routers.records import record_routes
from app.schemas.kinds import KINDS
from app.security import passwords
from app.services import audit, readiness, sessions

# Routes are tried in this order, so the hot ones come first. Those for the signed-in ask for a permission each.
SIGNED_IN = (entries, timeline, treatment_events, treatments, adherence, profile, patients, care_team, sync, me)
OPEN = (auth, vocabularies, operations, pages)
SAMPLE_SECONDS = 10


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Without settings they come from the environment."""
    # What routes, schemas and requests make is rarely garbage in a circle: looking for it after every 700 new objects,
    # as Python does unless told otherwise, took 7 % of a start.
    gc.set_threshold(50_000, 20, 20)
    settings = settings or Settings()
    parts = assemble(settings)
    app = FastAPI(
        title="pain-diary",
        version=__version__,
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would answer with an address made from the Host header
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},  # ours: middleware.py
        lifespan=_lifespan,
        dependencies=[Depends(deps.known_parameters)],
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.diary = parts
    app.state.lifecycle = Lifecycle()
    app.state.readiness = readiness.Readiness(parts.database)
    app.state.sampler = metrics.Sampler(parts.database, app.state.readiness)
    for router in signed_in_routers():
        app.include_router(router)
    for module in OPEN:
        app.include_router(module.router, dependencies=[Depends(deps.public)])
    deps.declare_routes(app)
    problems.install(app)
    middleware.install(app, settings)
    openapi.install(app)
    return app


def signed_in_routers() -> list[APIRouter]:
    """Those of the modules, and of every kind of record that has no module of its own."""
    routers = [module.router for module in SIGNED_IN]
    known = {router.prefix for router in routers}
    return routers + [router for router in map(record_routes, KINDS) if router.prefix not in known]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: deps.State = app.state.diary
    passwords.prepare()
    async with started(parts):
        gc.collect()
        gc.freeze()  # what lives now lives for ever: collections leave it out
        regular = [
            asyncio.create_task(parts.database.keep_clock()),
            asyncio.create_task(audit.seal_regularly(parts.database, parts.settings.audit_seal_seconds)),
            asyncio.create_task(sessions.purge_regularly(parts.database)),
            asyncio.create_task(app.state.sampler.sample_regularly(SAMPLE_SECONDS)),
        ]
        try:
            yield
        finally:
            for task in regular:
                task.cancel()
