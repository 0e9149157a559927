"""The short way to an endpoint answers like FastAPI's own, for good requests and bad ones."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.http import entrance
from tests.people import Phone, entry, treatment

pytestmark = pytest.mark.anyio

FIXED = {"X-Request-Id": "01980c5e-7a10-7000-8000-000000000000"}
HOT = {"create_entry", "create_treatment_event", "list_entries", "read_timeline", "push_changes", "pull_changes"}
RECORD = entry(note="canary")
PUSH = {"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": []}
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/entries", {"json": RECORD}),
    ("POST", "/entries?outbox_empty=maybe", {"json": RECORD | {"mood": 99}}),
    ("POST", "/entries?unknown=1", {"json": RECORD}),
    ("POST", "/entries", {}),
    ("POST", "/entries", {"content": b"[]", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/entries", {"json": RECORD, "headers": {"Authorization": "Bearer x"}}),
    ("POST", "/treatments", {"json": treatment("25:00")}),
    ("GET", "/entries", {}),
    ("GET", "/entries?limit=0&from=yesterday", {}),
    ("GET", "/entries?limit=5&limit=6", {}),
    ("GET", "/entries?min_score=3", {}),
    ("GET", "/entries", {"headers": {"If-None-Match": "*"}}),
    ("GET", f"/entries/{RECORD['id']}", {}),
    ("GET", "/entries/none", {}),
    ("GET", f"/entries/{uuid4()}", {}),
    ("GET", "/timeline?kinds=entry,profile&from=2026-03-01", {}),
    ("GET", "/timeline?cursor=x", {}),
    ("POST", "/sync/push", {"json": PUSH | {"more": 1}}),
    ("GET", "/sync/pull?limit=many", {}),
    ("PUT", f"/entries/{RECORD['id']}", {"json": {}}),
    ("PUT", f"/entries/{RECORD['id']}", {"json": {}, "headers": {"If-Match": "1"}}),
    ("PATCH", f"/entries/{RECORD['id']}", {"json": {"mood": "5"}, "headers": {"If-Match": '"1"'}}),
    ("DELETE", f"/entries/{RECORD['id']}", {"headers": {"If-Match": '"9"'}}),
]


async def test_the_hot_routes_are_precompiled_and_what_needs_a_session_is_not(app: FastAPI) -> None:
    doors = [door for found in entrance.doors_of(app).values() for door in found]
    known = {door.context.name for door in doors if door.precompiled is not None}
    assert known >= HOT
    assert not known & {"read_patient", "list_grants", "create_share_code", "sign_in", "read_me"}


@pytest.mark.parametrize(("method", "path", "sent"), REQUESTS, ids=range(len(REQUESTS)))
async def test_a_precompiled_route_answers_as_fastapi_does(
    app: FastAPI, ada: Phone, monkeypatch: pytest.MonkeyPatch, method: str, path: str, sent: dict[str, Any]
) -> None:
    await ada.post("/entries", RECORD)

    async def ask() -> httpx.Response:
        headers = FIXED | sent.get("headers", {})
        return await ada.http.request(method, ada.diary + path, **(sent | {"headers": headers}))

    short = await ask()
    monkeypatch.setitem(app.dependency_overrides, ask, ask)  # anything: now FastAPI goes its own way
    whole = await ask()
    assert told(short) == told(whole)


def told(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """The whole answer, but for what counts down."""
    return answer.status_code, [pair for pair in answer.headers.multi_items() if pair[0] != "ratelimit"], answer.content


async def test_an_address_on_the_fast_path_is_logged_and_counted_by_its_template(ada: Phone) -> None:
    refused = await ada.http.patch(f"{ada.diary}/timeline", json={})
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET")
    before = await counted(ada)
    await ada.get("/timeline")
    assert await counted(ada) == before + 1


async def counted(phone: Phone) -> float:
    """How many timelines were read, as /metrics has it."""
    lines = (await phone.http.get("/metrics")).text.splitlines()
    label = 'route="/v1/patients/{patient_id}/timeline"'
    return sum(
        float(line.split()[-1]) for line in lines if label in line and "_count" in line and 'method="GET"' in line
    )
