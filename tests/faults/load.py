"""Phones that write: they make changes at their own pace, whatever the server does, and send until it answers."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import httpx

from tests.people import Person, entry, without_id
from tests.waiting import PATIENCE

Json = dict[str, Any]
JSON = {"Content-Type": "application/json"}
MADE = {"created", "updated", "deleted"}
LATER = {408, 429, 503}
LARGEST_BATCH = 20
MOST_REFUSALS = 3
PAUSE, LONGEST_PAUSE = 0.05, 0.8  # seconds before asking again


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What the server said of one mutation, so that a phone may forget it."""

    patient_id: str
    epoch: str
    mutation_id: str
    record_id: str
    version: int
    status: str
    deleted: bool
    note: str | None


@dataclass
class Ledger:
    """All that was acknowledged, in order, and what was answered that no phone may ever see."""

    acknowledged: list[Acknowledgement] = field(default_factory=list)
    replays: Counter[str] = field(default_factory=Counter)  # by status
    results: dict[str, str] = field(default_factory=dict)  # of each mutation, the last status
    refusals: Counter[int] = field(default_factory=Counter)  # 503 and the like
    faults: list[str] = field(default_factory=list)


@dataclass
class Patient:
    """Somebody who is signed in, and what all phones together know to be on the server."""

    id: str
    person: Person
    authorization: str
    shelf: dict[str, int] = field(default_factory=dict)

    def connect(self, url: str, patience: float = PATIENCE) -> httpx.AsyncClient:
        """A connection of its own."""
        headers = {"Authorization": self.authorization}
        transport = httpx.AsyncHTTPTransport(verify=False, limits=httpx.Limits(max_connections=2))
        base = f"{url}/v1/patients/{self.id}/sync"
        return httpx.AsyncClient(transport=transport, base_url=base, headers=headers, timeout=patience)


class Writer:
    """One phone with its outbox; what was broken off it sends again, with the same ids."""

    def __init__(self, http: httpx.AsyncClient, patient: Patient, ledger: Ledger, random: Random) -> None:
        self.http = http
        self.patient = patient
        self.ledger = ledger
        self.random = random
        self.outbox: list[Json] = []
        self.known: dict[str, int] = {}  # the versions that what it sent makes
        self.epoch: str | None = None
        self._sent: set[str] = set()  # without an answer so far

    async def edit(self, rate: float, stop: asyncio.Event) -> None:
        """Makes changes, so many a second by the clock: a slow server only lets the outbox grow."""
        clock = asyncio.get_running_loop().time
        begun, made = clock() + self.random.random() / rate, 0
        while not stop.is_set():
            while made < (clock() - begun) * rate:
                self.make_change()
                made += 1
            await asyncio.sleep(0.5 / rate)

    async def send(self, stop: asyncio.Event) -> None:
        """Sends what waits, until it is told to stop and nothing waits any more."""
        pause = PAUSE
        while self.outbox or not stop.is_set():
            answered = not self.outbox or await self.push()
            pause = PAUSE if answered else min(2 * pause, LONGEST_PAUSE)
            if not answered or not self.outbox:
                await asyncio.sleep(pause)

    async def write(self, changes: int) -> None:
        """Makes so many changes and sends all that waits, unless it is refused too often."""
        for _ in range(changes):
            self.make_change()
        refused = 0
        while self.outbox and refused < MOST_REFUSALS:
            refused += not await self.push()

    def make_change(self) -> None:
        """A new entry, a new version of one, or the end of one; sometimes of what another phone wrote."""
        theirs = self.random.random() < 0.3
        near = list((self.patient.shelf if theirs else self.known).items())[-5:]
        record_id, version = self.random.choice(near) if near else (self.new_id(), 0)
        chance = self.random.random()
        if chance < 0.4 or version == 0:
            self.put(self.new_id(), 0)
        elif chance < 0.8:
            self.put(record_id, version)
        else:
            self.delete(record_id, version)

    def put(self, record_id: str, version: int) -> None:
        """One more put in the outbox; its note tells it from every other."""
        mutation = self._mutation("put", record_id, version)
        mutation["data"] = without_id(entry(note=f"note of {mutation['mutation_id']}"))
        self.known[record_id] = version + 1

    def delete(self, record_id: str, version: int) -> None:
        """One more delete in the outbox."""
        self._mutation("delete", record_id, version)
        self.known.pop(record_id, None)

    async def push(self) -> bool:
        """Sends a part of the outbox; whether it was answered."""
        batch = self.outbox[: self.random.randint(1, LARGEST_BATCH)]
        answer = await self.ask(batch)
        if answer is None:
            self._sent |= {mutation["mutation_id"] for mutation in batch}
            return False
        self.epoch = answer["epoch"]
        for mutation, result in zip(batch, answer["results"], strict=True):
            self._hear(mutation, result)
        del self.outbox[: len(batch)]
        return True

    async def ask(self, mutations: list[Json]) -> Json | None:
        """The answer to a push, or None where it has to be sent again."""
        try:
            answer = await self.http.post("/push", content=self.written(mutations), headers=JSON)
        except httpx.TransportError:
            return None
        if answer.status_code == 200:
            return dict(answer.json())
        await self.refused(answer)
        return None

    def written(self, mutations: list[Json]) -> str:
        """A push of these mutations as it travels."""
        body = {"device_id": "phone", "client_now": datetime.now(UTC).isoformat(), "mutations": mutations}
        return json.dumps(body | ({"epoch": self.epoch} if self.epoch else {}))

    async def refused(self, answer: httpx.Response) -> None:
        """Notes a refusal: with 503 and the like comes when to ask again, and others are none that we may get."""
        self.ledger.refusals[answer.status_code] += 1
        if answer.status_code not in LATER or "Retry-After" not in answer.headers:
            self.ledger.faults.append(f"a push was answered with {answer.status_code}")

    def new_id(self) -> str:
        """An id as the seed has it."""
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def _mutation(self, op: str, record_id: str, version: int) -> Json:
        mutation = {
            "mutation_id": self.new_id(),
            "op": op,
            "kind": "entry",
            "id": record_id,
            "base_version": version,
        }
        self.outbox.append(mutation)
        return mutation

    def _hear(self, mutation: Json, result: Json) -> None:
        status = result["status"]
        self.ledger.results[mutation["mutation_id"]] = status
        if mutation["mutation_id"] in self._sent:
            self._sent.remove(mutation["mutation_id"])
            self.ledger.replays[status] += 1
        if status in MADE or status == "unchanged":
            self.acknowledge(self._acknowledgement(mutation, result), mutation.get("data"))
        elif status == "conflict":
            self.known.pop(mutation["id"], None)  # somebody was first, and that stays
        else:
            self.ledger.faults.append(f"a mutation was answered with {status}")

    def acknowledge(self, one: Acknowledgement, data: Json | None) -> None:
        """Notes what is on the server for good, and tells the patient's other phones."""
        self.ledger.acknowledged.append(one)
        if data is None:
            self.patient.shelf.pop(one.record_id, None)
        else:
            self.patient.shelf[one.record_id] = one.version

    def _acknowledgement(self, mutation: Json, result: Json) -> Acknowledgement:
        return Acknowledgement(
            self.patient.id,
            self.epoch or "",
            mutation["mutation_id"],
            mutation["id"],
            result["version"],
            result["status"],
            mutation["op"] == "delete",
            mutation["data"]["note"] if mutation["op"] == "put" else None,
        )
