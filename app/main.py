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
from app.postgres.database import Database
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
from app.security import passwords, tokens
from app.security.cursors import Cursors, ensure_secret
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


def assemble(settings: Settings) -> deps.State:
    """The parts behind the routes; in development their keys are made on first use."""
    keys = settings.signing_keys_directory or tokens.ensure_key(settings.state_directory / "keys")
    secret = settings.secret_key.get_secret_value() if settings.secret_key else ensure_secret(settings.state_directory)
    return deps.State(
        settings=settings,
        database=Database(settings),
        tokens=tokens.AccessTokens(
            tokens.Keyring(keys),
            settings.token_issuer,
            settings.token_audience,
            settings.access_token_seconds,
        ),
        cursors=Cursors(secret.encode()),
        secret=secret.encode(),
    )


async def check_start(settings: Settings) -> None:
    """Starts and stops what the application starts with; raises what would keep it from serving."""
    async with _database(assemble(settings)):
        pass


@asynccontextmanager
async def _database(parts: deps.State) -> AsyncIterator[None]:
    await parts.database.start()
    try:
        await readiness.require_schema(parts.database)
        yield
    finally:
        await parts.database.stop()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: deps.State = app.state.diary
    passwords.prepare()
    async with _database(parts):
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
