"""What a call costs the database: one round trip, few rows, along the index, however long the history is."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import md5
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import event

from app.config import Settings
from app.main import create_app
from app.postgres.database import SESSION_SETTINGS
from app.schemas.entries import ENTRY, EntryIn
from app.schemas.records import RecordKind
from app.schemas.treatment_events import TREATMENT_EVENT, TreatmentEventIn
from app.services import record_store, records
from app.services.access import Caller, Diary
from tests.conftest import connect, make_database, url_of
from tests.people import SESSION, Person, Phone, dose, entry

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# A million records of forty patients over ten years, in the order in which they happened: a fifth are those of
# the patient whose pages are read. Of these every third is a dose of one of a hundred treatments, agreed in turn.
MILLION = """
    INSERT INTO records (patient_id, id, kind, version, change_seq, occurred_at, utc_offset, time_zone, local_date,
                         received_at, author_id, session_id, performer, deleted, content_hash, document, regions,
                         treatment_id, valid_to)
    SELECT CASE WHEN n % 5 = 0 THEN $1 ELSE md5('patient' || n % 39)::uuid END, md5(n::text)::uuid, kind, 1, n, at,
           60, 'Europe/Berlin', (at AT TIME ZONE '1:00')::date, at, $1, $1, 'self', n % 50 = 0,
           sha256(n::text::bytea), CASE kind WHEN 'treatment' THEN plan || md5(n::text) || '"}' ELSE said END::json,
           '{abdomen}', CASE kind WHEN 'treatment_event' THEN md5((n / 10000 * 10000 + 5)::text)::uuid END,
           CASE kind WHEN 'treatment' THEN 'infinity'::timestamptz END
    FROM (SELECT n, at,
                 CASE WHEN n % 10000 = 5 THEN 'treatment' WHEN n % 15 = 0 THEN 'treatment_event' ELSE 'entry' END
                 AS kind,
                 '{"status": "taken", "sites": "' || repeat('x', 200) || '"}' AS said,
                 '{"status": "active", "category": "otc_medication", "time_zone": "UTC", "regimens":'
                 '[{"valid_from": "' || at || '", "time_zone": "UTC"}], "pauses": [], "name": "' AS plan
          FROM (SELECT n, timestamptz '2016-01-01' + n * interval '5 minutes' AS at FROM generate_series(1, 1000000) n)
               AS series) AS records
"""
FIRST_TREATMENT = str(UUID(md5(b"5").hexdigest()))
PAGE = f"""
    SELECT * FROM read_page_v1({SESSION}, $2, NULL, 'test', $3, $4, $5, NULL, NULL, NULL, NULL, NULL,
                               CASE WHEN $3::text[] IS NULL THEN now() END, $6, $7, NULL, 50, NULL, false, NULL, NULL,
                               NULL, NULL)
"""
READ = f"SELECT * FROM read_record_v1({SESSION}, $2, NULL, 'test', $3, $4, NULL, NULL)"
WRITE = f"SELECT * FROM write_records_v1({SESSION}, $2, $5, 'test', $3, $4, false, NULL, NULL, NULL, true)"
COURSE = f"SELECT * FROM read_course_v1({SESSION}, $2, NULL, 'test', '2018-03-01', '2018-03-31', 20000, NULL, NULL)"
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

    pools = [database._calls._together._pool, database._calls._apart._pool]
    connections = [holder._con for pool in pools for holder in pool._holders if holder._con is not None]
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
        await record_store.write(
            diary, "test", ENTRY.write_scope, [records.change_of(ENTRY, body, body.id, 0) for body in bodies]
        )


async def test_a_create_is_one_statement_in_a_transaction_of_its_own(app: FastAPI, ada: Phone) -> None:
    assert (await ada.log()).status_code == 201
    with statements_of(app) as sent:
        assert (await ada.log()).status_code == 201
        await asyncio.sleep(0)
    assert sent == [record_store.WRITE_RECORDS.timed]


@pytest.mark.parametrize("path", ["/entries", "/timeline"])
async def test_a_page_is_one_statement_whatever_the_length_of_the_history(
    app: FastAPI, ada: Phone, bob: Phone, path: str
) -> None:
    await fill(app, ada, 100)
    await fill(app, bob, 5000)
    await ada.get(path)  # the driver asks for a type that it meets for the first time
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
        nodes = [node for plan in self.plans for node in nodes_of(plan["Plan"]) if _touches_records(plan["Plan"])]
        return row, nodes


def nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", []):
        yield from nodes_of(inner)


def _touches_records(plan: dict[str, Any]) -> bool:
    return any(node.get("Relation Name") == "records" for node in nodes_of(plan))


async def drop_database(server_url: str, name: str) -> None:
    connection = await asyncpg.connect(server_url)
    await connection.execute(f'DROP DATABASE "{name}"')
    await connection.close()


@pytest.fixture
async def history(server_url: str, tmp_path: Path) -> AsyncIterator[History]:
    name = await make_database(server_url)
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


TIMELINE, AGREED = "ix_records_timeline", "ix_records_agreed"
# The kinds asked for, the indexes that find them and what stands beside them, and how many rows a step handles at most:
# those of a page, or all hundred treatments where their names or their changes are needed.
KINDS: dict[str, tuple[list[str] | None, set[str], int]] = {
    "entries": (["entry"], {TIMELINE}, 51),
    "treatments": (["treatment"], {AGREED}, 51),
    "events": (["treatment_event"], {TIMELINE, AGREED}, 100),
    "changes": (["treatment_change"], {AGREED}, 100),
    "the whole timeline": (None, {TIMELINE, AGREED}, 100),
}
# Local dates asked for, and the keyset of the page before.
PAGES: dict[str, tuple[Any, ...]] = {
    "first page": (None, None, None, None),
    "deep": (None, None, datetime(2017, 1, 1, tzinfo=UTC), UUID(int=0)),
    "a month": (date(2018, 3, 1), date(2018, 3, 31), None, None),
    "deep in a month": (date(2018, 3, 1), date(2018, 3, 31), datetime(2018, 3, 9, tzinfo=UTC), UUID(int=0)),
    "to a day": (None, date(2017, 3, 31), None, None),
    "from a day": (date(2017, 3, 31), None, datetime(2018, 3, 9, tzinfo=UTC), UUID(int=0)),
}


@pytest.mark.long
async def test_a_million_rows_are_reached_by_their_indexes_only(history: History) -> None:
    # One test, because two could be run by two workers, and each would make its own million.
    for (what, (asked, indexes, most)), (name, arguments) in product(KINDS.items(), PAGES.items()):
        for _ in range(8):  # from the sixth call on PostgreSQL may choose a plan for all arguments
            row, nodes = await history.call(PAGE, asked, *arguments)
            assert row["outcome"] == "ok"
            assert TIMELINE not in indexes or len(json.loads(b"[%b]" % row["items"])) == 50
            _check_page(f"{what}, {name}", nodes, indexes, most)
    await _check_course(history)
    taken = TreatmentEventIn.model_validate(dose(str(uuid4())))
    await _check_one_record(history, ENTRY, EntryIn.model_validate(entry()))
    await _check_one_record(history, TREATMENT_EVENT, taken.model_copy(update={"treatment_id": FIRST_TREATMENT}))


def _scans(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where `records` was really read: a branch that the kinds rule out has no loop."""
    return [node for node in nodes if node.get("Relation Name") == "records" and node["Actual Loops"]]


def _buffers(nodes: list[dict[str, Any]]) -> int:
    return max(int(node["Shared Hit Blocks"] + node["Shared Read Blocks"]) for node in nodes)


def _check_page(name: str, nodes: list[dict[str, Any]], indexes: set[str], most: int) -> None:
    """It read each index from the right place on, and little besides the page itself."""
    scans = _scans(nodes)
    assert {(scan["Node Type"], scan["Index Name"]) for scan in scans} == {("Index Scan", i) for i in indexes}, name
    assert max(scan["Rows Removed by Filter"] for scan in scans) < 200, name  # other kinds, and the days around
    assert max(node["Actual Rows"] for node in nodes) <= most, name  # so nothing sorts more
    assert _buffers(nodes) < 250, name


async def _check_course(history: History) -> None:
    """It read the plans, and the month with the days around it: not the years before and after."""
    for _ in range(8):
        row, nodes = await history.call(COURSE)
        assert row["outcome"] == "ok"
        assert {scan["Index Name"] for scan in _scans(nodes)} == {TIMELINE, AGREED}
        assert _buffers(nodes) < 1500


async def _check_one_record(history: History, kind: RecordKind[Any], body: Any) -> None:
    """It read one row by the primary key; and the treatment beside an event by that, or among the few treatments."""
    sent = record_store.sent([records.change_of(kind, body, body.id, 0)])
    row, written = await history.call(WRITE, *sent, kind.write_scope)
    assert row["status"] == "created"
    row, read = await history.call(READ, kind.name, UUID(body.id))
    assert row["outcome"] == "ok"
    assert b"treatment_missing" not in row["item_record"]
    for nodes in (written, read):
        scans = [node for node in _scans(nodes) if "Scan" in node["Node Type"]]
        assert {scan["Index Name"] for scan in scans} - {AGREED} == {"pk_records"}
        assert _buffers(nodes) < 50
