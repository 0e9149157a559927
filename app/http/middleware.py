"""What surrounds every request, as plain ASGI: request id and headers, and a bound on concurrent requests."""

import os
import re
from collections.abc import Iterable
from random import randint
from uuid import UUID, uuid4

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import errors, logs
from app.config import Settings
from app.http import metrics, problems, rate_limits
from app.http.access_log import AccessLog
from app.http.entrance import Entrance
from app.http.fast_path import FastPath
from app.http.json_body import BodyValidation
from app.http.rate_limits import RateLimit, Windows
from app.security import client_address

RETRY_AFTER_SECONDS = (4, 16)  # at random: a crowd that was refused together must not come back together

_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_DEFAULT_HEADERS = [  # where a response says nothing else: most hold health data, and none is a page
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
# Over plain HTTP anybody on the way could have set it, and so browsers ignore it there (RFC 6797, section 7.2).
_HTTPS_HEADERS = [(b"strict-transport-security", b"max-age=63072000")]


def install(app: FastAPI, settings: Settings) -> None:
    """Puts the middleware around the app; the last one added is the outermost."""
    # The order is that of cost: a caller over the limit, or without the token that a route needs, is refused before a
    # byte of the body is read, a request is admitted once its body is complete, and whatever happens inside is logged
    # and has its request id.
    logs.on_dropped = metrics.LOG_LINES_DROPPED.inc
    app.state.windows = Windows(os.environ.get(rate_limits.FILE))
    app.add_middleware(FastPath, api=app)
    app.add_middleware(Admission, most=settings.requests_in_progress)
    app.add_middleware(BodyValidation, settings=settings)
    app.add_middleware(Entrance, api=app)
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
        address = client_address.host(client[0]) if client else None
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


class Admission:
    """Admits a bounded number of concurrent requests; responds to any other with 503 and a Retry-After.

    After an outage all phones come at once. Requests that would only wait are refused while that is cheap, each with
    another Retry-After, so that they do not come back at once. A request counts once its body is complete: one that is
    sent slowly keeps no other out.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most
        self.in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http" or not scope["path"].startswith(rate_limits.API):
            return await self.app(scope, receive, send)
        if self.in_progress >= self.most:
            problem = errors.Unavailable(retry_after=randint(*RETRY_AFTER_SECONDS))  # noqa: S311 - to spread them, not to hide it
            return await problems.respond(problem, scope["state"]["request_id"])(scope, receive, send)
        self.in_progress += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self.in_progress -= 1


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> UUID:
    """The caller's X-Request-Id where it is a UUID: it goes to the log and the audit trail, where no other text may."""
    for name, value in headers:
        if name == b"x-request-id" and _UUID.fullmatch(value):
            return UUID(value.decode())
    return uuid4()
