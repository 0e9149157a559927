"""Two ways to send the requests of a plan again and again: wrk, and a small client that needs nothing installed."""

import asyncio
import json
import random
import re
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

GAP = "00000000-0000-4000-8000-000000000000"  # a new id stands in its place in each request
SEPARATOR = b"\x1e"
SCRIPT = Path(__file__).parent / "lua" / "replay.lua"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """What came of sending for a while. Latencies in milliseconds; `created` counts answers 201."""

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int  # answers of 400 and above
    broken: int  # connections that failed, and answers that did not come
    created: int


Driver = Callable[[int, list[bytes], float, int, bool], Awaitable[Run]]


async def drive_with_wrk(
    port: int, plan: list[bytes], seconds: float, connections: int, created: bool, pause: int = 0
) -> Run:
    """One thread of wrk, which leaves the processors to what is measured; `pause` in ms before each request."""
    told = ["created" if created else "-", *([str(pause)] if pause else [])]
    with tempfile.NamedTemporaryFile() as file:
        file.write(SEPARATOR.join(plan))
        file.flush()
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(SCRIPT)]
        process = await asyncio.create_subprocess_exec(
            *["wrk", *options, f"http://127.0.0.1:{port}", "--", file.name, *told],
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
    assert process.returncode == 0, "wrk failed; it says why above"
    found = json.loads(printed.splitlines()[-1])
    return Run(**found | {"p50": found["p50"] / 1000, "p99": found["p99"] / 1000})


async def drive_in_python(port: int, plan: list[bytes], seconds: float, connections: int, created: bool) -> Run:  # noqa: ARG001 - it always counts
    """A few connections of asyncio: slower than wrk, and exact: each sends until the end and waits for its answer."""
    started = time.perf_counter()
    answers: list[tuple[int, float]] = []
    async with asyncio.TaskGroup() as phones:
        for _ in range(connections):
            phones.create_task(_phone(port, plan, started + seconds, answers))
    lasted = time.perf_counter() - started
    statuses = [status for status, _ in answers]
    cuts = quantiles([spent * 1000 for _, spent in answers] * 2, n=100)
    return Run(
        requests=len(answers),
        seconds=lasted,
        p50=cuts[49],
        p99=cuts[98],
        refused=sum(status >= 400 for status in statuses),
        broken=0,
        created=statuses.count(201),
    )


async def _phone(port: int, plan: list[bytes], until: float, answers: list[tuple[int, float]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        begun = time.perf_counter()
        writer.write(_filled(random.choice(plan)))
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
        answers.append((int(head[9:12]), time.perf_counter() - begun))
        if time.perf_counter() >= until:
            break
    writer.close()
    await writer.wait_closed()


def _filled(request: bytes) -> bytes:
    first, *rest = request.split(GAP.encode())
    return first + b"".join(str(uuid4()).encode() + part for part in rest)
