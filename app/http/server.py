"""uvicorn, hardened: a deadline for receiving, strict HTTP framing, a drain before the listeners close."""

import asyncio
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import multiprocess
from uvloop import Loop as UvLoop

from app import logs
from app.config import Settings
from app.errors import BadRequest, Problem, RequestTimeout
from app.http import problems, rate_limits
from app.http.lifecycle import Lifecycle

MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100
MAX_OPEN_FILES = 65_536
DOORS = 8
HANDSHAKE_SECONDS = 5
FAREWELL_SECONDS = 1
TICK = 0.1

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # TLS 1.2 with forward secrecy and authenticated encryption only, as in 1.3

NOT_HTTP = "This is not a well-formed HTTP/1.1 request."
HEAD_TOO_LARGE = "The request line and header are too large: at most 32 KiB and 100 fields."


class PortTaken(Exception):
    """Nobody can listen at the configured address; the text says why."""


def run(settings: Settings, app: ASGIApp | str, listener: socket.socket | None = None) -> None:
    """Serves until SIGTERM or Ctrl-C; `app` is an ASGI app or, for several workers, "module:factory"."""
    listener = listener or bind(settings)
    _raise_file_limit()
    config = Config(settings, app)
    logs.info("listening", host=settings.host, port=listener.getsockname()[1], workers=config.workers)
    if config.workers == 1:
        DrainingServer(config).run(doors(listener))
        return
    with TemporaryDirectory(prefix="diary-workers-") as directory:
        shared = Path(directory) / "limits"
        rate_limits.create(shared)
        os.environ |= {"PROMETHEUS_MULTIPROC_DIR": directory, rate_limits.FILE: str(shared)}
        Supervisor(config, doors(listener)).run()


def bind(settings: Settings) -> socket.socket:
    """The socket for the configured address, not listening yet; raises PortTaken."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise PortTaken(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.") from None
    return listener


def doors(listener: socket.socket) -> list[socket.socket]:
    """The listener as many times: at each of them one connection is let in for each turn of the loop.

    With one, a crowd waits outside, where nobody can tell it when to come back.
    """
    return [listener, *(listener.dup() for _ in range(DOORS - 1))]


class Config(uvicorn.Config):
    """uvicorn's configuration from our settings; it travels to the workers, and so carries what they need."""

    def __init__(self, settings: Settings, app: ASGIApp | str) -> None:
        self.receive_seconds = settings.receive_seconds
        self.drain_seconds = settings.drain_seconds or 0
        self.lifecycle = Lifecycle()
        super().__init__(
            app,
            workers=settings.workers if isinstance(app, str) else 1,
            http=Protocol,
            ws="none",
            loop="app.http.server:Loop",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_graceful_shutdown=settings.shutdown_seconds,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            ssl_context_factory=_tls if settings.tls_cert else None,
        )

    def configure_logging(self) -> None:
        """Called here and again in each worker."""
        logs.configure()
        super().configure_logging()

    def load_app(self) -> ASGIApp:
        """The app itself, made by its factory where it was named; its lifecycle is the one to drain."""
        loaded = super().load_app()
        app: ASGIApp = loaded() if isinstance(self.app, str) else loaded
        self.lifecycle = getattr(getattr(app, "state", None), "lifecycle", self.lifecycle)
        return app


class DrainingServer(uvicorn.Server):
    """A server that first says it is not ready, and closes its listeners when balancers have noticed."""

    config: Config

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains, closes the listeners, waits for requests in flight; a second Ctrl-C skips the waiting."""
        self.config.lifecycle.draining = True
        deadline = time.monotonic() + self.config.drain_seconds
        while time.monotonic() < deadline and not self.force_exit:  # noqa: ASYNC110 - a signal handler sets it
            await asyncio.sleep(TICK)
        await super().shutdown(sockets)
        self._captured_signals.clear()  # else uvicorn raises them again, and our caller cannot clean up


class Worker(multiprocess.Process):
    """A worker process with our server."""

    _server: DrainingServer | None

    @property
    def server(self) -> DrainingServer:
        """The server, made in the worker itself."""
        if self._server is None:
            self._server = DrainingServer(self.config)
        return self._server


class Supervisor(multiprocess.Multiprocess):
    """Keeps the workers alive; uvicorn's makes workers in four places and lets nobody choose their class."""

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        multiprocess.Process = Worker  # type: ignore[misc]  # there is no other way to name it
        super().__init__(config, sockets)


class Loop(UvLoop):
    """uvloop, with less patience for a TLS handshake or farewell that does not come."""

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """uvloop's server, with our deadlines."""
        if options.get("ssl"):
            options["ssl_handshake_timeout"] = HANDSHAKE_SECONDS
            options["ssl_shutdown_timeout"] = FAREWELL_SECONDS  # an idle client never says good-bye
        return await super().create_server(*args, **options)


class Part(Enum):
    """What a connection receives."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 as llhttp's strict mode parses it, with a deadline per request and limits on its head.

    One timer runs from the connection, or the first byte after a request, to the end of the next request.
    """

    config: Config
    part = Part.NOTHING
    timer: asyncio.TimerHandle | None = None
    write_timer: asyncio.TimerHandle | None = None
    head_bytes = 0
    fields = 0
    unseen_bytes = 0  # since the parser last reported something

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """Starts the deadline of the first request."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the deadlines."""
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses; bytes between requests start the deadline too, as they end uvicorn's keep-alive."""
        self._arm()
        self.unseen_bytes += len(data)
        super().data_received(data)
        if self.unseen_bytes > MAX_HEAD_BYTES:  # a field that does not end: the parser collects it silently
            self.refuse(BadRequest(HEAD_TOO_LARGE))

    def on_message_begin(self) -> None:
        """A new request."""
        super().on_message_begin()
        self.part = Part.HEAD
        self.head_bytes = self.fields = self.unseen_bytes = 0
        self._arm()

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the header; one of the trailer is dropped, as it would pass for one of the header."""
        self.fields += 1
        self._count(len(name) + len(value))
        if self.part is Part.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The end of the header: what llhttp lets through and HTTP/1.1 forbids is refused before the app runs."""
        self._check_framing()
        super().on_headers_complete()
        self.part = Part.BODY
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # the parser reads no further after an upgrade that we ignore

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self.unseen_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self.part = Part.NOTHING
        self.unseen_bytes = 0
        self._disarm()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read: it gets as long as a request has to arrive."""
        super().pause_writing()
        self.write_timer = self.loop.call_later(self.config.receive_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self.write_timer is not None:
            self.write_timer.cancel()
            self.write_timer = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says more
        """Answers what the parser or a limit refused."""
        too_large = self.head_bytes > MAX_HEAD_BYTES or self.fields > MAX_FIELDS
        self.refuse(BadRequest(HEAD_TOO_LARGE if too_large else NOT_HTTP))

    def refuse(self, problem: Problem) -> None:
        """Answers with the problem, unless the client would take it for another request's answer, and closes."""
        if self.transport.is_closing():
            return
        if self._may_answer():
            self.transport.write(_render(problem))
        if self.cycle is not None:  # the app's answer, if it comes, must not follow ours
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.pipeline.clear()
        self.transport.close()

    def _may_answer(self) -> bool:
        if self.part is Part.BODY:
            return not self.cycle.response_started and not self.pipeline
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        if self.timer is None:
            self.timer = self.loop.call_later(self.config.receive_seconds, self._expire)

    def _disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _expire(self) -> None:
        self.timer = None
        if self.part is not Part.NOTHING:
            self.refuse(RequestTimeout())
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _count(self, size: int) -> None:
        self.unseen_bytes = 0
        self.head_bytes += size
        if self.head_bytes > MAX_HEAD_BYTES or self.fields > MAX_FIELDS:
            raise ValueError(HEAD_TOO_LARGE)

    def _check_framing(self) -> None:
        version = self.parser.get_http_version()
        named = [name for name, _ in self.headers]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        hosts = named.count(b"host")
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and hosts == 0):
            raise ValueError(NOT_HTTP)
        if codings and (codings != [b"chunked"] or version != "1.1"):
            raise ValueError(NOT_HTTP)
        has_body = codings or any(name == b"content-length" and value != b"0" for name, value in self.headers)
        if has_body and self.parser.should_upgrade():  # the parser would skip the body
            raise ValueError(NOT_HTTP)


def _render(problem: Problem) -> bytes:
    response = problems.respond(problem, uuid4())
    response.headers["connection"] = "close"
    head = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}".encode()]
    head += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*head, b"", bytes(response.body)])


def _tls(_: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _raise_file_limit() -> None:
    """As many open sockets as we are allowed: the usual soft limit of 1024 lets slow clients fill it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
