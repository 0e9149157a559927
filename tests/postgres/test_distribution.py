"""`pain-diary distribute --citus`, on a migrated database with data in it.

There is no Citus here. Functions of its names (citus_stand_in.sql) refuse what it refuses; what it would make of
each statement within the functions is not tested.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import anyio.to_thread
import asyncpg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Column, MetaData, Table, Uuid
from typer.testing import CliRunner

from app import cli
from app.config import Settings
from app.main import create_app
from app.models import Base
from app.postgres import distribution
from app.services import audit, verify
from tests.conftest import connect, make_database, url_of
from tests.people import (
    Person,
    Phone,
    consent,
    dose,
    entry,
    make_clinician,
    profile,
    redeem,
    share,
    treatment,
)
from tests.routers.test_sync import pull, pushed, put
from tests.serving import ROOT

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

STAND_IN = Path(__file__).with_name("citus_stand_in.sql").read_text()
NOBODY = UUID(int=0)
# What the service calls without knowing the patient, or within the context that open_diary_v1() has set.
WITHOUT_PATIENT = {
    "session_account_v1": "reads what each node has",
    "revoke_sessions_v1": "locks diary after diary",
    "purge_v1": "removes what each node has",
    "redeem_share_code_v1": "the code tells whose diary it is",
    "read_heads_v1": "asks all shards",
    "read_panel_v1": "asks all shards",
    "grants_of_session_v1": "asks all shards",
    "grants_of_diary_v1": "row security names the patient",
    "access_log_v1": "row security names the patient",
    "probe_disk_v1": "the disk of the node that is asked",
    "settle_audit_v1": "one trail over all shards",
    "seal_audit_v1": "one trail over all shards",
    "broken_audit_segments_v1": "one trail over all shards",
}


@dataclass
class Before:
    """A migrated database with a diary, a consent, a code, and a sealed trail in which an event is about nobody."""

    name: str
    patient: Person
    clinician: Person
    secret_state: Path


def settings_for(server_url: str, name: str, state: Path) -> Settings:
    return Settings(
        environment="development",
        database_url=SecretStr(url_of(server_url, "diary_app", name)),
        state_directory=state,
        audit_seal_seconds=3600,
    )


@pytest.fixture(scope="module")
async def before(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Before:
    name, state = await make_database(server_url), tmp_path_factory.mktemp("distributed")
    owner_url = url_of(server_url, "postgres", name)
    app = create_app(settings_for(server_url, name, state))
    async with superuser(owner_url) as connection, app.router.lifespan_context(app):
        await connection.execute(STAND_IN)
        async with connect(app) as mine, connect(app) as theirs:
            ada = await Person().register_and_sign_in(mine)
            weber = await make_clinician(connection, await Person().register_and_sign_in(theirs))
            assert (await ada.post("/entries", entry(), params={"outbox_empty": "true"})).status_code == 201
            assert (await redeem(weber, "0000-0000")).status_code == 404
            await consent(ada, weber)
        assert await audit.seal(app.state.diary.database) is not None
    return Before(name, ada.person, weber.person, state)


@asynccontextmanager
async def superuser(url: str) -> AsyncIterator[Connection]:
    """A connection that finds what stands in for Citus."""
    connection = await asyncpg.connect(url, server_settings={"search_path": "public, citus"})
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def copy(server_url: str, before: Before) -> AsyncIterator[Connection]:
    """A superuser's connection to a database of its own with the same in it."""
    name = f"citus_{uuid4().hex[:8]}"
    async with superuser(server_url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{before.name}"')
    async with superuser(url_of(server_url, "postgres", name)) as connection:
        yield connection


@pytest.fixture(scope="module")
async def distributed(server_url: str, before: Before) -> AsyncIterator[Connection]:
    """A superuser's connection to the database after the printed statements."""
    async with copy(server_url, before) as connection:
        await connection.execute(distribution.citus_ddl())
        yield connection


@pytest.fixture(scope="module")
async def app(server_url: str, distributed: Connection, before: Before) -> AsyncIterator[FastAPI]:
    """The application on that database."""
    name = await distributed.fetchval("SELECT current_database()")
    application = create_app(settings_for(server_url, name, before.secret_state))
    async with application.router.lifespan_context(application):
        yield application


def printed(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.cli, ["distribute", *arguments])
    return result.exit_code, result.stdout, result.stderr


async def test_the_command_prints_the_statements_and_runs_nothing() -> None:
    assert printed("--citus") == (0, distribution.citus_ddl(), "")
    assert "{{" not in distribution.citus_ddl()


async def test_the_command_asks_for_what_it_is() -> None:
    assert printed() == (2, "", "Say for what: `pain-diary distribute --citus`.\n")


async def test_a_new_table_without_a_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = MetaData()
    Table("left_out", metadata, Column("id", Uuid, primary_key=True))
    monkeypatch.setattr(Base, "metadata", metadata)
    with pytest.raises(KeyError, match="left_out"):
        distribution.citus_ddl()


async def test_no_place_is_kept_for_a_table_that_is_gone() -> None:
    assert Base.metadata.tables.keys() >= distribution.COPIED.keys() | distribution.LOCAL.keys()
    assert not distribution.COPIED.keys() & distribution.LOCAL.keys()


async def names(connection: Connection, statement: str, *arguments: Any) -> set[str]:
    return {row[0] for row in await connection.fetch(statement, *arguments)}


PUBLIC_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
WITH_PATIENT = PUBLIC_TABLES + " AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = $1)"
PLACED = "SELECT name::text FROM citus.tables WHERE kind = $1"


async def test_every_table_with_a_patient_is_distributed_by_it(distributed: Connection) -> None:
    found = await names(distributed, WITH_PATIENT, "patient_id")
    assert {"records", "audit_events", "sync_confirmations"} <= found
    assert await names(distributed, PLACED, "distributed") == found - distribution.COPIED.keys()
    assert await names(distributed, "SELECT DISTINCT by || ' ' || beside FROM citus.tables WHERE by IS NOT NULL") == {
        "patient_id records"
    }


async def test_every_other_table_is_on_each_node_or_on_one_with_a_reason(distributed: Connection) -> None:
    others = await names(
        distributed, PUBLIC_TABLES + " AND oid NOT IN (SELECT name FROM citus.tables WHERE by IS NOT NULL)"
    )
    assert await names(distributed, PLACED, "reference") == set(distribution.COPIED)
    assert others - distribution.COPIED.keys() == distribution.LOCAL.keys() | {"alembic_version"}
    assert all([*distribution.COPIED.values(), *distribution.LOCAL.values()])


async def test_every_unique_index_and_foreign_key_can_be_kept_by_a_shard_alone(distributed: Connection) -> None:
    indexes = await distributed.fetch("""
        SELECT indexrelid::regclass AS name, pg_get_indexdef(indexrelid) AS definition
        FROM pg_index JOIN citus.tables ON indrelid = name WHERE kind = 'distributed' AND indisunique""")
    keys = await distributed.fetch("""
        SELECT conname, own.kind, target.kind AS target
        FROM pg_constraint
        LEFT JOIN citus.tables own ON own.name = conrelid LEFT JOIN citus.tables target ON target.name = confrelid
        WHERE contype = 'f' AND connamespace = 'public'::regnamespace""")
    assert len(indexes) >= 10
    assert {index["name"] for index in indexes if "(patient_id" not in index["definition"]} == set()
    assert {(key["kind"], key["target"]) for key in keys} == {
        ("distributed", "reference"),
        ("reference", "reference"),
        (None, "reference"),
    }


def called_functions() -> set[str]:
    """What app/services calls in SQL."""
    source = "\n".join(path.read_text() for path in (ROOT / "app" / "services").glob("*.py"))
    return set(re.findall(r"(?:SELECT |FROM |func\.|Function\(\s*\")(\w+)[(\"]", source))


async def test_every_call_for_a_patient_runs_where_the_diary_lies(distributed: Connection) -> None:
    ours = await names(distributed, "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    called = called_functions() & ours
    by_patient = await names(distributed, "SELECT name::regproc::text FROM citus.functions WHERE by = 'p_patient'")
    assert {"write_records_v1", "read_page_v1", "read_changes_v1", "read_course_v1", "lock_diary_v1"} <= called
    assert called - WITHOUT_PATIENT.keys() == by_patient
    assert WITHOUT_PATIENT.keys() <= called


async def test_nothing_that_the_service_may_call_is_called_from_elsewhere(distributed: Connection) -> None:
    granted = await names(
        distributed,
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND has_function_privilege('diary_app', oid, 'EXECUTE')",
    )
    assert granted - called_functions() == {"grant_words", "visit"}  # which others ask


async def test_every_function_is_on_every_node(distributed: Connection) -> None:
    missing = "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'"
    assert await names(distributed, f"{missing} AND oid NOT IN (SELECT name FROM citus.functions)") == set()


async def test_no_function_reads_tables_in_a_way_that_citus_cannot_plan(distributed: Connection) -> None:
    tables = "|".join(await names(distributed, PUBLIC_TABLES))
    in_sql = await names(
        distributed,
        "SELECT proname FROM pg_proc JOIN pg_language l ON l.oid = prolang WHERE lanname = 'sql' AND pronargs > 0"
        " AND pronamespace = 'public'::regnamespace AND prosrc ~* $1",
        rf"\m(from|join|into|update)\s+({tables})\M",
    )
    volatile = await names(
        distributed,
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosrc ~ $1",
        r"UPDATE \w+( \w+)? SET [^;]*(clock_timestamp|random)\(",
    )
    assert in_sql | volatile == set()


@pytest.mark.parametrize(
    ("needed", "instead", "refusal"),
    [
        (
            "DROP TRIGGER append_only ON audit_events;",
            "ALTER TABLE audit_events DISABLE TRIGGER append_only;",
            "it has triggers",
        ),
        ("pk_audit_events PRIMARY KEY (patient_id, id)", "pk_audit_events PRIMARY KEY (id)", "index pk_audit_events"),
        ("pk_grants PRIMARY KEY (patient_id, id)", "pk_grants PRIMARY KEY (id)", "index pk_grants without patient_id"),
        ("EXECUTE format('ALTER POLICY", "PERFORM format('ALTER POLICY", "no subqueries in policies"),
        ("SELECT create_reference_table('users');", "", "clinicians: foreign key fk_clinicians_user_id"),
        ("SELECT create_reference_table('patients');", "", "share_codes: foreign key fk_share_codes_patient_id"),
        ("('grants', 'patient_id'", "('grants', 'grantee_id'", "grantee_id may be null"),
        ("'p_patient', colocate_with", "'p_person', colocate_with", "has no argument p_person"),
        ("'p_patient', colocate_with", "'p_scope', colocate_with", "p_scope"),
        ("ELSE s.has_sent END'", "ELSE s.has_said END'", r"authorize\(\) does not hold"),
    ],
)
async def test_without_its_part_it_is_refused(
    server_url: str, before: Before, needed: str, instead: str, refusal: str
) -> None:
    ddl = distribution.citus_ddl()
    assert needed in ddl
    async with copy(server_url, before) as connection:
        with pytest.raises(asyncpg.RaiseError, match=refusal):
            await connection.execute(ddl.replace(needed, instead))


async def signed_in(person: Person, http: Any) -> Phone:
    answer = await person.sign_in(http)
    assert answer.status_code == 201, answer.text
    http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return Phone(http, person, answer.json())


async def test_a_diary_from_before_is_read_and_written_as_before(app: FastAPI, before: Before) -> None:
    async with connect(app) as http:
        ada = await signed_in(before.patient, http)
        old = (await ada.get("/entries")).json()["items"]
        created = await ada.log(note="Stiff")
        replay = await ada.post("/entries", {**entry(note="Stiff"), "id": created.json()["id"]})
        patched = await ada.patch(f"/entries/{created.json()['id']}", {"mood": 3})
        page = (await ada.get("/timeline")).json()["items"]
        pulled = await pull(ada)
        history = (await ada.get(f"/entries/{created.json()['id']}/versions")).json()["items"]
    assert len(old) == 1
    assert (created.status_code, replay.status_code, patched.json()["version"]) == (201, 200, 2)
    assert {one["id"] for one in page} == {old[0]["id"], created.json()["id"]}
    assert [one["change_seq"] for one in pulled["changes"]] == [1, 3]
    assert [one["version"] for one in history] == [2, 1]


async def test_every_kind_is_pushed_and_adherence_reckoned(app: FastAPI) -> None:
    async with connect(app) as http:
        robin = await Person().register_and_sign_in(http)
        medicine = treatment("08:00")
        mutations = [put("treatment", medicine), put("treatment_event", dose(medicine["id"]))]
        results = await pushed(robin, *mutations, outbox_empty=True)
        own = await robin.post("/profile", profile(birth_date="1970-01-01"))
        figures = await robin.get("/adherence", params={"from": "2026-03-28", "to": "2026-03-28"})
        page = await robin.get("/timeline")
    assert [one["status"] for one in results] == ["created", "created"]
    assert own.status_code == 201, own.text
    assert figures.status_code == 200
    assert figures.json()["outbox_empty_at"] is not None
    assert {one["kind"] for one in page.json()["items"]} == {
        "profile",
        "treatment",
        "treatment_event",
        "treatment_change",
    }


async def test_a_code_is_redeemed_confirmed_and_taken_back(app: FastAPI, distributed: Connection) -> None:
    async with connect(app) as mine, connect(app) as theirs:
        ada = await Person().register_and_sign_in(mine)
        weber = await make_clinician(distributed, await Person().register_and_sign_in(theirs))
        key = uuid4().hex
        code = await share(ada, key)
        assert code.status_code == 201
        assert (await share(ada, key)).json() == code.json()
        assert (await redeem(weber, "0000-0000")).status_code == 404
        grant_id = await consent(ada, weber)
        read = await weber.http.get(f"{ada.diary}/timeline")
        panel = (await weber.http.get("/v1/me/patients")).json()["items"]
        held = (await weber.http.get("/v1/me/grants")).json()["items"]
        log = (await ada.get("/access-log")).json()["items"]
        gone = await ada.delete(f"/grants/{grant_id}")
        refused = await weber.http.get(f"{ada.diary}/timeline")
    assert read.status_code == 200
    assert [one["id"] for one in panel] == [ada.patient_id]
    assert [one["id"] for one in held] == [grant_id]
    assert [one["action"] for one in log] == ["panel.read", "timeline.read", "grants.redeem"]
    assert (gone.status_code, refused.status_code) == (204, 404)


async def test_row_security_hides_other_diaries_as_before(app: FastAPI, distributed: Connection) -> None:
    async with connect(app) as mine, connect(app) as theirs:
        ada = await Person().register_and_sign_in(mine)
        bob = await Person().register_and_sign_in(theirs)
        await ada.log()
        await bob.log()
    async with distributed.transaction():
        await distributed.execute("SET LOCAL ROLE diary_app")
        assert await distributed.fetchval("SELECT count(*) FROM diary_entries") == 0
        await distributed.execute(f"SET LOCAL diary.patient = '{ada.patient_id}'")
        await distributed.execute("SET LOCAL diary.data_from = '-infinity'; SET LOCAL diary.kinds = '{entry}'")
        assert await names(distributed, "SELECT patient_id::text FROM diary_entries") == {ada.patient_id}
        assert await names(distributed, "SELECT DISTINCT patient_id::text FROM audit_events") == {ada.patient_id}


async def test_a_device_that_is_signed_out_writes_no_more(app: FastAPI) -> None:
    async with connect(app) as http:
        ada = await Person().register_and_sign_in(http)
        assert (await http.delete(f"/v1/me/sessions/{ada.session_id}")).status_code == 204
        assert (await ada.log()).status_code == 401


async def test_what_was_sealed_before_stays_sealed_and_what_comes_is_sealed_on(
    app: FastAPI, distributed: Connection, server_url: str
) -> None:
    name = await distributed.fetchval("SELECT current_database()")
    assert await distributed.fetchval("SELECT count(*) FROM audit_events WHERE patient_id = $1", NOBODY) > 0
    async with connect(app) as http:
        await (await Person().register_and_sign_in(http)).log()
    assert await audit.seal(app.state.diary.database) is None  # too young: another node's clock may be behind
    await distributed.execute("""
        INSERT INTO audit_events (id, patient_id, action, record_ids, outcome)
        SELECT max(id) - (60 * 1000000::bigint << 10), gen_random_uuid(), 'x.y', '{}', 'ok' FROM audit_events""")
    assert await audit.seal(app.state.diary.database) is not None
    owner_url = url_of(server_url, "postgres", name)
    look = partial(verify.run, distributed=True)
    assert await anyio.to_thread.run_sync(look, owner_url) == []
    await distributed.execute("UPDATE audit_events SET outcome = 'denied' WHERE action = 'x.y'")
    kind, _segment = await anyio.to_thread.run_sync(look, owner_url)
    assert kind == "the events of an audit segment are not those that were sealed: 1"
    await distributed.execute("UPDATE audit_events SET outcome = 'ok' WHERE action = 'x.y'")
