"""Experiments 6 and 7: clients leave, connections run out, the disk is full."""

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx

from tests.faults.crowd import crowd, enrol
from tests.faults.load import Patient, Writer
from tests.faults.oracle import Verdict, judge
from tests.faults.proxy import reset
from tests.faults.servers import SOUND, Postgres, diary
from tests.people import entry, without_id
from tests.waiting import until

JSON = {"Content-Type": "application/json"}
POOL = 4
LOCK = "SELECT FROM patient_clocks WHERE patient_id = $1 FOR UPDATE"
AT_WORK = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state NOT IN ('idle', 'disabled')
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
AT_ONCE = 16
MOST_TRIES = 3  # of pushes that are refused
ANSWERED = 3  # seconds, also where no connection is free
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def clients_left(postgres: Postgres, seed: int, *, requests: int, program: str = SOUND) -> Verdict:
    """Clients disconnect at random moments of a request; then the writers of one patient take every connection."""
    with diary(postgres, program, DATABASE_POOL_SIZE=str(POOL)) as server:
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, 2)
        await leave_early(server.port, patients[0], requests, Random(seed))
        async with crowd(url, patients, 2, 2, seed) as phones, connection_to(server.owner_url) as superuser:
            if faults := await left_behind(superuser, url, patients[0]):
                return Verdict(0, faults=faults, did=f"{requests} requests broken off")
            for writer in phones.writers:
                await write(writer, 20)
            refused, in_time, faults = await exhaust(superuser, url, patients)
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
    verdict.faults += faults
    verdict.did = f"{requests} requests broken off; then {refused} refused with 503, {in_time} of them in 3 s"
    return verdict


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[Connection]:
    """A connection that may see and do everything."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def leave_early(port: int, patient: Patient, requests: int, random: Random) -> None:
    """So many requests, of which some are not even sent whole."""
    bodies = [push_of(random.randrange(3)) for _ in range(50)]
    waiting = iter(range(requests))

    async def client() -> None:
        for number in waiting:
            method, path, body = [("POST", "push", bodies[number % 50]), ("GET", "pull?limit=50", b"")][number % 3 == 0]
            request = (
                f"{method} /v1/patients/{patient.id}/sync/{path} HTTP/1.1\r\nHost: diary\r\n"
                f"Authorization: {patient.authorization}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode() + body
            await break_off(port, request, random)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


async def break_off(port: int, request: bytes, random: Random) -> None:
    """Sends a request, or a part of it, and leaves, politely or not."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    whole = random.random() < 0.7
    writer.write(request if whole else request[: random.randrange(len(request))])
    await asyncio.sleep(random.random() * 0.02)
    if random.random() < 0.5:
        reset(writer)
    writer.close()


async def left_behind(superuser: Connection, url: str, patient: Patient) -> list[str]:
    """What is wrong with the connections: one is in a transaction that nobody ends, or not to be had any more."""

    async def quiet() -> bool:
        return not await superuser.fetchval(AT_WORK)

    try:
        await until(quiet)
    except AssertionError:
        return ["a connection is left in a transaction"]
    free = await count_free(superuser, url, patient)
    return ["a connection is left checked out"] if free < POOL else []


async def count_free(superuser: Connection, url: str, patient: Patient) -> int:
    """How many connections the server can use at once: so many pushes come as far as the lock on their diary."""
    most = 0
    async with superuser.transaction():
        await superuser.execute(LOCK, UUID(patient.id))
        pushes = [asyncio.create_task(push_once(url, patient)) for _ in range(POOL)]
        while most < POOL and not all(push.done() for push in pushes):
            most = max(most, await superuser.fetchval(WAITING))
            await asyncio.sleep(0.01)
    await asyncio.gather(*pushes)
    return most


async def exhaust(superuser: Connection, url: str, patients: list[Patient]) -> tuple[int, int, list[str]]:
    """More pushes than connections, all of one patient, whose diary is locked; another patient is answered meanwhile.

    How many were refused, how many of them in time, and what was wrong.
    """
    one, other = patients
    async with superuser.transaction():
        await superuser.execute(LOCK, UUID(one.id))
        crowded = [asyncio.create_task(push_once(url, one)) for _ in range(4 * POOL)]
        while await superuser.fetchval(WAITING) < POOL and not all(push.done() for push in crowded):
            await asyncio.sleep(0.01)
        harmed = True
        for _ in range(10):
            if (await push_once(url, other)).answer.status_code == 200:
                harmed = False
                break
        refusals = await asyncio.gather(*crowded)
    wrong = {refusal.answer.status_code for refusal in refusals if "Retry-After" not in refusal.answer.headers}
    faults = [f"a push without a connection was answered with {status}" for status in sorted(wrong)]
    faults += ["another patient was not answered"] * harmed
    return len(refusals), sum(refusal.seconds <= ANSWERED for refusal in refusals), faults


class CannotMount(Exception):
    """There can be no small disk on this machine."""


class Pushed(NamedTuple):
    """An answer and how long it took."""

    answer: httpx.Response
    seconds: float


async def push_once(url: str, patient: Patient) -> Pushed:
    """One entry over a connection of its own."""
    began = time.monotonic()
    async with patient.connect(url, patience=30) as http:
        answer = await http.post("/push", content=push_of(1), headers=JSON)
    return Pushed(answer, time.monotonic() - began)


def push_of(entries: int) -> bytes:
    """The body of a push of new entries."""
    mutations = [
        {
            "mutation_id": str(uuid4()), "op": "put", "kind": "entry", "id": str(uuid4()), "base_version": 0,
            "data": without_id(entry()),
        }
        for _ in range(entries)
    ]  # fmt: skip
    body = {"device_id": "phone", "client_now": datetime.now(UTC).isoformat(), "mutations": mutations}
    return json.dumps(body).encode()


async def disk_full(postgres: Postgres, seed: int, *, times: int, program: str = SOUND) -> Verdict:
    """The disk of the records fills up and is emptied again, under neither server's eyes."""
    with small_disk(postgres) as disk, diary(postgres, program) as server:
        await asyncio.to_thread(move_records, postgres, server.name, disk)
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, 1)
        faults, pages = [], 0
        async with crowd(url, patients, 1, 1, seed) as phones:
            [writer], [reader] = phones.writers, phones.readers
            for _ in range(times):
                await write(writer, 20)
                fill(disk / "filler")
                faults += await refused_for_want_of_room(writer)
                before = reader.pages
                await reader.catch_up(most_pages=1000)
                pages += reader.pages - before
                faults += ["reads do not go on"] * (reader.pages == before)
                (disk / "filler").unlink()
                await write(writer, 0)
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
        verdict.faults += faults
        server.stop()
        postgres.sql("postgres", f"DROP DATABASE {server.name}", f"DROP TABLESPACE {disk.name}")
    refusals = phones.ledger.refusals[503]
    verdict.did = f"{times} × full: {refusals} pushes refused with 503, {pages} pages read meanwhile"
    return verdict


async def write(writer: Writer, changes: int) -> None:
    """Makes so many changes, and sends all that waits."""
    for _ in range(changes):
        writer.make_change()
    tries = 0
    while writer.outbox and tries < MOST_TRIES:
        tries += not await writer.push()


async def refused_for_want_of_room(writer: Writer) -> list[str]:
    """Writes until there is no room: pages that are there already take a few."""
    for _ in range(1000):
        writer.put(writer.new_id(), 0)
        if not await writer.push():
            return []
    return ["the disk was not full"]


@contextmanager
def small_disk(postgres: Postgres) -> Iterator[Path]:
    """A file system of its own for PostgreSQL; only root may mount one."""
    account = postgres.server.data_directory.stat()
    with tempfile.TemporaryDirectory(prefix="diary_disk_") as name:
        directory = Path(name)
        options = f"size=16m,mode=0700,uid={account.st_uid},gid={account.st_gid}"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], stderr=subprocess.DEVNULL)
        if mounted.returncode != 0:
            raise CannotMount("a disk that is small enough to fill can be mounted by root only")
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


def move_records(postgres: Postgres, name: str, disk: Path) -> None:
    """Puts what patients write on the small disk; the audit of reads stays where it is."""
    postgres.sql("postgres", f"CREATE TABLESPACE {disk.name} LOCATION '{disk}'")
    tables = [f"ALTER TABLE {table} SET TABLESPACE {disk.name}" for table in ("records", "record_versions")]
    postgres.sql(name, *tables)


def fill(path: Path) -> None:
    """Writes until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
