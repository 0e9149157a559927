"""Whole phones: they write and read, and after a restore offer again what the server lost (docs/sync.md)."""

from random import Random
from typing import Any

import httpx

from tests.faults.load import Acknowledgement, Json, Ledger, Patient, Writer
from tests.faults.readers import Reader

SERVERS = {
    "id", "kind", "patient_id", "version", "change_seq", "deleted", "local_date", "received_at", "author_id",
    "outside_validated_age",
}  # fmt: skip
MOST = 100  # mutations of a push
MOST_PAGES = 10_000
Held = tuple[int, Json | None]  # version and data, None of what was deleted


class KeepingReader(Reader):
    """A reader that also writes: it forgets nothing because a server did."""

    def resync(self, action: str) -> None:
        """Keeps all for what comes next."""
        self.actions.append(action)


class Phone(Writer):
    """One phone with outbox, copy, cursor and epoch."""

    def __init__(self, http: httpx.AsyncClient, patient: Patient, ledger: Ledger, random: Random, limit: int) -> None:
        super().__init__(http, patient, ledger, random)
        self.patient_id = patient.id
        self.limit = limit
        self.reader: Reader = KeepingReader(http, patient.id, limit, random, crash=0.1)
        self.offers: list[str] = []  # the status of each
        self._own: dict[str, Held] = {}  # as acknowledged, of the reader's epoch
        self._told: list[str] = []  # the action of each 410

    @property
    def copy(self) -> dict[str, Json]:
        """What it pulled."""
        return self.reader.copy

    @property
    def faults(self) -> list[str]:
        """What its reader was answered and should not have been."""
        return self.reader.faults

    async def catch_up(self, most_pages: int) -> bool:
        """Pulls to the end."""
        return await self.reader.catch_up(most_pages)

    async def refused(self, answer: httpx.Response) -> None:
        """A server in a new epoch is no fault."""
        if answer.status_code == 410:
            self._told.append(answer.json()["action"])
            return
        await super().refused(answer)

    async def come_back(self, *, pushing: bool) -> bool:
        """Pushes or pulls, is told to offer again, and does; whether it was told."""
        if pushing:
            await self.push()
        else:
            await self.reader.pull()
        told = "reoffer" in self._told + self.reader.actions
        if told:
            await self.offer_again()
        while self.outbox:
            await self.push()
        await self.catch_up(MOST_PAGES)
        return told

    async def offer_again(self) -> None:
        """Steps 1 to 4 of what docs/sync.md says."""
        old, old_epoch = self.held(), self.reader.epoch
        self.reader = KeepingReader(self.http, self.patient.id, self.limit, self.random)
        await self.reader.catch_up(MOST_PAGES)
        self.epoch = self.reader.epoch
        self._own = {}
        offers = self._offers(old, old_epoch)
        for start in range(0, len(offers), MOST):
            batch = offers[start : start + MOST]
            while (answer := await self.ask(batch)) is None:
                pass
            self.offers += [result["status"] for result in answer["results"]]
        await self.reader.catch_up(MOST_PAGES)
        self._rebase()

    def held(self) -> dict[str, Held]:
        """What was pulled, and on top of it what was acknowledged since."""
        held: dict[str, Held] = {key: (version, None) for key, version in self.reader.deleted.items()}
        held |= {key: (record["version"], data_of(record)) for key, record in self.copy.items()}
        for key, own in self._own.items():
            if key not in held or held[key][0] < own[0]:
                held[key] = own
        return held

    def _offers(self, old: dict[str, Held], old_epoch: str | None) -> list[Json]:
        fresh = self.held()
        offers = []
        for key, (version, data) in old.items():
            here, there = fresh.get(key, (0, {}))
            if there is not None and there != data:
                offers.append(self._offer(key, here, data) | {"reoffer": old_epoch, "version": version})
        return offers

    def _offer(self, record_id: str, base_version: int, data: Json | None) -> Json:
        offer: dict[str, Any] = {"mutation_id": self.new_id(), "kind": "entry", "id": record_id}
        offer["base_version"] = base_version
        return offer | ({"op": "delete"} if data is None else {"op": "put", "data": data})

    def _rebase(self) -> None:
        """What waits was made on versions that are gone: it is made on today's, or given up with its record."""
        versions = {key: record["version"] for key, record in self.copy.items()}
        waiting, self.outbox = self.outbox, []
        for mutation in waiting:
            if mutation["id"] in versions or mutation["base_version"] == 0:
                mutation["base_version"] = versions.get(mutation["id"], 0)
                versions[mutation["id"]] = mutation["base_version"] + 1
                self.outbox.append(mutation)
        self.known = versions

    def acknowledge(self, one: Acknowledgement, data: Json | None) -> None:
        """Notes it, also for the day on which the server has forgotten."""
        super().acknowledge(one, data)
        self._own[one.record_id] = (one.version, data)


class ForgetfulPhone(Phone):
    """The mutant: it takes the restored server's word for all there is."""

    def held(self) -> dict[str, Held]:
        """Nothing, as if there were only what is pulled."""
        return {}


def data_of(record: Json) -> Json:
    """A pulled record as PUT takes it."""
    return {name: value for name, value in record.items() if name not in SERVERS}
