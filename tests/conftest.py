"""One real PostgreSQL for the run, one migrated database for each worker, one application for each module of tests."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import randrange
from typing import Any
from uuid import uuid4

import anyio.to_thread
import asyncpg
import httpx
import hypothesis
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.config import Settings
from app.main import create_app
from app.postgres import embedded, migrate
from tests.people import Person, Phone

ROOT = Path(__file__).parent.parent
SERVER = pytest.StashKey[str]()

hypothesis.settings.register_profile("diary", deadline=None, derandomize=True)
hypothesis.settings.load_profile("diary")


def pytest_configure(config: pytest.Config) -> None:
    """The process that plans the run owns the server; workers are told where it listens."""
    if hasattr(config, "workerinput"):
        config.stash[SERVER] = config.workerinput["server_url"]
        return
    directory = Path(tempfile.mkdtemp(prefix="diary-tests-"))
    directory.chmod(0o755)
    binaries = os.environ.get("DIARY_POSTGRES_BINARIES")
    server = embedded.start(directory, Path(binaries) if binaries else None)
    config.stash[SERVER] = server.url()
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    config.add_cleanup(server.stop)


def pytest_configure_node(node: Any) -> None:
    """xdist's hook: what a worker gets to know."""
    node.workerinput["server_url"] = node.config.stash[SERVER]


def url_of(server_url: str, user: str, name: str) -> str:
    """The URL of another database or user of the same server."""
    return server_url.replace("//postgres@/postgres?", f"//{user}@/{name}?")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server_url(pytestconfig: pytest.Config) -> str:
    """The superuser's URL of the run's server."""
    return pytestconfig.stash[SERVER]


@pytest.fixture(scope="session")
async def database_name(server_url: str) -> str:
    """This worker's database, made by the migrations."""
    name = f"diary_{uuid4().hex[:12]}"
    await create_database(server_url, name)
    await anyio.to_thread.run_sync(migrate.migrate, url_of(server_url, "postgres", name))
    return name


async def create_database(server_url: str, name: str) -> None:
    """An empty database on the run's server."""
    connection = await asyncpg.connect(server_url)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()


@pytest.fixture(scope="session")
def owner_url(server_url: str, database_name: str) -> str:
    """The superuser's URL of this worker's database, for arranging and looking behind the scenes."""
    return url_of(server_url, "postgres", database_name)


@pytest.fixture(scope="session")
def settings(server_url: str, database_name: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Development settings on this worker's database."""
    return Settings(
        environment="development",
        database_url=SecretStr(url_of(server_url, "diary_app", database_name)),
        state_directory=tmp_path_factory.mktemp("state"),
        audit_seal_seconds=3600,  # tests seal when they want to
        requests_per_session=1_000_000,  # they are quicker than any phone
        requests_per_address=1_000_000,
    )


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The whole application, started."""
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def superuser(owner_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that may see and do everything."""
    connection = await asyncpg.connect(owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that is signed in nowhere, at an address of its own."""
    async with connect(app) as anonymous:
        yield anonymous


@asynccontextmanager
async def connect(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client on the application, without a network between them."""
    address = ".".join(str(randrange(1, 255)) for _ in range(4))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 4000))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        yield http


@pytest.fixture
async def ada(app: FastAPI) -> AsyncIterator[Phone]:
    """Ada, a new patient, signed in on her phone."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


@pytest.fixture
async def bob(app: FastAPI) -> AsyncIterator[Phone]:
    """Bob, another patient, who has nothing to do with Ada."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No DIARY_ variable of the surrounding shell reaches the test."""
    for name in [name for name in os.environ if name.startswith("DIARY_")]:
        monkeypatch.delenv(name)
