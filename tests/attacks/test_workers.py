"""Workers on a busy machine, killed workers, a killed supervisor: it is served again, and on the same port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.http import server
from bench.processes import cpu_seconds
from tests.forms import size
from tests.http.test_server import answers, port_of, start_process
from tests.serving import ROOT, Served, events_of, serve
from tests.waiting import PATIENCE, block_until

WORKERS = 2
BUSY = size("BUSY", short=0, long=8)
STARTED = "Application startup complete."


def children(pid: int) -> set[int]:
    """The workers of a supervisor, which has no other children."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def state(pid: int) -> str:
    """R: it runs, T: it is stopped, Z or nothing: it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lives(pid: int) -> bool:
    """Whether a process has not ended."""
    return state(pid) not in {"", "Z", "X"}


def alone(pid: int) -> bool:
    """Whether a process has no thread but its first: whatever another holds would be held for ever in a fork."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())) == 1


def gauges(pid: int) -> set[str]:
    """How the names end of the files in which a process keeps its gauges."""
    mapped = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[-1] for line in mapped if "/gauge_live" in line}


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
        assert alone(served.pid)
        assert gauges(served.pid) == {"(deleted)"}, "what a process shows that serves nobody counts"
        cost = sum(map(cpu_seconds, first))
        assert cost < (cpu_seconds(served.pid) - cost) / 2, "workers import and make again what they were forked with"
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        block_until(lambda: started(served) == 2 * WORKERS)
        second = children(served.pid)
        assert len(second) == WORKERS
        assert not second & first
        asked = 8
        assert all([await is_ready(served) for _ in range(asked)])
        async with served.client() as http:
            metrics = (await http.get("/metrics")).text
        assert f'diary_http_requests_total{{method="GET",route="/readyz",status="200"}} {asked}.0' in metrics
        os.kill(served.pid, signal.SIGKILL)
        block_until(lambda: not any(map(lives, second)))
        again = tmp_path / "again"
        again.mkdir()
        with serve(settings, again, PORT=str(served.port)) as restarted:
            assert await is_ready(restarted)


class SlowConfig(server.Config):
    """Keeps a worker from its first word until a file is there: a machine that is very slow."""

    opened: Path | None = None

    def configure_logging(self) -> None:
        """The first that a worker does."""
        if self.opened:
            block_until(self.opened.exists)


def test_a_signal_to_the_whole_group_ends_supervisor_and_workers_without_a_word_beside_the_log() -> None:
    code = "server.run(settings(workers=2), 'tests.http.test_server:TinyApp')"
    with start_process(code, start_new_session=True, stderr=subprocess.PIPE) as process:
        number = port_of(process)
        block_until(lambda: answers(number))
        workers = children(process.pid)
        os.killpg(process.pid, signal.SIGTERM)
        _, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert complaint == ""
    assert len(workers) == 2
    assert not any(map(lives, workers))


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
    config = SlowConfig(settings, f"tests.attacks.test_workers:{app}")
    config.opened = opened
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = server.Worker(config, [listener])
        running.start()
        try:
            yield running
        finally:
            running.kill()
            running.process.join()


def in_a_process(work: Callable[[Path], None], directory: Path) -> None:
    """Does it in a process that has no threads, as a supervisor has none when it forks."""
    code = f"from pathlib import Path; from {__name__} import {work.__name__} as work; work(Path({str(directory)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def starts_slowly_and_falls_silent(directory: Path) -> None:
    opened = directory / "opened"
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


def test_a_worker_that_starts_has_all_the_time_it_takes_and_one_that_falls_silent_later_has_not(tmp_path: Path) -> None:
    in_a_process(starts_slowly_and_falls_silent, tmp_path)


def dies_early(directory: Path) -> None:
    with worker("factory", directory / "never") as slow:
        assert slow.is_alive()
        assert slow.pid is not None
        os.kill(slow.pid, signal.SIGKILL)
        block_until(lambda: not slow.is_alive(0))


def test_a_worker_that_dies_before_its_first_word_is_missed(tmp_path: Path) -> None:
    in_a_process(dies_early, tmp_path)


def is_told_to_end_early(directory: Path) -> None:
    with worker("factory", directory / "never") as slow:
        slow.terminate()
        slow.process.join()
        assert slow.exitcode == -signal.SIGTERM


def test_a_worker_that_is_told_to_end_before_its_first_word_ends(tmp_path: Path) -> None:
    in_a_process(is_told_to_end_early, tmp_path)


SUPERVISOR = """
from tests.attacks.test_workers import worker
with worker("busy_factory") as busy:
    while not busy.parent_conn.poll():
        busy.is_alive()
    print(busy.pid, flush=True)
    __import__("signal").pause()
"""


def test_a_worker_that_computes_without_a_pause_ends_with_its_supervisor() -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, cwd=ROOT) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert lives(pid)
        supervisor.kill()
    block_until(lambda: not lives(pid))
