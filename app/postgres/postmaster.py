"""The server process of an embedded PostgreSQL: launched, found by its pid file, waited for, ended."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.postgres import homes, programs
from app.postgres.homes import PORT, Home
from app.postgres.programs import CannotStart

STOP_SECONDS = 30
TICK = 0.02

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "fsync": "on",
    "synchronous_commit": "on",
    "log_error_verbosity": "terse",  # else the log shows the values of a row that a CHECK refused
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    pid: int
    socket_directory: Path
    ready: bool


def running(pid_file: Path) -> Running | None:
    """The server that answers by its pid file, or None: a killed one leaves the file behind."""
    try:
        lines = [line.strip() for line in pid_file.read_text().splitlines()]
        pid, socket_directory, status = int(lines[0]), Path(lines[4]), "".join(lines[7:8])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_directory / f".s.PGSQL.{PORT}"))
    except (OSError, IndexError):
        return None
    return Running(pid, socket_directory, status == "ready")


class Postmaster:
    """The server of a home that we own, as our child. It ends with us, also where we are killed."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, deadline: float) -> Running:
        """Brings the server up, anew where it died; one whose owner was killed is ended first. Raises CannotStart."""
        try:
            _end_orphan(self.home)
            return self._bring_up(deadline)
        except BaseException:  # interrupted too: no server is left behind
            self.stop()
            raise

    def _bring_up(self, deadline: float) -> Running:
        tried = False
        while True:
            found = running(self.home.pid_file)
            if found is None and self.dead:
                if tried and not self.home.pid_file.exists():  # else a killed one's backends are about to end
                    raise CannotStart(self.home.last_words())
                self._launch()
                tried = True
            if found is not None and found.ready and not self.dead:
                return found
            tick(deadline, self.home.last_words)

    @property
    def dead(self) -> bool:
        """Whether there is no process, or no more."""
        return self._process is None or self._process.poll() is not None

    def stop(self) -> None:
        """Ends the server in an orderly way, or at once where that takes too long (it then recovers)."""
        if self._process is not None:
            _end(self._process.pid, lambda: self.dead)
        self._dismiss_guard()

    def _launch(self) -> None:
        self._dismiss_guard()
        _forget_the_dead(self.home)
        self._process = _launch(self.home)
        self._guard = _guard(self._process.pid, self.home)

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None


def _end_orphan(home: Home) -> None:
    found = running(home.pid_file)
    if found is not None:
        _end(found.pid, lambda: not home.pid_file.exists())


def _launch(home: Home) -> "subprocess.Popen[bytes]":
    """A new postgres in a session of its own: the Ctrl-C of a terminal does not reach it."""
    socket_directory = str(homes.socket_directory(home)).replace('"', '""')
    settings = _SETTINGS | {"unix_socket_directories": f'"{socket_directory}"'}
    options = [f"--{name}={value}" for name, value in settings.items()]
    home.log.touch(mode=0o600)
    with home.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the program and its arguments are ours
            [home.binaries / "postgres", "-D", home.cluster, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **programs.identity(home.account),
        )


def _guard(pid: int, home: Home) -> "subprocess.Popen[bytes]":
    """A shell that ends the server once our end of its pipe is closed: the kernel does that where we are killed."""
    return subprocess.Popen(  # noqa: S603 - the program and its arguments are ours
        ["/bin/sh", "-c", 'read -r _; kill -INT "$0"', str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **programs.identity(home.account),
    )


def _forget_the_dead(home: Home) -> None:
    """Removes the pid file of a killed server: PostgreSQL takes a zombie or a reused pid for a live one.

    Its orphaned backends work in the data directory too; while one of them lives the file stays.
    """
    links = list(Path("/proc").glob("[0-9]*/cwd"))
    if links and not any(_leads_to(link, home.cluster) for link in links):
        home.pid_file.unlink(missing_ok=True)


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target
    except OSError:  # gone, a zombie, or somebody else's
        return False


def _end(pid: int, gone: Callable[[], bool]) -> None:
    for request in (signal.SIGINT, signal.SIGQUIT):  # PostgreSQL's fast and immediate shutdown
        deadline = time.monotonic() + STOP_SECONDS
        if not gone():
            with suppress(ProcessLookupError):
                os.kill(pid, request)
        while not gone() and time.monotonic() < deadline:
            time.sleep(TICK)


def tick(deadline: float, message: Callable[[], str]) -> None:
    """Waits a moment; raises CannotStart with the message once the deadline is over."""
    if time.monotonic() > deadline:
        raise CannotStart(message())
    time.sleep(TICK)
