"""A PostgreSQL of our own where none is named: a real server, reached through a private socket only.

Where it lives: homes.py. Its process: postmaster.py; when that dies: restarts.py. Its programs, and the account
they run as: programs.py.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote

from app.postgres import homes, postmaster, programs
from app.postgres.homes import PORT, Home
from app.postgres.postmaster import Postmaster
from app.postgres.programs import CannotStart

__all__ = ["PORT", "CannotStart", "Server", "StillRunning", "ensure_database", "erase", "start"]

START_SECONDS = 60


class StillRunning(Exception):
    """A PostgreSQL runs on the data that are to be deleted; the text says what to do."""


@dataclass(frozen=True)
class Server:
    """A ready server. One process owns it; the others only use it."""

    socket_directory: Path
    owned: bool
    data_directory: Path
    binaries: Path
    _lock: IO[bytes] | None = field(default=None, repr=False, compare=False)
    _postmaster: Postmaster | None = field(default=None, repr=False, compare=False)
    _made_in: int = field(default_factory=os.getpid, repr=False, compare=False)

    def url(self, user: str = "postgres", database: str = "postgres") -> str:
        """A DSN for asyncpg and, with `+asyncpg`, for SQLAlchemy; names the port, or PGPORT would count."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.socket_directory))}&port={PORT}"

    def stop(self) -> None:
        """Shuts the server down without waiting for its clients, if this process owns it."""
        if self._lock is None or self._postmaster is None or self._lock.closed or self._made_in != os.getpid():
            return
        self._postmaster.stop()
        self._lock.close()

    @property
    def dead(self) -> bool:
        """Whether it has died, as far as its owner can tell."""
        return self._postmaster is not None and self._postmaster.dead

    def restart(self) -> None:
        """Starts it again where it died, with its data and at the same address; raises CannotStart."""
        if self._postmaster is not None:
            self._postmaster.start(time.monotonic() + START_SECONDS)


def start(directory: Path, binaries: Path | None = None) -> Server:
    """A ready server with its data in `directory`, made and started where needed; raises CannotStart.

    The first process owns it, and it ends with that; others attach.
    """
    home = homes.find(directory, binaries)
    deadline = time.monotonic() + START_SECONDS
    while True:
        lock = homes.try_lock(home.directory)
        if lock is not None:
            return _own(home, lock, deadline)
        running = postmaster.running(home.pid_file)
        if running is not None and running.ready:
            return Server(running.socket_directory, False, home.cluster, home.binaries)
        postmaster.tick(
            deadline, lambda: f"The process that holds {home.directory}/owner.lock has not brought PostgreSQL up."
        )


def _own(home: Home, lock: IO[bytes], deadline: float) -> Server:
    try:
        homes.prepare(home)
        own = Postmaster(home)
        running = own.start(deadline)
    except BaseException:  # interrupted too: the next start finds no lock
        lock.close()
        raise
    return Server(running.socket_directory, True, home.cluster, home.binaries, lock, own)


def erase(directory: Path) -> list[Path]:
    """Deletes the data of `directory`, wherever they live, and returns where that was; raises StillRunning.

    The lock file stays: whoever waits for it must find the one that everybody locks.
    """
    found = homes.candidates(directory)
    with ExitStack() as locks:
        for home in found:
            lock = homes.try_lock(home)
            if lock is not None:
                locks.enter_context(lock)
            if lock is None or postmaster.running(home / "cluster" / "postmaster.pid") is not None:
                raise StillRunning(
                    f"PostgreSQL is running on the data in {home}: end what started it with Ctrl-C first. "
                    "(If that was killed, start it once more and end it.)"
                )
        return [home for home in found if homes.erase(home)]


def ensure_database(server: Server, name: str) -> None:
    """Creates the database `name` unless it exists."""
    script = (
        "SELECT format('CREATE DATABASE %I', :'name')"
        " WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec"
    )
    options = ["-XqAt", "-v", "ON_ERROR_STOP=1", "-v", f"name={name}", "-d", server.url()]
    programs.run(None, server.binaries / "psql", *options, script=script)
