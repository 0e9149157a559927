"""Experiment 10: apps write what nobody can store, among what people wrote."""

import asyncio
import json
from random import Random
from uuid import UUID

import httpx

from tests.faults.crowd import busy, crowd, enrol
from tests.faults.load import Json, Writer
from tests.faults.oracle import Verdict, judge
from tests.faults.proxy import Proxy, between
from tests.faults.races import mishaps
from tests.faults.servers import Postgres, diary
from tests.people import entry, without_id
from tests.serving import SOUND

SHARE = 0.2  # of the changes are followed by poison
NOTE = "poison"
# In the place of the note, in quotes: what is no JSON that every reader reads alike, or no text that can be stored.
UNREADABLE = (
    r'"half an emoji \ud83d"', r'"NUL \u0000"', "1e400", "NaN", '"a", "note": "b"', "[" * 40 + "]" * 40,
    "9007199254740993", '{"a": 1, "a": 2}', "[" * 5000 + "]" * 5000,
)  # fmt: skip
# Over the members of a mutation: what is JSON, and no change of any record.
SENSELESS: tuple[Json, ...] = (
    {"kind": "of_next_year"},
    {"op": "of_next_year"},
    {"id": str(UUID(int=1, version=1))},
    {"mutation_id": "1"},
    {"base_version": "0"},
    {"base_version": 0.5},
    {"member": "of next year"},
    {"data": None},
    {"data": []},
    {"data": {"time_zone": "Nowhere"}},
)


class CarelessPhone(Writer):
    """A phone whose app now and then makes a mutation that nobody can store; it goes with the others."""

    refusals = 0  # of poison

    def make_change(self) -> None:
        """A change, and perhaps poison after it."""
        super().make_change()
        if self.random.random() < SHARE:
            self.outbox.append({"mutation_id": self.new_id(), "poison": self._poison()})

    def written(self, mutations: list[Json]) -> str:
        """A push of these mutations as it travels, poison as it is."""
        items = [one.get("poison") or json.dumps(one) for one in mutations]
        frame = super().written([])
        return frame.replace('"mutations": []', f'"mutations": [{",".join(items)}]')

    async def refused(self, answer: httpx.Response) -> None:
        """One that is refused whole would be sent for ever: what waits is given up, and the fault noted."""
        await super().refused(answer)
        if answer.status_code in (400, 413, 422):
            self.outbox = []

    def _hear(self, mutation: Json, result: Json) -> None:
        if "poison" not in mutation:
            super()._hear(mutation, result)
        elif (result["status"], bool(result.get("errors"))) == ("invalid", True):
            self.refusals += 1
        else:
            self.ledger.faults.append(f"poison was answered with {result['status']}")

    def _poison(self) -> str:
        mutation: Json = {"mutation_id": self.new_id(), "op": "put", "kind": "entry", "id": self.new_id()}
        mutation |= {"base_version": 0, "data": without_id(entry(note=NOTE))}
        if self.random.random() < 0.05:
            return self.random.choice(["null", "[]", '"text"', "NaN"])
        if self.random.random() < 0.5:
            return json.dumps(mutation | self.random.choice(SENSELESS))
        return json.dumps(mutation).replace(f'"{NOTE}"', self.random.choice(UNREADABLE))


async def items_poisoned(postgres: Postgres, seed: int, *, seconds: float, program: str = SOUND) -> Verdict:
    """Phones push poison among their changes, through a proxy that loses replies, so that much is sent again."""
    with diary(postgres, program=program) as server:
        proxy = Proxy(server.port, mishaps(Random(seed)))
        patients = await enrol(f"http://127.0.0.1:{server.port}", 2)
        async with (
            between(proxy) as url,
            crowd(url, patients, 8, 4, seed, patience=1, writes=CarelessPhone) as phones,
        ):
            async with busy(phones, rate=20):
                await asyncio.sleep(seconds)
            proxy.calm = True
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
    refused = sum(phone.refusals for phone in phones.writers if isinstance(phone, CarelessPhone))
    verdict.faults += [] if refused else ["no poison was sent"]
    verdict.did = f"{refused} items that nobody can store, among the others"
    return verdict
