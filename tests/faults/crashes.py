"""The server and PostgreSQL are killed in the middle of everything, and the connections between them are lost."""

import asyncio
from random import Random
from signal import SIGKILL, SIGQUIT

from anyio.from_thread import start_blocking_portal

from tests.faults.crowd import busy, crowd, enrol
from tests.faults.load import Patient
from tests.faults.oracle import Verdict, judge
from tests.faults.plants import Plant
from tests.faults.readers import Reader
from tests.faults.servers import Postgres, diary
from tests.faults.wire import wire
from tests.serving import SOUND

READY, RECONNECTED, REFUSED = 3, 5, 6  # seconds
NEVER = 60  # seconds, in which whoever will serve again has done so, however slow the machine


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


class NeverServedAgainError(Exception):
    """Whoever is still on the lost connections waits for ever, so nobody else is served either."""


async def connections_lost(postgres: Postgres, seed: int, *, times: int, program: str = SOUND) -> Verdict:
    """Open connections to PostgreSQL go silent: requests are lost, or only the replies; later ones work."""
    random, late, stuck = Random(seed), 0, False
    directory = str(postgres.server.socket_directory)
    with (
        start_blocking_portal() as portal,  # a loop of its own: starting the server holds up this one
        portal.wrap_async_context_manager(wire(directory)) as (carrying, over),
        diary(postgres, program, over) as server,
    ):
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, 2)
        async with crowd(url, patients, 8, 4, seed) as phones:
            try:
                async with busy(phones, rate=10):
                    for number in range(times):
                        await asyncio.sleep(0.2 + random.random() * 0.4)
                        carrying.replies_only = number % 2 == 1
                        carrying.swallow()
                        if not await answers(patients[0], url, REFUSED):
                            late += 1
                            if not await answers(patients[0], url, NEVER):
                                raise NeverServedAgainError
            except* NeverServedAgainError:
                server.kill()
                stuck = True
            if stuck:
                return Verdict(0, faults=["a lost connection was waited for"])
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
        verdict.faults += ["the server did not live through it"] * (not server.alive)
    verdict.did = f"{times} × all open connections lost; served again in {REFUSED} s: {times - late} of {times}"
    return verdict


async def answers(patient: Patient, url: str, seconds: float = RECONNECTED) -> bool:
    """Whether the diary is served again in time."""
    try:
        async with asyncio.timeout(seconds), patient.connect(url) as http:
            reader = Reader(http, patient.id, 1, Random(0))
            while await reader.pull() is None:
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True
