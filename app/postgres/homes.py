"""Where an embedded PostgreSQL lives, made as private as PostgreSQL wants it.

    directory/          made by us, or somebody's and then left as it is
    ├── owner.lock      locked by the process that will stop the server
    ├── postgres.log
    ├── cluster/        the data, 0700, owned by the account that PostgreSQL runs as
    └── socket/         the same; in the system's temporary directory where this path is too long

Where that account cannot enter `directory`, all of this lives in the system's state directory: nobody's
permissions are changed.
"""

import fcntl
import os
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.postgres import programs
from app.postgres.programs import CannotStart, UnixAccount

PORT = 5432  # without TCP only a part of the socket's name

_LONGEST_SOCKET_NAME = 107  # bytes, what `sockaddr_un` holds


@dataclass(frozen=True)
class Home:
    """The directory of one server, its programs, and the account that runs them."""

    directory: Path
    binaries: Path
    account: UnixAccount | None

    @property
    def cluster(self) -> Path:
        """The data."""
        return self.directory / "cluster"

    @property
    def log(self) -> Path:
        """What the server writes."""
        return self.directory / "postgres.log"

    @property
    def pid_file(self) -> Path:
        """The server's own: pid, socket and state; a killed one leaves it behind."""
        return self.cluster / "postmaster.pid"

    def last_words(self) -> str:
        """The end of the log, for who has to mend it."""
        lines = self.log.read_text(errors="replace").splitlines()[-5:]
        return "\n".join([f"PostgreSQL does not start; the end of {self.log}:", *lines])


def find(directory: Path, binaries: Path | None) -> Home:
    """The home of the server for `directory`: that, or its stand-in where PostgreSQL's account cannot pass."""
    directory = directory.resolve()
    account = programs.unprivileged(directory) if os.geteuid() == 0 else None
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if account is not None and not _can_enter(existing, account):
        directory = programs.stand_in(directory)
    programs.make_passable(directory)
    return Home(directory, programs.find(binaries, account), account)


def candidates(directory: Path) -> list[Path]:
    """The directories that served as the home for `directory`."""
    directory = directory.resolve()
    return [home for home in (directory, programs.stand_in(directory)) if _exists(home / "owner.lock")]


def holds_data(directory: Path) -> bool:
    """Whether there is a database for `directory` already."""
    return any(_exists(home / "cluster") for home in candidates(directory))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # in a directory of root's, say
        return False


def try_lock(directory: Path) -> IO[bytes] | None:
    """The open file as long as this process owns the home, or None where another one does."""
    lock = (directory / "owner.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def prepare(home: Home) -> None:
    """Makes the data where there are none; raises CannotStart where our PostgreSQL cannot read them."""
    _make_cluster(home)
    _check_version(home)


def _make_cluster(home: Home) -> None:
    """Makes the data directory under another name first: a half-made one is never used."""
    if home.cluster.exists():
        return
    partial = home.directory / "cluster.partial"
    if partial.exists():
        shutil.rmtree(partial)
    _make_private(partial, home.account)
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", f"--locale={locale}", "--data-checksums"]
    programs.run(home.account, home.binaries / "initdb", "-D", partial, *options)
    partial.rename(home.cluster)


def _check_version(home: Home) -> None:
    made_by = (home.cluster / "PG_VERSION").read_text().strip()
    ours = programs.run(home.account, home.binaries / "postgres", "--version").split()[2]
    if ours.partition(".")[0] != made_by:
        raise CannotStart(
            f"{home.cluster} was made by PostgreSQL {made_by}, but {home.binaries} holds {ours}. Either "
            f"set DIARY_POSTGRES_BINARIES to the bin directory of PostgreSQL {made_by}, or move the directory "
            "away and start afresh."
        )


def erase(directory: Path) -> bool:
    """Whether there were data. They get another name first: what is half deleted is never used."""
    cluster, partial = directory / "cluster", directory / "cluster.partial"
    found = [path for path in (cluster, partial) if path.exists()]
    if partial in found:
        shutil.rmtree(partial)
    if cluster in found:
        cluster.rename(partial)
        shutil.rmtree(partial)
    (directory / "postgres.log").unlink(missing_ok=True)
    return bool(found)


def socket_directory(home: Home) -> Path:
    """A private directory whose path is short enough for a socket in it."""
    directory = home.directory / "socket"
    if len(os.fsencode(directory / f".s.PGSQL.{PORT}")) > _LONGEST_SOCKET_NAME:
        directory = Path(tempfile.gettempdir()) / f"pain-diary-{programs.digest(home.directory)}"
    _make_private(directory, home.account)
    return directory


def _make_private(directory: Path, account: UnixAccount | None) -> None:
    """Makes a directory that only `account` may enter; one that exists must be so, and is not changed."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        if account is not None:
            os.chown(directory, account.uid, account.gid)
    found = directory.lstat()
    owner = os.geteuid() if account is None else account.uid
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise CannotStart(f"{directory} is not a private directory of PostgreSQL's account. Move it away.")


def _can_enter(directory: Path, account: UnixAccount) -> bool:
    try:
        programs.run(account, Path("/bin/sh"), "-c", 'test -x "$0"', directory)
    except CannotStart:
        return False
    return True
