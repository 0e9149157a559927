"""The way to PostgreSQL: what it refuses to serve from, and which failures say "not now"."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.errors import Unavailable
from app.postgres import database
from app.postgres.database import SESSION_SETTINGS, CannotServe, Database, passes, passing_failures, unaudited
from app.services.sync import READ_HEADS
from tests.conftest import HURRIED, IMPATIENT, make_database, url_of
from tests.serving import ROOT
from tests.waiting import until

pytestmark = pytest.mark.anyio

Superuser: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
RAISE = "DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{}'; END $$"


def settings_for(url: str) -> Settings:
    return Settings(environment="development", database_url=SecretStr(url))


@asynccontextmanager
async def started(url: str) -> AsyncIterator[Database]:
    database = Database(settings_for(url))
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@pytest.fixture
async def own(server_url: str, database_name: str) -> AsyncIterator[Database]:
    """A database object of its own, as the serving role."""
    async with started(url_of(server_url, "diary_app", database_name)) as database:
        yield database


async def test_a_group_is_ended_soon_and_whoever_is_in_it_has_more_time_alone(
    server_url: str, database_name: str, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "GROUP_SETTINGS", HURRIED)
    nobody = UUID(int=0)
    async with started(url_of(server_url, "diary_app", database_name)) as own:

        async def goes_alone() -> bool:
            return own.tally.calls["alone"] == 1

        async with superuser.transaction():
            await superuser.execute("LOCK TABLE sessions, patients")  # whichever a plan begins with
            waits = asyncio.create_task(own.call_grouped(READ_HEADS(session=nobody), nobody))
            await until(goes_alone)
            assert not waits.done()
        assert await waits == []


def test_a_group_has_a_part_of_the_time_that_others_have() -> None:
    assert int(HURRIED["statement_timeout"].removesuffix("ms")) * 4 < 1000 * int(
        IMPATIENT["statement_timeout"].removesuffix("s")
    )


def test_without_a_url_there_is_no_database() -> None:
    with pytest.raises(ValueError, match="DIARY_DATABASE_URL"):
        Database(Settings(environment="development"))


async def test_what_was_not_started_can_be_stopped(settings: Settings) -> None:
    await Database(settings).stop()


@pytest.mark.parametrize("user", ["postgres", "diary_owner"])
async def test_a_superuser_or_owner_may_not_serve(server_url: str, database_name: str, user: str) -> None:
    with pytest.raises(RuntimeError, match="not an owner or superuser"):
        async with started(url_of(server_url, user, database_name)):
            pass  # where it starts after all it is stopped


@pytest.mark.parametrize(
    "rights",
    [
        "BYPASSRLS IN ROLE diary_app",
        "CREATEROLE IN ROLE diary_app",
        "IN ROLE diary_app, diary_owner",
        "IN ROLE diary_app, postgres",
    ],
)
async def test_a_role_that_could_get_round_row_security_may_not_serve(
    server_url: str, database_name: str, superuser: Superuser, rights: str
) -> None:
    role = f"mighty_{uuid4().hex[:8]}"
    await superuser.execute(f"CREATE ROLE {role} LOGIN {rights}")
    try:
        with pytest.raises(RuntimeError, match="not an owner or superuser"):
            async with started(url_of(server_url, role, database_name)):
                pass
        held = "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = $1"
        await until(lambda: superuser.fetchval(held, role))  # the refused one has hung up
    finally:
        await superuser.execute(f"DROP ROLE {role}")


async def test_a_server_that_acknowledges_before_it_has_stored_may_not_serve(
    settings: Settings, database_name: str, superuser: Superuser
) -> None:
    await superuser.execute(f"ALTER ROLE diary_app IN DATABASE {database_name} SET synchronous_commit = off")
    try:
        with pytest.raises(RuntimeError, match="synchronous_commit"):
            await Database(settings).start()
    finally:
        await superuser.execute(f"ALTER ROLE diary_app IN DATABASE {database_name} RESET synchronous_commit")


@pytest.mark.parametrize(
    "setting",
    ["log_error_verbosity = 'default'", "log_min_error_statement = error", "log_parameter_max_length_on_error = -1"],
)
async def test_in_production_a_server_whose_log_would_show_records_may_not_serve(
    settings: Settings, server_url: str, superuser: Superuser, setting: str
) -> None:
    name = await make_database(server_url)
    own = {"environment": "production", "database_url": SecretStr(url_of(server_url, "diary_app", name))}
    await superuser.execute(f"ALTER DATABASE {name} SET {setting}")
    with pytest.raises(CannotServe, match="log"):
        await Database(settings.model_copy(update=own)).start()
    [guide] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "operate.md").read_text(), re.DOTALL)
    await superuser.execute(guide.replace("DATABASE diary", f"DATABASE {name}"))
    serving = Database(settings.model_copy(update=own))
    await serving.start()
    await serving.stop()


async def test_a_server_that_is_too_old_may_not_serve(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MINIMUM_VERSION", 990000)
    with pytest.raises(RuntimeError, match="15 or newer"):
        await Database(settings).start()


@pytest.mark.parametrize(
    "change",
    [
        ("postgresql://", "postgresql+asyncpg://"),
        ("postgresql://", "postgres://"),
        ("&port", "&sslmode=disable&port"),
    ],
)
async def test_a_url_means_the_same_to_calls_and_to_sessions(settings: Settings, change: tuple[str, str]) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    assert change[0] in url
    async with started(url.replace(*change)) as database:
        assert await database.execute("SELECT 1")
        async with database.open_transaction() as transaction:
            assert await transaction.scalar(text("SELECT 1")) == 1


def test_whoever_waits_for_a_connection_and_then_for_a_lock_is_refused_within_three_seconds() -> None:
    lock = int(IMPATIENT["lock_timeout"].removesuffix("ms")) / 1000
    assert Settings.model_fields["database_wait_seconds"].default + lock < 3


async def test_calls_and_sessions_have_the_same_limits(own: Database) -> None:
    shown = "SELECT name, setting, unit FROM pg_settings WHERE source = 'client' AND lower(name) = ANY ($1)"
    called = await own.execute(shown, list(SESSION_SETTINGS))
    async with own.open_transaction() as transaction:
        asked = await transaction.execute(text(shown.replace("$1", ":names")), {"names": list(SESSION_SETTINGS)})
        assert [tuple(row) for row in asked] == [tuple(row) for row in called]
    assert {row["name"].lower() for row in called} == SESSION_SETTINGS.keys()


@pytest.mark.parametrize(
    "sqlstate",
    ["08006", "53100", "53300", "57014", "57P01", "58030", "40P01", "40001", "55P03", "25006", "25P03"],
)
async def test_a_failure_that_will_pass_says_when_to_try_again(own: Database, sqlstate: str) -> None:
    assert passes(sqlstate)
    with pytest.raises(Unavailable) as called:
        await own.execute(RAISE.format(sqlstate))
    with pytest.raises(Unavailable) as asked:
        async with own.open_transaction() as transaction:
            await transaction.execute(text(RAISE.format(sqlstate)))
    assert called.value.retry_after in range(1, 6)
    assert asked.value.retry_after in range(1, 6)


@pytest.mark.parametrize("sqlstate", ["23505", "23514", "22P02", "42501", "P0001"])
async def test_a_mistake_is_not_taken_for_a_failure_that_will_pass(own: Database, sqlstate: str) -> None:
    assert not passes(sqlstate)
    with pytest.raises(asyncpg.PostgresError):
        await own.execute(RAISE.format(sqlstate))
    with pytest.raises(DBAPIError):
        async with own.open_transaction() as transaction:
            await transaction.execute(text(RAISE.format(sqlstate)))


@pytest.mark.parametrize(
    "failure",
    [ConnectionRefusedError(), TimeoutError(), asyncpg.InterfaceError("closed"), asyncpg.InternalClientError()],
)
def test_a_broken_connection_will_pass(failure: Exception) -> None:
    with pytest.raises(Unavailable), passing_failures():
        raise failure


def test_a_url_that_cannot_be_read_will_not_pass() -> None:
    with pytest.raises(asyncpg.ClientConfigurationError), passing_failures():
        raise asyncpg.ClientConfigurationError("invalid DSN")


REFUSED: list[tuple[str, tuple[object, ...]]] = [
    ("SELECT $1::int", ("not a number",)),
    ("SELECT $1::int", (2**31,)),
    ("SELECT $1::int[]", ([1, 2**31],)),
    ("SELECT $1::bigint", (2**63,)),
    ("SELECT $1::text", ("half a pair: \ud800",)),
    ("SELECT $1::text", ("\0",)),
    ("SELECT $1::int + 1", (2**31 - 1,)),
    ("SELECT 1 / $1::int", (0,)),
    ("SELECT nothing", ()),
]


async def test_a_statement_that_is_refused_costs_no_connection(own: Database) -> None:
    [[backend]] = await own.execute("SELECT pg_backend_pid()")
    for statement, values in REFUSED:
        with pytest.raises(asyncpg.PostgresError):
            await own.execute(statement, *values)
        [row] = await own.execute("SELECT pg_backend_pid(), 7")
        assert tuple(row) == (backend, 7), (statement, values)


async def test_a_call_that_was_broken_off_leaves_no_connection_half_way(own: Database, superuser: Superuser) -> None:
    [[backend]] = await own.execute("SELECT pg_backend_pid()")
    asleep = asyncio.create_task(own.execute("SELECT pg_sleep(600)"))
    await until(
        lambda: superuser.fetchval("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1", backend)
    )
    asleep.cancel()
    await until(lambda: superuser.fetchval("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1", backend))
    assert await own.execute("SELECT 1")


async def test_a_failed_statement_does_not_show_its_values(own: Database) -> None:
    with pytest.raises(DBAPIError) as failure:
        async with own.open_transaction() as transaction:
            await transaction.execute(text("SELECT CAST(:note AS text), 1 / :zero"), {"note": "canary", "zero": 0})
    assert "canary" not in str(failure.value)


SIGNATURE = "audit(uuid,text,uuid,uuid,uuid,text,uuid[],text,uuid,inet)"
CALLED = "SELECT audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', 'ok', NULL, NULL)"


@pytest.mark.parametrize(
    ("context", "told"),
    [
        (f"PL/pgSQL function {SIGNATURE} line 4 at SQL statement", True),
        (f"PL/pgSQL-Funktion {SIGNATURE} Zeile 4 bei SQL-Anweisung", True),
        (f"fonction PL/pgSQL {SIGNATURE}, ligne 4 à instruction SQL", True),
        (f"{SIGNATURE} 関数の 4 行目 SQL ステートメント", True),
        (f"SQL statement „{CALLED}“\nPL/pgSQL-Funktion authorize(uuid,uuid) Zeile 30 bei PERFORM", False),
        ("PL/pgSQL function settle_audit_v1() line 6 at IF", False),
        (None, False),
    ],
)
def test_a_failure_within_audit_is_known_in_whatever_language_the_server_speaks(
    context: str | None, told: bool
) -> None:
    failure = asyncpg.InsufficientPrivilegeError("refused")
    failure.context = context
    assert unaudited(failure) == told
    wrapped = DBAPIError("SELECT", {}, Exception())
    wrapped.orig = Exception()
    wrapped.orig.__cause__ = failure
    assert unaudited(wrapped) == told
