"""Many phones at once, on their own connections, for as long as an experiment lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import httpx

from tests.faults.load import Ledger, Patient, Writer
from tests.faults.readers import Reader
from tests.people import Person
from tests.waiting import PATIENCE

LIMITS = (1, 7, 37, 200)


@dataclass
class Crowd:
    """The phones of some patients and what the server told them."""

    patients: list[Patient]
    ledger: Ledger = field(default_factory=Ledger)
    writers: list[Writer] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)


async def enrol(url: str, count: int) -> list[Patient]:
    """New patients, signed in."""
    async with httpx.AsyncClient(base_url=url, verify=False, timeout=PATIENCE) as http:
        phones = [await Person().register_and_sign_in(http) for _ in range(count)]
    return [Patient(phone.patient_id, phone.person, f"Bearer {phone.tokens['access_token']}") for phone in phones]


@asynccontextmanager
async def crowd(
    url: str,
    patients: list[Patient],
    writers: int,
    readers: int,
    seed: int,
    *,
    kind: type[Reader] = Reader,
    patience: float = 5,
    second_url: str | None = None,
    writes: type[Writer] = Writer,
) -> AsyncIterator[Crowd]:
    """So many phones that write and that read, on connections of their own; readers crash now and then.

    With a second URL every patient has phones at both.
    """
    there = Crowd(patients)
    async with AsyncExitStack() as stack:
        for number in range(writers + readers):
            patient = patients[number % len(patients)]
            chosen = second_url if second_url and number // len(patients) % 2 else url
            http = await stack.enter_async_context(patient.connect(chosen, patience))
            random = Random(f"{seed} {number}")
            if number < writers:
                there.writers.append(writes(http, patient, there.ledger, random))
            else:
                limit = LIMITS[len(there.readers) % len(LIMITS)]
                there.readers.append(kind(http, patient.id, limit, random, crash=0.1))
        yield there


@asynccontextmanager
async def busy(crowd: Crowd, rate: float) -> AsyncIterator[None]:
    """All of them at work while the block runs; then what waits in outboxes is sent."""
    stop = asyncio.Event()
    working = [work for writer in crowd.writers for work in (writer.edit(rate, stop), writer.send(stop))]
    working += [reader.follow(stop) for reader in crowd.readers]
    async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
        for work in working:
            group.create_task(work)
        try:
            yield
        finally:
            stop.set()
            patience.reschedule(asyncio.get_running_loop().time() + PATIENCE)  # for phones to get rid of what they have
