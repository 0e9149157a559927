"""Everything a measurement needs: a database of its own, full; the servers to compare; people who are signed in."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx

from app import database, embedded
from bench import people, seed
from bench.people import Person
from bench.seed import Connection

ACCOUNTS = 32
START_SECONDS = 60
NTH = "SELECT change_seq FROM entries WHERE patient_id = $1 ORDER BY change_seq OFFSET $2 LIMIT 1"
NONCE = "SELECT nonce FROM record_versions WHERE patient_id = $1 AND change_seq = $2"


@dataclass
class Server:
    """A server process that listens on the loopback."""

    port: int
    process: subprocess.Popen[bytes]


@dataclass
class Stage:
    """What is there to be measured. `people[0]` has the long diary."""

    postgres: embedded.Server
    owner: Connection
    bare_owner: Connection
    postmaster: int
    directory: Path
    servers: dict[str, Server]
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
    postgres = embedded.start(directory)
    try:
        yield postgres, directory
    finally:
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def staged(
    postgres: embedded.Server, directory: Path, size: int, patients: int, workers: int
) -> AsyncIterator[Stage]:
    """Migrated, filled, served and signed in; everything stops with the block."""
    for name in ("diary", "bare"):
        await asyncio.to_thread(embedded.ensure_database, postgres, name)
    await asyncio.to_thread(database.migrate, postgres.url("postgres", "diary"))
    owner = await asyncpg.connect(postgres.url("postgres", "diary"))
    bare_owner = await asyncpg.connect(postgres.url("postgres", "bare"))
    postmaster = int((await owner.fetchval("SELECT pg_read_file('postmaster.pid')")).split()[0])
    stage = Stage(postgres, owner, bare_owner, postmaster, directory, {})
    try:
        async with _serving(stage, "diary", *_diary(stage, workers)):
            await _fill(stage, size, patients)
            bare, equal = _reference(stage, "bare", workers), _reference(stage, "equal", workers)
            async with _serving(stage, "bare", *bare), _serving(stage, "equal", *equal):
                yield stage
    finally:
        await owner.close()
        await bare_owner.close()


def _diary(stage: Stage, workers: int) -> tuple[list[str], dict[str, str], int]:
    """The service as an operator starts it; only the limits of one client are higher, as few clients do all."""
    port = _free_port()
    settings = {
        "ENVIRONMENT": "development",  # production asks for a second factor at each sign-in
        "DATABASE_URL": stage.postgres.url("diary_app", "diary"),
        "STATE_DIRECTORY": str(stage.directory / "state"),
        "PORT": str(port),
        "WORKERS": str(workers),
        "REQUESTS_PER_SESSION": "1000000",
        "REQUESTS_PER_ADDRESS": "1000000",
        "ACCESS_TOKEN_SECONDS": "3600",
    }
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    return command, {f"DIARY_{name}": value for name, value in settings.items()}, port


def _reference(stage: Stage, name: str, workers: int) -> tuple[list[str], dict[str, str], int]:
    port = _free_port()
    user, kept = ("postgres", "bare") if name == "bare" else ("diary_app", "diary")
    options = ["--workers", str(workers), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", f"bench.references:{name}", "--port", str(port), *options]
    return [*command, "--log-level", "warning"], {"BENCH_DATABASE_URL": stage.postgres.url(user, kept)}, port


@asynccontextmanager
async def _serving(
    stage: Stage, name: str, command: list[str], environment: dict[str, str], port: int
) -> AsyncIterator[None]:
    with (stage.directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
    try:
        await _listening(process, port)
        stage.servers[name] = Server(port, process)
        yield
    finally:
        process.terminate()
        process.wait()


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


def _free_port() -> int:
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
        known = [person.diary for person in stage.people]
        known += await seed.add_patients(stage.owner, patients - len(known))
        await seed.fill_diaries(stage.owner, size, known, author.diary)
        await seed.fill_bare(stage.bare_owner, size, known, people.entry())
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
        stage.bare_places.append(await stage.bare_owner.fetchval(NTH, patient.diary, seq - 1))
