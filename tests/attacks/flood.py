"""Many connections that send one request over and over, in a process of their own, and what somebody waits meanwhile.

python -m tests.attacks.flood PORT CONNECTIONS < request
"""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter

from tests.serving import ROOT


@contextmanager
def flood(port: int, request: bytes, connections: int = 64) -> Iterator[None]:
    """So many connections from another address of this machine that repeat the request while the block runs."""
    command = [sys.executable, "-m", "tests.attacks.flood", str(port), str(connections)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request)
        process.stdin.close()
        assert process.stdout.readline() == b"answered\n"
        try:
            yield
            assert process.poll() is None, "the attack ended by itself"
        finally:
            process.kill()


async def wait_of(call: Callable[[], Awaitable[int]], times: int) -> tuple[float, Counter[int]]:
    """The median time of so many calls one after another, in milliseconds, and the statuses they got."""
    took, statuses = [], Counter[int]()
    for _ in range(times):
        begun = perf_counter()
        statuses[await call()] += 1
        took.append((perf_counter() - begun) * 1000)
    return median(took), statuses


async def _repeat(port: int, request: bytes, answered: asyncio.Event) -> None:
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        try:
            while True:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                answered.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()


async def _flood(port: int, connections: int, request: bytes) -> None:
    answered = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_repeat(port, request, answered))
        await answered.wait()
        sys.stdout.write("answered\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_flood(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer.read()))
