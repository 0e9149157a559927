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


def bring_up(home: Home, deadline: float) -> "tuple[subprocess.Popen[bytes] | None, Running]":
    """The running server, and its process if it is our child and not one that outlived its owner."""
    process: subprocess.Popen[bytes] | None = None
    try:
        while True:
            found = running(home.pid_file)
            if found is not None and found.ready:
                return process, found
            if found is None and (process is None or process.poll() is not None):
                _check_outcome(home, process)
                _forget_the_dead(home)
                process = _launch(home)
            tick(deadline, home.last_words)
    except BaseException:  # interrupted too: no server is left behind
        if process is not None:
            shut_down(home.pid_file, process)
        raise


def _check_outcome(home: Home, process: "subprocess.Popen[bytes] | None") -> None:
    """Another start helps only while a pid file is there: the killed server's backends are about to end."""
    if process is not None and not home.pid_file.exists():
        raise CannotStart(home.last_words())


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


def shut_down(pid_file: Path, process: "subprocess.Popen[bytes] | None") -> None:
    """Ends the server in an orderly way, or at once where that takes too long (it then recovers)."""
    if process is not None:
        _end(process.pid, lambda: process.poll() is not None)
        return
    found = running(pid_file)
    if found is not None:
        _end(found.pid, lambda: not pid_file.exists())


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
