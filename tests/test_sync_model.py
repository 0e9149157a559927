"""Phones and a server against a small model of both: edits, lost replies, repetitions, crashes, consents and restores.

tests/sync/device.py is a phone made from docs/sync.md alone; tests/sync/model.py is what the server must answer and
hold. SYNC_SEEDS, SYNC_EXAMPLES and SYNC_STEPS make it longer; a failure prints its steps, and its seed is in its name.
"""

import os
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import uuid4

import anyio.from_thread
import anyio.to_thread
import asyncpg
import httpx
import hypothesis
import hypothesis.strategies as st
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.schemas.kinds import BY_NAME, KINDS, SCOPES
from app.schemas.records import AnyKind
from tests.conftest import connect
from tests.forms import size
from tests.people import Person, Phone, lent, record_of, without_id
from tests.sync.device import DONE, Device, Held
from tests.sync.model import GONE, HELPER, NOWHERE, OLD, Causes, Diary, Json, View, content_of
from tests.sync.world import CARER, OWNERS, Backup, World

pytestmark = pytest.mark.anyio

SEEDS = size("SYNC_SEEDS", short=2, long=8)
FIRST_SEED = int(os.environ.get("SYNC_FIRST_SEED", "0"))
EXAMPLES = size("SYNC_EXAMPLES", short=10, long=10)  # of each seed
STEPS = size("SYNC_STEPS", short=30, long=30)
SHRINK = "SYNC_SHRINK" in os.environ  # takes minutes, and tells the fewest steps

HOW = ("anew", "anew", "anew", "as another phone", "by mistake")
ALL, NONE = frozenset(BY_NAME), frozenset[str]()
FIRST, MOST = (frozenset(kind.name for kind in KINDS if kind.scope in some) for some in (SCOPES[:1], SCOPES[:-1]))
EVERYTHING = View(ALL, ALL)
TERMS = (
    EVERYTHING,
    View(ALL, ALL, notes=False),
    View(ALL, FIRST, windowed=True),
    View(FIRST, FIRST, notes=False, windowed=True),
    View(MOST, NONE),
)
ENDED = "2024-02-01T00:00:00Z"  # what holds for a time and is old ended before every window
PRN = {"valid_from": "2024-01-01T00:00:00Z", "time_zone": "UTC", "schedule": {"type": "prn"}}
# How a kind says that it ended, where that is not a member of its own.
ENDINGS: dict[str, Json] = {"treatment": {"status": "completed", "regimens": [PRN | {"valid_to": ENDED}]}}


@pytest.fixture(scope="module")
async def world(app: FastAPI, owner_url: str) -> AsyncIterator[World]:
    superuser = await asyncpg.connect(owner_url)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(app)) for _ in range(4)]
        ada, dan = await Person().register_and_sign_in(clients[0]), await Person().register_and_sign_in(clients[3])
        phones = [ada]
        for client in clients[1:3]:
            tokens = (await ada.person.sign_in(client)).json()
            client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
            phones.append(Phone(client, ada.person, tokens))
        yield World(superuser, [*phones, lent(dan, ada)])
    await superuser.close()


class Sync(RuleBasedStateMachine):
    """What may happen, in any order; in the end everybody syncs, and nothing may be missing."""

    world: ClassVar[World]
    ended: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.diary = Diary(epoch=anyio.from_thread.run(self.world.reset))
        self.causes = Causes()
        self.acknowledged: set[tuple[str, str]] = set()
        self.devices = [Device(self.merge) for _ in self.world.phones]
        self.views: list[View | None] = [EVERYTHING] * 3 + [None]
        self.consent = 0  # changes with the terms
        self.places: dict[str, tuple[str, int]] = {}  # of cursors: epoch and consent
        self.pushes: list[tuple[int, Json]] = []
        self.backups: list[tuple[Backup, Diary]] = []
        self.clock = 0
        self.generous = False
        for number, kind in enumerate(KINDS):
            self.create(OWNERS[number % len(OWNERS)], kind, old=False)
        for who in OWNERS:
            self.sync(who, generous=False)

    # What people do, with or without a network.

    @rule(who=st.integers(0, 3), kind=st.sampled_from(KINDS), old=st.booleans())
    def create(self, who: int, kind: AnyKind, old: bool) -> None:
        record_id = str(self.world.patient_id) if kind.holds == "singleton" else str(uuid4())
        self.write(who, kind.name, record_id, self.some(kind, old, who))

    @rule(who=st.integers(0, 3), which=st.integers(0, 3), old=st.booleans(), how=st.sampled_from(HOW))
    def edit(self, who: int, which: int, old: bool, how: str) -> None:
        record = self.choose(who, which)
        if record is None:
            return
        record_id, held = record
        data = self.some(BY_NAME[held.kind], old, who)
        others = [device.shown().get(record_id, held).data for device in self.devices]
        if how == "as another phone":
            data = next((other for other in others if other != held.data), data)
        elif how == "by mistake":
            data["time_zone"] = NOWHERE
        self.write(who, held.kind, record_id, data)

    @rule(who=st.integers(0, 3), which=st.integers(0, 3), any_version=st.booleans())
    def delete(self, who: int, which: int, any_version: bool) -> None:
        record = self.choose(who, which)
        if record is None or BY_NAME[record[1].kind].holds == "singleton":
            return
        self.causes.add(record[0], GONE, record[1].data["occurred_at"])
        self.devices[who].delete(record[0], any_version)

    @rule(who=st.integers(0, 3), which=st.integers(0, 3))
    def undelete(self, who: int, which: int) -> None:
        device = self.devices[who]
        deleted = [one["id"] for one in device.outbox if one["op"] == "delete"] + list(device.copy.deletions)
        if deleted:
            device.undelete(deleted[which % len(deleted)])

    # What the network and the phones do.

    @rule(
        who=st.integers(0, 3),
        most=st.sampled_from([1, 2, 3, 100]),
        fate=st.sampled_from(["answered", "answered", "delayed", "lost", "lost and crashed"]),
        generous=st.booleans(),
    )
    def push(self, who: int, most: int, fate: str, generous: bool) -> None:
        self.generous = generous
        device = self.devices[who]
        body = device.outgoing(most)
        if body is None:
            return
        self.pushes.append((who, body))
        if fate == "delayed":
            return
        answer = self.send(who, body)
        if fate == "lost and crashed":
            device.crash()
        if fate == "answered":
            self.deliver(who, body, answer)

    @rule(first=st.integers(0, 50), second=st.integers(0, 50))
    @precondition(lambda self: self.pushes)
    def repeat(self, first: int, second: int) -> None:
        """What the network still had arrives, again or at last, in any order; nobody hears the answer."""
        for which in (first, second):
            self.send(*self.pushes[-1 - which % len(self.pushes)])

    @rule(who=st.integers(0, 3), limit=st.integers(1, 5), pages=st.sampled_from([1, 1, 2, 100]), crash=st.booleans())
    def pull(self, who: int, limit: int, pages: int, crash: bool) -> None:
        for _ in range(pages):
            if not self.turn(who, limit, keep=not crash):
                return

    @rule(who=st.integers(0, 3), generous=st.booleans())
    def sync(self, who: int, generous: bool) -> None:
        """A phone that has a network for a while."""
        self.generous = generous
        device = self.devices[who]
        for _ in range(8):
            body = device.outgoing()
            if body and (body["mutations"] or device.beside):
                self.pushes.append((who, body))
                self.deliver(who, body, self.send(who, body))
            while self.turn(who, 5):
                pass
            if device.beside is None:
                return

    @rule(view=st.sampled_from([*TERMS, *TERMS, None]))
    def agree(self, view: View | None) -> None:
        self.views[CARER] = view and replace(view, who=HELPER)
        self.consent += 1
        anyio.from_thread.run(self.world.agree, view)

    @rule()
    def back_up(self) -> None:
        self.backups.append((anyio.from_thread.run(self.world.back_up), deepcopy(self.diary)))

    @rule(which=st.integers(0, 3))
    @precondition(lambda self: any(diary.made != self.diary.made for _, diary in self.backups))
    def restore(self, which: int) -> None:
        older = [backup for backup in self.backups if backup[1].made != self.diary.made]
        rows, diary = older[-1 - which % len(older)]
        self.diary = deepcopy(diary)
        self.diary.restored()
        self.diary.epoch = anyio.from_thread.run(self.world.restore, rows)
        self.acknowledged = {one for one in self.acknowledged if self.somebody_has(*one)}

    def somebody_has(self, record_id: str, content: str) -> bool:
        """Whether the backup or a phone of the patient's holds it, or what came of it."""
        shelf = self.diary.shelves.get(record_id)
        held = [shelf.now.content] if shelf else []
        for device in self.devices[: len(OWNERS)]:
            if record_id in device.copy.records:
                held.append(device.copy.records[record_id].data["occurred_at"])
            if record_id in device.copy.deletions:
                held.append(GONE)
        return any(self.causes.covers(record_id, one, content) for one in held)

    # How it is done.

    def choose(self, who: int, which: int) -> tuple[str, Held] | None:
        """A record that this phone shows."""
        shown = list(self.devices[who].shown().items())
        return shown[which % len(shown)] if shown else None

    def write(self, who: int, kind: str, record_id: str, data: Json) -> None:
        before = self.devices[who].shown().get(record_id)
        mutation = self.devices[who].write(kind, record_id, data)
        self.causes.add(record_id, content_of(mutation), before.data["occurred_at"] if before else None)

    def some(self, kind: AnyKind, old: bool, who: int) -> Json:
        """New data, with a note from those who see notes; what always holds is never old."""
        old = old and kind.holds != "singleton"
        view = self.views[who]
        data: Json = {"occurred_at": self.moment(OLD if old else "2026")}
        if kind.has_note and view and view.notes:
            data["note"] = f"noted {self.clock}"
        if old and kind.holds == "interval":
            data |= ENDINGS.get(kind.name, {"valid_to": ENDED})
        return without_id(record_of(kind, **data))

    def moment(self, year: str) -> str:
        """An instant of this year that nobody named yet."""
        self.clock += 1
        at = datetime(int(year), 3, 2, tzinfo=UTC) + timedelta(seconds=self.clock)
        return at.isoformat().replace("+00:00", "Z")

    def merge(self, mine: Json, held: Held | None) -> Json | None:
        """Gives in where the other side knew better, or somebody decides so."""
        record_id, own, theirs = mine["id"], content_of(mine), held.data["occurred_at"] if held else GONE
        if self.causes.covers(record_id, theirs, own):
            return None
        if self.causes.covers(record_id, own, theirs):
            return dict(mine.get("data", {}))
        if held is None or self.generous:
            self.causes.add(record_id, theirs, own)
            return None
        if own == GONE:
            self.causes.add(record_id, GONE, theirs)
            return {}
        at = self.moment(own[:4])
        self.causes.add(record_id, at, own)
        self.causes.add(record_id, at, theirs)
        return {**mine["data"], "occurred_at": at}

    def send(self, who: int, body: Json) -> httpx.Response:
        """Pushes; the answer is what the model says."""
        answer = anyio.from_thread.run(self.world.phones[who].post, "/sync/push", body)
        view = self.views[who]
        hypothesis.note(f"  {who} pushes: {answer.status_code}")
        expected = refusal(view.writes if view else None)
        if expected is None and body.get("epoch", self.diary.epoch) != self.diary.epoch:
            expected = 410, "reoffer"
        told = answer.json()
        assert (answer.status_code, told.get("action")) == (expected or (200, None)), answer.text
        if expected is None:
            assert view is not None
            self.check_results(body["mutations"], told["results"], view)
            assert (told["head"], told["epoch"]) == (self.diary.head, self.diary.epoch)
        return answer

    def check_results(self, mutations: list[Json], results: list[Json], view: View) -> None:
        """They are what the model says, and tell what the phone needs."""
        for mutation in mutations:
            shelf = self.diary.shelves.get(mutation["id"])
            if shelf and mutation["op"] == "delete" and "base_version" not in mutation:
                self.causes.add(mutation["id"], GONE, shelf.now.content)
        expected = self.diary.push(mutations, view)
        found = [_result(result, told.keys()) for told, result in zip(expected, results, strict=True)]
        for mutation, result in zip(mutations, results, strict=True):
            hypothesis.note(f"    {_in_short(mutation)}: {result['status']} {result.get('version', '')}")
        assert found == expected
        for mutation, result in zip(mutations, results, strict=True):
            if "reoffer" in mutation and mutation["op"] == "delete" and result["status"] == "deleted":
                self.outlived(mutation["id"])
            if mutation["op"] == "undelete" and result["status"] == "updated":
                self.causes.add(mutation["id"], result["record"]["occurred_at"], GONE)

    def outlived(self, record_id: str) -> None:
        """Nothing followed the deletion in its epoch; what another epoch had is lost with that one, or gives in."""
        for one, content in self.acknowledged:
            if one == record_id:
                self.causes.add(record_id, GONE, content)

    def deliver(self, who: int, body: Json, answer: httpx.Response) -> None:
        """The phone hears the answer."""
        device, told = self.devices[who], answer.json()
        if answer.status_code == 410:
            device.begin_again(told["action"])
        if answer.status_code in (403, 404):
            device.may_not_write()
        if answer.status_code == 200:
            for mutation, result in zip(body["mutations"], told["results"], strict=True):
                if result["status"] in DONE and mutation["op"] != "undelete":
                    self.acknowledged.add((mutation["id"], content_of(mutation)))
            device.take_results(body, told)

    def turn(self, who: int, limit: int, keep: bool = True) -> bool:
        """Pulls one page; whether there is more to do."""
        device, view = self.devices[who], self.views[who]
        asked = device.asked()
        answer = anyio.from_thread.run(self.fetch, who, {"limit": str(limit), **asked})
        expected = refusal(view.reads if view else None)
        place = self.places.get(asked.get("cursor", ""))
        if expected is None and place is not None and place[0] != self.diary.epoch:
            expected = 410, "reoffer"
        elif expected is None and place is not None and who == CARER and place[1] != self.consent:
            expected = 410, "reload"
        told = answer.json()
        assert (answer.status_code, told.get("action")) == (expected or (200, None)), answer.text
        if not keep:
            device.crash()
            return False
        if expected is None:
            assert view is not None
            self.check_page(told, view)
            device.take_page(told)
            return bool(told["has_more"]) or (device.beside is not None and not device.complete)
        device.begin_again(told.get("action", "reload"))
        return told.get("action") is not None

    async def fetch(self, who: int, params: Json) -> httpx.Response:
        return await self.world.phones[who].get("/sync/pull", params=params)

    def check_page(self, page: Json, view: View) -> None:
        """What is told is as it is now, and nothing is told that may not be seen."""
        seen = self.diary.seen(view)
        for change in page["changes"]:
            if change["deleted"]:
                assert change["id"] not in seen
            else:
                assert _told(change["kind"], change["record"]) == seen[change["id"]]
        assert page["head"] == self.diary.head
        self.places[page["cursor"]] = (self.diary.epoch, self.consent)

    # The end.

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self.settle()
            for who, view in enumerate(self.views):
                if view is not None:
                    self.check_device(who, view)
            self.check_promises()
            anyio.from_thread.run(self.check_table)
            Sync.ended += 1

    def settle(self) -> None:
        """Everybody syncs until nobody has anything to say or to hear."""
        for _ in range(6):
            for who in range(len(self.devices)):
                self.sync(who, self.generous)
        for who in range(len(self.devices)):
            while self.turn(who, 5):
                pass

    def check_device(self, who: int, view: View) -> None:
        """It holds what it may see, and nothing waits but what consent does not cover."""
        device, seen = self.devices[who], self.diary.seen(view)
        assert device.beside is None
        assert not [one for one in device.outbox if one["kind"] in view.writes and view.covers(content_of(one))], who
        copy = {one: _held(held) for one, held in device.copy.records.items()}
        assert copy == seen, who
        digest = {"records": [{"id": one, "version": held.version} for one, held in device.copy.records.items()]}
        answer = anyio.from_thread.run(self.world.phones[who].post, "/sync/digest", digest)
        assert answer.json()["differences"] == [], who
        assert answer.json()["compared_to"] == answer.json()["head"], who

    def check_promises(self) -> None:
        """What was acknowledged is there, or what came of it."""
        for record_id, content in self.acknowledged:
            shelf = self.diary.shelves.get(record_id)
            now = shelf.now.content if shelf else None
            assert self.causes.covers(record_id, now, content), (record_id, content, now)

    async def check_table(self) -> None:
        """The tables hold what the model holds: each version once, numbered without a gap."""
        superuser, patient_id = self.world.superuser, self.world.patient_id
        assert await superuser.fetch("SELECT verify_diary_v1($1)", patient_id) == []
        rows = await superuser.fetch("SELECT * FROM records WHERE patient_id = $1", patient_id)
        found = {str(row["id"]): (row["kind"], row["version"], row["deleted"], row["note"]) for row in rows}
        assert found == {
            record_id: (shelf.kind, len(shelf.versions), shelf.now.content == GONE, shelf.now.note)
            for record_id, shelf in self.diary.shelves.items()
        }
        versions = await superuser.fetch(
            "SELECT change_seq FROM record_versions WHERE patient_id = $1 ORDER BY 1", patient_id
        )
        assert [row["change_seq"] for row in versions] == list(range(1, self.diary.head + 1))


def refusal(kinds: frozenset[str] | None) -> tuple[int, str | None] | None:
    """What somebody is answered who has no consent, or none for this."""
    if kinds is None:
        return 404, None
    return None if kinds else (403, None)


def _result(result: Json, names: Collection[str]) -> Json:
    """A result as the model has it; `now` is what the server told of its own copy."""
    now = GONE if result.get("deleted") else result.get("record", {}).get("occurred_at")
    return {name: now if name == "now" else result.get(name) for name in names}


def _in_short(mutation: Json) -> str:
    offered = f", offered from {mutation['version']} of {mutation['reoffer'][:4]}" if "reoffer" in mutation else ""
    named = f"{mutation['id'][:4]} {mutation['mutation_id'][:4]} on {mutation.get('base_version')}"
    return f"{named}: {content_of(mutation)}{offered}"


def _told(kind: str, record: Json) -> tuple[str, int, str, str | None]:
    return kind, record["version"], record["occurred_at"], record.get("note")


def _held(held: Held) -> tuple[str, int, str, str | None]:
    return held.kind, held.version, held.data["occurred_at"], held.data.get("note")


@pytest.mark.scaled
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
async def test_whatever_happens_everybody_ends_with_the_same_diary(world: World, seed: int) -> None:
    Sync.world, Sync.ended = world, 0
    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if SHRINK else [])],
    )
    machine = hypothesis.seed(seed)(type("Sync", (Sync,), {}))
    await anyio.to_thread.run_sync(lambda: run_state_machine_as_test(machine, settings=settings))
    assert Sync.ended >= EXAMPLES
