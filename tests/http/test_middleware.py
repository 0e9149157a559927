"""What surrounds every request, called as plain ASGI, and once behind the real server."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import REGISTRY
from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope

from app.config import Settings
from app.http import access_log, json_body, metrics, middleware, problems

pytestmark = pytest.mark.anyio

LIMIT = 1024
ID = "01980c5e-7a10-7000-8000-000000000001"
JSON = {"content-type": "application/json"}
UNFINISHED: Message = {"type": "http.request", "body": b"{", "more_body": True}
LEFT: Message = {"type": "http.disconnect"}

router = APIRouter(prefix="/things")


@router.api_route("/{thing_id}", methods=["POST", "PATCH", "DELETE"])
async def echo(request: Request, thing_id: str) -> Response:
    body = await request.body()
    state = request.state
    facts = {"body": body.decode(), "id": str(state.request_id), "address": state.address, "thing": thing_id}
    return JSONResponse(facts)


@router.get("/{thing_id}")
async def read(thing_id: str, q: str = "") -> str:
    return thing_id + q


@router.get("/{thing_id}/own")
async def answer_with_own_headers(thing_id: str) -> Response:
    return Response(thing_id, headers={"Cache-Control": "max-age=60", "Content-Security-Policy": "own"})


@router.get("/{thing_id}/crash")
async def crash(thing_id: str) -> str:
    raise ValueError(f"canary {thing_id}")


@router.get("/{thing_id}/crash-late")
async def crash_late(thing_id: str) -> Response:
    async def half() -> AsyncIterator[bytes]:
        yield thing_id.encode()
        raise ValueError("canary")

    return StreamingResponse(half())


@router.get("/{thing_id}/leave")
async def leave(thing_id: str) -> str:
    raise ClientDisconnect(thing_id)


@router.post("/{thing_id}/wait")
async def wait_for_the_client_to_leave(request: Request, thing_id: str) -> str:
    await request.body()
    return f"{thing_id} {(await request.receive())['type']}"


def build(**settings: Any) -> FastAPI:
    app = FastAPI()
    problems.install(app)
    middleware.install(app, Settings(environment="development", max_body_bytes=LIMIT, **settings))
    app.include_router(router, prefix="/v1")
    return app


class Answer:
    """What a raw ASGI call sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.messages[1:]).decode()


async def call(
    method: str,
    path: str = "/v1/things/1",
    *chunks: bytes | Message,
    headers: dict[str, str] | None = None,
    app: FastAPI | None = None,
    **scope: Any,
) -> Answer:
    """One request with its body in chunks; after the last the client waits without end."""
    answer = Answer()
    raw_path, _, query = path.partition("?")
    waiting = list(chunks or [b""])

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        chunk = waiting.pop(0)
        if not isinstance(chunk, bytes):
            return chunk
        more = bool(waiting) and isinstance(waiting[0], bytes)
        return {"type": "http.request", "body": chunk, "more_body": more}

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await (app or build())(
        {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("192.0.2.7", 4000),
            **scope,
        },
        receive,
        send,
    )
    return answer


async def post(*chunks: bytes | Message, method: str = "POST", **options: Any) -> Answer:
    """A request with a body of unknown length."""
    headers = {"transfer-encoding": "chunked", **options.pop("headers", JSON)}
    return await call(method, "/v1/things/1", *chunks, headers=headers, **options)


# --- Request context


async def test_every_answer_has_a_request_id_and_the_security_headers() -> None:
    answer = await call("GET")
    assert UUID(answer.headers["x-request-id"]).version == 4
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "strict-transport-security" not in answer.headers


async def test_https_is_made_to_stay() -> None:
    assert "max-age" in (await call("GET", scheme="https")).headers["strict-transport-security"]


async def test_an_answer_keeps_its_own_policy_and_caching() -> None:
    sent = (await call("GET", "/v1/things/1/own")).messages[0]["headers"]
    assert [value for name, value in sent if name in (b"cache-control", b"content-security-policy")] == [
        b"max-age=60",
        b"own",
    ]


async def test_a_uuid_is_taken_over_as_request_id() -> None:
    answer = await post(b"{}", headers={**JSON, "x-request-id": ID.upper()})
    assert answer.headers["x-request-id"] == ID
    assert f'"id":"{ID}","address":"192.0.2.7"' in answer.body


@pytest.mark.parametrize("sent", ["", "canary", f"{{{ID}}}", f"urn:uuid:{ID}", f"{ID}\n", ID.replace("-", "")])
async def test_anything_else_is_replaced(sent: str) -> None:
    answer = await call("GET", headers={"x-request-id": sent})
    assert UUID(answer.headers["x-request-id"]) != UUID(ID)


async def test_an_unknown_client_has_no_address() -> None:
    assert '"address":null' in (await post(b"{}", client=None)).body


async def test_other_protocols_pass_untouched() -> None:
    seen: list[Scope] = []

    async def inner(scope: Scope, _receive: Any, _send: Any) -> None:
        seen.append(scope)

    settings = Settings(environment="development")
    app = middleware.RequestContext(access_log.AccessLog(json_body.BodyValidation(inner, settings)))
    await app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # nothing is received or sent
    assert seen == [{"type": "lifespan"}]


# --- Access log, metrics and the last resort


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "diary")
    return caplog


def fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = record.__dict__["fields"]
    return found


def count(**labels: str) -> float:
    return REGISTRY.get_sample_value("diary_http_requests_total", labels) or 0


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/v1/things/canary?q=canary", "/v1/things/{thing_id}", 200),
        ("PUT", "/v1/things/canary", "/v1/things/{thing_id}", 405),
        ("GET", "/v1/canary", None, 404),
        ("GET", "/v1/things/canary%00", None, 400),
    ],
)
async def test_a_request_is_one_line_and_one_sample_by_route_template(
    log: pytest.LogCaptureFixture, method: str, path: str, route: str | None, status: int
) -> None:
    labels = {"method": method, "route": route or "unmatched", "status": str(status)}
    before = count(**labels)
    answer = await call(method, path)
    (record,) = log.records
    line = fields(record)
    assert line.pop("milliseconds") >= 0
    assert line == {
        "request_id": UUID(answer.headers["x-request-id"]),
        "method": method,
        "route": route,
        "status": status,
        "bytes": len(answer.body),
    }
    assert count(**labels) == before + 1
    assert REGISTRY.get_sample_value("diary_http_requests_in_progress") == 0


async def test_made_up_methods_share_one_label() -> None:
    before = count(method="other", route="/v1/things/{thing_id}", status="405")
    await call("CANARY")
    assert count(method="other", route="/v1/things/{thing_id}", status="405") == before + 1


async def test_what_nobody_caught_is_a_500_that_says_only_the_request_id(
    log: pytest.LogCaptureFixture,
) -> None:
    answer = await call("GET", "/v1/things/canary/crash")
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] in answer.body
    assert "canary" not in answer.body
    failure, request = log.records
    assert (failure.getMessage(), fields(failure)["route"]) == ("unexpected", "/v1/things/{thing_id}/crash")
    assert fields(request)["status"] == 500


async def test_a_failure_after_the_start_of_the_answer_ends_it_unfinished(
    log: pytest.LogCaptureFixture,
) -> None:
    answer = await call("GET", "/v1/things/1/crash-late")
    assert (answer.status, answer.body) == (200, "1")
    assert answer.messages[-1]["more_body"] is True
    assert [record.getMessage() for record in log.records] == ["unexpected", "request"]


async def test_a_client_that_leaves_is_no_error(log: pytest.LogCaptureFixture) -> None:
    assert (await call("GET", "/v1/things/1/leave")).messages == []
    assert (await post(UNFINISHED, LEFT)).messages == []
    assert [fields(record)["status"] for record in log.records] == [access_log.CLIENT_LEFT] * 2


def test_workers_that_share_a_directory_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    worker = "from app.http import metrics; metrics.observe('GET', '/x', 200, 0.1)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", worker], check=True)
    assert b'diary_http_requests_total{method="GET",route="/x",status="200"} 2.0' in metrics.exposition()[0]


# --- Body validation


async def test_a_body_in_pieces_reaches_the_route_whole() -> None:
    assert '"body":"{\\"a\\": 1}"' in (await post(b'{"a', b'": ', b"1}")).body


async def test_after_the_body_the_route_hears_when_the_client_leaves() -> None:
    answer = await call("POST", "/v1/things/1/wait", b"{}", LEFT, headers={**JSON, "content-length": "2"})
    assert answer.body == '"1 http.disconnect"'


async def test_an_announced_body_above_the_limit_is_refused_before_it_is_read() -> None:
    answer = Answer()
    order: list[str] = []

    async def receive() -> Message:
        order.append("receive")
        return LEFT

    async def send(message: Message) -> None:
        order.append(message["type"])
        answer.messages.append(message)

    scope = {
        "type": "http", "method": "POST", "scheme": "http", "path": "/v1/things/1",
        "raw_path": b"/v1/things/1", "query_string": b"",
        "headers": [(b"content-length", str(LIMIT + 1).encode())],
    }  # fmt: skip
    await build()(scope, receive, send)
    assert order == ["http.response.start", "http.response.body", "receive", "http.response.body"]
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert not answer.messages[-1].get("more_body")


async def test_a_growing_body_is_refused_when_it_passes_the_limit() -> None:
    answer = await post(*[b" " * 600] * 5)
    assert answer.status == 413
    assert (await post(b'"' + b"a" * (LIMIT - 2) + b'"')).status == 200


async def test_a_sender_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "LINGER_SECONDS", 0.01)
    answer = await post({**UNFINISHED, "body": b" " * 2000}, UNFINISHED)
    assert answer.status == 413
    assert answer.messages[-1] == {"type": "http.response.body", "body": b""}


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    answer = await post(UNFINISHED, app=build(receive_seconds=0.01))
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert "in time" in answer.body


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"content-type": "application/json"}, 200),
        ("DELETE", {"content-type": "application/json"}, 200),
        ("POST", {"content-type": "Application/JSON; charset=UTF-8"}, 200),
        ("POST", {"content-type": 'application/json;charset="utf-8"', "content-encoding": "identity"}, 200),
        ("PATCH", {"content-type": "application/merge-patch+json"}, 200),
        ("POST", {"content-type": "application/merge-patch+json"}, 415),
        ("POST", {"content-type": "application/json; charset=utf-16"}, 415),
        ("POST", {"content-type": "application/jsonp"}, 415),
        ("POST", {"content-type": "text/plain"}, 415),
        ("POST", {}, 415),
        ("POST", {"content-type": "application/json", "content-encoding": "br"}, 415),
        ("GET", {"content-type": "application/json"}, 400),
        ("HEAD", {"content-type": "application/json"}, 405),  # no route has it
        ("POST", {"content-type": "application/json", "content-length": "-1"}, 400),
        ("POST", {"content-type": "application/json", "content-length": "9" * 5000}, 400),
    ],
)
async def test_what_a_body_must_say_of_itself(method: str, headers: dict[str, str], status: int) -> None:
    assert (await post(b"{}", method=method, headers=headers)).status == status


async def test_an_empty_body_needs_no_type() -> None:
    assert (await post(b"", headers={})).status == 200
    assert (await post(b"", method="GET", headers={})).status == 200
    assert (await call("POST", headers={"content-length": "0"})).status == 200


async def test_malformed_json_is_a_problem_without_an_echo() -> None:
    answer = await post(b'{"canary": 1, "canary": 2}')
    assert answer.status == 400
    assert "same key twice" in answer.body
    assert "canary" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/v1/things/%00",
        "/v1/things/1?q=%00",
        "/v1/things/1?q=%",
        "/v1/things/1?q=%4",
        "/v1/things/1?q=%zz",
        "/v1/things/%ff",
        "/v1/things/1?q=%C0%80",
        "/v1/things/1?q=%ED%A0%80",
        "/v1/things/ä",
    ],
)
async def test_an_address_that_no_text_can_be_is_refused(path: str) -> None:
    assert (await call("GET", path)).status == 400


async def test_an_address_may_hold_any_other_text() -> None:
    assert (await call("GET", "/v1/things/1?q=%C3%A4%F0%9F%98%80+%25")).body == '"1ä😀 %"'


async def test_the_server_delivers_a_413_to_a_client_that_is_still_sending() -> None:
    config = uvicorn.Config(build(), port=0, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = 3_000_000
    writer.write(b"POST /v1/things/1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    writer.write(b" " * size)
    await writer.drain()
    received = await reader.read()
    assert received.startswith(b"HTTP/1.1 413")
    assert b"/problems/too-large" in received
    writer.close()
    server.should_exit = True
    await serving
