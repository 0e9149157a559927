"""`pain-diary serve` in a process of its own, as it is run."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from app.config import Settings
from tests import forks
from tests.waiting import PATIENCE, block_until

ROOT = Path(__file__).parent.parent
STARTED = "Application startup complete."
SOUND = "from app.cli import main; main()"
OURS = (sys.executable, "-c", SOUND)


class Served(NamedTuple):
    """Where a server listens, where it logs, and its process."""

    port: int
    log: Path
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.AsyncClient:
        """A client as patient as a test."""
        return httpx.AsyncClient(base_url=self.url, timeout=PATIENCE)

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@contextmanager
def serve(
    settings: Settings, directory: Path, root: Path = ROOT, program: tuple[str, ...] = OURS, **more: str
) -> Iterator[Served]:
    """A server on the database of these settings, which logs in the directory; `more` are settings as well.

    `root`: the tree whose code serves, unless `program` is one that was installed.
    """
    environment = environment_of(settings, **more)
    log = directory / "server.log"
    with log.open("wb") as stdout:
        process = (
            forks.start(SOUND, "serve", output=stdout.fileno(), environment=environment)
            if (root, program, environment["DIARY_WORKERS"]) == (ROOT, OURS, "1")
            else subprocess.Popen([*program, "serve"], stdout=stdout, env=environment, cwd=root)
        )
    try:
        block_until(
            lambda: process.poll() is not None or log.read_text().count(STARTED) == int(environment["DIARY_WORKERS"])
        )
        assert process.poll() is None, "it ended instead of serving"
        [port] = [line["port"] for line in events_of(log) if line["event"] == "listening"]
        block_until(lambda: accepts(port))  # the socket is bound before, and listens after the start is told
        yield Served(port, log, process.pid)
    finally:
        process.terminate()
        process.wait()


def accepts(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def environment_of(settings: Settings, **more: str) -> dict[str, str]:
    """The environment of a server on the database of these settings; `more` are settings as well."""
    assert settings.database_url is not None
    chosen = {
        "ENVIRONMENT": "development",
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "STATE_DIRECTORY": str(settings.state_directory),
        "ACCESS_TOKEN_SECONDS": "3600",
        "AUDIT_SEAL_SECONDS": "3600",
        "REQUESTS_PER_SESSION": "1000000",
        "REQUESTS_PER_ACCOUNT": "1000000",
        "REQUESTS_PER_ADDRESS": "1000000",
        "CHANGES_PER_DAY": "0",
        "WORKERS": "1",
        "PORT": "0",
        **more,
    }
    return os.environ | {f"DIARY_{name}": value for name, value in chosen.items()}


def events_of(log: Path) -> list[dict[str, Any]]:
    """The lines of a server's log."""
    return [json.loads(line) for line in log.read_text().splitlines()]
