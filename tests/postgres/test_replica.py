"""What clinicians read is drafted by a streaming replica and shown when the primary signs it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import anyio.to_thread
import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.config import Settings
from app.main import create_app
from app.postgres import database, embedded, migrate
from app.postgres.functions import Call
from app.services import readiness
from app.services.readiness import DatabaseState
from tests.conftest import connect
from tests.people import Person, Phone, consent, lent, make_clinician
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
NAME = "diary"
SEEN = "SELECT record_ids, outcome FROM audit_events WHERE actor_id = $1 AND action = $2 ORDER BY id"
REPLAYED = "SELECT pg_last_wal_replay_lsn() >= $1"


@contextmanager
def server(copy_of: embedded.Server | None = None) -> Iterator[embedded.Server]:
    """A PostgreSQL of its own; or a hot standby of another, which follows it over streaming replication."""
    directory = Path(tempfile.mkdtemp(prefix="diary-replica-"))
    directory.chmod(0o755)
    if copy_of is not None:
        _copy(copy_of, directory)
    started = embedded.start(directory)
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _copy(primary: embedded.Server, directory: Path) -> None:
    owner = primary.data_directory.stat()
    shutil.chown(directory, owner.st_uid, owner.st_gid)
    socket = ["-h", str(primary.socket_directory), "-p", str(embedded.PORT), "-U", "postgres"]
    subprocess.run(
        [primary.binaries / "pg_basebackup", *socket, "-D", directory / "cluster", "-R", "--checkpoint=fast"],
        check=True,
        cwd="/",
        user=owner.st_uid,
        group=owner.st_gid,
    )


@pytest.fixture(scope="module")
async def primary() -> AsyncIterator[embedded.Server]:
    with server() as started:
        embedded.ensure_database(started, NAME)
        await anyio.to_thread.run_sync(migrate.migrate, started.url("postgres", NAME))
        yield started


@pytest.fixture(scope="module")
def replica(primary: embedded.Server) -> Iterator[embedded.Server]:
    with server(copy_of=primary) as started:
        yield started


@pytest.fixture(scope="module")
async def app(
    primary: embedded.Server, replica: embedded.Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FastAPI]:
    """The application on both."""
    application = create_app(
        Settings(
            environment="development",
            database_url=SecretStr(primary.url("diary_app", NAME)),
            replica_database_url=SecretStr(replica.url("diary_app", NAME)),
            state_directory=tmp_path_factory.mktemp("state"),
            audit_seal_seconds=3600,
            requests_per_session=0,
            requests_per_account=0,
            requests_per_address=0,
        )
    )
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def superuser(primary: embedded.Server) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(primary.url("postgres", NAME))
    yield connection
    await connection.close()


@pytest.fixture
async def standby(replica: embedded.Server) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(replica.url("postgres", NAME))
    yield connection
    await connection.execute("SELECT pg_wal_replay_resume()")
    await connection.close()


@pytest.fixture
def signed(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the primary said to each page that it was asked for."""
    calls, said = app.state.diary.database._calls, []
    sound = calls.call

    async def call(call: Call, **more: Any) -> Any:
        rows = await sound(call, **more)
        if call.function.name == "read_page_v1":
            said.append(rows[0]["outcome"])
        return rows

    monkeypatch.setattr(calls, "call", call)
    return said


@pytest.fixture
async def weber(app: FastAPI, ada: Phone, superuser: Connection) -> AsyncIterator[Phone]:
    """Dr. Weber's phone, pointed at Ada's diary, with her consent."""
    async with connect(app) as http:
        phone = await make_clinician(superuser, await Person().register_and_sign_in(http))
        await consent(ada, phone)
        yield lent(phone, ada)


async def caught_up(superuser: Connection, standby: Connection) -> None:
    """Returns once the replica has everything that the primary has written."""
    written = await superuser.fetchval("SELECT pg_current_wal_lsn()")
    await until(lambda: standby.fetchval(REPLAYED, written))


def ids(answer: httpx.Response) -> list[str]:
    return [item["id"] for item in answer.json()["items"] if item["kind"] == "entry"]


async def test_a_page_that_the_replica_drafted_is_the_page_of_the_primary(
    ada: Phone, weber: Phone, superuser: Connection, standby: Connection, signed: list[str]
) -> None:
    logged = [(await ada.log()).json()["id"] for _ in range(5)]
    await caught_up(superuser, standby)
    first = await weber.get("/timeline", params={"limit": 3})
    rest = await weber.get("/timeline", params={"cursor": first.json()["next_cursor"]})
    assert sorted(ids(first) + ids(rest)) == sorted(logged)
    unmodified = await weber.get("/timeline", headers={"If-None-Match": first.headers["ETag"]})
    assert (unmodified.status_code, signed) == (304, ["drafted", "drafted", "unmodified"])

    trail = await superuser.fetch(SEEN, UUID(weber.user_id), "timeline.read")
    shown = [[UUID(one) for one in ids(page)] for page in (first, rest)]
    assert [(row["record_ids"], row["outcome"]) for row in trail] == [
        (shown[0], "ok"),
        (shown[1], "ok"),
        ([], "unmodified"),
    ]


async def test_what_the_replica_does_not_have_yet_the_primary_shows(
    ada: Phone, weber: Phone, superuser: Connection, standby: Connection, signed: list[str]
) -> None:
    await ada.log()
    await caught_up(superuser, standby)
    await standby.execute("SELECT pg_wal_replay_pause()")
    latest = (await ada.log()).json()["id"]
    assert latest in ids(await weber.get("/entries"))
    assert signed == ["ok"]


async def test_a_revocation_acts_at_once_however_late_the_replica_is(
    ada: Phone, weber: Phone, superuser: Connection, standby: Connection, signed: list[str]
) -> None:
    await ada.log()
    await caught_up(superuser, standby)
    await standby.execute("SELECT pg_wal_replay_pause()")
    [consented] = (await ada.get("/grants")).json()["items"]
    await ada.http.delete(f"{ada.diary}/grants/{consented['id']}")
    assert (await weber.get("/timeline")).status_code == 404
    assert signed == ["not_found"]


async def test_patients_read_where_they_write(ada: Phone, signed: list[str]) -> None:
    logged = (await ada.log()).json()["id"]
    assert ids(await ada.get("/timeline")) == [logged]
    assert signed == ["ok"]


async def test_a_primary_drafts_nothing(
    app: FastAPI, ada: Phone, weber: Phone, primary: embedded.Server, signed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has configured the primary as its own replica: no page leaves without a row in the trail."""
    kept = app.state.diary.database
    mistaken = kept.settings.model_copy(update={"replica_database_url": kept.settings.database_url})
    async with started(mistaken) as wrong:
        monkeypatch.setattr(kept, "_replica", wrong._replica)
        logged = (await ada.log()).json()["id"]
        assert ids(await weber.get("/timeline")) == [logged]
    assert signed == ["ok"]


async def test_without_its_replica_the_primary_answers_and_asks_it_less_often(
    app: FastAPI, ada: Phone, weber: Phone, signed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = app.state.diary.database
    nowhere = SecretStr("postgresql://diary_app@/diary?host=/nowhere")
    async with started(kept.settings.model_copy(update={"replica_database_url": nowhere})) as without:
        monkeypatch.setattr(kept, "_replica", without._replica)
        monkeypatch.setattr(kept, "_replica_rests_until", 0.0)
        monkeypatch.setattr(database, "REPLICA_REST_SECONDS", PATIENCE)
        logged = (await ada.log()).json()["id"]
        assert ids(await weber.get("/timeline")) == [logged]
        assert kept._replica_rests_until > 0
        monkeypatch.setattr(kept, "_replica", object())  # which cannot be asked
        assert ids(await weber.get("/timeline")) == [logged]
    assert signed == ["ok", "ok"]


async def test_a_replica_that_stands_still_ends_no_call_and_readiness_says_so(
    app: FastAPI,
    ada: Phone,
    weber: Phone,
    replica: embedded.Server,
    signed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, seen = app.state.diary.database, app.state.readiness
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    monkeypatch.setattr(database, "REPLICA_REST_SECONDS", 0)
    logged = (await ada.log()).json()["id"]
    async with started(kept.settings.model_copy(update={"database_wait_seconds": 1.0})) as impatient:
        monkeypatch.setattr(kept, "_replica", impatient._replica)
        assert (await weber.get("/timeline")).status_code == 200
        with frozen(replica):
            for _ in range(2):  # over a connection that was open, and a new one
                assert ids(await weber.get("/timeline")) == [logged]
                assert signed.pop() == "ok"
            assert await seen.look() == DatabaseState(True, True, replica=False)
        assert await seen.look() == DatabaseState(True, True, replica=True)


@contextmanager
def frozen(server: embedded.Server) -> Iterator[None]:
    """PostgreSQL with all its processes, stopped while the block runs: sockets stay open, and nothing answers."""
    first = int((server.data_directory / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    processes = [first, *map(int, children)]
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[database.Database]:
    """The way to PostgreSQL by other settings."""
    other = database.Database(settings)
    await other.start()
    try:
        yield other
    finally:
        await other.stop()
