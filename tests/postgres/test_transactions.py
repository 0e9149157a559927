"""One transaction owner: what was answered is stored, what failed is not, and nobody keeps a connection."""

import ast
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, TypeAlias

import anyio.to_thread
import asyncpg
import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import SecretStr
from sqlalchemy import AsyncAdaptedQueuePool, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import errors
from app.config import Settings
from app.http import deps, problems
from app.http.middleware import RequestContext
from app.main import create_app
from app.models import SignInDelay
from app.postgres import embedded, restarts
from app.postgres.database import Database
from app.postgres.migrate import migrate
from migrations import check
from tests.conftest import connect
from tests.people import Person, Phone, entry
from tests.serving import ROOT
from tests.waiting import until, until_locked_out

pytestmark = pytest.mark.anyio

Superuser: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
TransactionOfRequest = Annotated[AsyncSession, Depends(deps.open_transaction, scope="request")]
WRITTEN = 40  # between two kills: each of the writers is amid some of it
OURS = "FROM pg_stat_activity WHERE datname = current_database() AND usename = 'diary_app'"
NOT_NOW = (("P0001", 500), ("53100", 503), ("40001", 503))  # an error in a trigger, a full disk, a conflict


@asynccontextmanager
async def failing_commits(superuser: Superuser, table: str, sqlstate: str = "P0001") -> AsyncIterator[None]:
    """While this lasts, each statement that adds to the table succeeds, and the commit after it fails."""
    await superuser.execute(f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no commit' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION fail();
    """)
    try:
        yield
    finally:
        await superuser.execute("DROP FUNCTION fail() CASCADE")


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[FastAPI]:
    """An application of its own, started."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


async def add_row(transaction: AsyncSession, key: bytes) -> None:
    await transaction.execute(insert(SignInDelay).values(key=key, failures=1, failed_at=func.now()))


async def has_row(database: Database, key: bytes) -> bool:
    async with database.open_transaction() as transaction:
        return await transaction.scalar(select(SignInDelay.failures).where(SignInDelay.key == key)) is not None


@pytest.fixture
async def notebook(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A small application whose routes write in every way: as ours do, and as FastAPI would by default."""
    small = FastAPI()
    small.state.diary = app.state.diary
    problems.install(small)
    small.add_middleware(RequestContext)

    @small.post("/ours/{key}", status_code=201)
    async def write(transaction: deps.Transaction, key: str) -> None:
        await add_row(transaction, key.encode())

    @small.post("/default/{key}", status_code=201)
    async def write_by_default(transaction: TransactionOfRequest, key: str) -> None:
        await add_row(transaction, key.encode())

    @small.post("/failing/{key}", status_code=201)
    async def write_and_fail(transaction: deps.Transaction, key: str) -> None:
        await add_row(transaction, key.encode())
        raise ZeroDivisionError

    @small.post("/refusing/{key}", status_code=201)
    async def write_and_refuse(transaction: deps.Transaction, key: str) -> None:
        await add_row(transaction, key.encode())
        raise errors.Stale

    async with connect(small) as http:
        yield http


async def test_what_a_route_writes_is_stored_once_it_answers(app: FastAPI, notebook: httpx.AsyncClient) -> None:
    assert (await notebook.post("/ours/kept")).status_code == 201
    assert await has_row(app.state.diary.database, b"kept")


@pytest.mark.parametrize(("sqlstate", "status"), NOT_NOW)
async def test_a_failed_commit_of_a_session_never_answers_2xx(
    app: FastAPI, notebook: httpx.AsyncClient, superuser: Superuser, sqlstate: str, status: int
) -> None:
    async with failing_commits(superuser, "sign_in_delays", sqlstate):
        answer = await notebook.post("/ours/lost")
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 503)
    assert not await has_row(app.state.diary.database, b"lost")


async def test_without_the_function_scope_a_failed_commit_would_have_answered_201(
    app: FastAPI, notebook: httpx.AsyncClient, superuser: Superuser
) -> None:
    async with failing_commits(superuser, "sign_in_delays"):
        answer = await notebook.post("/default/lost")
    assert answer.status_code == 201
    assert not await has_row(app.state.diary.database, b"lost")


async def test_every_route_with_a_session_commits_before_it_answers(app: FastAPI) -> None:
    sessions = [node for route in iter_route_contexts(app.routes) for node in _tree(route) if _opens_session(node)]
    assert sessions
    assert {node.scope for node in sessions} == {"function"}


def _tree(route: Any) -> Iterator[Dependant]:
    return deps.tree(route.dependant) if isinstance(route.original_route, APIRoute) else iter(())


def _opens_session(node: Dependant) -> bool:
    return node.call is deps.open_transaction


@pytest.mark.parametrize(("sqlstate", "status"), NOT_NOW)
async def test_a_failed_commit_of_a_service_never_answers_2xx(
    client: httpx.AsyncClient, superuser: Superuser, sqlstate: str, status: int
) -> None:
    person = Person()
    async with failing_commits(superuser, "users", sqlstate):
        assert (await person.register(client)).status_code == status
    assert await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", person.email) == 0
    await person.register_and_sign_in(client)


@pytest.mark.parametrize("table", ["records", "record_versions", "audit_events"])
@pytest.mark.parametrize(("sqlstate", "status"), NOT_NOW)
async def test_a_failed_commit_of_a_new_entry_answers_no_2xx_and_stores_nothing(
    ada: Phone, superuser: Superuser, table: str, sqlstate: str, status: int
) -> None:
    sent = entry()
    async with failing_commits(superuser, table, sqlstate):
        assert (await ada.log(**sent)).status_code == status
    assert await _stored(superuser, ada) == (0, 0, 0)
    answer = await ada.log(**sent)
    assert (answer.status_code, answer.json()["change_seq"]) == (201, 1)


async def _stored(superuser: Superuser, phone: Phone) -> tuple[int, ...]:
    """How many records and versions a patient has, and the head of the clock."""
    row = await superuser.fetchrow(
        "SELECT (SELECT count(*) FROM records r WHERE r.patient_id = c.patient_id),"
        " (SELECT count(*) FROM record_versions v WHERE v.patient_id = c.patient_id), head"
        " FROM patient_clocks c WHERE patient_id = $1",
        phone.patient_id,
    )
    assert row is not None
    return tuple(row)


async def test_an_exception_in_a_route_takes_back_what_it_wrote(app: FastAPI, notebook: httpx.AsyncClient) -> None:
    assert (await notebook.post("/failing/gone")).status_code == 500
    assert (await notebook.post("/refusing/gone")).status_code == 412
    assert not await has_row(app.state.diary.database, b"gone")


def test_nothing_but_the_database_module_ends_a_transaction() -> None:
    verbs = {"commit", "rollback", "begin", "begin_nested", "begin_twophase", "transaction"}
    found = {
        path.relative_to(ROOT / "app").as_posix()
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in verbs
    }
    # The second tries statements in a savepoint, the third reads a thousand diaries as of one moment.
    assert found == {"postgres/database.py", "postgres/rights.py", "services/verify.py"}


async def test_requests_that_end_at_random_moments_keep_no_connection(
    app: FastAPI, ada: Phone, superuser: Superuser
) -> None:
    random, cut = Random(4), 0
    while cut < 200:
        requests = [asyncio.create_task(_anything(ada, random)) for _ in range(10)]
        for request in requests:
            asyncio.get_running_loop().call_later(random.uniform(0, 0.03), request.cancel)
        ends = await asyncio.gather(*requests, return_exceptions=True)
        cut += sum(isinstance(end, asyncio.CancelledError) for end in ends)
    await until(lambda: _is_idle(app, superuser))
    answers = await asyncio.gather(*(_anything(ada, random) for _ in range(40)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    records, versions, head = await _stored(superuser, ada)
    assert records == versions == head > 0


async def _anything(phone: Phone, random: Random) -> httpx.Response:
    path = random.choice([f"{phone.diary}/entries", phone.diary, "/v1/me", None])
    return await (phone.http.get(path) if path else phone.log())


async def _is_idle(app: FastAPI, superuser: Superuser) -> bool:
    database: Database = app.state.diary.database
    sessions = database.engine.pool
    assert isinstance(sessions, AsyncAdaptedQueuePool)
    return (
        database._calls.connections()[1] == 0
        and sessions.checkedout() == 0
        and await superuser.fetchval(f"SELECT count(*) {OURS} AND state <> 'idle'") == 0
    )


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[FastAPI]:
    """An application with a single connection for calls, and another for sessions."""
    async with serving(settings.model_copy(update={"database_pool_size": 1, "database_wait_seconds": 0.2})) as app:
        yield app


@pytest.mark.parametrize(
    ("path", "lock"),
    [
        ("entries", "LOCK TABLE patient_clocks"),
        ("/v1/me", "LOCK TABLE sessions"),
    ],
)
async def test_an_exhausted_pool_answers_503_and_serves_everybody_afterwards(
    narrow: FastAPI, superuser: Superuser, path: Literal["entries", "/v1/me"], lock: str
) -> None:
    async with connect(narrow) as first, connect(narrow) as second:
        ada, bob = await Person().register_and_sign_in(first), await Person().register_and_sign_in(second)
        async with superuser.transaction():
            await superuser.execute(lock)
            stalled = asyncio.create_task(_ask(ada, path))
            await until_locked_out(superuser)
            refused = await _ask(bob, path)
            assert refused.status_code == 503
            assert 1 <= int(refused.headers["retry-after"]) <= 5
        assert (await stalled).is_success
        assert (await _ask(bob, path)).is_success


async def _ask(phone: Phone, path: Literal["entries", "/v1/me"]) -> httpx.Response:
    return await (phone.log() if path == "entries" else phone.http.get(path))


class Cluster:
    """A PostgreSQL that the test may stop, kill and start again."""

    def __init__(self, server: embedded.Server) -> None:
        self.server = server

    def start(self) -> None:
        self.server = embedded.start(self.server.data_directory.parent, self.server.binaries)

    def kill(self) -> None:
        pid = int((self.server.data_directory / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def kill_and_start(self) -> None:
        self.kill()
        self.server.stop()
        self.start()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    with check.temporary_server() as server:
        embedded.ensure_database(server, "diary")
        await anyio.to_thread.run_sync(migrate, server.url("postgres", "diary"))
        cluster = Cluster(server)
        yield cluster
        cluster.server.stop()


@pytest.fixture
async def own(cluster: Cluster, tmp_path: Path) -> AsyncIterator[FastAPI]:
    """An application on that PostgreSQL."""
    url = SecretStr(cluster.server.url("diary_app", "diary"))
    settings = Settings(
        environment="development",
        database_url=url,
        state_directory=tmp_path,
        requests_per_session=0,  # who asks again and again meets no other limit
        requests_per_account=0,
    )
    async with serving(settings) as app:
        yield app


async def test_a_stopped_database_answers_503_and_is_found_again_without_a_restart(
    own: FastAPI, cluster: Cluster
) -> None:
    async with connect(own) as http:
        ada = await Person().register_and_sign_in(http)
        assert (await ada.log()).status_code == 201
        cluster.server.stop()
        await until(lambda: _is_not_ready(http))  # it looks once a second
        for answer in (await ada.log(), await ada.get(), await http.get("/v1/me"), await http.get("/readyz")):
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
        cluster.start()
        await until(lambda: _is_ready(http))
        assert (await ada.log()).status_code == 201
        assert (await http.get("/v1/me")).status_code == 200
        assert len((await ada.get("/entries")).json()["items"]) == 2


async def _is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 200


async def _is_not_ready(http: httpx.AsyncClient) -> bool:
    return not await _is_ready(http)


@pytest.mark.parametrize("kept", [False, True], ids=["and somebody starts it again", "and it is kept alive"])
async def test_nothing_acknowledged_is_lost_when_the_database_is_killed(
    own: FastAPI, cluster: Cluster, kept: bool
) -> None:
    acknowledged: set[str] = set()
    keeper = restarts.kept_alive(cluster.server) if kept else nullcontext()
    async with connect(own) as first, connect(own) as second:
        phones = [await Person().register_and_sign_in(http) for http in (first, second)]
        writers = [asyncio.create_task(_write_on(phone, acknowledged)) for phone in phones * 4]
        with keeper:
            for _ in range(2):
                before = len(acknowledged)
                await until(lambda: _has(acknowledged, before + WRITTEN))  # noqa: B023 - awaited before it changes
                await anyio.to_thread.run_sync(cluster.kill if kept else cluster.kill_and_start)
            before = len(acknowledged)
            await until(lambda: _has(acknowledged, before + WRITTEN))
        for writer in writers:
            writer.cancel()
        ends = await asyncio.gather(*writers, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    superuser = await asyncpg.connect(cluster.server.url("postgres", "diary"))
    await until(lambda: superuser.fetchval(f"SELECT count(*) = 0 {OURS} AND state <> 'idle'"))
    stored = [str(row["id"]) for row in await superuser.fetch("SELECT id FROM records")]
    assert acknowledged <= set(stored)
    assert len(stored) == await superuser.fetchval("SELECT sum(head) FROM patient_clocks")
    assert await superuser.fetch("SELECT verify_diary_v1(id) FROM patients") == []
    await superuser.close()


async def _has(acknowledged: set[str], count: int) -> bool:
    return len(acknowledged) >= count


async def _write_on(phone: Phone, acknowledged: set[str]) -> None:
    """Logs one entry after another, each again until it is acknowledged, as a phone does."""
    while True:
        sent = entry()
        await until(lambda: _acknowledges(phone, sent))  # noqa: B023 - awaited before it changes
        acknowledged.add(sent["id"])


async def _acknowledges(phone: Phone, sent: dict[str, Any]) -> bool:
    answer = await phone.log(**sent)
    assert answer.status_code in (200, 201, 503), answer.text
    return answer.is_success
