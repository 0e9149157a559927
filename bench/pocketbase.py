"""PocketBase with a collection that does as much of the same as it can: rules, indexes, ids of the phone's, batches."""

import asyncio
import json
import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from bench import people, seed
from bench.drivers import GAP
from bench.stage import ACCOUNTS, Server, Stage, free_port, process
from bench.workloads import MOMENTS, POCKETBASE, Plan, compact, request, sent

ADMIN = {"identity": "admin@example.org", "password": people.PASSWORD}
OWN = "owner = @request.auth.id"
PATH = "/api/collections/entries/records"
FIELDS = [
    # A phone chooses the id. PocketBase's own are shorter.
    {"name": "id", "type": "text", "primaryKey": True, "required": True, "system": True, "min": 36, "max": 36}
    | {"pattern": "^[a-f0-9-]+$", "autogeneratePattern": ""},
    {"name": "occurred_at", "type": "date", "required": True},
    {"name": "time_zone", "type": "text", "required": True},
    {"name": "sites", "type": "json", "required": True},
    {"name": "triggers", "type": "json"},
    {"name": "note", "type": "text"},
    {"name": "created", "type": "autodate", "onCreate": True},
    {"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True},
]
COLLECTION = {
    "name": "entries",
    "type": "base",
    "listRule": OWN,
    "viewRule": OWN,
    "createRule": f'@request.auth.id != "" && {OWN}',
    "updateRule": OWN,
    "deleteRule": OWN,
    "indexes": [
        "CREATE INDEX entries_timeline ON entries (owner, occurred_at DESC, id DESC)",
        "CREATE INDEX entries_changes ON entries (owner, updated, id)",
        # Ids of another pattern than its own PocketBase compares without regard to case: else with all there are.
        "CREATE INDEX entries_ids ON entries (id COLLATE NOCASE)",
    ],
}
Reader = tuple[str, str]  # id of the user, token


@asynccontextmanager
async def serving(stage: Stage, program: Path, size: int) -> AsyncIterator["Pocket"]:
    """PocketBase beside the service, as full as that, with the same patients."""
    directory = stage.directory / "pocketbase"
    admin: list[str | Path] = [program, "superuser", "upsert", *ADMIN.values(), "--dir", directory]
    subprocess.run(admin, check=True, capture_output=True)
    port = free_port()
    command = [str(program), "serve", "--http", f"127.0.0.1:{port}", "--dir", str(directory)]
    async with process(stage.directory / "setup.log", command, {}, port):
        pocket = await _prepare(port)
    owners = [owner for owner, _ in pocket.readers]
    await asyncio.to_thread(_fill, directory / "data.db", size, owners, len(stage.patients))

    async def count() -> int:
        with closing(sqlite3.connect(f"file:{directory / 'data.db'}?mode=ro", uri=True)) as connection:
            stored: int = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
            return stored

    async with process(stage.directory / "pocketbase.log", command, {}, port) as running:
        stage.servers[POCKETBASE] = Server(port, running, None, count)
        pocket.moments = _moments(directory / "data.db", pocket.readers[0][0])
        yield pocket


async def durability(stage: Stage, program: Path) -> str:
    """What an acknowledged entry survives on either side, as their settings say."""
    ours = [f"{name}={await stage.owner.fetchval(f'SHOW {name}')}" for name in ("fsync", "synchronous_commit")]
    theirs = re.findall(rb"_pragma=((?:journal_mode|synchronous)\(\w+\))", program.read_bytes())
    found = ", ".join(sorted({pragma.decode() for pragma in theirs}))
    return (
        f"Durability: PostgreSQL runs with {', '.join(ours)}: what it acknowledged survives a power failure. "
        f"PocketBase opens SQLite with {found}. In WAL mode only synchronous(FULL) flushes the log before the answer: "
        "with NORMAL, what it acknowledged survives a crash of the program, but not always a power failure."
    )


class Pocket:
    """Who is signed in there, and what they send: the service's workloads in PocketBase's words."""

    def __init__(self, readers: list[Reader]) -> None:
        self.readers = readers
        self.moments: list[str] = []

    def creating(self, _: Stage) -> Plan:
        """One entry, by anybody."""
        chosen = [(self.readers[place % len(self.readers)], place) for place in range(MOMENTS)]
        return [request("POST", PATH, compact(self._entry(owner, place)), token) for (owner, token), place in chosen]

    def pushing(self, _: Stage) -> Plan:
        """A hundred entries in one transaction."""
        hundreds = [(compact({"requests": self._hundred(owner)}), token) for owner, token in self.readers]
        return [request("POST", "/api/batch", body, token) for body, token in hundreds]

    def reading(self, _: Stage) -> Plan:
        """The newest fifty of the long diary, without a count."""
        owner, token = self.readers[0]
        query = f"perPage=50&skipTotal=1&sort=-occurred_at,-id&filter=(owner='{owner}')"
        return [request("GET", f"{PATH}?{query}", token=token)]

    def pulling(self, _: Stage) -> Plan:
        """A hundred changes somewhere in the long diary."""
        owner, token = self.readers[0]
        query = f"{PATH}?perPage=100&skipTotal=1&sort=updated,id&filter=(owner='{owner}'%26%26updated>'%s')"
        return [request("GET", query.replace("%s", at.replace(" ", "%20")), token=token) for at in self.moments]

    def _hundred(self, owner: str) -> list[dict[str, Any]]:
        return [{"method": "POST", "url": PATH, "body": self._entry(owner, place)} for place in range(100)]

    def _entry(self, owner: str, place: int) -> dict[str, Any]:
        return sent(place) | {"id": GAP, "owner": owner}


async def _prepare(port: int) -> Pocket:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        admin = await _post(http, "/api/collections/_superusers/auth-with-password", ADMIN)
        http.headers["Authorization"] = admin["token"]
        batches = {"batch": {"enabled": True, "maxRequests": 100, "timeout": 30}}
        (await http.patch("/api/settings", json=batches)).raise_for_status()
        users = (await http.get("/api/collections/users")).json()["id"]
        owner = {"name": "owner", "type": "relation", "collectionId": users, "required": True, "maxSelect": 1}
        await _post(http, "/api/collections", COLLECTION | {"fields": [*FIELDS, owner]})
        readers = []
        for _ in range(ACCOUNTS):
            email = f"{uuid4().hex}@example.org"
            account = {"email": email, "password": people.PASSWORD, "passwordConfirm": people.PASSWORD}
            await _post(http, "/api/collections/users/records", account)
            who = {"identity": email, "password": people.PASSWORD}
            tokens = await _post(http, "/api/collections/users/auth-with-password", who)
            readers.append((tokens["record"]["id"], tokens["token"]))
        return Pocket(readers)


async def _post(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _fill(path: Path, size: int, owners: list[str], patients: int) -> None:
    """As many entries as the service has; patients who never sign in are only an id, as they are there."""
    one, step = people.entry(), seed.step_of(size)
    everybody = [*owners, *(uuid4().hex[:15] for _ in range(patients - len(owners)))][:patients]
    facts = (json.dumps(one["sites"]), json.dumps(one["triggers"]), one["note"], "Africa/Lagos")
    now = datetime.now(UTC)

    def rows() -> Any:
        for n in range(1, size + 1):
            place = 0 if n % step == 0 else 1 + (n - n // step - 1) % (len(everybody) - 1)
            at = f"{now - (size - n) * (seed.SPAN / size):%Y-%m-%d %H:%M:%S.000Z}"
            yield str(uuid4()), everybody[place], at, at, at, *facts

    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO entries (id, owner, occurred_at, created, updated, sites, triggers, note, time_zone)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows(),
        )
        connection.execute("ANALYZE")


def _moments(path: Path, owner: str) -> list[str]:
    """When each hundredth entry of the long diary was written."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT updated FROM entries WHERE owner = ? ORDER BY updated", (owner,)).fetchall()
    return [row[0] for row in found[99:-100:100]]
