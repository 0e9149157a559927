"""Everything a measurement needs: a database of its own, full; the servers to compare; people who are signed in."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx

from app.postgres import embedded, migrate
from bench import people, seed
from bench.people import Person
from bench.seed import Connection

OPERATED = {"shared_buffers": "2GB", "max_wal_size": "8GB"}  # of tables of 2 GB with a million entries
ACCOUNTS = 32
START_SECONDS = 60
TOKEN_SECONDS = 3600  # an hour: nobody signs in anew in the middle of a comparison
NTH = "SELECT change_seq FROM entries WHERE patient_id = $1 ORDER BY change_seq OFFSET $2 LIMIT 1"
NONCE = "SELECT nonce FROM record_versions WHERE patient_id = $1 AND change_seq = $2"


@dataclass
class Server:
    """A server process that listens on the loopback, and the other process that works for it, if there is one."""

    port: int
    process: "subprocess.Popen[bytes]"
    database: int | None
    count: Callable[[], Awaitable[int]]  # how many records it holds


@dataclass
class Stage:
    """What is there to be measured. `people[0]` has the long diary."""

    postgres: embedded.Server
    directory: Path
    owner: Connection
    postmaster: int
    servers: dict[str, Server] = field(default_factory=dict)
    patients: list[UUID] = field(default_factory=list)  # all of them, those who sign in first
    people: list[Person] = field(default_factory=list)
    clinician: Person | None = None
    places: list[tuple[UUID, int, UUID]] = field(default_factory=list)  # epoch, seq, nonce along the long diary
    cursors: list[str] = field(default_factory=list)  # the same places, as the service seals them
    bare_places: list[int] = field(default_factory=list)  # and those of the reference


@contextmanager
def postgres_server() -> Iterator[tuple[embedded.Server, Path]]:
    """An embedded PostgreSQL that is gone afterwards, and a directory for what else is needed."""
    directory = Path(tempfile.mkdtemp(prefix="diary-bench-"))
    directory.chmod(0o755)
    postgres = _as_operated(embedded.start(directory), directory)
    try:
        yield postgres, directory
    finally:
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _as_operated(postgres: embedded.Server, directory: Path) -> embedded.Server:
    """The server once more, with the memory that an operator gives it; it is the same for all sides."""
    psql = [str(postgres.binaries / "psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", postgres.url()]
    for name, value in OPERATED.items():
        subprocess.run([*psql, "-c", f"ALTER SYSTEM SET {name} = '{value}'"], check=True)
    postgres.stop()
    return embedded.start(directory)


@asynccontextmanager
async def staged(
    postgres: embedded.Server, directory: Path, size: int, patients: int, workers: int
) -> AsyncIterator[Stage]:
    """The service: migrated, served, filled, and people signed in; it is stopped with the block."""
    await asyncio.to_thread(embedded.ensure_database, postgres, "diary")
    await asyncio.to_thread(migrate.migrate, postgres.url("postgres", "diary"))
    async with _connected(postgres, "diary") as owner:
        postmaster = int((await owner.fetchval("SELECT pg_read_file('postmaster.pid')")).split()[0])
        stage = Stage(postgres, directory, owner, postmaster)
        async with with_service(stage, "diary", workers):
            await _fill(stage, size, patients)
            yield stage


@asynccontextmanager
async def with_service(stage: Stage, name: str, workers: int) -> AsyncIterator[None]:
    """The service, started as an operator does it; only the limits that hold for one client are out of the way."""
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    settings = {
        "DIARY_ENVIRONMENT": "development",  # production asks for a second factor at each sign-in
        "DIARY_DATABASE_URL": stage.postgres.url("diary_app", "diary"),
        "DIARY_STATE_DIRECTORY": str(stage.directory / "state"),
        "DIARY_WORKERS": str(workers),
        "DIARY_REQUESTS_PER_SESSION": "1000000",
        "DIARY_REQUESTS_PER_ACCOUNT": "1000000",
        "DIARY_REQUESTS_PER_ADDRESS": "1000000",
        "DIARY_CHANGES_PER_DAY": "0",
        "DIARY_ACCESS_TOKEN_SECONDS": str(TOKEN_SECONDS),
    }
    async with serving(stage, name, command, settings, stage.owner, "records"):
        yield


@asynccontextmanager
async def with_references(stage: Stage, size: int, workers: int) -> AsyncIterator[None]:
    """The two references beside the service, the bare one with as many entries in a database of its own."""
    await asyncio.to_thread(embedded.ensure_database, stage.postgres, "bare")
    async with _connected(stage.postgres, "bare") as owner:
        await seed.fill_bare(owner, size, stage.patients, people.entry())
        long_diary = stage.patients[0]
        stage.bare_places = [await owner.fetchval(NTH, long_diary, seq - 1) for _, seq, _ in stage.places]
        bare = _reference(stage, "bare", "postgres", workers)
        equal = _reference(stage, "equal", "diary_app", workers)
        async with (
            serving(stage, "bare", *bare, owner, "entries"),
            serving(stage, "equal", *equal, stage.owner, "records"),
        ):
            yield


def _reference(stage: Stage, name: str, user: str, workers: int) -> tuple[list[str], dict[str, str]]:
    options = ["--workers", str(workers), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", f"bench.references:{name}", *options, "--log-level", "warning"]
    kept = "bare" if name == "bare" else "diary"
    return command, {"BENCH_DATABASE_URL": stage.postgres.url(user, kept)}


@asynccontextmanager
async def _connected(postgres: embedded.Server, name: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(postgres.url("postgres", name))
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def serving(
    stage: Stage, name: str, command: list[str], environment: dict[str, str], owner: Connection, table: str
) -> AsyncIterator[None]:
    """A server over PostgreSQL that answers, as a process of its own, until the block ends."""

    async def count() -> int:
        stored: int = await owner.fetchval(f"SELECT count(*) FROM {table}")
        return stored

    port = free_port()
    ports = {"DIARY_PORT": str(port), "UVICORN_PORT": str(port)}
    async with process(stage.directory / f"{name}.log", command, environment | ports, port) as running:
        stage.servers[name] = Server(port, running, stage.postmaster, count)
        yield


@asynccontextmanager
async def process(
    log: Path, command: list[str], environment: dict[str, str], port: int
) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """A process that listens at the port, until the block ends."""
    with log.open("wb") as file:
        started = subprocess.Popen(command, env=os.environ | environment, stdout=file, stderr=file)
    try:
        await _listening(started, port)
        yield started
    finally:
        started.terminate()
        started.wait()


async def _listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            except OSError:
                assert process.poll() is None, f"{process.args!r} did not start"
                await asyncio.sleep(0.05)


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def _fill(stage: Stage, size: int, patients: int) -> None:
    """People who sign up, as many entries as were asked for, and what single workloads need."""
    async with client(stage) as http:
        author = await people.register(http)
        answer = await http.post(people.entries(author), json=people.entry(), headers=people.bearer(author))
        assert answer.status_code == 201, answer.text
        stage.people = [await people.register(http) for _ in range(min(ACCOUNTS, patients))]
        stage.patients = [person.diary for person in stage.people]
        stage.patients += await seed.add_patients(stage.owner, patients - len(stage.people))
        await seed.fill_diaries(stage.owner, size, stage.patients, author.diary)
        await stage.owner.execute("CHECKPOINT")
        stage.clinician = await people.trust(http, stage.postgres.url("postgres", "diary"), stage.people[0])
        await people.follow_year(http, stage.people[1])
        await _walk(stage, http)


def client(stage: Stage) -> httpx.AsyncClient:
    """A client of the service."""
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.servers['diary'].port}", timeout=60)


async def _walk(stage: Stage, http: httpx.AsyncClient) -> None:
    """Notes the places in the long diary from which a hundred changes follow."""
    patient = stage.people[0]
    asked: dict[str, str | int] = {"limit": 100}
    while True:
        answer = await http.get(people.changes(patient), params=asked, headers=people.bearer(patient))
        page = answer.json()
        asked["cursor"], seq = page["cursor"], page["changes"][-1]["change_seq"]
        if seq + 100 > page["head"]:
            return
        stage.cursors.append(page["cursor"])
        stage.places.append((UUID(page["epoch"]), seq, await stage.owner.fetchval(NONCE, patient.diary, seq)))
