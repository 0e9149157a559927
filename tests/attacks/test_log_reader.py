"""A reader of the log that stalls, or leaves: nobody waits for it, and what it missed is counted."""

import json
import logging
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from app import logs
from app.config import Settings
from tests import forks
from tests.forks import Process
from tests.http.test_server import OK, answers, ask
from tests.serving import SOUND, environment_of
from tests.waiting import PATIENCE, block_until

PIPE_BYTES = 64 * 1024


@contextmanager
def piped(settings: Settings) -> Iterator[tuple[Process, IO[bytes]]]:
    """A server that logs into a pipe, and the pipe."""
    with forks.piped(SOUND, "serve", environment=environment_of(settings)) as (process, log):
        yield process, log


def port_of(log: IO[bytes]) -> int:
    """Where it listens, once it is started."""
    port = 0
    for line in log:
        event: dict[str, Any] = json.loads(line)
        port = int(event.get("port", port))
        if event["event"] == "Application startup complete.":
            break
    block_until(lambda: answers(port))
    return port


def test_a_reader_that_stalls_stops_nobody(settings: Settings) -> None:
    with piped(settings) as (process, log):
        port = port_of(log)
        lines = 3 * PIPE_BYTES // 150  # a line has more than that
        assert all(ask(port, b"/livez").startswith(OK) for _ in range(lines))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        last = log.read().splitlines()
        assert all(json.loads(line) for line in last[:-1])


def test_a_reader_that_left_stops_nobody(settings: Settings) -> None:
    with piped(settings) as (process, log):
        port = port_of(log)
        log.close()
        assert all(ask(port, b"/livez").startswith(OK) for _ in range(20))
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


@pytest.fixture
def pipe() -> Iterator[tuple[int, logs.Pipe]]:
    """The end of a pipe that nobody reads yet, and a handler that writes to the other."""
    reading, writing = os.pipe()
    handler = logs.Pipe(writing)
    handler.setFormatter(logs.JsonLines())
    logs.logger.addHandler(handler)
    level = logs.logger.level
    logs.logger.setLevel(logging.INFO)
    yield reading, handler
    logs.logger.setLevel(level)
    logs.logger.removeHandler(handler)
    handler.close()
    os.close(reading)


def read(descriptor: int) -> bytes:
    """What was written to the other end, once there is something."""
    assert select.select([descriptor], [], [], PATIENCE)[0], "nothing was written"
    return os.read(descriptor, PIPE_BYTES)


def test_what_does_not_fit_is_dropped_and_told(pipe: tuple[int, logs.Pipe], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, handler = pipe
    dropped: list[int] = []
    monkeypatch.setattr(logs, "on_dropped", dropped.append)
    sent = 30_000  # more than the buffer holds, twice
    for number in range(sent):
        logs.info("request", number=number, more="x" * 60)
    assert handler._size <= logs._MOST_BUFFERED
    numbers: list[int] = []
    told: list[dict[str, Any]] = []
    rest = b""
    while len(numbers) + sum(line["count"] for line in told) < sent:
        *whole, rest = (rest + read(reading)).split(b"\n")
        for line in map(json.loads, whole):
            if line["event"] == "request":
                numbers.append(line["number"])
            else:
                told.append(line)
    assert numbers == sorted(set(numbers))
    assert len(numbers) + sum(line["count"] for line in told) == sent
    assert dropped == [line["count"] for line in told]
    assert {(line["level"], line["event"]) for line in told} == {("warning", "log lines dropped")}


def test_closing_writes_what_waits_where_somebody_reads(pipe: tuple[int, logs.Pipe]) -> None:
    reading, handler = pipe
    for number in range(10):
        logs.info("request", number=number)
    handler.close()
    lines = read(reading).splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(10))
