"""A diary that works offline: SQLite, the standard library, and the protocol of docs/sync.md.

`copy` is what the server is known to have, `outbox` what was done here since; the diary is one on top of the other.
An answer is stored with all that follows from it in one transaction; after a lost one, or a crash, the same is asked.
"""

import json
import sqlite3
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from uuid import uuid4

Json = dict[str, Any]
TABLES = """
CREATE TABLE IF NOT EXISTS copy ( -- data is null where it is deleted, or with version 0 hidden
    id TEXT PRIMARY KEY, kind TEXT, version INT, data TEXT, at TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS outbox (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, mutation TEXT, base TEXT);
CREATE TABLE IF NOT EXISTS refused (mutation TEXT, result TEXT); -- for the user to look at
CREATE TABLE IF NOT EXISTS state (cursor TEXT, epoch TEXT);
INSERT INTO state SELECT NULL, NULL WHERE NOT EXISTS (SELECT 1 FROM state);
"""
SERVERS = {"id", "kind", "patient_id", "version", "change_seq", "deleted", "local_date", "received_at", "author_id"}
SERVERS |= {"outside_validated_age", "validated_age_unknown", "offset_differs_from_zone"}
KEYS = {  # what makes the items of a list distinct; of other lists the whole item does
    "sites": ("region", "depth"), "scores": ("measure", "scale"), "triggers": ("code",), "red_flags": ("code",),
    "relief": ("code", "treatment_event_id"), "associated_symptoms": ("code",), "side_effects": ("code",),
    "ingredients": ("name",), "pauses": ("from",), "regimens": ("valid_from", "line"),
}  # fmt: skip
IN_ORDER = ("pauses", "regimens")  # of their times
WITH_MEMBERS = ("interference", "sleep")  # objects whose members say something each
REFUSED_WHOLE = (400, 413, 422)
REFUSALS = ("conflict", "invalid", "forbidden")


class Problem(Exception):
    """What the server answered instead, as application/problem+json."""


class Diary:
    """A patient's diary at `url`, …/v1/patients/{id}; `token()` is asked for an access token before each call."""

    def __init__(self, path: str, url: str, token: Callable[[], str]) -> None:
        self.url, self.token = url, token
        self.store = sqlite3.connect(path)
        self.store.executescript(TABLES)

    def records(self) -> dict[str, Json]:
        """What the diary holds, by id."""
        ids = [id_ for (id_,) in self._all("SELECT id FROM copy UNION SELECT id FROM outbox")]
        return {id_: data for id_ in ids if (data := self._record(id_)) is not None}

    def write(self, kind: str, id_: str, data: Json | None) -> None:
        """Creates or replaces a record, or deletes it (None): here and now, and soon on the server."""
        waiting = self._waiting(id_)
        version = waiting[-1][0]["base_version"] + 1 if waiting else self._copied(id_)[0]
        with self.store:
            self._queue(kind, id_, data, self._record(id_), version)

    def undelete(self, id_: str) -> None:
        """Brings back what was deleted, here or elsewhere, as it was: it is there after the next sync."""
        waiting, (version, _) = self._waiting(id_), self._copied(id_)
        [(kind,), *_] = self._all("SELECT kind FROM copy WHERE id = ?", id_) or [(waiting[-1][0]["kind"],)]
        version = waiting[-1][0]["base_version"] + 1 if waiting else version
        with self.store:
            self._wait(id_, mutation_of(kind, id_, None, version) | {"op": "undelete"}, None)

    def sync(self) -> None:
        """Fetches what others did and sends what was done here. Raises OSError when offline; Problem otherwise."""
        with self.store:
            try:
                self._pull()
            except Problem as problem:
                if "action" not in problem.args[0]:
                    raise
                self._start_again(problem.args[0]["action"])
        self._send()
        with self.store:
            self._pull()

    def _pull(self) -> None:
        """Takes in all that changed on the server, and the cursor after it."""
        page: Json = {"has_more": True}
        while page["has_more"]:
            [(cursor,)] = self._all("SELECT cursor FROM state")
            page = self._call("pull?" + urlencode({"limit": 500} | ({"cursor": cursor} if cursor else {})))
            for change in page["changes"]:
                version = 0 if change.get("reason") == "withdrawn" else change["version"]
                self._keep(change["kind"], change["id"], version, change.get("record"))
            self.store.execute("UPDATE state SET cursor = ?, epoch = ?", (page["cursor"], page["epoch"]))
        self.store.execute("DELETE FROM copy WHERE data = 'null' AND at < datetime('now', '-35 days')")

    def _send(self) -> None:
        """Pushes the outbox, and says so when nothing is left here."""
        while rows := self._all("SELECT place, mutation FROM outbox ORDER BY place LIMIT 100"):
            mutations = [json.loads(mutation) for _, mutation in rows]
            with self.store:
                for (place, _), mutation, result in zip(rows, mutations, self._push(mutations), strict=True):
                    if self._all("SELECT 1 FROM outbox WHERE place = ?", place):  # else merged with an earlier one
                        self._settle(place, mutation, result)
        if not self._all("SELECT 1 FROM refused"):
            self._push([], outbox_empty=True)

    def _settle(self, place: int, mutation: Json, result: Json) -> None:
        kind, id_, version = mutation["kind"], mutation["id"], result.get("version", 0)
        if "same_as" in result:
            self._take_over(place, mutation, result)
            return
        if result["status"] == "conflict" and (version or mutation["base_version"]):
            self._keep(kind, id_, version, result.get("record"))
            self._merge(id_)
            return
        self.store.execute("DELETE FROM outbox WHERE place = ?", (place,))
        if result["status"] in REFUSALS:
            self._refuse(mutation, result)
        elif version > self._copied(id_)[0] and "deleted" not in result:  # else others changed it: a pull tells how
            self._keep(kind, id_, version, mutation.get("data"))

    def _take_over(self, place: int, mutation: Json, result: Json) -> None:
        """What was imported before is here under the id of then, and what was done to it since goes there."""
        first = result["same_as"]
        self._keep(mutation["kind"], first, result["version"], result.get("record"))
        if result["status"] == "unchanged":
            self.store.execute("DELETE FROM outbox WHERE place = ?", (place,))
        self.store.execute("UPDATE outbox SET id = ? WHERE id = ?", (first, mutation["id"]))
        if self._waiting(first):
            self._merge(first)

    def _merge(self, id_: str) -> None:
        """Makes one new mutation of all that was done to the record here, on top of the copy."""
        [(first, base), *_] = self._waiting(id_)
        mine, (version, theirs) = self._record(id_), self._copied(id_)
        brings_back = self._waiting(id_)[-1][0]["op"] == "undelete"
        self.store.execute("DELETE FROM outbox WHERE id = ?", (id_,))
        if brings_back:
            if not theirs:  # it was deleted once more
                self._refuse(first, {"status": "conflict", "deleted": True})
            return
        if mine and version and not theirs:  # what is deleted stays deleted
            self._refuse(first | {"data": mine}, {"status": "conflict", "deleted": True})
            return
        if mine and theirs:  # without a base it was created here, and theirs comes from that
            lost: list[str] = []
            mine = merge(base or first["data"], own := mine, theirs, lost)
            if lost:  # the copy of the other device is not for nothing: somebody has to look at it
                self._refuse(first | {"data": own}, {"status": "conflict", "record": theirs, "lost": lost})
        self._queue(first["kind"], id_, mine, theirs, version)

    def _start_again(self, action: str) -> None:
        """Takes the diary as the server has it now, after a restore with what that had lost; all of it or nothing."""
        copy = self._all("SELECT id, kind, version, data, epoch FROM copy, state WHERE version > 0")
        self.store.execute("DELETE FROM copy")
        self.store.execute("UPDATE state SET cursor = NULL")
        self._pull()
        if action == "reoffer":
            self._offer(copy)
            self._pull()  # what came of it
            for (id_,) in self._all("SELECT DISTINCT id FROM outbox"):
                self._merge(id_)

    def _offer(self, copy: list[tuple[str, str, int, str, str]]) -> None:
        """Offers again what the server lacks or has otherwise."""
        offers = []
        for id_, kind, version, text, epoch in copy:
            data, (now, theirs) = json.loads(text), self._copied(id_)
            if not now or (theirs and theirs != data) or (data and not theirs and version > now):
                offers.append(mutation_of(kind, id_, data, now) | {"reoffer": epoch, "version": version})
        for offer, result in zip(offers, self._push(offers), strict=True):
            if result["status"] in REFUSALS:
                self._refuse(offer, result)

    def _queue(self, kind: str, id_: str, data: Json | None, base: Json | None, base_version: int) -> None:
        if data != base:
            self._wait(id_, mutation_of(kind, id_, data, base_version), base)

    def _wait(self, id_: str, mutation: Json, base: Json | None) -> None:
        row = (id_, json.dumps(mutation), json.dumps(base))
        self.store.execute("INSERT INTO outbox (id, mutation, base) VALUES (?, ?, ?)", row)

    def _keep(self, kind: str, id_: str, version: int, record: Json | None) -> None:
        data = record and {name: value for name, value in record.items() if name not in SERVERS}
        row = (id_, kind, version, json.dumps(data))
        self.store.execute("INSERT OR REPLACE INTO copy (id, kind, version, data) VALUES (?, ?, ?, ?)", row)

    def _refuse(self, mutation: Json, result: Json) -> None:
        self.store.execute("INSERT INTO refused VALUES (?, ?)", (json.dumps(mutation), json.dumps(result)))

    def _record(self, id_: str) -> Json | None:
        waiting = self._waiting(id_)
        return waiting[-1][0].get("data") if waiting else self._copied(id_)[1]

    def _waiting(self, id_: str) -> list[tuple[Json, Json | None]]:
        rows = self._all("SELECT mutation, base FROM outbox WHERE id = ? ORDER BY place", id_)
        return [(json.loads(mutation), json.loads(base)) for mutation, base in rows]

    def _copied(self, id_: str) -> tuple[int, Json | None]:
        rows = self._all("SELECT version, data FROM copy WHERE id = ?", id_)
        return (rows[0][0], json.loads(rows[0][1])) if rows else (0, None)

    def _all(self, query: str, *values: Any) -> list[Any]:
        return self.store.execute(query, values).fetchall()

    def _push(self, mutations: list[Json], *, outbox_empty: bool = False) -> list[Json]:
        if len(mutations) > 1 and (len(mutations) > 100 or len(json.dumps(mutations)) > 500_000):
            half = len(mutations) // 2
            return self._push(mutations[:half]) + self._push(mutations[half:])
        [(epoch,)] = self._all("SELECT epoch FROM state")
        said = {"device_id": "example", "client_now": datetime.now(UTC).isoformat(), "epoch": epoch}
        try:
            answer = self._call("push", said | {"outbox_empty": outbox_empty, "mutations": mutations})
        except Problem as problem:
            if not mutations or problem.args[0]["status"] not in REFUSED_WHOLE:
                raise
            return self._push_apart(mutations, problem.args[0])
        return list(answer["results"])

    def _push_apart(self, mutations: list[Json], problem: Json) -> list[Json]:
        """The same in halves, until the one stands alone that the server refuses: it is put aside."""
        if len(mutations) > 1:
            half = len(mutations) // 2
            return self._push(mutations[:half]) + self._push(mutations[half:])
        self._push([])  # raises where the fault is not in the mutation
        return [{"status": "invalid", "errors": problem.get("errors", []), "detail": problem["detail"]}]

    def _call(self, path: str, body: Json | None = None) -> Json:
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/sync/{path}", sent, headers)  # noqa: S310 - the app's own server
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return dict(json.load(answer))
        except HTTPError as error:
            if error.headers.get_content_type() != "application/problem+json":
                raise  # an OSError: it was not the diary that answered
            raise Problem(json.load(error)) from None
        except HTTPException as error:
            raise ConnectionError("the answer broke off") from error


def mutation_of(kind: str, id_: str, data: Json | None, base_version: int) -> Json:
    """A new mutation, which puts the data or deletes (None)."""
    said = {"mutation_id": str(uuid4()), "kind": kind, "id": id_, "base_version": base_version}
    return said | ({"op": "delete"} if data is None else {"op": "put", "data": data})


def merge(base: Json, mine: Json, theirs: Json, lost: list[str]) -> Json:
    """What both changed since `base`. Where they changed the same otherwise mine stays, and `lost` names it."""
    names = dict.fromkeys([*theirs, *mine])
    merged = {name: _merged(name, base.get(name), mine.get(name), theirs.get(name), lost) for name in names}
    return {name: value for name, value in merged.items() if value is not None}


def _merged(name: str, base: Any, mine: Any, theirs: Any, lost: list[str]) -> Any:
    if theirs in (base, mine):
        return mine
    if mine == base:
        return theirs
    if isinstance(mine, list) and isinstance(theirs, list):
        return _merged_lists(name, base or [], mine, theirs, lost)
    if name in WITH_MEMBERS and mine and theirs:
        return merge(base or {}, mine, theirs, lost)
    lost.append(name)
    return mine


def _merged_lists(name: str, base: list[Any], mine: list[Any], theirs: list[Any], lost: list[str]) -> list[Any]:
    """The items of both, by what makes them distinct; what one took out is gone, unless the other changed it."""
    bases, ours, others = ({_key(name, item): item for item in items} for items in (base, mine, theirs))
    merged: list[Any] = []
    for key in dict.fromkeys([*others, *ours]):
        was, own, other = bases.get(key), ours.get(key), others.get(key)
        if isinstance(own, dict) and isinstance(other, dict):
            merged.append(merge(was or {}, own, other, lost))
        elif own is not None and other is not None:
            merged.append(own)
        elif (kept := own if other is None else other) != was:
            merged.append(kept)
    return sorted(merged, key=lambda item: datetime.fromisoformat(item[KEYS[name][0]])) if name in IN_ORDER else merged


def _key(name: str, item: Any) -> Any:
    return tuple(item.get(member) for member in KEYS[name]) if name in KEYS else json.dumps(item)
