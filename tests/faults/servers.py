"""Real servers that may be killed: PostgreSQL with databases for the taking, and `pain-diary serve` on one of them."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from app.postgres import embedded, migrate
from tests import forks
from tests.conftest import url_of
from tests.forks import Process
from tests.serving import SOUND, STARTED, events_of
from tests.waiting import block_until

STOPPED = 5  # seconds
SETTINGS = {
    "ENVIRONMENT": "development",
    "ACCESS_TOKEN_SECONDS": "3600",
    "REQUESTS_PER_SESSION": "1000000",
    "REQUESTS_PER_ACCOUNT": "1000000",
    "REQUESTS_PER_ADDRESS": "1000000",
    "CHANGES_PER_DAY": "0",
    "SHUTDOWN_SECONDS": "3",
}


class Postgres:
    """A PostgreSQL of our own in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        binaries = os.environ.get("DIARY_POSTGRES_BINARIES")
        self._directory = directory
        self._binaries = Path(binaries) if binaries else None
        self.start()
        self._template = f"template_{uuid4().hex}"
        self.sql("postgres", f"CREATE DATABASE {self._template}")
        migrate.migrate(self.url(self._template))

    def start(self) -> None:
        """Starts it, or starts it again after a kill; returns when it has recovered."""
        self.server = embedded.start(self._directory, self._binaries)

    def stop(self) -> None:
        """Ends it in an orderly way, or tidies up after a kill."""
        self.server.stop()

    def kill(self, number: signal.Signals) -> None:
        """SIGKILL: as if the power failed, for PostgreSQL; SIGQUIT: its own immediate stop."""
        pid = int((self.server.data_directory / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, number)
        self.stop()

    def url(self, name: str, user: str = "postgres") -> str:
        """The URL of one database."""
        return url_of(self.server.url(), user, name)

    def make_database(self) -> str:
        """The name of a new migrated database."""
        name = f"diary_{uuid4().hex[:12]}"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    def sql(self, name: str, *statements: str) -> None:
        """Runs statements one by one, as the superuser."""
        commands = [word for statement in statements for word in ("-c", statement)]
        options = ["-Xq", "-v", "ON_ERROR_STOP=1", "-d", self.url(name)]
        subprocess.run([self.server.binaries / "psql", *options, *commands], check=True, stdout=subprocess.DEVNULL)

    def copy_to(self, backup: Path) -> None:
        """A backup of the data directory; starts PostgreSQL again."""
        self.stop()
        subprocess.run(["cp", "-a", self.server.data_directory, backup], check=True)
        self.start()

    def restore(self, backup: Path) -> None:
        """Puts the backup in the place of the data; starts PostgreSQL again."""
        self.stop()
        shutil.rmtree(self.server.data_directory)
        subprocess.run(["cp", "-a", backup, self.server.data_directory], check=True)
        self.start()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for one run of experiments, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="diary-faults-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        running = Postgres(directory / "postgres-home")
        try:
            yield running
        finally:
            running.stop()


@dataclass
class Diary:
    """A server process on one database; started again it has the same port and keys, so that phones stay signed in."""

    postgres: Postgres
    name: str
    directory: Path
    program: str = SOUND
    settings: dict[str, str] = field(default_factory=dict)
    socket_directory: str = ""  # of something in PostgreSQL's place
    port: int = 0
    starts: int = 0
    process: Process | None = None

    @property
    def owner_url(self) -> str:
        """The superuser's URL of its database."""
        return self.postgres.url(self.name)

    @property
    def alive(self) -> bool:
        """Whether the process that was started last runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> float:
        """Starts it and returns after how many seconds it was ready."""
        self.starts += 1
        log = self.directory / f"server-{self.starts}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            self.process = forks.start(self.program, "serve", output=output.fileno(), environment=self._environment())
        block_until(lambda: STARTED in log.read_text() or not self.alive)
        assert self.alive, "it ended instead of serving"
        seconds = time.monotonic() - began
        [self.port] = [event["port"] for event in events_of(log) if event["event"] == "listening"]
        return seconds

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ends it in an orderly way, or at once where it does not."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(STOPPED)
        except subprocess.TimeoutExpired:
            self.kill()

    def command(self, name: str) -> None:
        """Runs another command of pain-diary as its operator."""
        environment = self._environment() | {"DIARY_MIGRATION_DATABASE_URL": self.owner_url}
        with Path(os.devnull).open("wb") as output:
            assert forks.start(SOUND, name, output=output.fileno(), environment=environment).wait() == 0

    def _environment(self) -> dict[str, str]:
        url = self.postgres.url(self.name, "diary_app")
        if self.socket_directory:
            url = url.replace(str(self.postgres.server.socket_directory), self.socket_directory)
        own = SETTINGS | self.settings | {
            "DATABASE_URL": url,
            "STATE_DIRECTORY": str(self.directory),
            "PORT": str(self.port),
        }  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIARY_")}
        return inherited | {f"DIARY_{name}": value for name, value in own.items()}


@contextmanager
def beside(first: Diary) -> Iterator[Diary]:
    """Another server on the same database, with the same keys."""
    second = replace(first, directory=first.directory / "beside", port=0, starts=0, process=None)
    shutil.copytree(first.directory, second.directory, ignore=lambda *_: ["beside"])
    try:
        second.start()
        yield second
    finally:
        if second.process is not None:
            second.stop()


@contextmanager
def diary(postgres: Postgres, program: str = SOUND, socket_directory: str = "", **settings: str) -> Iterator[Diary]:
    """A running server on a new database."""
    with tempfile.TemporaryDirectory(prefix="diary-server-") as directory:
        running = Diary(postgres, postgres.make_database(), Path(directory), program, settings, socket_directory)
        try:
            running.start()
            yield running
        finally:
            if running.process is not None:
                running.stop()
