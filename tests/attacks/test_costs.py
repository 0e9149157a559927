"""No cheap request is dear: what each operation costs at most, times what the limits admit, is a tenth of the machine.

docs/costs.md has the table, as the last run with `DOCS=1` wrote it, of all operations or of those in `ONLY`.
"""

import json
import logging
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.config import Settings
from bench.processes import PROC, cpu_seconds
from tests.attacks import survey
from tests.attacks.survey import Call
from tests.conftest import make_database, url_of
from tests.people import Person, Phone, make_clinician
from tests.serving import ROOT, Served, serve

pytestmark = pytest.mark.anyio
logger = logging.getLogger(__name__)
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# In ten seconds two processors make so many thousand creates (docs/performance.md); this is a tenth of that.
TENTH = 1_900
OF_ADDRESSES = {"read_liveness", "read_readiness", "read_metrics", "read_jwks"}  # counted so, whoever asks
TIMES = 3
TABLE = ROOT / "docs" / "costs.md"
HEADER = "| operation | its dear calls | creates | counts as |\n|--|--|--:|--:|\n"
LEFT = re.compile(r";r=(\d+);t=(\d+)")


@dataclass(frozen=True)
class Bench:
    """The server with the large diary, and what it and its database have spent."""

    server: Served
    superuser: Connection
    diary: survey.Diary

    async def spent(self) -> float:
        """Seconds of processor time, of the server and of the backends that serve it."""
        pids = [row["pid"] for row in await self.superuser.fetch(survey.BACKENDS)]
        backends = sum(float((PROC / str(pid) / "schedstat").read_text().split()[0]) for pid in pids)
        return cpu_seconds(self.server.pid) + backends / 1e9

    async def cost(self, call: Call, times: int = TIMES) -> float:
        """Seconds of processor time of one call."""
        spent = 0.0
        for _ in range(times):
            prepared = await call.prepare()
            before = await self.spent()
            answer = await call.send(prepared)
            spent += await self.spent() - before
            assert answer.status_code == call.status, (answer.request.url, answer.text)
        return spent / times

    async def charged(self, call: Call) -> int:
        """How many requests of its account, or of its address, one call counts as."""
        people = (self.diary.patient, self.diary.clinician)
        while True:  # until all requests are of one window
            prepared = await call.prepare()
            before = [await left_of(one) for one in people]
            await call.send(prepared)
            after = [await left_of(one) for one in people]
            counted = [was - left - 1 for (was, _), (left, _) in zip(before, after, strict=True)]
            same = all(seconds <= were for (_, were), (_, seconds) in zip(before, after, strict=True))
            if same and min(counted) >= 0:
                return max(1, *counted)


async def left_of(phone: Phone) -> tuple[int, int]:
    """How much somebody may still send in this window, and how many seconds it has left."""
    answer = await phone.http.get("/v1/me")
    found = LEFT.search(answer.headers["RateLimit"])
    assert found is not None
    return int(found[1]), int(found[2])


def allowed(operation: str, counted: int) -> float:
    """How many creates a call may cost that counts as so many requests."""
    limits = Settings(environment="development")
    most = limits.requests_per_address if operation in OF_ADDRESSES else limits.requests_per_account
    return TENTH / most * counted


@pytest.fixture
async def bench(server_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    name = await make_database(server_url)
    url = SecretStr(url_of(server_url, "diary_app", name))
    settings = Settings(environment="development", database_url=url, state_directory=tmp_path)
    superuser = await asyncpg.connect(url_of(server_url, "postgres", name), server_settings={"statement_timeout": "0"})
    with serve(settings, tmp_path, SESSIONS_PER_ACCOUNT="1000") as server:
        async with server.client() as one, server.client() as two:
            patient = await Person().register_and_sign_in(one)
            clinician = await make_clinician(superuser, await Person().register_and_sign_in(two))
            yield Bench(server, superuser, await survey.fill(superuser, patient, clinician))
    await superuser.close()


@pytest.mark.survey
async def test_no_operation_takes_more_than_a_tenth_of_the_machine(app: FastAPI, bench: Bench) -> None:
    calls = survey.calls_of(bench.diary)
    document = json.loads(json.dumps(app.openapi()))
    assert calls.keys() == {one["operationId"] for path in document["paths"].values() for one in path.values()}
    chosen = os.environ.get("ONLY", "").split() or list(calls)

    small = calls["create_entry"]["small"]
    await bench.cost(small, 50)
    dear = []
    for operation in chosen:
        rows = []
        for what, call in calls[operation].items():
            counted = await bench.charged(call)
            for _ in range(3):  # others use the machine as well: the least of several is what it costs
                unit = min([await bench.cost(small, 20) for _ in range(2)])
                cost = await bench.cost(call) / unit
                if cost <= allowed(operation, counted):
                    break
            else:
                dear.append((operation, what, round(cost, 1), counted))
            rows.append(f"| `{operation}` | {what} | {cost:.1f} | {counted} |")
            logger.info("%s %s: %.1f creates, counted as %d", operation, what, cost, counted)
        if "DOCS" in os.environ:
            write_down(operation, rows)
    assert not dear


def write_down(operation: str, rows: list[str]) -> None:
    """Puts the rows of an operation into the table: where it stood, or at the end."""
    head, mark, table = TABLE.read_text().partition(HEADER)
    parts = {name: list(found) for name, found in groupby(table.splitlines(), key=lambda row: row.split("`")[1])}
    lines = chain.from_iterable((parts | {operation: rows}).values())
    TABLE.write_text(head + mark + "".join(f"{line}\n" for line in lines))


async def test_the_table_has_every_operation_and_none_is_dear(app: FastAPI) -> None:
    _, _, table = TABLE.read_text().partition(HEADER)
    rows = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in table.splitlines()]
    document = json.loads(json.dumps(app.openapi()))
    assert {row[0] for row in rows} == {
        one["operationId"] for path in document["paths"].values() for one in path.values()
    }
    for operation, what, cost, counted in rows:
        assert float(cost) <= allowed(operation, int(counted)), (operation, what)
