"""Experiments 1 and 2: the server and PostgreSQL are killed in the middle of everything."""

import asyncio
from random import Random
from signal import SIGKILL, SIGQUIT

from tests.faults.crowd import busy, crowd, enrol
from tests.faults.load import Patient
from tests.faults.oracle import Verdict, judge
from tests.faults.plants import Plant
from tests.faults.readers import Reader
from tests.faults.servers import SOUND, Postgres, diary

READY, RECONNECTED = 3, 5  # seconds


async def server_killed(
    postgres: Postgres, seed: int, *, times: int, connections: int, program: str = SOUND
) -> Verdict:
    """kill -9 of the server under connections that push and pull; it is started again each time."""
    random, late = Random(seed), 0
    with diary(postgres, program) as server:
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, max(2, connections // 8))
        writers = connections * 5 // 8
        async with crowd(url, patients, writers, connections - writers, seed) as phones:
            async with busy(phones, rate=5):
                for _ in range(times):
                    await asyncio.sleep(0.2 + random.random() * 0.4)
                    await asyncio.to_thread(server.kill)
                    late += await asyncio.to_thread(server.start) > READY
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
    verdict.did = f"{times} × kill -9 under {connections} connections; ready again in 3 s: {times - late} of {times}"
    return verdict


async def postgres_killed(postgres: Postgres, seed: int, *, times: int, plant: Plant | None = None) -> Verdict:
    """PostgreSQL dies by kill -9 and by its own immediate stop in turn; the server stays and connects again.

    With a plant nobody reads: what a read writes to the audit takes to the disk whatever was written before.
    """
    random, unready = Random(seed), 0
    with diary(postgres) as server:
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, 2)
        if plant is not None:
            await plant.apply(server.owner_url)
        async with crowd(url, patients, 12, 0 if plant else 4, seed) as phones:
            async with busy(phones, rate=10):
                for number in range(2 * times):
                    await asyncio.sleep(0.2 + random.random() * 0.4)
                    await asyncio.to_thread(postgres.kill, (SIGKILL, SIGQUIT)[number % 2])
                    await asyncio.to_thread(postgres.start)
                    unready += not await answers(patients[0], url)
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
        verdict.faults += ["the server did not live through it"] * (not server.alive)
    await asyncio.to_thread(postgres.sql, "postgres", "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")
    verdict.did = f"{times} × kill -9, {times} × immediate stop; connected in 5 s: {2 * times - unready} of {2 * times}"
    return verdict


async def answers(patient: Patient, url: str) -> bool:
    """Whether the diary is served again in time."""
    try:
        async with asyncio.timeout(RECONNECTED), patient.connect(url) as http:
            reader = Reader(http, patient.id, 1, Random(0))
            while await reader.pull() is None:
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True
