"""A phone, written from docs/sync.md alone: what it keeps, what it sends, and what it makes of the answers. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

Json = dict[str, Any]

ADDED = {"id", "kind", "patient_id", "version", "change_seq", "deleted", "local_date", "received_at", "author_id",
         "outside_validated_age"}  # fmt: skip
DONE = {"created", "updated", "deleted", "unchanged"}


@dataclass(frozen=True)
class Held:
    """A record on the phone: `data` is what a put takes."""

    kind: str
    version: int
    data: Json


@dataclass
class Copy:
    """What was pulled and acknowledged, in one epoch of the server."""

    records: dict[str, Held] = field(default_factory=dict)
    deletions: dict[str, Held] = field(default_factory=dict)
    cursor: str | None = None
    epoch: str | None = None

    def put(self, kind: str, record_id: str, version: int, data: Json) -> None:
        """Holds this version."""
        self.records[record_id] = Held(kind, version, {name: data[name] for name in data if name not in ADDED})
        self.deletions.pop(record_id, None)

    def forget(self, kind: str, record_id: str, version: int | None) -> None:
        """Holds the record no more; with a version, as deleted."""
        self.records.pop(record_id, None)
        if version is not None:
            self.deletions[record_id] = Held(kind, version, {})


# What becomes of a mutation where the server holds something else: the data to put, {} to delete, None to give in.
Merge = Callable[[Json, Held | None], Json | None]


@dataclass
class Device:
    """One phone with one diary."""

    merge: Merge
    copy: Copy = field(default_factory=Copy)
    outbox: list[Json] = field(default_factory=list)
    refused: list[Json] = field(default_factory=list)  # shown to somebody
    beside: Copy | None = None  # after a restore, until everything is offered again
    complete: bool = False  # `beside` was pulled to its end

    # What its owner does.

    def shown(self) -> dict[str, Held]:
        """The diary as its owner sees it: the copy, and the outbox on top."""
        diary = dict(self.copy.records)
        for mutation in self.outbox:
            if mutation["op"] == "put":
                diary[mutation["id"]] = Held(mutation["kind"], 0, mutation["data"])
            else:
                diary.pop(mutation["id"], None)
        return diary

    def write(self, kind: str, record_id: str, data: Json) -> Json:
        """Creates or changes a record; the mutation that waits now."""
        return self._wait("put", kind, record_id, self._next_base(record_id), data)

    def delete(self, record_id: str, any_version: bool) -> Json:
        """Deletes a record; the mutation that waits now."""
        base = None if any_version else self._next_base(record_id)
        return self._wait("delete", self.shown()[record_id].kind, record_id, base, None)

    def undelete(self, record_id: str) -> Json | None:
        """Brings back what is deleted here; the mutation that waits now. None where its version is not known."""
        waiting, deleted = self.waiting(record_id), self.copy.deletions.get(record_id)
        if waiting and waiting[-1]["op"] == "delete" and "base_version" in waiting[-1]:
            return self._wait("undelete", waiting[-1]["kind"], record_id, waiting[-1]["base_version"] + 1, None)
        if waiting or deleted is None:
            return None
        return self._wait("undelete", deleted.kind, record_id, deleted.version, None)

    def waiting(self, record_id: str) -> list[Json]:
        """Its mutations that have no result yet."""
        return [mutation for mutation in self.outbox if mutation["id"] == record_id]

    def _next_base(self, record_id: str) -> int:
        """The version that is held, or that the last mutation in the outbox will make."""
        if waiting := self.waiting(record_id):
            return int(waiting[-1]["base_version"]) + 1
        held = self.copy.records.get(record_id)
        return held.version if held else 0

    def _wait(self, op: str, kind: str, record_id: str, base: int | None, data: Json | None) -> Json:
        self.outbox.append(mutation(op, kind, record_id, base, data))
        return self.outbox[-1]

    # Push.

    def outgoing(self, most: int = 100) -> Json | None:
        """The next push; None while there is no cursor, or a restored server is not pulled to the end."""
        if self.beside is not None:
            return self._push(self._offers(self.beside), self.beside.epoch, False) if self.complete else None
        if self.copy.cursor is None:
            return None
        return self._push(self.outbox[:most], self.copy.epoch, len(self.outbox) <= most)

    def _push(self, mutations: list[Json], epoch: str | None, outbox_empty: bool) -> Json:
        body = {"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": mutations}
        return body | {"outbox_empty": outbox_empty} | ({"epoch": epoch} if epoch else {})

    def take_results(self, push: Json, answer: Json) -> None:
        """The answer of this push came."""
        if self.beside is None and self.copy.epoch not in (None, answer["epoch"]):
            self.begin_again("reoffer")
            return
        settled = self.beside is not None
        self.copy, self.beside = self.beside or self.copy, None
        self.copy.epoch = answer["epoch"]
        differing: dict[str, Json] = {}
        for sent, result in zip(push["mutations"], answer["results"], strict=True):
            self._take(sent, result)
            if result["status"] == "conflict":
                differing[sent["id"]] = sent
        if settled:
            differing |= {waiting["id"]: waiting for waiting in self.outbox}
        for record_id, sent in differing.items():
            self._rebase(record_id, sent)

    def _take(self, sent: Json, result: Json) -> None:
        record_id, kind, status = sent["id"], sent["kind"], result["status"]
        if status in DONE | {"conflict", "invalid"}:
            self.outbox = [waiting for waiting in self.outbox if waiting["mutation_id"] != sent["mutation_id"]]
        if status in DONE | {"invalid"}:
            self._renumber(record_id, result.get("version", sent.get("base_version")))
        if status == "invalid":
            self.refused.append(sent)
        elif "record" in result:
            self.copy.put(kind, record_id, result["record"]["version"], result["record"])
        elif result.get("deleted") or (status in DONE and sent["op"] == "delete"):
            self.copy.forget(kind, record_id, result["version"])
        elif status in DONE:
            self.copy.put(kind, record_id, result["version"], sent["data"])
        elif status == "conflict":
            self.copy.forget(kind, record_id, None)

    def _renumber(self, record_id: str, version: int | None) -> None:
        """What waits was made on this version, and on each other."""
        for place, waiting in enumerate(self.outbox):
            if waiting["id"] == record_id and version is not None and "base_version" in waiting:
                self.outbox[place] = waiting | {"base_version": version}
                version += 1

    def _rebase(self, record_id: str, sent: Json) -> None:
        """In the place of what waits, or was refused: one new mutation on what the copy holds now, or none."""
        waiting = self.waiting(record_id)
        mine = waiting[-1] if waiting else sent
        self.outbox = [other for other in self.outbox if other["id"] != record_id]
        held, deleted = self.copy.records.get(record_id), self.copy.deletions.get(record_id)
        if mine["op"] == "undelete":
            if held is None:
                self.refused.append(mine)  # it was deleted once more, or nobody knows what it was
            return
        if held is None and deleted is None:
            if mine["op"] == "put" and mine["base_version"] != 0:
                self.write(mine["kind"], record_id, mine["data"])
            elif mine["op"] == "put":
                self.refused.append(mine)
            return
        decided = self.merge(mine, held)
        if held is not None and decided is not None:
            base, data = held.version, decided or None
            self._wait("put" if data else "delete", mine["kind"], record_id, base, data)

    # Pull.

    def asked(self) -> Json:
        """The query of the next pull."""
        cursor = (self.beside or self.copy).cursor
        return {"cursor": cursor} if cursor else {}

    def take_page(self, page: Json) -> None:
        """A page came; in the same transaction as the cursor."""
        if self.beside is None and self.copy.epoch not in (None, page["epoch"]):
            self.begin_again("reoffer")
            return
        copy = self.beside or self.copy
        for change in page["changes"]:
            if change["deleted"]:
                gone = change["version"] if change["reason"] == "deleted" else None
                copy.forget(change["kind"], change["id"], gone)
            else:
                copy.put(change["kind"], change["id"], change["version"], change["record"])
        copy.cursor, copy.epoch = page["cursor"], page["epoch"]
        self.complete = not page["has_more"]

    # What else may be answered.

    def begin_again(self, action: str) -> None:
        """410: `reload` forgets the copy, `reoffer` keeps it until the server has what it lost."""
        if action == "reoffer":
            self.beside, self.complete = Copy(), False
        else:
            self.beside = None
            self.copy = Copy(deletions=self.copy.deletions, epoch=self.copy.epoch)

    def may_not_write(self) -> None:
        """403 or 404 to a push: the outbox is kept; after a restore there is nothing to offer."""
        if self.beside is not None and self.complete:
            self.copy, self.beside = self.beside, None
            for waiting in list(self.outbox):
                self._rebase(waiting["id"], waiting)

    def crash(self) -> None:
        """What was not stored is gone."""
        self.beside, self.complete = None, False

    def _offers(self, pulled: Copy) -> list[Json]:
        """What the restored server lacks or has otherwise, and the deletions that it does not know."""
        offers = [
            self._offer("put", record_id, held)
            for record_id, held in self.copy.records.items()
            if not _same(held, pulled.records.get(record_id)) and not _outlived(held, pulled.deletions.get(record_id))
        ]
        return offers + [
            self._offer("delete", record_id, held)
            for record_id, held in self.copy.deletions.items()
            if record_id not in pulled.deletions
        ]

    def _offer(self, op: str, record_id: str, held: Held) -> Json:
        offer = mutation(op, held.kind, record_id, 0, held.data or None)
        return offer | {"reoffer": self.copy.epoch, "version": held.version}


def mutation(op: str, kind: str, record_id: str, base: int | None, data: Json | None) -> Json:
    """A mutation as it is pushed, with a new id."""
    made = {"mutation_id": str(uuid4()), "op": op, "kind": kind, "id": record_id, "base_version": base, "data": data}
    return {name: value for name, value in made.items() if value is not None}


def _outlived(one: Held, deleted: Held | None) -> bool:
    """Whether it was deleted in its epoch after this version, as far as anybody can tell."""
    return deleted is not None and deleted.version >= one.version


def _same(one: Held, other: Held | None) -> bool:
    return other is not None and one.data == other.data
