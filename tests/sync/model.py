"""What a server must do by docs/sync.md, and what must never be lost: no word of SQL, no clock, no network."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]

GONE = "gone"  # the content of a tombstone
BACK = "back"  # what a mutation puts that brings back what a tombstone was before
NOWHERE = "Nowhere/At_All"  # a time zone that makes any record invalid
PATIENT, HELPER = "patient", "helper"
AFTER_REFUSED = -1  # the base version of what follows a refused mutation
OLD = "2024"  # what happened then is before every window


@dataclass(frozen=True)
class View:
    """What somebody may see and write of the diary."""

    reads: frozenset[str]
    writes: frozenset[str]
    notes: bool = True
    windowed: bool = False
    who: str = PATIENT

    def shows(self, kind: str, content: str) -> bool:
        """Whether a record of this kind with this content is in it."""
        return kind in self.reads and self.covers(content)

    def covers(self, content: str) -> bool:
        """Whether this content lies in the window."""
        return not (self.windowed and content.startswith(OLD))


def content_of(mutation: Json) -> str:
    """The content that a mutation puts: no two edits have the same instant."""
    return {"delete": GONE, "undelete": BACK}.get(mutation["op"]) or str(mutation["data"]["occurred_at"])


def note_of(mutation: Json) -> str | None:
    """The note that a mutation puts."""
    return (mutation.get("data") or {}).get("note")


@dataclass(frozen=True)
class Version:
    """One version of a record; `was`: its number in the epoch before, None where it was written since."""

    content: str
    note: str | None
    at: str  # what happened then, also where it is deleted now: the window goes by that
    was: int | None = None
    by: str = PATIENT


@dataclass
class Shelf:
    """A record with all its versions."""

    kind: str
    versions: list[Version] = field(default_factory=list)

    @property
    def now(self) -> Version:
        """The record as it is."""
        return self.versions[-1]


@dataclass
class Diary:
    """One patient's diary, as the server must hold it."""

    epoch: str = ""
    previous: str | None = None
    restored_head: int = -1
    head: int = 0
    shelves: dict[str, Shelf] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)  # versions, by mutation

    def push(self, mutations: list[Json], view: View) -> list[Json]:
        """What must be answered; the diary holds it from now on. What follows a refused mutation has no base."""
        results: list[Json] = []
        refused: set[str] = set()
        for mutation in mutations:
            follows = mutation["id"] in refused and mutation.get("base_version")
            results.append(self._take(mutation | {"base_version": AFTER_REFUSED} if follows else mutation, view))
            if results[-1]["status"] in ("conflict", "invalid", "forbidden"):
                refused.add(mutation["id"])
        return results

    def _take(self, mutation: Json, view: View) -> Json:
        status = self._decide(mutation, view)
        if status in ("created", "updated", "deleted"):
            self._store(mutation, view, keep_note=status == "updated" and not view.notes)
        shelf = self.shelves.get(mutation["id"])
        if status in ("invalid", "forbidden") or shelf is None or not view.shows(shelf.kind, shelf.now.at):
            return {"status": status}
        version = len(shelf.versions)
        if status == "unchanged" and mutation["mutation_id"] in self.made:
            version = self.made[mutation["mutation_id"]]
        other = status == "conflict" or mutation["op"] == "undelete"
        other = other or (status == "unchanged" and shelf.now.content != content_of(mutation))
        return {"status": status, "version": version} | ({"now": shelf.now.content} if other else {})

    def _decide(self, mutation: Json, view: View) -> str:
        held, kind = self.shelves.get(mutation["id"]), mutation["kind"]
        deletes, content, base = mutation["op"] == "delete", content_of(mutation), mutation.get("base_version")
        if (mutation.get("data") or {}).get("time_zone") == NOWHERE:
            return "invalid"
        if kind not in view.writes:
            return "forbidden"
        if held and not view.shows(held.kind, held.now.at):
            return "conflict"
        if not deletes and not view.covers(content):
            return "forbidden"
        if mutation["mutation_id"] in self.made:
            return "unchanged"
        if held is None:
            return self._decide_new(mutation)
        if held.now.content == GONE:
            return "unchanged" if deletes else self._decide_to_bring_back(mutation, held, view)
        if mutation["op"] == "undelete":
            return "conflict" if base == AFTER_REFUSED else "unchanged"
        same = (content, note_of(mutation) if view.notes else None) == (
            held.now.content,
            held.now.note if view.notes else None,
        )
        if "reoffer" in mutation:
            if held.now.was is None or not self._ordered(mutation, view):
                return "unchanged" if same else "conflict"
            if held.now.was >= mutation["version"]:
                return "unchanged"
            return "deleted" if deletes else "updated"
        if same:
            return "unchanged"
        if base not in (None, len(held.versions)):
            return "conflict"
        return "deleted" if deletes else "updated"

    def _decide_to_bring_back(self, mutation: Json, held: Shelf, view: View) -> str:
        """Of what is deleted: by name, by the patient or who deleted it; or where it came back in the epoch before."""
        if "reoffer" in mutation:
            later = held.now.was is not None and self._ordered(mutation, view) and held.now.was < mutation["version"]
            return "updated" if later else "conflict"
        if mutation["op"] != "undelete" or mutation["base_version"] != len(held.versions) or len(held.versions) < 2:
            return "conflict"
        return "updated" if view.who in (PATIENT, held.now.by) else "invalid"

    def _decide_new(self, mutation: Json) -> str:
        offered = "reoffer" in mutation
        if mutation["op"] == "delete":
            return "deleted" if offered else "conflict"
        if mutation["op"] == "undelete":
            return "conflict"
        return "created" if offered or mutation["base_version"] == 0 else "conflict"

    def _ordered(self, mutation: Json, view: View) -> bool:
        """Whether it is offered again, and its version is comparable with what the diary has from before."""
        return mutation.get("reoffer") == self.previous is not None and view.notes

    def _store(self, mutation: Json, view: View, keep_note: bool) -> None:
        shelf = self.shelves.setdefault(mutation["id"], Shelf(mutation["kind"]))
        content, before = content_of(mutation), shelf.now if shelf.versions else None
        at = (before.at if before else OLD) if content == GONE else content
        note = before.note if before and keep_note else note_of(mutation)
        was = mutation["version"] if self._ordered(mutation, view) else None
        made = Version(content, note, at, was, view.who)
        shelf.versions.append(replace(shelf.versions[-2], was=None, by=view.who) if content == BACK else made)
        self.head += 1
        self.made[mutation["mutation_id"]] = len(shelf.versions)

    def restored(self) -> None:
        """It begins a new epoch with what it holds; nobody knows its name before somebody asks."""
        if self.previous is None or self.head > self.restored_head:
            self.previous = self.epoch
            for shelf in self.shelves.values():
                shelf.versions = [replace(one, was=number) for number, one in enumerate(shelf.versions, 1)]
        self.epoch, self.restored_head = "", self.head

    def seen(self, view: View) -> dict[str, tuple[str, int, str, str | None]]:
        """What somebody ends with who pulls everything: kind, version, content and note."""
        return {
            record_id: (shelf.kind, len(shelf.versions), shelf.now.content, shelf.now.note if view.notes else None)
            for record_id, shelf in self.shelves.items()
            if shelf.now.content != GONE and view.shows(shelf.kind, shelf.now.content)
        }


@dataclass
class Causes:
    """Which content of a record was written by somebody who knew which other: what takes that one's place rightly."""

    known: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, record_id: str, content: str, before: str | None) -> None:
        """Whoever wrote this content knew that one, or decided against it."""
        if before is not None and before != content:
            self.known[record_id, content].add(before)

    def covers(self, record_id: str, content: str | None, earlier: str) -> bool:
        """Whether this content is that one, or came of it."""
        found: set[str] = set()
        ahead = [content] if content is not None else []
        while ahead:
            one = ahead.pop()
            if one not in found:
                found.add(one)
                ahead += self.known.get((record_id, one), ())
        return earlier in found
