"""`make bench`: CPU per request of the service and of the reference, server and database together, in alternating runs.

    create   POST one entry: gate, validation, session, consent, record, history, audit, durable
    page     GET fifty entries: session, consent, row security, audit

A ratio of 3 means: three times the CPU of the bare handler with one statement.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from uuid import uuid4

import asyncpg
import httpx

from app import database, embedded

PATIENTS = 16
REQUESTS = 100  # for each patient in each run
ROUNDS = 5
PASSWORD = "a sentence for the bench"
TICKS = os.sysconf("SC_CLK_TCK")

Request = Callable[[str], tuple[str, str, bytes]]  # patient → method, path, body


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def children_of(pid: int) -> list[int]:
    """The process and its direct children: a postmaster and its backends."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [pid, *map(int, listed.split())]


def entry(_: str) -> bytes:
    return json.dumps(
        {
            "id": str(uuid4()),
            "occurred_at": "2026-03-29T08:00:00+02:00",
            "time_zone": "Europe/Berlin",
            "note": "after the stairs",
            "sites": [
                {
                    "region": "lower_back_left",
                    "characters": ["aching"],
                    "scores": [{"measure": "now", "scale": "nrs_0_10", "value": 6}],
                }
            ],
        }
    ).encode()


async def phone(port: int, headers: str, requests: list[tuple[str, str, bytes]]) -> None:
    """One keep-alive connection that sends its requests one after another; any answer but 2xx ends the bench."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for method, path, body in requests:
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n{headers}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer.lower())
        assert length, answer
        assert answer[9:10] == b"2", answer
        await reader.readexactly(int(length[1]))
    writer.close()
    await writer.wait_closed()


async def measure(
    port: int, server: int, postmaster: int, phones: list[tuple[str, str]], request: Request, count: int = REQUESTS
) -> tuple[float, float]:
    """CPU microseconds per request: (server, database)."""
    work = [phone(port, headers, [request(patient) for _ in range(count)]) for patient, headers in phones]
    database_pids = children_of(postmaster)
    before = cpu_seconds([server]), cpu_seconds(database_pids)
    await asyncio.gather(*work)
    after = cpu_seconds([server]), cpu_seconds(database_pids)
    total = count * len(phones)
    return (after[0] - before[0]) / total * 1e6, (after[1] - before[1]) / total * 1e6


@asynccontextmanager
async def serving(target: str, port: int, environment: dict[str, str], path: str) -> AsyncIterator[int]:
    """A uvicorn with one worker, as a process of its own."""
    command = [sys.executable, "-m", "uvicorn", target, "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    factory = ["--factory"] if target.endswith("create_app") else []
    process = subprocess.Popen(
        [*command, *factory, "--no-access-log", "--log-level", "warning"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient() as http:
            while True:
                try:
                    await http.get(f"http://127.0.0.1:{port}{path}")
                    break
                except httpx.TransportError:
                    assert process.poll() is None, "the server did not start"
                    await asyncio.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


async def sign_in(port: int) -> tuple[str, str]:
    """A new patient and the header that lets them in."""
    email = f"{uuid4().hex}@example.org"
    person = {"display_name": "B", "birth_date": "1980-01-01", "time_zone": "Europe/Berlin"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        await http.post("/v1/auth/register", json={"email": email, "password": PASSWORD, **person})
        tokens = (await http.post("/v1/auth/sessions", json={"email": email, "password": PASSWORD})).json()
    return tokens["user"]["patient_id"], f"Authorization: Bearer {tokens['access_token']}\r\n"


async def compare(server: embedded.Server) -> None:
    """Prints the table of ratios."""
    owner = server.url("postgres", "diary")
    await asyncio.to_thread(database.migrate, owner)
    connection = await asyncpg.connect(owner)
    postmaster = int((await connection.fetchval("SELECT pg_read_file('postmaster.pid')")).split()[0])
    await connection.close()
    ours = {"DIARY_DATABASE_URL": server.url("diary_app", "diary"), "DIARY_ENVIRONMENT": "development"}
    ours["DIARY_STATE_DIRECTORY"] = str(server.socket_directory.parent / "bench")
    ours["DIARY_REQUESTS_PER_SESSION"] = "1000000"  # counted as ever, refused never
    async with (
        serving("bench.reference:app", 8911, {"BARE_URL": owner}, f"/{uuid4()}") as bare,
        serving("app.main:create_app", 8912, ours, "/livez") as diary,
    ):
        phones = [await sign_in(8912) for _ in range(PATIENTS)]
        cases: dict[str, tuple[Request, Request]] = {
            "create": (
                lambda p: ("POST", f"/{p}", entry(p)),
                lambda p: ("POST", f"/v1/patients/{p}/entries", entry(p)),
            ),
            "page": (lambda p: ("GET", f"/{p}", b""), lambda p: ("GET", f"/v1/patients/{p}/entries?limit=50", b"")),
        }
        for name, requests in cases.items():
            figures: dict[int, list[tuple[float, float]]] = {8911: [], 8912: []}
            for turn in range(ROUNDS + 1):
                for (port, pid), request in zip(((8911, bare), (8912, diary)), requests, strict=True):
                    figure = await measure(port, pid, postmaster, phones, request)
                    if turn:  # the first warms up
                        figures[port].append(figure)
            report(name, figures[8911], figures[8912])


def report(name: str, bare: list[tuple[float, float]], diary: list[tuple[float, float]]) -> None:
    ratios = [(d[0] + d[1]) / (b[0] + b[1]) for b, d in zip(bare, diary, strict=True)]
    parts = [f"{median(f[i] for f in figures):.0f}" for figures in (bare, diary) for i in (0, 1)]
    spread = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(f"{name:7} ratio {median(ratios):.2f} (runs {spread}); CPU µs per request, server+database:", end=" ")
    print(f"reference {parts[0]}+{parts[1]}, service {parts[2]}+{parts[3]}")


def main() -> None:
    directory = Path(tempfile.mkdtemp(prefix="diary-bench-"))
    directory.chmod(0o755)
    server = embedded.start(directory)
    try:
        embedded.ensure_database(server, "diary")
        asyncio.run(compare(server))
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
