"""Experiments 1 and 2: the server and PostgreSQL are killed in the middle of everything."""

import asyncio
from random import Random

from tests.faults.crowd import busy, crowd, enrol
from tests.faults.oracle import Verdict, judge
from tests.faults.readers import Reader
from tests.faults.servers import SOUND, Postgres, diary

READY = 3.0  # seconds


async def server_killed(
    postgres: Postgres, seed: int, *, times: int, connections: int, program: str = SOUND, kind: type[Reader] = Reader
) -> Verdict:
    """kill -9 of the server under connections that push and pull; it is started again each time."""
    random, late = Random(seed), 0
    with diary(postgres, program) as server:
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, max(2, connections // 8))
        writers = connections * 5 // 8
        async with crowd(url, patients, writers, connections - writers, seed, kind=kind) as phones:
            async with busy(phones, rate=5):
                for _ in range(times):
                    await asyncio.sleep(0.3 + random.random() * 0.5)
                    await asyncio.to_thread(server.kill)
                    late += await asyncio.to_thread(server.start) > READY
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
    verdict.did = f"{times} × kill -9 under {connections} connections; ready again in 3 s: {times - late} of {times}"
    return verdict
