"""The embedded PostgreSQL dies: it is started again, but not for ever. That nothing is lost: test_transactions.py."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from app.postgres import embedded, restarts
from tests.waiting import block_until

OWNER = """if True:
    import pathlib, signal, sys, threading
    from app.postgres import embedded, restarts
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    restarts.PAUSES = (0, 0.01)
    server = embedded.start(pathlib.Path(sys.argv[1]))
    try:
        with restarts.kept_alive(server):
            print("ready", flush=True)
            over.wait()
    except embedded.CannotStart as reason:
        print(reason)
    finally:
        server.stop()
"""
ROOT = Path(__file__).parents[2]


def test_it_is_started_again_a_few_times_and_then_the_service_ends_and_says_so() -> None:
    with tempfile.TemporaryDirectory(prefix="emb-") as name:
        Path(name).chmod(0o755)
        pid_file = Path(name) / "data" / "cluster" / "postmaster.pid"
        command = [sys.executable, "-c", OWNER, str(Path(name) / "data")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as owner:
            assert owner.stdout is not None
            assert owner.stderr is not None
            assert owner.stdout.readline() == "ready\n"
            for pause in ("at once", "in 0.01 seconds"):
                os.kill(pid(pid_file), signal.SIGKILL)
                assert owner.stderr.readline() == f"PostgreSQL died; it is started again {pause}\n"
                assert owner.stderr.readline() == "PostgreSQL runs again\n"
            os.kill(pid(pid_file), signal.SIGKILL)
            said, logged = owner.communicate()
            assert owner.returncode == 0
        assert said.startswith("PostgreSQL died more than 2 times within 10 minutes: the end of ")
        assert logged == "PostgreSQL died too often: the service ends\n"


def pid(pid_file: Path) -> int:
    """The running server's."""
    return int(pid_file.read_text().split()[0])


def test_a_start_that_fails_counts_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Broken(embedded.Server):
        dead = True

        def restart(self) -> None:
            raise embedded.CannotStart

    monkeypatch.setattr(restarts, "PAUSES", (0, 0.01, 0.02))
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, number: ended.append(number))
    with (
        pytest.raises(embedded.CannotStart, match="more than 3 times"),
        restarts.kept_alive(Broken(tmp_path, True, tmp_path, tmp_path)),
    ):
        block_until(lambda: ended)
    assert ended == [signal.SIGTERM]


def test_the_pauses_grow_and_old_deaths_are_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert list(restarts.PAUSES) == sorted(set(restarts.PAUSES))
    monkeypatch.setattr(restarts, "PAUSES", (0,))
    monkeypatch.setattr(restarts, "COUNTED_SECONDS", 0)
    starts: list[bool] = []

    class Frail(embedded.Server):
        dead = True

        def restart(self) -> None:
            starts.append(True)

    with restarts.kept_alive(Frail(tmp_path, True, tmp_path, tmp_path)):
        block_until(lambda: len(starts) == 3)
