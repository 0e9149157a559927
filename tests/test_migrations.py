"""Migrations up, down and up again, by whoever may run them, and the check that they lead to what `app/models` says."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError

import migrations
from app.config import Settings
from app.main import create_app
from app.models import Base
from app.postgres import embedded
from app.postgres.database import Database, make_engine
from app.postgres.migrate import UnknownRevision, alembic_config, migrate
from migrations import SOURCES, Unfrozen, check, digest_of
from tests.conftest import connect, create_database, make_database, url_of
from tests.people import Person
from tests.releases import AS_SOMEBODY, MIGRATE, Release, git
from tests.serving import ROOT
from tests.waiting import LOCKED, until, until_locked_out

VERSIONS = ROOT / "migrations" / "versions"
CARE_TEAM = """
    WITH clinic AS (INSERT INTO organisations (name) VALUES (gen_random_uuid()::text) RETURNING id),
         staff AS (INSERT INTO clinicians (user_id, organisation_id, profession) SELECT users.id, clinic.id, 'nurse'
                   FROM users, clinic LIMIT 1),
         link AS (INSERT INTO invitations (digest, user_id, expires_at)
                  SELECT sha256(id::text::bytea), id, now() FROM users)
    INSERT INTO share_codes (patient_id, code_digest, key_digest, terms_digest, scopes, purpose, grant_expires_at,
                             expires_at)
    SELECT id, sha256(id::text::bytea), '', '', '{entries:read}', 'care', now(), now() FROM patients
"""
REVISIONS = [script.revision for script in ScriptDirectory.from_config(alembic_config("")).walk_revisions()][::-1]
# As often as it takes a slow machine to start the other process.
MIGRATE_PATIENTLY = """
import sys; from alembic import command; from app.postgres.migrate import alembic_config
config = alembic_config(sys.argv[1]); config.attributes["attempts"] = 1000; command.upgrade(config, "head")
"""


@pytest.fixture
def empty(server_url: str) -> str:
    """The superuser's URL of an empty database."""
    name = f"diary_{uuid4().hex[:12]}"
    asyncio.run(create_database(server_url, name))
    return url_of(server_url, "postgres", name)


@pytest.fixture
def migrated(server_url: str) -> str:
    """The superuser's URL of a database at the newest migration."""
    return url_of(server_url, "postgres", asyncio.run(make_database(server_url)))


@pytest.fixture
def fresh_server() -> Iterator[embedded.Server]:
    """A cluster in which none of our roles exists yet."""
    with check.temporary_server() as server:
        yield server


def execute(url: str, statement: str) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def catalog(url: str) -> check.Catalog:
    async def read() -> check.Catalog:
        engine = make_engine(url, poolclass=NullPool)
        async with engine.connect() as connection:
            return await check.read_catalog(connection)

    return asyncio.run(read())


def fill(url: str, state: Path) -> None:
    """Puts rows into every table, the way they get there: people register, log, correct, delete and read."""
    served = Settings(
        environment="development", database_url=SecretStr(as_user(url, "diary_app")), state_directory=state
    )
    asyncio.run(_live(served))
    execute(
        url,
        "INSERT INTO grants (patient_id, grantee_id, status, scopes, purpose, expires_at)"
        " SELECT p.id, u.id, 'active', '{entries:read}', 'treatment', now() + interval '30 days'"
        " FROM patients p JOIN users u ON u.id <> p.user_id",
    )
    execute(url, CARE_TEAM)
    execute(url, "SELECT seal_audit_v1((SELECT settle_audit_v1()))")


async def _live(settings: Settings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app), connect(app) as first, connect(app) as second:
        for http in (first, second):
            phone = await Person().register_and_sign_in(http)
            created = (await phone.log(note="Stiff")).json()
            entry = f"{phone.diary}/entries/{created['id']}"
            assert (await http.patch(entry, json={"mood": 3}, headers={"If-Match": '"1"'})).status_code == 200
            assert (await phone.log()).status_code == 201
            assert (await http.delete(entry, headers={"If-Match": '"2"'})).status_code == 204
            assert len((await phone.get("/entries")).json()["items"]) == 1


def as_user(url: str, user: str) -> str:
    return url.replace("//postgres@", f"//{user}@", 1)


def row_counts(url: str) -> dict[str, int]:
    return {name: execute(url, f"SELECT count(*) FROM {name}")[0][0] for name in Base.metadata.tables}


def blocked(url: str, count: int) -> bool:
    """Whether so many sessions of the cluster wait for a lock."""
    [waiting] = execute(url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return bool(waiting[0] >= count)


def test_each_migration_goes_up_down_and_up_again_on_an_empty_database(empty: str) -> None:
    config = alembic_config(empty)
    catalogs: list[check.Catalog] = []
    for revision in REVISIONS:
        command.upgrade(config, revision)
        catalogs.append(catalog(empty))
        command.downgrade(config, "-1")
        assert [catalog(empty)] == catalogs[-2:-1] or len(catalogs) == 1
        command.upgrade(config, revision)
        assert catalog(empty) == catalogs[-1]


def test_each_migration_goes_down_and_up_again_on_a_filled_database(migrated: str, tmp_path: Path) -> None:
    fill(migrated, tmp_path)
    assert all(row_counts(migrated).values()), row_counts(migrated)
    config, newest = alembic_config(migrated), catalog(migrated)
    for down in range(1, len(REVISIONS) + 1):
        command.downgrade(config, f"-{down}")
        command.upgrade(config, "head")
        assert catalog(migrated) == newest
    assert not any(row_counts(migrated).values())
    fill(migrated, tmp_path)
    assert execute(migrated, "SELECT verify_diary_v1(id) FROM patients") == []


def test_a_migration_that_a_release_has_is_amended_no_more(tmp_path: Path) -> None:
    release = Release(tmp_path / "made")
    git(release.root, *AS_SOMEBODY, "tag", "--annotate", "v9.0.0", "-m", "9.0.0")
    release.add("app/models/access.sql", "-- Changed since.\n")
    with pytest.raises(RuntimeError, match="is part of a release, and stays: make migration NAME=…"):
        release.run("-m", "migrations.new", "--amend")
    assert git(release.root, "diff", "--name-only") == b"app/models/access.sql\n"


# Alembic writes its constraint on one line, and that is longer than ours may be.
TABLE_MORE = '''

class Pronoun(Base):
    """A word."""

    __tablename__ = "pronouns"
    __table_args__ = (CheckConstraint("word = lower(word) AND length(word) BETWEEN 1 AND 100 AND word > ''", name="w"),)

    word: Mapped[str] = mapped_column(primary_key=True)
'''


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release with a kind of record, a column, a table and a function more, and the migration written for it."""
    release = Release(tmp_path_factory.mktemp("release") / "next")
    release.add_kind()
    release.edit(
        "app/models/auth.py", "    locale: Mapped[str]\n", "    locale: Mapped[str]\n    pronoun: Mapped[str | None]\n"
    )
    release.add("app/models/auth.py", TABLE_MORE)
    release.edit("app/models/audit.sql", "are never changed or removed", "stay as they are")
    release.edit(
        "app/models/open_diary_v1.sql", "open_diary_v1(", "open_diary_v2(", into="app/models/open_diary_v2.sql"
    )
    release.edit("app/models/privileges.sql", "open_diary_v1,", "open_diary_v1, open_diary_v2,")
    release.new_migration("aims")
    return release


def test_a_migration_is_written_with_the_sql_that_changed_and_the_older_text_is_kept(next_release: Release) -> None:
    [path] = next_release.root.glob("migrations/versions/*_aims.py")
    told: dict[str, Any] = {}
    exec(path.read_text(), told)
    changed = ["audit.sql", "kinds.sql", "open_diary_v2.sql", "privileges.sql"]
    assert list(told["SQL"]) == changed
    assert list(told["BEFORE"]) == [name for name in changed if name != "open_diary_v2.sql"]
    assert 'op.add_column("users", sa.Column("pronoun"' in path.read_text()
    kept = {digest_of(path.read_bytes()): path.name for path in next_release.root.glob("migrations/frozen/*/*.sql")}
    assert [kept.get(digest) for digest in told["BEFORE"].values()] == list(told["BEFORE"])
    assert kept[digest_of((SOURCES / "audit.sql").read_bytes())] == "audit.sql"


def test_what_was_written_goes_up_down_and_up_on_a_filled_database(
    migrated: str, next_release: Release, tmp_path: Path
) -> None:
    fill(migrated, tmp_path)
    before, rows = catalog(migrated), row_counts(migrated)
    next_release.migrate(migrated)
    after = catalog(migrated)
    come = {"column users.pronoun", "function open_diary_v2(uuid,uuid,uuid,text,text,uuid,inet)"}
    assert come <= after.keys() - before
    next_release.migrate_back(migrated)
    assert catalog(migrated) == before
    next_release.migrate(migrated)
    assert (catalog(migrated), row_counts(migrated)) == (after, rows)


def test_going_down_is_refused_while_there_is_a_record_that_would_not_fit(
    migrated: str, next_release: Release, tmp_path: Path
) -> None:
    fill(migrated, tmp_path)
    next_release.migrate(migrated)
    execute(migrated, "UPDATE records SET kind = 'aim' WHERE kind = 'entry'")
    with pytest.raises(RuntimeError, match="ck_records_kind"):
        next_release.migrate_back(migrated)


def test_a_database_of_another_release_is_told_in_one_sentence(migrated: str) -> None:
    execute(migrated, "UPDATE alembic_version SET version_num = '2026_11_22_group_commit'")
    with pytest.raises(UnknownRevision, match=r"2026_11_22_group_commit, which this release does not know"):
        migrate(migrated)


def test_sql_that_was_changed_without_a_migration_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty: str
) -> None:
    shutil.copytree(SOURCES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "audit.sql").write_text("-- Nothing.")
    monkeypatch.setattr(migrations, "SOURCES", tmp_path)
    with pytest.raises(Unfrozen, match=r"installs audit.sql .* `make migration NAME=…` writes the next migration"):
        migrate(empty)


def test_all_the_way_down_leaves_nothing_but_alembics_own_table(migrated: str) -> None:
    assert "function write_records_v1(uuid,uuid,uuid,text,text,json,text[],boolean,uuid,uuid,inet,boolean)" in catalog(
        migrated
    )
    command.downgrade(alembic_config(migrated), "base")
    assert {name for name in catalog(migrated) if "alembic_version" not in name} == set()


def test_migrating_twice_changes_nothing(migrated: str, tmp_path: Path) -> None:
    fill(migrated, tmp_path)
    before = catalog(migrated), row_counts(migrated)
    migrate(migrated)
    assert (catalog(migrated), row_counts(migrated)) == before


def test_two_processes_migrating_one_database_both_succeed(empty: str) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", MIGRATE, empty], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert check.differences(empty) == []


def test_two_databases_of_one_new_cluster_migrate_at_the_same_time(fresh_server: embedded.Server) -> None:
    urls = [fresh_server.url("postgres", name) for name in ("one", "two")]
    for name in ("one", "two"):
        embedded.ensure_database(fresh_server, name)
    asyncio.run(_migrate_while_a_role_is_being_made(fresh_server.url(), urls))
    assert catalog(urls[0]) == catalog(urls[1])


async def _migrate_while_a_role_is_being_made(url: str, urls: list[str]) -> None:
    rival = await asyncpg.connect(url)
    transaction = rival.transaction()
    await transaction.start()
    await rival.execute("CREATE ROLE diary_app LOGIN")
    command = sys.executable, "-c", MIGRATE_PATIENTLY
    processes = [await asyncio.create_subprocess_exec(*command, one, cwd=ROOT) for one in urls]
    await until(lambda: asyncio.to_thread(blocked, url, 2))
    await transaction.commit()
    assert [await process.wait() for process in processes] == [0, 0]
    await rival.close()


def test_an_owner_of_the_database_who_is_no_superuser_can_migrate(fresh_server: embedded.Server) -> None:
    execute(fresh_server.url(), "CREATE ROLE deployer LOGIN CREATEROLE")
    for name in ("one", "two"):  # in the second the roles are there already
        execute(fresh_server.url(), f"CREATE DATABASE {name} OWNER deployer")
        url = fresh_server.url("deployer", name)
        migrate(url)
        migrate(url)
        command.downgrade(alembic_config(url), "base")
        migrate(url)
        asyncio.run(_start_as(fresh_server.url("diary_app", name)))
    assert catalog(fresh_server.url("postgres", "one")) == catalog(fresh_server.url("postgres", "two"))


async def _start_as(url: str) -> None:
    database = Database(Settings(environment="development", database_url=SecretStr(url)))
    await database.start()
    await database.stop()


def test_who_may_not_make_roles_can_migrate_where_they_were_made(fresh_server: embedded.Server) -> None:
    for role in ("diary_owner", "diary_app", "diary_eraser"):
        execute(fresh_server.url(), f"CREATE ROLE {role} LOGIN")
    execute(fresh_server.url(), "CREATE ROLE deployer LOGIN IN ROLE diary_owner")
    execute(fresh_server.url(), "CREATE DATABASE one OWNER deployer")
    migrate(fresh_server.url("deployer", "one"))
    assert "table records" in catalog(fresh_server.url("postgres", "one"))


def test_a_migration_waits_briefly_and_more_than_once_for_a_table_that_somebody_holds(
    migrated: str, tmp_path: Path
) -> None:
    config = alembic_config(migrated)
    config.attributes["attempts"] = 2
    config.set_main_option("version_locations", os.pathsep.join([str(VERSIONS), str(tmp_path)]))
    command.revision(config, "spare", version_path=str(tmp_path))
    [path] = tmp_path.glob("*_spare.py")
    path.write_text(path.read_text().replace("pass", 'op.execute("ALTER TABLE users ADD COLUMN spare text")', 1))
    with pytest.raises(DBAPIError, match="lock timeout"):
        asyncio.run(_upgrade_while_held(migrated, config))
    assert "column users.spare" not in catalog(migrated)
    config.attributes["attempts"] = 1000
    asyncio.run(_upgrade_while_held(migrated, config, waits=2))
    assert "column users.spare" in catalog(migrated)


async def _upgrade_while_held(url: str, config: Config, waits: int | None = None) -> None:
    """Lets go of the table once the migration has begun so many times to wait for it; else after the migration."""
    holder = await asyncpg.connect(url)
    watcher = await asyncpg.connect(url)
    try:
        async with holder.transaction():
            await holder.fetch("SELECT FROM users")
            upgrade = asyncio.create_task(asyncio.to_thread(command.upgrade, config, "head"))
            for _ in range(waits or 0):
                await until_locked_out(watcher)
                await until(lambda: _nobody_waits(watcher))
            if waits is None:
                await upgrade
        await upgrade
    finally:
        await holder.close()
        await watcher.close()


async def _nobody_waits(superuser: "asyncpg.Connection[asyncpg.Record]") -> bool:
    return not await superuser.fetchval(LOCKED)


def test_the_migrations_lead_to_what_the_models_and_their_sql_files_say(migrated: str) -> None:
    assert check.differences(migrated) == []
    assert catalog(migrated) == catalog(migrated)  # and looking changed nothing


def test_the_check_shows_a_function_that_was_changed_without_a_migration(migrated: str, tmp_path: Path) -> None:
    shutil.copytree(SOURCES, tmp_path, dirs_exist_ok=True)
    changed = (tmp_path / "audit.sql").read_text().replace("are never changed or removed", "may be changed")
    (tmp_path / "audit.sql").write_text(changed)
    found = check.differences(migrated, tmp_path)
    assert found[:2] == [
        "--- function refuse_change(), as migrated",
        "+++ function refuse_change(), as written",
    ]
    assert "+    RAISE EXCEPTION 'audit rows may be changed';" in found


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("CREATE FUNCTION forgotten() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function forgotten()"),
        ("ALTER TABLE users ADD COLUMN forgotten text", "column users.forgotten"),
        ("ALTER TABLE users DROP COLUMN locale", "column users.locale"),
        ("ALTER TABLE users ALTER COLUMN locale DROP NOT NULL", "column users.locale"),
        ("ALTER TABLE records DROP CONSTRAINT ck_records_note", "constraint ck_records_note on records"),
        ("DROP INDEX ix_records_timeline", "index ix_records_timeline"),
        ("ALTER POLICY in_context ON records USING (true)", "policy in_context on records"),
        ("ALTER TABLE records NO FORCE ROW LEVEL SECURITY", "table records"),
        ("ALTER TABLE audit_events DISABLE TRIGGER append_only", "trigger append_only on audit_events"),
        ("ALTER VIEW pain_scores RESET (security_invoker)", "view pain_scores"),
        ("GRANT INSERT ON records TO diary_app", "privileges on records"),
        ("GRANT SELECT (note) ON records TO diary_app", "privileges on records.note"),
        ("GRANT EXECUTE ON FUNCTION verify_diary_v1(uuid) TO diary_app", "privileges on verify_diary_v1(uuid)"),
        ("GRANT UPDATE ON alembic_version TO diary_app", "privileges on alembic_version"),
    ],
)
def test_the_check_shows_what_was_changed_in_the_database_only(migrated: str, change: str, shown: str) -> None:
    execute(migrated, change)
    assert f"--- {shown}, as migrated" in check.differences(migrated)


def test_alembics_own_check_is_part_of_it(migrated: str) -> None:
    execute(migrated, "ALTER TABLE users ADD COLUMN forgotten text")
    assert "remove_column" in check.differences(migrated)[0]


def test_the_command_says_what_differs_and_exits_1(tmp_path: Path) -> None:
    shutil.copytree(SOURCES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "verify_diary_v1.sql").unlink()
    command_line = [sys.executable, "-m", "migrations.check", str(tmp_path)]
    result = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "--- function verify_diary_v1(uuid), as migrated" in result.stderr
