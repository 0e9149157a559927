"""Experiment 6: clients leave, and connections run out."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx

from tests.faults.crowd import crowd, enrol
from tests.faults.load import Patient
from tests.faults.oracle import Verdict, judge
from tests.faults.proxy import reset
from tests.faults.servers import Postgres, diary
from tests.people import entry, without_id
from tests.serving import SOUND
from tests.waiting import until

JSON = {"Content-Type": "application/json"}
POOL = 4
ALONE = POOL - 1  # connections where somebody may wait for a lock: the last is for those who go together
LOCK = "SELECT FROM patient_clocks WHERE patient_id = $1 FOR UPDATE"
AT_WORK = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state NOT IN ('idle', 'disabled')
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
SESSIONS = "/v1/me/sessions"  # reads over the other pool, SQLAlchemy's
AT_ONCE = 16
TRIES = 20
ANSWERED = 3  # seconds, also where no connection is free
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def clients_left(postgres: Postgres, seed: int, *, requests: int, program: str = SOUND) -> Verdict:
    """Clients disconnect at random moments of a request; then come more writers than there are connections."""
    with diary(postgres, program, DATABASE_POOL_SIZE=str(POOL)) as server:
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, POOL)
        await leave_early(server.port, patients[0], requests, Random(seed))
        async with crowd(url, patients, 2, 2, seed) as phones, connection_to(server.owner_url) as superuser:
            if faults := await left_behind(superuser, url, patients):
                return Verdict(0, faults=faults, did=f"{requests} requests broken off")
            for writer in phones.writers:
                await writer.write(20)
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
    sync = f"/v1/patients/{patient.id}/sync"
    kinds = [
        request_of(patient, "POST", f"{sync}/push", push_of(3)),
        request_of(patient, "POST", f"{sync}/push", push_of(0)),
        request_of(patient, "GET", f"{sync}/pull?limit=50"),
        request_of(patient, "GET", SESSIONS),
    ]
    waiting = iter(random.choices(kinds, k=requests))

    async def client() -> None:
        for request in waiting:
            await break_off(port, request, random)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


def request_of(patient: Patient, method: str, path: str, body: bytes = b"") -> bytes:
    """A request as it travels."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: diary\r\nAuthorization: {patient.authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def break_off(port: int, request: bytes, random: Random) -> None:
    """Sends a request, or a part of it, and leaves, politely or not."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    whole = random.random() < 0.7
    writer.write(request if whole else request[: random.randrange(len(request))])
    await asyncio.sleep(random.random() * 0.02)
    if random.random() < 0.5:
        reset(writer)
    writer.close()


async def left_behind(superuser: Connection, url: str, patients: list[Patient]) -> list[str]:
    """What is wrong with the connections: one is in a transaction that nobody ends, or not to be had any more."""

    async def quiet() -> bool:
        return not await superuser.fetchval(AT_WORK)

    try:
        await until(quiet)
    except AssertionError:
        return ["a connection is left in a transaction"]
    free = 0
    for _ in range(TRIES):  # on a busy machine they may not meet
        free = max(free, await count_free(superuser, url, patients))
        if free >= ALONE:
            break
    async with patients[0].connect(url) as http:
        sessions = await http.get(f"{url}{SESSIONS}")
    return ["a connection is left checked out"] if free < ALONE or sessions.status_code != 200 else []


async def count_free(superuser: Connection, url: str, patients: list[Patient]) -> int:
    """How many connections the server can use at once: so many pushes come as far as the lock on their diary."""
    most = 0
    async with superuser.transaction():
        for patient in patients:
            await superuser.execute(LOCK, UUID(patient.id))
        pushes = [asyncio.create_task(push_once(url, patient)) for patient in patients]
        while most < ALONE and not all(push.done() for push in pushes):
            most = max(most, await superuser.fetchval(WAITING))
            await asyncio.sleep(0.01)
    await asyncio.gather(*pushes)
    return most


async def exhaust(superuser: Connection, url: str, patients: list[Patient]) -> tuple[int, int, list[str]]:
    """More pushes than connections, all of one patient, whose diary is locked; another patient is answered meanwhile.

    How many were refused, how many of them in time, and what was wrong.
    """
    one, other, *_ = patients
    async with superuser.transaction():
        await superuser.execute(LOCK, UUID(one.id))
        crowded = [asyncio.create_task(push_once(url, one)) for _ in range(4 * POOL)]
        while not await superuser.fetchval(WAITING) and not all(push.done() for push in crowded):
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


class Pushed(NamedTuple):
    """An answer and how long it took."""

    answer: httpx.Response
    seconds: float


async def push_once(url: str, patient: Patient) -> Pushed:
    """One entry over a connection of its own."""
    began = time.monotonic()
    async with patient.connect(url) as http:
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
