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
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from uvicorn.supervisors import multiprocess
from uvloop import Loop as UvLoop

from app import logs, problems
from app.config import Settings
from app.errors import BadRequest, Problem
from app.lifecycle import Lifecycle

MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100
MAX_OPEN_FILES = 65_536
HANDSHAKE_SECONDS = 10
TICK = 0.1

NOT_HTTP = "This is not a well-formed HTTP/1.1 request."
HEAD_TOO_LARGE = "The request line and header are too large: at most 32 KiB and 100 fields."


class RequestTimeout(Problem):
    """A request that did not arrive within `receive_seconds`."""

    status = 408
    slug = "request-timeout"
    title = "The request did not arrive in time"
    advice = "Send the request again, over a better connection or in smaller parts."


class PortTaken(Exception):  # noqa: N818 - raised as what happened
    """Nobody can listen at the configured address; the text says why."""


def run(settings: Settings, app: Any, listener: socket.socket | None = None) -> None:
    """Serves until SIGTERM or Ctrl-C; `app` is an ASGI app or, for several workers, "module:factory"."""
    listener = listener or bind(settings)
    _raise_file_limit()
    config = Config(settings, app)
    logs.info("listening", host=settings.host, port=listener.getsockname()[1], workers=config.workers)
    if config.workers == 1:
        Server(config).run([listener])
        return
    with TemporaryDirectory(prefix="diary-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        Supervisor(config, [listener]).run()


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


class Config(uvicorn.Config):
    """uvicorn's configuration from our settings; it travels to the workers, and so carries what they need."""

    def __init__(self, settings: Settings, app: Any) -> None:
        self.receive_seconds = settings.receive_seconds
        self.drain_seconds = settings.drain_seconds or 0
        self.lifecycle = Lifecycle()
        super().__init__(
            app,
            workers=settings.workers if isinstance(app, str) else 1,
            http=Protocol,
            ws="none",
            loop="app.server:Loop",
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

    def load_app(self) -> Any:
        """The app itself, made by its factory where it was named; its lifecycle is the one to drain."""
        app = super().load_app()
        app = app() if isinstance(self.app, str) else app
        self.lifecycle = getattr(getattr(app, "state", None), "lifecycle", self.lifecycle)
        return app


class Server(uvicorn.Server):
    """A server that first says it is not ready, and closes its listeners when balancers have noticed."""

    config: Config

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains, closes the listeners, waits for requests in flight; a second Ctrl-C skips the waiting."""
        self.config.lifecycle.draining = True
        deadline = time.monotonic() + self.config.drain_seconds
        while time.monotonic() < deadline and not self.force_exit:
            await asyncio.sleep(TICK)
        await super().shutdown(sockets)
        self._captured_signals.clear()  # else uvicorn raises them again, and our caller cannot clean up


class Worker(multiprocess.Process):
    """A worker process with our server."""

    @property
    def server(self) -> Server:
        """The server, made in the worker itself."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server
