"""Experiment 5: an older backup takes the place of the data."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import httpx

from tests.faults.crowd import Crowd, busy, enrol
from tests.faults.load import Patient
from tests.faults.oracle import Verdict, judge
from tests.faults.phones import MOST_PAGES, Phone
from tests.faults.servers import Diary, Postgres, diary
from tests.waiting import PATIENCE

OFFLINE = 5  # changes that each phone makes while nobody answers


async def backup_restored(
    postgres: Postgres, seed: int, *, phones: int, seconds: float, kind: type[Phone] = Phone
) -> Verdict:
    """Phones hold newer cursors than the restored server, versions that it lost, and changes that it never saw."""
    with diary(postgres) as server, tempfile.TemporaryDirectory(prefix="diary-backup-") as directory:
        backup = Path(directory) / "cluster"
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, 2)
        async with whole_phones(url, patients, phones, seed, kind) as (there, people):
            async with busy(there, rate=10):
                await asyncio.sleep(seconds)
                await asyncio.to_thread(postgres.copy_to, backup)
                await asyncio.sleep(seconds)
            before, there.ledger.acknowledged = there.ledger.acknowledged, []
            for phone in people:
                await phone.catch_up(MOST_PAGES)
                for _ in range(OFFLINE):
                    phone.make_change()
            await asyncio.to_thread(restore, postgres, backup, server)
            await sign_in_again(url, people)
            told = await asyncio.gather(*(phone.come_back(pushing=n % 2 == 0) for n, phone in enumerate(people)))
            verdict = await judge(server.owner_url, url, patients, there.ledger, people, before)
    verdict.faults += ["a phone was not told to offer again"] * told.count(False)
    offers = [status for phone in people for status in phone.offers]
    verdict.did = f"{phones} phones, {sum(told)} told to offer again, {len(offers)} offers"
    return verdict


@asynccontextmanager
async def whole_phones(
    url: str, patients: list[Patient], count: int, seed: int, kind: type[Phone]
) -> AsyncIterator[tuple[Crowd, list[Phone]]]:
    """Phones of these patients in turn, as a crowd of writers and readers."""
    there, people = Crowd(patients), []
    async with AsyncExitStack() as stack:
        for number in range(count):
            patient = patients[number % len(patients)]
            http = await stack.enter_async_context(patient.connect(url))
            people.append(kind(http, patient, there.ledger, Random(f"{seed} {number}"), limit=37))
        there.writers = list(people)
        there.readers = [phone.reader for phone in people]
        yield there, people


async def sign_in_again(url: str, phones: list[Phone]) -> None:
    """What a restore asks of everybody: it ended all sessions. The phones keep what they hold."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
        for phone in phones:
            answer = await phone.patient.person.sign_in(http)
            phone.patient.authorization = f"Bearer {answer.json()['access_token']}"
            phone.http.headers["Authorization"] = phone.patient.authorization


def restore(postgres: Postgres, backup: Path, server: Diary) -> None:
    """What an operator does."""
    server.stop()
    postgres.restore(backup)
    server.command("restored")
    server.start()
