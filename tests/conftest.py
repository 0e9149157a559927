"""One real PostgreSQL for the run with one migrated template, and for each worker a copy of it and one application."""

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from random import Random, randrange
from typing import Any, cast
from uuid import uuid4

import anyio.to_thread
import asyncpg
import httpx
import hypothesis
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from hypothesis import is_hypothesis_test
from pydantic import SecretStr

from app import cli
from app.config import Settings
from app.main import create_app
from app.postgres import database, embedded, migrate, postmaster
from app.security import passwords
from tests import clusters
from tests.forks import MEASURED
from tests.forms import size
from tests.people import Person, Phone
from tests.serving import Served, serve

ROOT = Path(__file__).parent.parent
Run = Callable[..., tuple[int, str, str]]
SERVER = pytest.StashKey[str]()
DIRECTORY = pytest.StashKey[Path]()
TEMPLATE = "diary_template"
REAL_HASHER, REAL_NOBODY = passwords._hasher, passwords.NOBODY
# What the service says of its own patience: few tests are about that, the others may run on a slow and busy machine.
IMPATIENT = dict(database.SESSION_SETTINGS)
database.SESSION_SETTINGS |= {
    "lock_timeout": "60s",
    "statement_timeout": "120s",
    "idle_in_transaction_session_timeout": "120s",
}
HURRIED = dict(database.GROUP_SETTINGS)
database.GROUP_SETTINGS |= {"statement_timeout": "120s"}
STATEMENT_SECONDS, database.STATEMENT_SECONDS = database.STATEMENT_SECONDS, 150.0

hypothesis.settings.register_profile(
    "diary", deadline=None, derandomize=True, max_examples=size("HYPOTHESIS_EXAMPLES", short=40, long=200)
)
hypothesis.settings.load_profile("diary")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make test ORDER=…` says."""
    parser.addoption("--order", default="", help="`random`, the number that a random order was called, or `reverse`")


def pytest_configure(config: pytest.Config) -> None:
    """The process that plans the run owns the server; workers are told where it listens."""
    if hasattr(config, "workerinput"):
        config.stash[SERVER] = config.workerinput["server_url"]
        clusters.copy_made(Path(config.workerinput["directory"]) / "clusters")
        return
    if config.option.order == "random":
        config.option.order = str(randrange(1_000_000))
    os.environ["DIARY_DATABASE_WAIT_SECONDS"] = "30"  # for whoever makes settings: see IMPATIENT
    directory = Path(tempfile.mkdtemp(prefix="diary-tests-"))
    directory.chmod(0o755)
    config.stash[DIRECTORY] = directory
    clusters.copy_made(directory / "clusters")
    binaries = os.environ.get("DIARY_POSTGRES_BINARIES")
    postmaster._SETTINGS["max_prepared_transactions"] = (
        "4"  # one of them holds up a seal: see tests/services/test_audit.py
    )
    server = embedded.start(directory, Path(binaries) if binaries else None)
    _guard(server)
    config.stash[SERVER] = server.url()
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    config.add_cleanup(server.stop)


def _guard(server: embedded.Server) -> None:
    """Asks members of the role `guarded` for a password; everybody else is let in."""
    rules = server.data_directory / "pg_hba.conf"
    rules.write_text(f"local all +guarded scram-sha-256\n{rules.read_text()}")
    psql = (server.binaries / "psql", "-Xq", "-d", server.url())
    make = ("-c", "CREATE ROLE guarded", "-c", "SELECT pg_reload_conf()")
    subprocess.run([*psql, *make], check=True, stdout=subprocess.DEVNULL)


def pytest_configure_node(node: Any) -> None:
    """xdist's hook: what a worker gets to know."""
    node.workerinput["server_url"] = node.config.stash[SERVER]
    node.workerinput["directory"] = str(node.config.stash[DIRECTORY])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays, so meanwhile nobody looks for garbage: that is a quarter of the time it takes."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Properties have two forms. Another order of the modules, and of the tests in each, which share the set-up."""
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("scaled")
        if item.get_closest_marker("scaled") or not mirrors(item.path):
            item.add_marker("no_cover")  # measuring doubles the time of what goes the same ways again and again
    order = config.option.order
    if not order:
        return
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    arrange: Callable[[list[Any]], None] = list.reverse if order == "reverse" else Random(order).shuffle
    parts = list(modules.values())
    arrange(parts)
    for part in parts:
        arrange(part)
    items[:] = [item for part in parts for item in part]


def mirrors(module: Path) -> bool:
    """Whether it tests a package or module of `app` as such; the others lead through many of them, or round them."""
    [first, *_] = module.relative_to(ROOT / "tests").parts
    return (ROOT / "app" / first.removeprefix("test_")).exists()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What a test starts is measured where the test is."""
    configuration = os.environ.get(MEASURED)
    if configuration is None or item.get_closest_marker("no_cover") is None:
        return (yield)
    del os.environ[MEASURED]
    try:
        return (yield)
    finally:
        os.environ[MEASURED] = configuration


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How to get the same order again."""
    if config.option.order:
        terminalreporter.write_line(f"This order again: --order={config.option.order}")


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


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> None:
    """A sign-in costs next to nothing, except where `real_passwords` is asked for."""
    cheap = PasswordHasher(memory_cost=8, time_cost=1, parallelism=1)
    passwords._hasher = cache(lambda: cheap)
    passwords.NOBODY = cheap.hash("")


@pytest.fixture
def real_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are hashed as the service does it."""
    monkeypatch.setattr(passwords, "_hasher", REAL_HASHER)
    monkeypatch.setattr(passwords, "NOBODY", REAL_NOBODY)


@pytest.fixture(scope="session")
def database_name(server_url: str) -> str:
    """This worker's database. (Not async: tests that are not would else pass only after one that is.)"""
    return asyncio.run(make_database(server_url))


async def make_database(server_url: str) -> str:
    """The name of a new database on the run's server, as the migrations make one."""
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute("SELECT pg_advisory_lock(0)")  # who comes first makes the template, the others wait
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", TEMPLATE):
            await create_database(server_url, TEMPLATE)
            await anyio.to_thread.run_sync(migrate.migrate, url_of(server_url, "postgres", TEMPLATE))
    finally:
        await connection.close()
    name = f"diary_{uuid4().hex[:12]}"
    await create_database(server_url, name, TEMPLATE)
    return name


async def create_database(server_url: str, name: str, template: str = "template1") -> None:
    """A database on the run's server: an empty one, or a copy of that one."""
    connection = await asyncpg.connect(server_url)
    await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
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
        access_token_seconds=3600,
        requests_per_session=1_000_000,  # they are quicker than any phone
        requests_per_account=1_000_000,
        requests_per_address=1_000_000,
        metrics_addresses=("0.0.0.0/0",),  # each client has another address
        sessions_per_account=1000,
        changes_per_day=0,
    )


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The whole application, started."""
    async with started(settings) as application:
        yield application


@asynccontextmanager
async def started(settings: Settings, url: str | None = None, **changes: object) -> AsyncIterator[FastAPI]:
    """The application with these settings, changed; with a URL on another database, or as another role."""
    if url is not None:
        changes["database_url"] = SecretStr(url)
    application = create_app(settings.model_copy(update=changes))
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture(scope="session")
def served(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same in a process of its own, over sockets."""
    with serve(settings, tmp_path_factory.mktemp("served")) as server:
        yield server


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
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """The exit code, output and complaints of `pain-diary …`, started where no .env lies."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pain-diary", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capfd.readouterr()
        return cast(int, end.value.code or 0), output.out, output.err

    yield command
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No DIARY_ variable of the surrounding shell reaches the test."""
    for name in [name for name in os.environ if name.startswith("DIARY_")]:
        monkeypatch.delenv(name)
