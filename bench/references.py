"""What the service is compared with, on the same uvicorn, event loop, parser and driver: two apps without a framework.

bare    ordinary typed columns; one INSERT, one batch, rows → JSON; no sign-in, no consent, versions, clock or audit
equal   the service's own database calls, by group commit as it makes them, with a session that stands in the path

bare    POST /{patient}/entries · POST /{patient}/push · GET /{patient}/timeline · GET /{patient}/pull/{seq}
equal   POST /{session}:{user}/{patient}/entries · …/push · GET …/timeline · …/pull/{epoch}/{seq}/{nonce} · …/year
"""

import gc
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from app.config import Settings
from app.postgres.database import SESSION_SETTINGS
from app.postgres.group_commit import GroupCommit
from app.schemas.adherence import MOST
from app.schemas.entries import ENTRY
from app.services import adherence
from app.services.record_store import READ_PAGE, WRITE_RECORDS
from app.services.sync import READ_CHANGES

POOL = Settings.model_fields["database_pool_size"].default  # connections, as many as a worker of the service has
PATIENCE = Settings.model_fields["database_wait_seconds"].default
Answer = tuple[int, bytes]
Asked = dict[str, Any]  # arguments of a function of the database
Handler = Callable[[list[str], bytes], Awaitable[Answer]]

TABLE = """
CREATE TABLE entries (
    id uuid NOT NULL, patient_id uuid NOT NULL, occurred_at timestamptz NOT NULL, time_zone text NOT NULL,
    local_date date NOT NULL, sites jsonb NOT NULL, triggers text[] NOT NULL, note text,
    received_at timestamptz NOT NULL DEFAULT now(), change_seq bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (patient_id, id)
);
CREATE INDEX entries_timeline ON entries (patient_id, occurred_at DESC, id DESC);
CREATE INDEX entries_changes ON entries (patient_id, change_seq);
"""
COLUMNS = "id, patient_id, occurred_at, time_zone, local_date, sites, triggers, note"
INSERT = f"INSERT INTO entries ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING change_seq"
# A list of lists is no array of PostgreSQL's: the triggers of each entry travel as JSON.
BATCH = f"""
INSERT INTO entries ({COLUMNS})
SELECT id, $2, occurred_at, time_zone, local_date, sites, ARRAY(SELECT jsonb_array_elements_text(triggers)), note
FROM unnest($1::uuid[], $3::timestamptz[], $4::text[], $5::date[], $6::jsonb[], $7::jsonb[], $8::text[])
     AS sent (id, occurred_at, time_zone, local_date, sites, triggers, note)
RETURNING id, change_seq
"""
TIMELINE = f"SELECT {COLUMNS} FROM entries WHERE patient_id = $1 ORDER BY occurred_at DESC, id DESC LIMIT 50"
PULL = (
    f"SELECT {COLUMNS}, change_seq FROM entries WHERE patient_id = $1 AND change_seq > $2 ORDER BY change_seq LIMIT 100"
)

BY = {"request": UUID(int=0), "address": "127.0.0.1"}  # the request and the address in the audit row


class Reference(ABC):
    """An ASGI app over one pool: a handler for each last word of a path, given what stands before and after it."""

    def __init__(self) -> None:
        self.pool: asyncpg.Pool[asyncpg.Record]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serves one request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        status, body = await self.answer(scope["path"].split("/")[1:], await _body(scope, receive))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @abstractmethod
    async def answer(self, path: list[str], body: bytes) -> Answer:
        """Status and JSON."""

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        await self._open()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.pool.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        self.pool = await asyncpg.create_pool(
            os.environ["BENCH_DATABASE_URL"],
            min_size=POOL,
            max_size=POOL,
            reset=_keep,
            server_settings=SESSION_SETTINGS,
        )


class Bare(Reference):
    """What one writes who only has to store and list."""

    async def answer(self, path: list[str], body: bytes) -> Answer:
        """Status and JSON."""
        patient = UUID(path[0])
        if path[1] == "entries":
            return await self._create(patient, orjson.loads(body))
        if path[1] == "push":
            return await self._push(patient, orjson.loads(body))
        if path[1] == "timeline":
            return await self._page(await self.pool.fetch(TIMELINE, patient))
        return await self._page(await self.pool.fetch(PULL, patient, int(path[2])))

    async def _create(self, patient: UUID, entry: dict[str, Any]) -> Answer:
        occurred_at = datetime.fromisoformat(entry["occurred_at"])
        triggers = [one["code"] for one in entry["triggers"]]
        sites = orjson.dumps(entry["sites"]).decode()
        facts = (occurred_at, entry["time_zone"], occurred_at.date(), sites, triggers, entry["note"])
        seq = await self.pool.fetchval(INSERT, UUID(entry["id"]), patient, *facts)
        return 201, orjson.dumps(entry | {"change_seq": seq})

    async def _push(self, patient: UUID, entries: list[dict[str, Any]]) -> Answer:
        times = [datetime.fromisoformat(one["occurred_at"]) for one in entries]
        rows = await self.pool.fetch(
            BATCH,
            [UUID(one["id"]) for one in entries],
            patient,
            times,
            [one["time_zone"] for one in entries],
            [at.date() for at in times],
            [orjson.dumps(one["sites"]).decode() for one in entries],
            [orjson.dumps([trigger["code"] for trigger in one["triggers"]]).decode() for one in entries],
            [one["note"] for one in entries],
        )
        return 200, orjson.dumps([{"id": str(row[0]), "change_seq": row[1]} for row in rows])

    async def _page(self, rows: list[asyncpg.Record]) -> Answer:
        items = [
            dict(row) | {"id": str(row[0]), "patient_id": str(row[1]), "sites": orjson.Fragment(row[5])} for row in rows
        ]
        return 200, orjson.dumps({"items": items})


class Equal(Reference):
    """The same work in the database, with as little as possible around it."""

    async def _open(self) -> None:
        await super()._open()
        self.group_commit = GroupCommit(self.pool.fetch, POOL, PATIENCE)

    async def answer(self, path: list[str], body: bytes) -> Answer:
        """Status and JSON."""
        session, user = path[0].split(":")
        who = {"session": UUID(session), "user": UUID(user), "patient": UUID(path[1]), **BY}
        if path[2] == "entries":
            return await self._create(who, body)
        if path[2] == "push":
            return await self._push(who, body)
        if path[2] == "timeline":
            return await self._page(who)
        if path[2] == "pull":
            return await self._pull(who, UUID(path[3]), int(path[4]), UUID(path[5]))
        return await self._year(who)

    async def _create(self, who: Asked, items: bytes) -> Answer:
        asked = {**who, "scope": ENTRY.write_scope, "action": "entries.create", "outbox_empty": False}
        [row] = await self.group_commit.call(WRITE_RECORDS(**asked, **_opened(items)))
        return (201, row["record"]) if row["status"] == "created" else _refused(row["status"])

    async def _push(self, who: Asked, items: bytes) -> Answer:
        asked = {**who, "action": "sync.push", "outbox_empty": False}
        rows = await self.group_commit.call(WRITE_RECORDS(**asked, **_opened(items)), cost=100)
        statuses = [row["status"] for row in rows]
        return (200, orjson.dumps(statuses)) if set(statuses) == {"created"} else _refused(*statuses)

    async def _page(self, who: Asked) -> Answer:
        [row] = await self.group_commit.call(READ_PAGE(**who, action="timeline.read", limit=50))
        return (200, b'{"items":[%b]}' % row["items"]) if row["outcome"] == "ok" else _refused(row["outcome"])

    async def _pull(self, who: Asked, epoch: UUID, seq: int, nonce: UUID) -> Answer:
        place = {"epoch": epoch, "seq": seq, "nonce": nonce, "grant_version": 0}
        [row] = await self.group_commit.call(READ_CHANGES(**who, action="sync.pull", **place, limit=100))
        return (200, b'{"changes":[%b]}' % row["changes"]) if row["outcome"] == "ok" else _refused(row["outcome"])

    async def _year(self, who: Asked) -> Answer:
        year = {"first_day": date(2025, 1, 1), "last_day": date(2025, 12, 31), "limit": MOST}
        course = adherence.READ_COURSE(**who, scope=adherence.SCOPE, action="adherence.read", **year)
        [row] = await self.pool.fetch(course.function.statement, *course.arguments)
        return (200, row["events"]) if row["outcome"] == "ok" else _refused(row["outcome"])


async def _body(scope: dict[str, Any], receive: Any) -> bytes:
    if scope["method"] == "GET":
        return b""
    body: bytes = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


def _opened(body: bytes) -> Asked:
    """Items and documents: lines, for none of them holds one."""
    items, *documents = body.decode().split("\n")
    return {"items": items, "documents": documents}


def _refused(*outcomes: str) -> Answer:
    return 409, orjson.dumps(outcomes)


async def _keep(connection: Any) -> None:
    """Resets nothing between calls, as the service does."""


bare, equal = Bare(), Equal()
