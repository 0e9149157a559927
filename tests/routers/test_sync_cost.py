"""What sync costs: statements that do not grow with a push or a page, memory that does not grow with a diary.

SYNC_CHANGES makes the diary of the last longer.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.config import Settings
from app.postgres.database import SESSION_SETTINGS
from app.schemas.entries import ENTRY, EntryIn
from app.services import record_store, records
from tests.conftest import make_database, url_of
from tests.forms import size
from tests.people import SESSION, Person, Phone, entry, grant
from tests.routers.test_sync import pull, pushed, put
from tests.serving import serve
from tests.test_plans import EXPLAIN, nodes_of, statements_of

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CHANGES = size("SYNC_CHANGES", short=10_000, long=50_000)
PAGE = 500
WRITE = f"SELECT * FROM write_records_v1({SESSION}, $2, NULL, 'test', $3, $4, false, NULL, NULL, NULL, true)"
COMPARE = f"SELECT * FROM compare_diary_v1({SESSION}, $2, 'test', $3, $4, $5, 1000, NULL, NULL)"
READ = f"SELECT * FROM read_changes_v1({SESSION}, $2, 'test', NULL, NULL, NULL, NULL, NULL, $3, NULL, NULL)"
# A diary in which each change was another entry, as write_records_v1() would have left it.
DIARY = """
    INSERT INTO records (patient_id, id, kind, version, change_seq, occurred_at, utc_offset, time_zone, local_date,
                         received_at, author_id, session_id, performer, deleted, content_hash, document, regions)
    SELECT $1, md5(n::text)::uuid, 'entry', 1, n, at, 0, 'UTC', (at AT TIME ZONE 'UTC')::date, at, $1, $1, 'self',
           false, sha256(n::text::bytea), ('{"said": "' || repeat('x', 500) || '"}')::json, '{abdomen}'
    FROM (SELECT n, timestamptz '2016-01-01' + n * interval '5 minutes' AS at FROM generate_series(1, $2) n) AS series
"""
VERSIONS = """
    INSERT INTO record_versions (patient_id, change_seq, record_id, version, author_id, session_id, received_at,
                                 deleted, content_hash)
    SELECT patient_id, change_seq, id, version, author_id, session_id, received_at, deleted, content_hash
    FROM records WHERE patient_id = $1
"""


@pytest.mark.parametrize("count", [1, 100])
async def test_a_push_sends_the_database_as_many_statements_however_much_it_brings(
    app: FastAPI, ada: Phone, count: int
) -> None:
    await pushed(ada, put("entry", entry()))  # the connection is there
    with statements_of(app) as sent:
        await pushed(ada, *(put("entry", entry()) for _ in range(count)))
        await asyncio.sleep(0)
    assert [statement.split(" ")[0] for statement in sent] == ["SELECT", "UPDATE"]  # the clock of the tests is off


async def test_a_page_is_one_statement_however_long_it_is(app: FastAPI, ada: Phone) -> None:
    await pushed(ada, *(put("entry", entry()) for _ in range(100)))
    for limit in (1, 100):
        with statements_of(app) as sent:
            assert len((await pull(ada, limit=limit))["changes"]) == limit
            await asyncio.sleep(0)
        assert len(sent) == 1, sent


@pytest.fixture
async def inside(owner_url: str) -> AsyncIterator[tuple[Connection, list[str]]]:
    """A connection, and the plans of what runs on it and touches a table, also inside functions."""
    connection: Connection = await asyncpg.connect(owner_url, server_settings=SESSION_SETTINGS)
    await connection.execute(EXPLAIN)
    seen: list[str] = []

    def note(_: object, message: Any) -> None:
        if "Relation Name" in message.message:
            seen.append(message.message)

    connection.add_log_listener(note)
    yield connection, seen
    await connection.close()


async def test_inside_the_database_neither_runs_more_statements_for_more(
    ada: Phone, inside: tuple[Connection, list[str]]
) -> None:
    connection, seen = inside
    caller = UUID(ada.session_id), UUID(ada.patient_id)

    async def number(statement: str, *arguments: object) -> int:
        seen.clear()
        assert await connection.fetch(statement, *caller, *arguments)
        await asyncio.sleep(0)
        return len(seen)

    first = EntryIn.model_validate(entry())  # of a session: it looks up a little more
    await number(WRITE, *_items([first], 0, 0))
    counts = []
    for count in (1, 100):
        bodies = [EntryIn.model_validate(entry()) for _ in range(count)]
        created = _items(bodies, 0, 0)
        updated = _items(bodies, 1, 1)
        writes = [await number(WRITE, *items) for items in (created, created, updated)]
        counts.append([*writes, await number(READ, count)])
    assert counts[0] == counts[1]


def _items(bodies: list[EntryIn], base_version: int, mood: int) -> tuple[str, list[str]]:
    changed = [body.model_copy(update={"mood": mood}) for body in bodies]
    return record_store.sent([records.change_of(ENTRY, body, body.id, base_version) for body in changed])


@pytest.mark.parametrize("window", [False, True], ids=["all of it", "a window with nothing in it"])
async def test_a_digest_reads_as_much_of_a_long_diary_as_of_a_short_one(
    ada: Phone, bob: Phone, superuser: Connection, owner_url: str, inside: tuple[Connection, list[str]], window: bool
) -> None:
    connection, seen = inside
    await grant(superuser, ada, bob, data_from=datetime.now(UTC) + timedelta(days=1) if window else None)
    caller = UUID(bob.session_id), UUID(ada.patient_id)
    await connection.execute("SET auto_explain.log_analyze = on; SET auto_explain.log_format = json")
    read = []
    for length in (2_000, 20_000):
        await superuser.execute("DELETE FROM records WHERE patient_id = $1", UUID(ada.patient_id))
        await fill(owner_url, UUID(ada.patient_id), length)
        held = await superuser.fetch("SELECT id FROM records WHERE patient_id = $1 LIMIT 1000", UUID(ada.patient_id))
        for ids, after in (([], 0), ([], 1000), ([row["id"] for row in held], 0)):
            for _ in range(6):  # from the sixth call on PostgreSQL may choose a plan for all arguments
                seen.clear()
                row = await connection.fetchrow(COMPARE, *caller, ids, [1] * len(ids), after)
                assert row is not None
                assert (row["outcome"], row["compared_to"]) == ("ok", after + 1000)
                await asyncio.sleep(0)
            read.append((len(ids), after, _rows_read(seen)))
    assert read[:3] == read[3:]
    assert max(rows for *_, rows in read) <= 2_000


async def test_sealing_changes_and_verifying_seals_read_as_much_of_a_long_diary_as_of_a_short_one(
    ada: Phone, superuser: Connection, owner_url: str, inside: tuple[Connection, list[str]]
) -> None:
    connection, seen = inside
    patient, read = UUID(ada.patient_id), []
    for length in (2_000, 20_000):
        await superuser.execute("DELETE FROM records WHERE patient_id = $1", patient)
        await fill(owner_url, patient, length)
        seen.clear()
        row = await connection.fetchrow("SELECT * FROM changes_digest('', $1, 1000, 1020)", patient)
        assert row is not None
        assert row["last_seq"] == 1020
        await asyncio.sleep(0)
        read.append(_rows_read(seen))
    assert read == [20, 20]


def _rows_read(plans: list[str]) -> int:
    """How many rows of `records` these plans read, those that a filter then removed as well."""
    nodes = [node for plan in plans for node in nodes_of(json.loads(plan.partition("plan:")[2])["Plan"])]
    scans = [node for node in nodes if node.get("Relation Name") == "records"]
    assert scans
    return sum(
        int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]) for node in scans
    )


@pytest.mark.scaled
async def test_whoever_pulls_a_long_diary_leaves_the_server_as_small_as_it_was(server_url: str, tmp_path: Path) -> None:
    name = await make_database(server_url)
    url = SecretStr(url_of(server_url, "diary_app", name))
    settings = Settings(environment="development", database_url=url, state_directory=tmp_path)
    with serve(settings, tmp_path) as server:
        async with server.client() as http:
            phone = await Person().register_and_sign_in(http)
            await fill(url_of(server_url, "postgres", name), UUID(phone.patient_id), CHANGES)
            sizes = [server.resident() async for _ in pages(phone)]
    assert len(sizes) == CHANGES // PAGE
    assert sizes[-1] - sizes[9] < 4 * 2**20, [size // 2**20 for size in sizes]


async def fill(url: str, patient_id: UUID, changes: int) -> None:
    """Writes so many changes behind the server's back."""
    connection = await asyncpg.connect(url, server_settings={"statement_timeout": "0"})
    await connection.execute("DELETE FROM record_versions WHERE patient_id = $1", patient_id)
    await connection.execute(DIARY, patient_id, changes)
    await connection.execute(VERSIONS, patient_id)
    await connection.execute("UPDATE patient_clocks SET head = $2 WHERE patient_id = $1", patient_id, changes)
    await connection.close()


async def pages(phone: Phone) -> AsyncIterator[dict[str, Any]]:
    """The whole diary, page by page."""
    page = await pull(phone, limit=PAGE)
    yield page
    while page["has_more"]:
        page = await pull(phone, page["cursor"], limit=PAGE)
        yield page
