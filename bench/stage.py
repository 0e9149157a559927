"""Everything a measurement needs: a database of its own, full; the servers to compare; people who are signed in."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx

from app import database, embedded
from app.services import invitations
from bench import adherence, seed
from bench.seed import Connection

PASSWORD = "a sentence for the bench"
ACCOUNTS = 32
START_SECONDS = 60
NTH = "SELECT change_seq FROM entries WHERE patient_id = $1 ORDER BY change_seq OFFSET $2 LIMIT 1"
SAY = print


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in, with an own diary or (a clinician) without."""

    email: str
    session_id: UUID
    token: str
    patient_id: UUID | None

    @property
    def diary(self) -> UUID:
        """The own diary."""
        assert self.patient_id is not None
        return self.patient_id


@dataclass
class Server:
    """A server process that listens on the loopback."""

    port: int
    process: subprocess.Popen[bytes]


@dataclass
class Stage:
    """What is there to be measured. `patients[0]` has the long diary, `people[0]` is that patient."""

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


def entry(**fields: Any) -> dict[str, Any]:
    """The entry of every workload: 2 sites, 3 characters, 2 triggers, a note of 80 characters."""
    score = {"measure": "now", "scale": "nrs_0_10", "value": 6}
    return {
        "id": str(uuid4()),
        "occurred_at": "2026-03-28T08:00:00+01:00",
        "time_zone": "Africa/Lagos",
        "sites": [
            {"region": "chest_left", "scores": [score], "characters": ["aching", "stabbing"]},
            {"region": "neck_front_right", "scores": [score], "characters": ["tight"]},
        ],
        "triggers": [{"code": "sitting"}, {"code": "poor_sleep"}],
        "note": "Long meeting without a break, better after the walk home and a warm shower, 6/10",
        **fields,
    }


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
    async with client(stage) as http:
        author = await _registered(http)
        answer = await http.post(f"/v1/patients/{author.diary}/entries", json=entry(), headers=bearer(author))
        assert answer.status_code == 201, answer.text
        stage.people = [await _registered(http) for _ in range(min(ACCOUNTS, patients))]
        known = [person.diary for person in stage.people]
        known += await seed.add_patients(stage.owner, patients - len(known))
        SAY(f"{size} entries of {patients} patients", file=sys.stderr)
        await seed.fill_diaries(stage.owner, size, known, author.diary, _report)
        one = entry()
        facts = (json.dumps(one["sites"]), [trigger["code"] for trigger in one["triggers"]], one["note"])
        await seed.fill_bare(stage.bare_owner, size, known, facts, _report)
        await stage.owner.execute("CHECKPOINT")
        stage.clinician = await _trusted(stage, http, stage.people[0])
        await _follow_year(http, stage.people[1])
        await _walk(stage, http)


def _report(line: str) -> None:
    SAY(line, file=sys.stderr)


def client(stage: Stage) -> httpx.AsyncClient:
    """A client of the service."""
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.servers['diary'].port}", timeout=60)


def bearer(person: Person) -> dict[str, str]:
    """The header that lets a person in."""
    return {"Authorization": f"Bearer {person.token}"}


async def _registered(http: httpx.AsyncClient) -> Person:
    email = f"{uuid4().hex}@example.org"
    facts = {"display_name": "Patient", "birth_date": "1980-01-01", "time_zone": "Africa/Lagos"}
    answer = await http.post("/v1/auth/register", json={"email": email, "password": PASSWORD, **facts})
    assert answer.status_code == 202, answer.text
    return await _signed_in(http, email)


async def _signed_in(http: httpx.AsyncClient, email: str) -> Person:
    answer = await http.post("/v1/auth/sessions", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    tokens = answer.json()
    patient = tokens["user"].get("patient_id")
    return Person(email, UUID(tokens["session_id"]), tokens["access_token"], patient and UUID(patient))


async def _trusted(stage: Stage, http: httpx.AsyncClient, patient: Person) -> Person:
    """A clinician whom the patient lets read everything, invited and trusted the way that everybody goes."""
    email = f"{uuid4().hex}@example.org"
    url = stage.postgres.url("postgres", "diary")
    token = await invitations.invite_clinician(url, email, "Dr. Weber", "physician", None, unverified=False)
    await http.post("/v1/auth/activate", json={"token": token, "password": PASSWORD})
    clinician = await _signed_in(http, email)
    terms = {"scopes": ["entries:read", "treatments:read", "profile:read", "notes:read"], "purpose": "Pain clinic"}
    asked = bearer(patient) | {"Idempotency-Key": uuid4().hex}
    diary = f"/v1/patients/{patient.diary}"
    code = (await http.post(f"{diary}/share-codes", json=terms, headers=asked)).json()["code"]
    grant = (await http.post("/v1/share-codes/redeem", json={"code": code}, headers=bearer(clinician))).json()["id"]
    confirmed = await http.post(f"{diary}/grants/{grant}/confirm", json={}, headers=bearer(patient))
    assert confirmed.status_code == 200, confirmed.text
    return clinician


async def _follow_year(http: httpx.AsyncClient, person: Person) -> None:
    """Gives the diary a treatment with three doses a day and the events of its year."""
    events = list(adherence.events(adherence.due()))[:1000]
    sent = [("treatment", adherence.TREATMENT), *(("treatment_event", event) for event in events)]
    for start in range(0, len(sent), 100):
        mutations = [mutation(kind, data, str(uuid4())) for kind, data in sent[start : start + 100]]
        await push(http, person, mutations)


async def push(http: httpx.AsyncClient, person: Person, mutations: list[dict[str, Any]]) -> None:
    """Sends mutations, all of which must be accepted."""
    answer = await http.post(
        f"/v1/patients/{person.diary}/sync/push", json=push_body(mutations), headers=bearer(person)
    )
    statuses = {result["status"] for result in answer.json()["results"]}
    assert statuses == {"created"}, answer.text


def mutation(kind: str, record: dict[str, Any], mutation_id: str) -> dict[str, Any]:
    """A record as a phone pushes it."""
    data = {name: value for name, value in record.items() if name != "id"}
    return {"mutation_id": mutation_id, "op": "put", "kind": kind, "id": record["id"], "base_version": 0, "data": data}


def push_body(mutations: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole of a push, by a phone whose clock is right."""
    return {"device_id": "bench", "client_now": datetime.now(UTC).isoformat(), "mutations": mutations}


async def _walk(stage: Stage, http: httpx.AsyncClient) -> None:
    """Notes the places in the long diary from which a hundred changes follow."""
    first, cursor, head = stage.people[0], "", 0
    while True:
        more = f"&cursor={cursor}" if cursor else ""
        page = (await http.get(f"/v1/patients/{first.diary}/sync/pull?limit=100{more}", headers=bearer(first))).json()
        cursor, seq, head = page["cursor"], page["changes"][-1]["change_seq"], page["head"]
        if seq + 100 > head:
            return
        nonce = await stage.owner.fetchval(
            "SELECT nonce FROM record_versions WHERE patient_id = $1 AND change_seq = $2", first.diary, seq
        )
        stage.cursors.append(cursor)
        stage.places.append((UUID(page["epoch"]), seq, nonce))
        stage.bare_places.append(await stage.bare_owner.fetchval(NTH, first.diary, seq - 1))


def recently(minutes: int) -> str:
    """A moment of the last days, as a phone in Lagos says it."""
    moment = datetime.combine(date.today(), datetime.min.time()) - timedelta(minutes=minutes)
    return f"{moment.isoformat(timespec='seconds')}+01:00"
