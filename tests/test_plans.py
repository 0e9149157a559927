"""What a call costs the database: one round trip, few rows, along the index, however long the history is."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import anyio.to_thread
import asyncpg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import event

from app.config import Settings
from app.database import SESSION_SETTINGS, migrate
from app.main import create_app
from app.schemas.entries import EntryIn
from app.services import entries, records
from app.services.records import Caller, Diary
from tests.conftest import connect, create_database, url_of
from tests.people import Person, Phone, entry

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# A million entries of forty patients over ten years, in the order in which they happened: a fifth are those of
# the patient whose pages are read.
MILLION = """
    INSERT INTO records (patient_id, id, kind, version, change_seq, occurred_at, utc_offset, time_zone, local_date,
                         received_at, author_id, session_id, performer, deleted, content_hash, document, regions)
    SELECT CASE WHEN n % 5 = 0 THEN $1 ELSE md5('patient' || n % 39)::uuid END, md5(n::text)::uuid, 'entry', 1, n, at,
           60, 'Europe/Berlin', (at AT TIME ZONE '1:00')::date, at, $1, $1, 'self', n % 50 = 0,
           sha256(n::text::bytea), json_build_object('id', n, 'sites', repeat('x', 200)), '{abdomen}'
    FROM (SELECT n, timestamptz '2016-01-01' + n * interval '5 minutes' AS at FROM generate_series(1, 1000000) n) series
"""
PAGE = """
    SELECT * FROM read_page($1, $2, 'entries:read', 'test', '{entry}', $3, $4, NULL, NULL, NULL, NULL, $5, $6, 50,
                            NULL, NULL, NULL)
"""
READ = "SELECT * FROM read_record($1, $2, 'entries:read', 'test', 'entry', $3, NULL, NULL)"
WRITE = "SELECT * FROM write_records($1, $2, 'entries:write', 'test', $3::text::json, NULL, NULL)"
EXPLAIN = """
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_nested_statements = on;
    SET auto_explain.log_analyze = on;
    SET auto_explain.log_buffers = on;
    SET auto_explain.log_format = json;
    SET auto_explain.log_level = notice;
"""


@contextmanager
def statements_of(app: FastAPI) -> Iterator[list[str]]:
    """The statements that the application sends meanwhile, over either way to the database."""
    database, sent = app.state.diary.database, []

    def note(call: Any) -> None:
        sent.append(call.query)

    def note_in_session(*arguments: Any) -> None:
        sent.append(arguments[2])

    connections = [holder._con for holder in database._pool._holders if holder._con is not None]
    for connection in connections:
        connection.add_query_logger(note)
    event.listen(database.engine.sync_engine, "before_cursor_execute", note_in_session)
    try:
        yield sent
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note_in_session)
        for connection in connections:
            connection.remove_query_logger(note)


async def fill(app: FastAPI, phone: Phone, count: int) -> None:
    parts = app.state.diary
    caller = Caller(UUID(phone.user_id), UUID(phone.session_id), uuid4(), None)
    diary = Diary(parts.database, parts.cursors, caller, UUID(phone.patient_id))
    for _ in range(count // 100):
        bodies = [EntryIn.model_validate(entry()) for _ in range(100)]
        await records.write(diary, "test", entries.WRITE, [entries.change_of(body, body.id, 0) for body in bodies])


async def test_a_create_is_one_statement_in_a_transaction_of_its_own(app: FastAPI, ada: Phone) -> None:
    assert (await ada.log()).status_code == 201
    with statements_of(app) as sent:
        assert (await ada.log()).status_code == 201
        await asyncio.sleep(0)
    assert sent == ["SELECT * FROM write_records($1, $2, $3, $4, $5::text::json, $6, $7)"]


@pytest.mark.parametrize("path", ["/entries", "/timeline"])
async def test_a_page_is_one_statement_whatever_the_length_of_the_history(
    app: FastAPI, ada: Phone, bob: Phone, path: str
) -> None:
    await fill(app, ada, 100)
    await fill(app, bob, 5000)
    for phone in (ada, bob):
        with statements_of(app) as sent:
            answer = await phone.get(path, params={"limit": 50})
            await asyncio.sleep(0)
        assert len(answer.json()["items"]) == 50
        assert len(sent) == 1, sent


@dataclass
class History:
    """A long history, and a connection on which every statement shows its plan, those inside functions too."""

    connection: Connection
    session_id: UUID
    patient_id: UUID
    plans: list[dict[str, Any]]

    async def call(self, statement: str, *arguments: Any) -> tuple[asyncpg.Record, list[dict[str, Any]]]:
        """The row of a call, and every node of every plan that touched `records`."""
        self.plans.clear()
        row = await self.connection.fetchrow(statement, self.session_id, self.patient_id, *arguments)
        await asyncio.sleep(0)
        assert row is not None
        nodes = [node for plan in self.plans for node in _nodes(plan["Plan"]) if _touches_records(plan["Plan"])]
        return row, nodes


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", []):
        yield from _nodes(inner)


def _touches_records(plan: dict[str, Any]) -> bool:
    return any(node.get("Relation Name") == "records" for node in _nodes(plan))


async def drop_database(server_url: str, name: str) -> None:
    connection = await asyncpg.connect(server_url)
    await connection.execute(f'DROP DATABASE "{name}"')
    await connection.close()


@pytest.fixture
async def history(server_url: str, tmp_path: Path) -> AsyncIterator[History]:
    name = f"million_{uuid4().hex[:8]}"
    await create_database(server_url, name)
    await anyio.to_thread.run_sync(migrate, url_of(server_url, "postgres", name))
    url = SecretStr(url_of(server_url, "diary_app", name))
    app = create_app(Settings(environment="development", database_url=url, state_directory=tmp_path))
    async with app.router.lifespan_context(app), connect(app) as http:
        phone = await Person().register_and_sign_in(http)
    plans: list[dict[str, Any]] = []
    connection = await asyncpg.connect(url_of(server_url, "postgres", name), server_settings=SESSION_SETTINGS)
    await connection.execute("SET statement_timeout = 0; ALTER TABLE records SET UNLOGGED")
    await connection.execute(MILLION, UUID(phone.patient_id))
    await connection.execute("VACUUM ANALYZE records")
    await connection.execute(EXPLAIN)
    connection.add_log_listener(lambda _, message: plans.append(json.loads(message.message.partition("plan:")[2])))
    yield History(connection, UUID(phone.session_id), UUID(phone.patient_id), plans)
    await connection.close()
    await drop_database(server_url, name)  # half a gigabyte


# Local dates asked for, and the keyset of the page before.
PAGES: dict[str, tuple[Any, ...]] = {
    "first page": (None, None, None, None),
    "deep": (None, None, datetime(2017, 1, 1, tzinfo=UTC), UUID(int=0)),
    "a month": (date(2018, 3, 1), date(2018, 3, 31), None, None),
    "deep in a month": (date(2018, 3, 1), date(2018, 3, 31), datetime(2018, 3, 9, tzinfo=UTC), UUID(int=0)),
    "to a day": (None, date(2017, 3, 31), None, None),
    "from a day": (date(2017, 3, 31), None, datetime(2018, 3, 9, tzinfo=UTC), UUID(int=0)),
}


async def test_a_million_rows_are_reached_by_their_indexes_only(history: History) -> None:
    # One test, because two could be run by two workers, and each would make its own million.
    for name, arguments in PAGES.items():
        for _ in range(8):  # from the sixth call on PostgreSQL may choose a plan for all arguments
            row, nodes = await history.call(PAGE, *arguments)
            assert len(json.loads(b"[%b]" % row["items"])) == 50
            _check_page(name, nodes)
    await _check_one_record(history)


def _check_page(name: str, nodes: list[dict[str, Any]]) -> None:
    """It read the keyset index from the right place on, and little besides the page itself."""
    [scan] = [node for node in nodes if node.get("Relation Name") == "records"]
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Scan", "ix_records_timeline"), name
    assert scan["Rows Removed by Filter"] < 200, name  # the days around the local dates that are asked for
    assert max(node["Actual Rows"] for node in nodes) == 51, name  # so nothing sorts more than the page
    assert max(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in nodes) < 150, name


async def _check_one_record(history: History) -> None:
    body = EntryIn.model_validate(entry())
    item = records._item(entries.change_of(body, body.id, 0)).decode()
    row, written = await history.call(WRITE, f"[{item}]")
    assert row["status"] == "created"
    row, read = await history.call(READ, UUID(body.id))
    assert row["outcome"] == "ok"
    for nodes in (written, read):
        scans = [node for node in nodes if node.get("Relation Name") == "records" and "Scan" in node["Node Type"]]
        assert {node["Index Name"] for node in scans} == {"pk_records"}
