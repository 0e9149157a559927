"""No cheap request is dear: what each operation costs at most, times what the limits admit, is a tenth of the machine.

docs/costs.md has the table, as the last run that was asked to (`DOCS=1`) wrote it.
"""

import json
import logging
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
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
from tests.people import Person, make_clinician
from tests.serving import ROOT, Served, serve

pytestmark = pytest.mark.anyio
logger = logging.getLogger(__name__)
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# In ten seconds two processors make so many thousand creates (docs/performance.md); this is a tenth of that.
TENTH = 1_900
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
        prepared = [await call.prepare() for _ in range(times)]
        before = await self.spent()
        for one in prepared:
            answer = await call.send(one)
            assert answer.status_code == call.status, (answer.request.url, answer.text)
        return (await self.spent() - before) / times

    async def charged(self, call: Call) -> int:
        """How many requests one call counts as."""
        while True:  # until both requests are of one window
            prepared = await call.prepare()
            left, seconds = await self._left()
            await call.send(prepared)
            now_left, now_seconds = await self._left()
            if now_seconds <= seconds and now_left < left:
                return left - now_left - 1

    async def _left(self) -> tuple[int, int]:
        answer = await self.diary.patient.http.get("/v1/me")
        found = LEFT.search(answer.headers["RateLimit"])
        assert found is not None
        return int(found[1]), int(found[2])


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
    limits = Settings(environment="development")
    allowed = TENTH / limits.requests_per_account  # creates that one request may cost
    calls = survey.calls_of(bench.diary)
    document = json.loads(json.dumps(app.openapi()))
    assert calls.keys() == {one["operationId"] for path in document["paths"].values() for one in path.values()}

    small = calls["create_entry"]["small"]
    await bench.cost(small, 50)
    rows, dear = [], []
    for operation, ways in calls.items():
        for what, call in ways.items():
            counted = await bench.charged(call)
            for _ in range(3):  # others use the machine as well: the least of several is what it costs
                unit = min([await bench.cost(small, 20) for _ in range(2)])
                cost = await bench.cost(call) / unit
                if cost <= allowed * counted:
                    break
            else:
                dear.append((operation, what, round(cost, 1), counted))
            rows.append(f"| `{operation}` | {what} | {cost:.1f} | {counted} |")
            logger.info("%s %s: %.1f creates, counted as %d", operation, what, cost, counted)
    if "DOCS" in os.environ:
        head, mark, _ = TABLE.read_text().partition(HEADER)
        TABLE.write_text(head + mark + "\n".join(rows) + "\n")
    assert not dear


async def test_the_table_has_every_operation(app: FastAPI) -> None:
    _, _, rows = TABLE.read_text().partition(HEADER)
    shown = {row.split("`")[1]: row for row in rows.splitlines()}
    document = json.loads(json.dumps(app.openapi()))
    assert shown.keys() == {one["operationId"] for path in document["paths"].values() for one in path.values()}
