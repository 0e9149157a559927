"""What surrounds every request, as plain ASGI: id and headers, log line and metrics, limits, the gate."""

import asyncio
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from random import randint
from time import perf_counter
from urllib.parse import unquote_to_bytes
from uuid import UUID, uuid4

from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import errors, logs
from app.config import Settings
from app.http import json_body, metrics, problems, rate_limits
from app.http.deps import State
from app.http.fast_path import Lanes
from app.http.rate_limits import Standing, Windows

CLIENT_LEFT = 499  # logged and counted when nobody waits for an answer any more; never sent
LINGER_SECONDS = 2.0
CROWD_SECONDS = (4, 16)  # after so many a crowd may come back, each at another time

_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LENGTH = re.compile(rb"\d{1,18}")
_BAD_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})|%00")
_JSON = re.compile(rb'application/json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
_MERGE_PATCH = re.compile(rb'application/merge-patch\+json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_DEFAULT_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_HTTPS_HEADERS = [(b"strict-transport-security", b"max-age=63072000")]
_CLOSE = {"Connection": "close"}


def install(app: FastAPI, settings: Settings) -> None:
    """Puts the middleware around the app; the last one added is the outermost."""
    app.add_middleware(Lanes, api=app)
    app.add_middleware(Admission, most=settings.requests_in_progress)
    app.add_middleware(BodyGate, settings=settings)
    app.state.windows = Windows(os.environ.get(rate_limits.FILE))
    app.add_middleware(RateLimit, settings=settings, windows=app.state.windows)
    app.add_middleware(AccessLog)
    app.add_middleware(RequestContext)


class RequestContext:
    """Gives a request its id and address in `scope["state"]`, and its answer the headers that stand there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = _request_id(scope["headers"])
        client = scope.get("client")
        address = _address(client[0]) if client else None
        ours = [(b"x-request-id", str(request_id).encode()), *_HEADERS]
        scope.setdefault("state", {}).update(request_id=request_id, address=address, headers=ours)
        if scope["scheme"] == "https":
            ours += _HTTPS_HEADERS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message.get("headers", [])
                names = {name for name, _ in own}
                defaults = [header for header in _DEFAULT_HEADERS if header[0] not in names]
                message["headers"] = [*own, *ours, *defaults]
            await send(message)

        return await self.app(scope, receive, send_with_headers)


class AccessLog:
    """Writes one line and one sample per request, by route template; answers 500 for what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = perf_counter()
        status = CLIENT_LEFT
        sent = 0

        async def watch(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        metrics.IN_PROGRESS.inc()
        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            pass
        except Exception as exception:
            request_id = scope["state"]["request_id"]
            logs.error("unexpected", exception, request_id=request_id, route=_template(scope))
            if status == CLIENT_LEFT:
                await problems.respond(errors.Internal(), request_id)(scope, receive, watch)
        finally:
            metrics.IN_PROGRESS.dec()
            _record(scope, status, perf_counter() - started, sent)


class RateLimit:
    """Refuses whoever sends too much, before anything is read or asked of the database.

    A device that is signed in is counted by its session, anybody else by address: a token that is made up buys no
    second allowance and takes nobody's.
    """

    def __init__(self, app: ASGIApp, settings: Settings, windows: Windows) -> None:
        self.app = app
        self.windows = windows
        self.per_session = Policy(b"session", settings.requests_per_session)
        self.per_address = Policy(b"address", settings.requests_per_address)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http" or not scope["path"].startswith(rate_limits.LIMITED):
            return await self.app(scope, receive, send)
        session = _session(scope)
        policy = self.per_address if session is None else self.per_session
        if policy.quota == 0:
            return await self.app(scope, receive, send)
        state = scope["state"]
        client = rate_limits.network(state["address"]) if session is None else session
        standing = self.windows.count(policy.name + client, policy.quota)
        state["headers"] += policy.headers(standing)
        if standing.allowed:
            return await self.app(scope, receive, send)
        problem = errors.TooManyRequests(retry_after=standing.seconds)
        return await problems.respond(problem, state["request_id"])(scope, receive, send)


class Policy:
    """A limit and how it is told (draft-ietf-httpapi-ratelimit-headers-11)."""

    def __init__(self, name: bytes, quota: int) -> None:
        self.name = name
        self.quota = quota
        self._header = (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, quota, rate_limits.WINDOW_SECONDS))

    def headers(self, standing: Standing) -> list[tuple[bytes, bytes]]:
        """What the client is told: the limit, and where it stands."""
        return [self._header, (b"ratelimit", b'"%b";r=%d;t=%d' % (self.name, standing.remaining, standing.seconds))]


class BodyGate:
    """Lets a request pass only when its address and its whole body are well formed."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_bytes = settings.max_body_bytes
        self.seconds = settings.receive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            _check_address(scope)
            headers = dict(scope["headers"])
            body = await self._read(headers, receive)
            if body and headers.get(b"content-encoding") == b"gzip":
                body = json_body.inflate(body, self.max_bytes)
            if body:
                scope["state"]["body"] = _checked(scope["method"], headers, body)
        except errors.TooLarge as problem:
            return await _refuse_early(problem, scope, receive, send)
        except errors.Problem as problem:
            return await problems.respond(problem, scope["state"]["request_id"])(scope, receive, send)
        return await self.app(scope, _replay(body, receive), send)

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body, or None where the request announces none."""
        length = headers.get(b"content-length", b"0")
        if not _LENGTH.fullmatch(length):
            raise errors.BadRequest("Content-Length is not a number.")
        if int(length) > self.max_bytes:
            raise errors.TooLarge(headers=_CLOSE)
        if int(length) == 0 and b"transfer-encoding" not in headers:
            return None
        try:
            async with asyncio.timeout(self.seconds):
                return await self._collect(receive)
        except TimeoutError:
            raise errors.RequestTimeout(headers=_CLOSE) from None

    async def _collect(self, receive: Receive) -> bytes:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_bytes:
                raise errors.TooLarge(headers=_CLOSE)
        return bytes(body)


class Admission:
    """Lets in as many requests at a time as are answered soon; whoever comes on top is told when to come back.

    After an outage all phones come at once. Whoever would only wait is refused while that is cheap, each with another
    Retry-After, so that they do not come back at once. Requests count from when they are whole: who sends slowly takes
    nobody's place.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http" or not scope["path"].startswith(rate_limits.LIMITED):
            return await self.app(scope, receive, send)
        if self.inside >= self.most:
            problem = errors.Unavailable(retry_after=randint(*CROWD_SECONDS))  # noqa: S311 - to spread them, not to hide it
            return await problems.respond(problem, scope["state"]["request_id"])(scope, receive, send)
        self.inside += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self.inside -= 1


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> UUID:
    for name, value in headers:
        if name == b"x-request-id" and _UUID.fullmatch(value):
            return UUID(value.decode())
    return uuid4()


def _session(scope: Scope) -> bytes | None:
    """The session that a verified access token names."""
    sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, token = sent.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        return None
    parts: State = scope["app"].state.diary
    try:
        return parts.tokens.verify(token, datetime.now(UTC)).session_id.bytes
    except errors.Unauthenticated:
        return None


@lru_cache(4096)
def _address(host: str) -> str | None:
    """An IP address as it is; None for anything else that a socket or a proxy may say."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _template(scope: Scope) -> str | None:
    """The matched route as it was declared; FastAPI keeps an included router's, with its prefix, apart."""
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(route, "path_format", None)


def _record(scope: Scope, status: int, seconds: float, sent: int) -> None:
    route = _template(scope)
    metrics.observe(scope["method"], route, status, seconds)
    logs.info(
        "request",
        request_id=scope["state"]["request_id"],
        method=scope["method"],
        route=route,
        status=status,
        milliseconds=round(seconds * 1000, 2),
        bytes=sent,
    )


def _check_address(scope: Scope) -> None:
    """Refuses what a URL cannot say in UTF-8, and NUL, which PostgreSQL cannot store."""
    for part in (scope["raw_path"], scope["query_string"]):
        if not part.isascii() or _BAD_ESCAPE.search(part):
            raise errors.BadRequest("The address holds a bad escape, a NUL or a character outside ASCII.")
        if b"%" in part:
            _check_utf8(unquote_to_bytes(part))


def _check_utf8(part: bytes) -> None:
    try:
        part.decode()
    except UnicodeDecodeError:
        raise errors.BadRequest("The address is not UTF-8.") from None


def _checked(method: str, headers: dict[bytes, bytes], body: bytes) -> object:
    """The JSON value of the body."""
    if method in ("GET", "HEAD"):
        raise errors.BadRequest(f"A {method} request has no body.")
    if headers.get(b"content-encoding", b"identity") not in (b"identity", b"gzip"):
        raise errors.UnsupportedMediaType
    content_type = headers.get(b"content-type", b"")
    if not _JSON.fullmatch(content_type) and not (method == "PATCH" and _MERGE_PATCH.fullmatch(content_type)):
        raise errors.UnsupportedMediaType
    return json_body.parse(body)


def _replay(body: bytes | None, receive: Receive) -> Receive:
    """A `receive` that gives the body once and then what still comes, such as the client's leaving."""
    if body is None:
        return receive
    pending: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def replay() -> Message:
        nonlocal pending
        message, pending = pending, None
        return message or await receive()

    return replay


async def _refuse_early(problem: errors.Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, then throws away for a moment what still arrives.

    Closing a connection with unread bytes resets it, and the client may lose the answer.
    """

    async def hold(message: Message) -> None:
        await send({**message, "more_body": True} if "body" in message else message)

    await problems.respond(problem, scope["state"]["request_id"])(scope, receive, hold)
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})
