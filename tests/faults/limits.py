"""Experiments 6 and 7: clients leave, connections run out, the disk is full."""

import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TypeAlias
from uuid import UUID

import asyncpg
import httpx

from tests.faults.crowd import crowd, enrol
from tests.faults.load import Ledger, Patient, Writer
from tests.faults.oracle import Verdict, judge
from tests.faults.proxy import reset
from tests.faults.servers import SOUND, Diary, Postgres, diary
from tests.people import entry
from tests.waiting import until

POOL = 4
AT_ONCE = 16
ANSWERED = 3  # seconds, also where no connection is free
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def clients_left(postgres: Postgres, seed: int, *, requests: int, program: str = SOUND) -> Verdict:
    """Clients disconnect at random moments of a request; then the writers of one patient take every connection."""
    with diary(postgres, program, DATABASE_POOL_SIZE=str(POOL)) as server:
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, 2)
        await leave_early(server.port, patients[0], requests, Random(seed))
        async with crowd(url, patients, 2, 2, seed) as phones, connection_to(server.owner_url) as superuser:
            faults = await left_behind(superuser, url, patients[0])
            refused = await exhaust(superuser, url, patients, phones.ledger)
            for writer in phones.writers:
                for _ in range(20):
                    writer.make_change()
                await empty(writer)
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
    verdict.faults += faults
    verdict.did = f"{requests} requests broken off; then {refused} refused for want of a connection"
    return verdict


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
    open_ones = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND state NOT IN ('idle', 'disabled')"
    )

    async def quiet() -> bool:
        return not await superuser.fetchval(open_ones)

    try:
        await until(quiet)
    except AssertionError:
        return ["a connection is left in a transaction"]
    waiting = await fill_pool(superuser, url, [patient], Ledger(), POOL)
    return ["a connection is left checked out"] if waiting < POOL else []


async def exhaust(superuser: Connection, url: str, patients: list[Patient], ledger: Ledger) -> int:
    """More pushes than connections, all of one patient, who is locked; another's are answered all the same."""
    one, other = patients
    async with superuser.transaction():
        await superuser.execute(LOCK, UUID(one.id))
        crowded = [asyncio.create_task(push_once(url, one)) for _ in range(4 * POOL)]
        unharmed = asyncio.create_task(push_until_answered(url, other))
        answers = await asyncio.gather(*crowded)
        await unharmed
    for status, after, seconds in answers:
        if status != 503 or after is None:
            ledger.faults.append(f"a push for which there is no connection was answered with {status}")
        if seconds > LATEST:
            ledger.faults.append("an answer came too late")
    return len(answers)
