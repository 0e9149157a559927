"""uvicorn with our settings: listeners, workers, TLS, and a drain before the listeners close."""

import asyncio
import gc
import logging
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn._subprocess import subprocess_started
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess
from uvloop import Loop as UvLoop

from app import logs
from app.config import Settings
from app.http import rate_limits
from app.http.lifecycle import Lifecycle
from app.http.protocol import HttpProtocol, ReceivingConfig
from app.http.tls import Certificate, UnfitCertificate

MAX_OPEN_FILES = 65_536
ACCEPTS_PER_ITERATION = 8
TLS_HANDSHAKE_SECONDS = 5
TLS_CLOSE_SECONDS = 1
DRAIN_POLL_SECONDS = 0.1
WORKER_SILENT_SECONDS = 30  # before one that has started is replaced

FORKING = multiprocessing.get_context("fork")

logger = logging.getLogger("diary.server")

PLAIN_HTTP = (
    "Plain HTTP is refused in production: set DIARY_TLS_CERT and DIARY_TLS_KEY, or DIARY_TRUSTED_PROXIES where a proxy"
    " ends TLS."
)


class CannotListen(Exception):
    """The service cannot be offered as it is configured; the text says why in one sentence."""


def run(settings: Settings, app: ASGIApp | str, listener: socket.socket | None = None) -> None:
    """Serves until SIGTERM or Ctrl-C; `app` is an ASGI app or, for several workers, "module:factory".

    By its name it is a service, which SIGHUP does not end: its workers go on with a renewed certificate. Raises
    UnfitCertificate where they could not begin.
    """
    listener = listener or bind(settings)
    _raise_file_limit()
    config = Config(settings, app)
    if config.service:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the loop hears it
    logs.info("listening", host=settings.host, port=listener.getsockname()[1], workers=config.workers)
    if config.workers == 1:
        DrainingServer(config).run(duplicated(listener))
        logs.flush()
        return
    with TemporaryDirectory(prefix="diary-workers-") as directory:
        shared = Path(directory) / "limits"
        rate_limits.create(shared)
        # Before the application is imported, as prometheus_client decides then whether processes share its metrics.
        os.environ |= {"PROMETHEUS_MULTIPROC_DIR": directory, rate_limits.FILE: str(shared)}
        config.make_app()
        _forget_gauges(os.getpid())  # the supervisor's own
        supervisor = Supervisor(config, duplicated(listener))
        supervisor.run()
        logs.flush()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            sys.exit(STARTUP_FAILURE)  # as a single one ends; the log has said why


def bind(settings: Settings) -> socket.socket:
    """The socket for the configured address, not listening yet; raises CannotListen."""
    if not (settings.development or settings.tls_cert or settings.trusted_proxies):
        raise CannotListen(PLAIN_HTTP)
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart waits for TIME_WAIT to pass
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.") from None
    return listener


def address_of(listener: socket.socket, settings: Settings) -> str:
    """Where a browser on this machine finds the listener."""
    host, port = listener.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "127.0.0.1"
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def duplicated(listener: socket.socket) -> list[socket.socket]:
    """The listening socket and its duplicates, so that the loop accepts up to 8 connections per iteration.

    uvloop accepts one per socket and iteration. In a crowd the others would wait in the kernel's queue, where nobody
    tells them 503 with a Retry-After.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTS_PER_ITERATION - 1))]


class Config(ReceivingConfig):
    """uvicorn's configuration from our settings; workers are forked with it, and so it carries what they need."""

    made: ASGIApp | None = None

    def __init__(self, settings: Settings, app: ASGIApp | str) -> None:
        self.receive_seconds = settings.receive_seconds
        self.drain_seconds = settings.drain_seconds or 0
        self.lifecycle = Lifecycle()
        self.service = isinstance(app, str)  # what is given as an object ends with its terminal
        self.supervised, self.supervising = multiprocessing.Pipe(duplex=False)  # its end tells that of the supervisor
        self.certificate = None
        if settings.tls_cert and settings.tls_key:
            self.certificate = Certificate(settings.tls_cert, settings.tls_key)
        super().__init__(
            app,
            workers=settings.workers if isinstance(app, str) else 1,
            http=HttpProtocol,
            ws="none",
            loop="app.http.server:Loop",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_graceful_shutdown=settings.shutdown_seconds,
            timeout_worker_healthcheck=WORKER_SILENT_SECONDS,
            ssl_context_factory=_listening if self.certificate else None,
        )

    def renew_certificate(self) -> None:
        """Takes up a renewed certificate; keeps the old one, and says why, where the new one cannot be used."""
        if self.certificate is None:
            return logger.info("there is no certificate to read anew")
        try:
            self.certificate.reload()
        except UnfitCertificate as reason:
            logger.error("the certificate stays as it was: %s", reason)
        else:
            logger.info("the certificate was read anew")
        return None

    def configure_logging(self) -> None:
        """Called here and again in each worker."""
        logs.configure()
        super().configure_logging()

    def make_app(self) -> None:
        """Imports and makes the application, for all that will be forked (ADR 34)."""
        self.made = self.load_app()
        gc.collect()
        gc.freeze()  # collections write to what they look at, and workers share only what nobody writes to

    def load_app(self) -> ASGIApp:
        """The app itself, made by its factory where it was named; its lifecycle is the one to drain."""
        if self.made:
            return self.made
        loaded = super().load_app()
        app: ASGIApp = loaded() if isinstance(self.app, str) else loaded
        self.lifecycle = getattr(getattr(app, "state", None), "lifecycle", self.lifecycle)
        return app


class DrainingServer(uvicorn.Server):
    """A server that answers /readyz with 503 for a while before it closes its listeners, so that balancers notice."""

    config: Config

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Hears of a renewed certificate, and listens.

        By the loop: a handler of Python's own may run amid the writing of a log line, and then cannot write another.
        """
        if self.config.service:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.config.renew_certificate)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains, closes the listeners, waits for requests in flight; a second Ctrl-C skips the waiting."""
        self.config.lifecycle.draining = True
        deadline = time.monotonic() + self.config.drain_seconds
        while time.monotonic() < deadline and not self.force_exit:  # noqa: ASYNC110 - a signal handler sets it
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        await super().shutdown(sockets)
        self._captured_signals.clear()  # else uvicorn raises them again, and our caller cannot clean up


class Worker(multiprocess.Process):
    """A fork of this process with our server: what is imported and made by then is there already (ADR 34).

    It has all the time it takes to start, and does not outlive its supervisor.
    """

    config: Config
    _server: DrainingServer | None
    _asked = _started = False

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.process = FORKING.Process(target=self._begin, args=(sockets,))  # type: ignore[assignment]  # not spawned

    @property
    def server(self) -> DrainingServer:
        """The server, made in the worker itself."""
        if self._server is None:
            self._server = DrainingServer(self.config)
        return self._server

    def start(self) -> None:
        """Forks. No signal comes in between: the worker would take it for its supervisor's."""
        signal.pthread_sigmask(signal.SIG_BLOCK, multiprocess.SIGNALS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, multiprocess.SIGNALS)

    def _begin(self, sockets: list[socket.socket]) -> None:
        """What the forked process does first: it lets go of what is the supervisor's."""
        for number in multiprocess.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the loop hears it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, multiprocess.SIGNALS)
        self.config.supervising.close()
        try:
            subprocess_started(self.config, self.target, sockets, None)
        finally:
            logs.flush()  # a fork ends without what Python does at its exit

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves."""
        assert self.server  # noqa: S101 - made before the thread that answers pings asks it whether it has started
        Thread(target=self._end_with_the_supervisor, daemon=True).start()
        super().target(sockets)

    def _end_with_the_supervisor(self) -> None:
        """Ends the worker once its supervisor is gone, however busy it is; else it would hold the port."""
        self.config.supervised.poll(None)  # the kernel closes what the supervisor holds, also where it was killed
        os.kill(os.getpid(), signal.SIGKILL)  # what it acknowledged is committed

    def is_alive(self, timeout: float = WORKER_SILENT_SECONDS) -> bool:
        """Whether to keep it: it lives and, once it has started, answers in time. One that starts is not waited for."""
        if self._started:
            return super().is_alive(timeout)
        if self._asked and self.parent_conn.poll():
            self._started = self.parent_conn.recv()
            self._asked = False
        elif not self._asked:
            self.parent_conn.send(b"ping")
            self._asked = True
        return self.process.is_alive()

    def join(self) -> None:
        """Waits for the end of the process, whose gauges count no longer then."""
        super().join()
        _forget_gauges(self.pid)


class Supervisor(multiprocess.Multiprocess):
    """Keeps the workers alive. uvicorn makes its Process in four methods of this class and takes no other one."""

    config: Config

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        multiprocess.Process = Worker  # type: ignore[misc, assignment]  # there is no other way to name it
        super().__init__(config, sockets)

    def handle_hup(self) -> None:
        """Lets the workers, and those that may take their place, go on with a renewed certificate."""
        self.config.renew_certificate()
        for worker in self.processes:
            if worker.pid is not None and worker.exitcode is None:
                os.kill(worker.pid, signal.SIGHUP)


class Loop(UvLoop):
    """uvloop with shorter deadlines for a TLS handshake and for a close_notify that does not come."""

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """uvloop's server, with our deadlines."""
        if options.get("ssl"):
            options["ssl_handshake_timeout"] = TLS_HANDSHAKE_SECONDS
            options["ssl_shutdown_timeout"] = TLS_CLOSE_SECONDS  # an idle client never sends close_notify
        return await super().create_server(*args, **options)


def _listening(config: uvicorn.Config, _: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    assert isinstance(config, Config)  # noqa: S101 - for the type checker
    assert config.certificate is not None  # noqa: S101
    return config.certificate.listening()


def _forget_gauges(pid: int | None) -> None:
    """Counts the gauges of a process no longer."""
    from prometheus_client.multiprocess import mark_process_dead  # not before it is known whether processes share it

    mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the package leaves it untyped


def _raise_file_limit() -> None:
    """As many open sockets as we are allowed: the usual soft limit of 1024 lets slow clients fill it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
