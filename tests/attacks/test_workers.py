"""Workers on a busy machine, killed workers, a killed supervisor: it is served again, and on the same port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.http import server
from tests.forms import size
from tests.serving import Served, events_of, serve
from tests.waiting import PATIENCE, block_until

WORKERS = 2
BUSY = size("BUSY", short=2, long=8)
STARTED = "Application startup complete."


def children(pid: int) -> set[int]:
    """The workers of a supervisor: its children but for multiprocessing's own helper."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def state(pid: int) -> str:
    """R: it runs, T: it is stopped, Z or nothing: it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lives(pid: int) -> bool:
    """Whether a process has not ended."""
    return state(pid) not in {"", "Z", "X"}


@contextmanager
def busy(number: int) -> Iterator[None]:
    """So many processes that compute without a pause while the block runs."""
    with ExitStack() as stack:
        for _ in range(number):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-Sc", "while True: pass"]))
            stack.callback(process.kill)
        yield


def started(served: Served) -> int:
    """How many workers have come up so far."""
    return sum(event["event"] == STARTED for event in events_of(served.log))


async def is_ready(served: Served) -> bool:
    """Whether it says so."""
    async with served.client() as http:
        return (await http.get("/readyz")).status_code == 200


@pytest.mark.scaled
@pytest.mark.anyio
async def test_workers_come_up_beside_busy_processes_come_back_after_a_kill_and_end_with_their_supervisor(
    settings: Settings, tmp_path: Path
) -> None:
    with busy(BUSY), serve(settings, tmp_path, WORKERS=str(WORKERS)) as served:
        first = children(served.pid)
        assert len(first) == WORKERS
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        block_until(lambda: started(served) == 2 * WORKERS)
        second = children(served.pid)
        assert len(second) == WORKERS
        assert not second & first
        assert await is_ready(served)
        os.kill(served.pid, signal.SIGKILL)
        block_until(lambda: not any(map(lives, second)))
        again = tmp_path / "again"
        again.mkdir()
        with serve(settings, again, PORT=str(served.port)) as restarted:
            assert await is_ready(restarted)


class Gate:
    """What travels to a worker and keeps it from its first word until a file is there: a machine that is very slow."""

    def __init__(self, opened: Path) -> None:
        self.opened = opened

    def __reduce__(self) -> tuple[Any, ...]:
        return pass_through, (self.opened,)


def pass_through(opened: Path) -> None:
    """Returns when the gate is open."""
    block_until(opened.exists)


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """An application that starts and does nothing."""
    assert scope["type"] == "lifespan"
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


def factory() -> Any:
    """What a worker makes its application of."""
    return silent


def busy_factory() -> Any:
    """The same in a worker whose loop computes without a pause before it has started."""
    while True:
        time.monotonic()


@contextmanager
def worker(app: str, opened: Path | None = None) -> Iterator[server.Worker]:
    """A worker of this process."""
    settings = Settings(_env_file=None, environment="development", port=0)
    config = server.Config(settings, f"tests.attacks.test_workers:{app}")
    config.gate = Gate(opened) if opened else None  # type: ignore[attr-defined]  # only its way there matters
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = server.Worker(config, [listener])
        running.start()
        try:
            yield running
        finally:
            running.kill()
            running.process.join()


def test_a_worker_that_starts_has_all_the_time_it_takes_and_one_that_falls_silent_later_has_not(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    with worker("factory", opened) as slow:
        assert slow.pid is not None
        assert all(slow.is_alive(0) for _ in range(100))
        opened.touch()
        block_until(lambda: slow.is_alive(0) and slow._started)
        assert slow.is_alive(PATIENCE)
        os.kill(slow.pid, signal.SIGSTOP)
        block_until(lambda: state(slow.pid or 0) == "T")
        assert not slow.is_alive(0.1)
        os.kill(slow.pid, signal.SIGCONT)


def test_a_worker_that_dies_before_its_first_word_is_missed(tmp_path: Path) -> None:
    with worker("factory", tmp_path / "never") as slow:
        assert slow.is_alive()
        assert slow.pid is not None
        os.kill(slow.pid, signal.SIGKILL)
        block_until(lambda: not slow.is_alive(0))


SUPERVISOR = """if __name__ == '__main__':
    from tests.attacks.test_workers import worker
    with worker("busy_factory") as busy:
        while not busy.parent_conn.poll():
            busy.is_alive()
        print(busy.pid, flush=True)
        __import__("signal").pause()
"""


def test_a_worker_that_computes_without_a_pause_ends_with_its_supervisor() -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, cwd=root) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert lives(pid)
        supervisor.kill()
    block_until(lambda: not lives(pid))
