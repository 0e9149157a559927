"""Programs of ours in processes of their own, forked from one that has imported the application.

To import it costs two seconds of a processor, which is most of what such a test costs. What is forked has its own
environment, directory and output, and ends as a program does. How a program really begins is what test_starts.py,
test_cli.py and the guides are about; what is measured for coverage begins so, too.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from select import select
from typing import IO, TypeAlias

ROOT = Path(__file__).parent.parent
MEASURED = "COVERAGE_PROCESS_CONFIG"  # coverage's own
LONGEST = 1 << 17


class Forked:
    """A running program, as subprocess.Popen has it."""

    def __init__(self, report: socket.socket) -> None:
        self._report = report.makefile()
        self.pid = int(self._report.readline())
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self._code is None and select([self._report], [], [], 0)[0]:
            self.wait()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended; raises TimeoutExpired."""
        if self._code is None:
            if not select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self._code = int(self._report.readline())
            self._report.close()
        return self._code

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


Process: TypeAlias = Forked | subprocess.Popen[bytes]


def start(program: str, *arguments: str, output: int, environment: dict[str, str]) -> Process:
    """Runs the text of a program in the root of the project; what it prints goes to this file descriptor."""
    if MEASURED in environment:
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.Popen(command, stdout=output, env=environment, cwd=ROOT)
    order = json.dumps({"program": program, "arguments": arguments, "environment": environment})
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(_origin(), [order.encode()], [theirs.fileno(), output])
    with ours:
        return Forked(ours)


@contextmanager
def piped(program: str, *arguments: str, environment: dict[str, str]) -> Iterator[tuple[Process, IO[bytes]]]:
    """A program while the block runs, and a pipe with what it prints."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as output:
        with os.fdopen(writing, "wb"):
            process = start(program, *arguments, output=writing, environment=environment)
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


@cache
def _origin() -> socket.socket:
    """Whoever forks: it ends with this process, and what it forked does not."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = f"from tests.forks import take_orders; exec(take_orders({theirs.fileno()}), {{'__name__': '__main__'}})"
    environment = {name: value for name, value in os.environ.items() if name != MEASURED}
    with theirs:
        process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], env=environment, cwd=ROOT)
    atexit.register(_end, ours, process)
    return ours


def _end(orders: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    orders.close()
    process.wait()


def take_orders(number: int) -> str:
    """Forks for each order that comes. Only what was forked returns from here, with the program that it is to be."""
    import app.cli
    import app.main  # noqa: F401 - what it is all about; workers that share metrics cannot begin so (ADR 34)

    orders = socket.socket(fileno=number)
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, LONGEST, 2)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not order:
            sys.exit()
        if os.fork() == 0:
            orders.close()
            return _become(order, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(order: bytes, report: int, output: int) -> str:
    """Has its end reported by a process that waits for it, and takes the place of the program."""
    pid = os.fork()
    if pid:
        os.close(output)
        os.write(report, f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(BrokenPipeError):  # nobody may want to know any more
            os.write(report, f"{code}\n".encode())
        os._exit(0)
    os.close(report)
    os.dup2(output, sys.stdout.fileno())
    os.close(output)
    wanted = json.loads(order)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv[1:] = wanted["arguments"]
    return str(wanted["program"])
