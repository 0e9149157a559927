"""The reference: a bare ASGI handler on the same uvicorn, one asyncpg statement per request, no guarantee."""

import json
import os
from typing import Any
from uuid import UUID

import asyncpg

POOL: "asyncpg.Pool[asyncpg.Record]"
INSERT = "INSERT INTO bare (id, patient_id, document) VALUES ($1, $2, $3)"
PAGE = "SELECT document FROM bare WHERE patient_id = $1 ORDER BY id DESC LIMIT 50"
TABLE = "CREATE TABLE IF NOT EXISTS bare (patient_id uuid, id uuid, document json, PRIMARY KEY (patient_id, id))"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """POST /{patient} stores the body, GET /{patient} answers the newest fifty."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    patient = UUID(scope["path"][1:])
    if scope["method"] == "POST":
        body = (await receive())["body"]
        await POOL.execute(INSERT, UUID(json.loads(body)["id"]), patient, body.decode())
    else:
        body = b"[" + ",".join(row[0] for row in await POOL.fetch(PAGE, patient)).encode() + b"]"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Any, send: Any) -> None:
    global POOL
    await receive()
    POOL = await asyncpg.create_pool(os.environ["BARE_URL"], min_size=10, max_size=10)
    await POOL.execute(TABLE)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await POOL.close()
    await send({"type": "lifespan.shutdown.complete"})
