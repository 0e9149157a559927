"""Experiments 3, 4 and 8: replies are lost, commits are slow, and diaries change while they are pulled."""

import asyncio
from collections.abc import Callable
from random import Random

from tests.faults.crowd import busy, crowd, enrol
from tests.faults.load import MADE, Ledger
from tests.faults.oracle import Verdict, judge
from tests.faults.plants import SLOW_COMMITS, Plant
from tests.faults.proxy import Fault, Proxy, between
from tests.faults.readers import Reader
from tests.faults.servers import Postgres, beside, diary

# Of each hundred exchanges.
OF_PUSHES = {
    Fault.DROP_REPLY: 20, Fault.CUT_REPLY: 4, Fault.CUT_REQUEST: 4, Fault.RESET: 4, Fault.DELAY: 4, Fault.HALF_OPEN: 1,
}  # fmt: skip
OF_PULLS = {Fault.CUT_REPLY: 4, Fault.CUT_REQUEST: 4, Fault.RESET: 4, Fault.DELAY: 4}


async def replies_dropped(postgres: Postgres, seed: int, *, seconds: float, plant: Plant | None = None) -> Verdict:
    """A proxy loses replies after the commit, and a few things more; phones send the same mutations again."""
    with diary(postgres) as server:
        if plant is not None:
            await plant.apply(server.owner_url)
        proxy = Proxy(server.port, mishaps(Random(seed)))
        patients = await enrol(f"http://127.0.0.1:{server.port}", 2)
        async with between(proxy) as url, crowd(url, patients, 8, 4, seed, patience=1) as phones:
            async with busy(phones, rate=20):
                await asyncio.sleep(seconds)
            proxy.calm = True
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
    replays = replayed(proxy, phones.ledger)
    verdict.faults += sorted({f"a replay was answered with {status}" for status in replays if status != "unchanged"})
    verdict.did = f"{len(proxy.lost)} replies lost, {len(replays)} applied mutations sent again"
    return verdict


async def commits_delayed(
    postgres: Postgres, seed: int, *, seconds: float, plant: Plant | None = None, kind: type[Reader] = Reader
) -> Verdict:
    """16 writers on 2 patients, who linger between taking a number and the commit; 4 readers.

    Two servers, as one makes the writes of a patient one after the other before they come to the database; and no
    groups, in which readers would wait for writers.
    """
    with diary(postgres, DATABASE_DISTRIBUTED="true") as server, beside(server) as second:
        for one in (SLOW_COMMITS, plant):
            if one is not None:
                await one.apply(server.owner_url)
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, 2)
        second_url = f"http://127.0.0.1:{second.port}"
        async with crowd(url, patients, 16, 4, seed, kind=kind, second_url=second_url) as phones:
            async with busy(phones, rate=10):
                await asyncio.sleep(seconds)
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
    verdict.did = f"16 writers, 4 readers, {sum(reader.pages for reader in phones.readers)} pages"
    return verdict


async def pulled_one_by_one(postgres: Postgres, seed: int, *, changes: int, plant: Plant | None = None) -> Verdict:
    """Somebody pulls so many changes one at a time while four phones go on writing."""
    with diary(postgres) as server:
        if plant is not None:
            await plant.apply(server.owner_url)
        url = f"http://127.0.0.1:{server.port}"
        [patient] = await enrol(url, 1)
        async with crowd(url, [patient], 4, 1, seed) as phones:
            first, [reader] = phones.writers[0], phones.readers
            for _ in range(changes):
                first.put(first.new_id(), 0)
            while first.outbox:
                await first.push()
            phones.readers = []
            async with busy(phones, rate=5):
                arrived = await reader.catch_up(most_pages=3 * changes)
            verdict = await judge(server.owner_url, url, [patient], phones.ledger, [reader])
    verdict.faults += [] if arrived else ["it does not come to an end"]
    verdict.did = f"{changes} changes, {reader.pages} pages of one"
    return verdict


def mishaps(random: Random) -> Callable[[bytes], tuple[Fault, int]]:
    """What the proxy is to do with each exchange."""

    def choose(request: bytes) -> tuple[Fault, int]:
        shares = OF_PUSHES if request.startswith(b"POST") else OF_PULLS
        none = 100 - sum(shares.values())
        [fault] = random.choices([*shares, Fault.NONE], [*shares.values(), none])
        return fault, random.randrange(1, 10_000)

    return choose


def replayed(proxy: Proxy, ledger: Ledger) -> list[str]:
    """How mutations were answered in the end whose success nobody heard of at first."""
    applied = {one["mutation_id"] for one in proxy.lost_results() if one["status"] in MADE | {"unchanged"}}
    return [ledger.results[mutation_id] for mutation_id in sorted(applied)]
