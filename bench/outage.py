"""Phones that all come back at once after an outage: what the service does with them, and how long they wait.

Each phone connects at some moment of ten seconds, pulls what is new and pushes one entry. Refused with a Retry-After it
waits as long as that says, and where nobody answers a second or two; then it tries again, as docs/sync.md asks.
"""

import asyncio
import random
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from app.config import Settings
from app.security.tokens import AccessTokens, Keyring
from bench import people, processes
from bench.drivers import LENGTH
from bench.seed import Connection
from bench.stage import TOKEN_SECONDS, Server, Stage, with_service
from bench.workloads import compact, request

SPREAD_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
RETRY_AFTER = b"retry-after: "
ACCOUNTS = """
    WITH people AS (SELECT gen_random_uuid() AS id, number FROM generate_series(1, $1) number),
         accounts AS (INSERT INTO users (id, email, password_hash, display_name, role, locale)
                      SELECT id, id || '@example.org', 'nobody signs in with it', 'Patient', 'patient', 'en' FROM people
                      RETURNING id),
         diaries AS (INSERT INTO patients (id, user_id, display_name, birth_date, time_zone, locale)
                     SELECT gen_random_uuid(), id, 'Patient', '1980-01-01', 'Africa/Lagos', 'en' FROM accounts
                     RETURNING id, user_id),
         clocks AS (INSERT INTO patient_clocks (patient_id) SELECT id FROM diaries),
         devices AS (INSERT INTO sessions (id, user_id, expires_at)
                     SELECT gen_random_uuid(), id, now() + interval '1 day' FROM accounts RETURNING id, user_id)
    SELECT diaries.user_id, devices.id AS session_id, diaries.id AS patient_id FROM diaries JOIN devices USING (user_id)
"""


@dataclass
class Outcome:
    """How it went: answers by status, connections that failed, waits that were asked for, seconds of each phone."""

    devices: int
    statuses: Counter[int] = field(default_factory=Counter)
    failed: int = 0
    waits: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)  # from the first try of a phone until it was done
    lasted: float = 0
    stored: int = 0
    resident: int = 0
    service_cpu: float = 0
    phones_cpu: float = 0

    def summary(self) -> dict[str, object]:
        """The figures."""
        return {
            "devices": self.devices,
            "done": len(self.spent),
            "entries stored": self.stored,
            "answers": dict(sorted(self.statuses.items())),
            "failed connections": self.failed,
            "Retry-After seconds": dict(sorted(self.waits.items())),
            "all done after s": round(self.lasted, 1),
            "a phone's time to get done, median and longest s": [
                round(_at(self.spent, share), 1) for share in (0.5, 1)
            ],
            "an answer, p50 and p99 ms": [round(_at(self.latencies, share) * 1000) for share in (0.5, 0.99)],
            "CPU s of service and PostgreSQL": round(self.service_cpu, 1),
            "CPU s of the phones, on the same processors": round(self.phones_cpu, 1),
            "RSS MB of the service": round(self.resident / 1e6),
        }


async def reconnect(stage: Stage, devices: int, workers: int) -> Outcome:
    """Starts a service anew and lets so many phones come back to it, over ten seconds."""
    _raise_file_limit()
    phones = await _phones(stage.owner, stage, devices)
    before = await stage.owner.fetchval("SELECT count(*) FROM records")
    outcome = Outcome(devices)
    async with with_service(stage, "reconnect", workers):
        server = stage.servers["reconnect"]
        cpu, own, started = _cpu(stage, server), time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as crowd:
            for patient, token in phones:
                crowd.create_task(_come_back(server.port, patient, token, outcome))
        outcome.lasted = time.perf_counter() - started
        outcome.service_cpu, outcome.phones_cpu = _cpu(stage, server) - cpu, time.process_time() - own
        outcome.resident = processes.resident_bytes(server.process.pid)
    outcome.stored = await stage.owner.fetchval("SELECT count(*) FROM records") - before
    return outcome


def _cpu(stage: Stage, server: Server) -> float:
    return processes.cpu_seconds(server.process.pid) + processes.cpu_seconds(stage.postmaster)


async def _phones(owner: Connection, stage: Stage, devices: int) -> list[tuple[UUID, str]]:
    """Phones that were signed in before the outage: the patient, and a token that is still good."""
    names = Settings.model_fields
    issuer, audience = names["token_issuer"].default, names["token_audience"].default
    tokens = AccessTokens(Keyring(stage.directory / "state" / "keys"), issuer, audience, TOKEN_SECONDS)
    rows = await owner.fetch(ACCOUNTS, devices)
    now = datetime.now(UTC)
    return [(row["patient_id"], tokens.issue(row["user_id"], row["session_id"], "patient", now)) for row in rows]


async def _come_back(port: int, patient: UUID, token: str, outcome: Outcome) -> None:
    await asyncio.sleep(random.uniform(0, SPREAD_SECONDS))
    pull = request("GET", f"/v1/patients/{patient}/sync/pull?limit=100", token=token)
    entry = people.mutation("entry", people.entry(), str(uuid4()))
    push = request("POST", f"/v1/patients/{patient}/sync/push", compact(people.push_body([entry])), token)
    begun = time.perf_counter()
    for sent in (pull, push):
        while not await _answered(port, sent, outcome):
            if time.perf_counter() - begun > PATIENCE_SECONDS:
                return
    outcome.spent.append(time.perf_counter() - begun)


async def _answered(port: int, sent: bytes, outcome: Outcome) -> bool:
    """Whether the request was accepted; if not, the phone has waited as it was told."""
    begun = time.perf_counter()
    try:
        status, wait = await _ask(port, sent)
    except (OSError, EOFError):
        outcome.failed += 1
        await asyncio.sleep(random.uniform(1, 2))
        return False
    outcome.latencies.append(time.perf_counter() - begun)
    outcome.statuses[status] += 1
    if status < 300:
        return True
    outcome.waits[wait] += 1
    await asyncio.sleep(wait)
    return False


async def _ask(port: int, sent: bytes) -> tuple[int, int]:
    """Status and Retry-After of one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
    finally:
        writer.close()
    _, found, rest = head.lower().partition(RETRY_AFTER)
    return int(head[9:12]), int(rest.partition(b"\r")[0]) if found else 1


def _at(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def _raise_file_limit() -> None:
    """Every phone is a socket of ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65_536, hard))
