"""What a restore loses of owners, row security and privileges is given back by `pain-diary migrate`, or named."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import asyncpg
import pytest

from app.postgres import rights
from tests.conftest import make_database, url_of
from tests.test_migrations import catalog

DAMAGES = {
    "restored without owners": (
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT format('ALTER TABLE %s OWNER TO postgres', oid::regclass)"
        " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP EXECUTE t; END LOOP; END $$;"
        "ALTER FUNCTION access(uuid, uuid) OWNER TO postgres; ALTER VIEW pain_scores OWNER TO postgres",
        "belong to diary_owner again",
    ),
    "restored without privileges": (
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM diary_app, diary_eraser;"
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC",
        "The privileges of diary_app and diary_eraser are given again.",
    ),
    "restored into a schema of somebody else's": (
        "REVOKE ALL ON SCHEMA public FROM diary_owner, diary_app, diary_eraser, PUBLIC",
        "The roles may enter the schema again, and nobody may make temporary tables.",
    ),
    "restored without policies": (
        "DROP POLICY in_context ON records; ALTER TABLE record_versions NO FORCE ROW LEVEL SECURITY;"
        "ALTER TABLE grants DISABLE ROW LEVEL SECURITY",
        "Guarded again: forced row security of record_versions, policy in_context on records, row security of grants.",
    ),
}
LACKS = {
    "DROP TRIGGER append_only ON audit_events": "trigger append_only on audit_events",
    "DROP FUNCTION write_records_v1": "function write_records_v1",
    "DROP INDEX ix_records_timeline": "index ix_records_timeline",
    "ALTER TABLE records DROP CONSTRAINT ck_records_note": "constraint ck_records_note on records",
    "ALTER TABLE records DROP CONSTRAINT ck_records_kind": "constraint ck_records_kind on records",
    "ALTER TABLE grants DROP CONSTRAINT pk_grants": "constraint pk_grants on grants",
    "DROP TABLE sign_in_delays": "table sign_in_delays",
    "DROP VIEW diary_entries": "view diary_entries",
}


@pytest.fixture
def migrated(server_url: str) -> str:
    """The superuser's URL of a database at the newest migration."""
    url = url_of(server_url, "postgres", asyncio.run(make_database(server_url)))
    rights.mend(url)  # a copy has not what was revoked of the database itself
    return url


@pytest.fixture
def execute(migrated: str) -> Callable[[str], None]:
    """Runs a script as the superuser."""

    async def run(script: str) -> None:
        connection = await asyncpg.connect(migrated)
        await connection.execute(script)
        await connection.close()

    return lambda script: asyncio.run(run(script))


def test_a_sound_database_is_left_as_it_is(migrated: str) -> None:
    before = catalog(migrated)
    assert rights.mend(migrated) == []
    assert catalog(migrated) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_restore_lost_is_given_back_and_said(damage: str, migrated: str, execute: Callable[[str], None]) -> None:
    whole = catalog(migrated)
    script, sentence = DAMAGES[damage]
    execute(script)
    said = rights.mend(migrated)
    assert any(sentence in one for one in said), said
    assert catalog(migrated) == whole
    assert rights.mend(migrated) == []


def test_a_database_that_lacks_more_is_refused_by_name(migrated: str, execute: Callable[[str], None]) -> None:
    execute(";".join(LACKS))
    with pytest.raises(rights.Incomplete) as refusal:
        rights.mend(migrated)
    assert [name for name in LACKS.values() if name not in str(refusal.value)] == []


def test_what_an_operator_granted_to_others_stays(migrated: str, execute: Callable[[str], None]) -> None:
    name = f"analyst_{uuid4().hex[:8]}"
    execute(f"CREATE ROLE {name}; GRANT SELECT ON pain_scores TO {name}")
    before = catalog(migrated)
    assert rights.mend(migrated) == []
    assert catalog(migrated) == before
    execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_whoever_may_not_mend_it_is_told_who_may(migrated: str, execute: Callable[[str], None]) -> None:
    execute("ALTER FUNCTION access(uuid, uuid) OWNER TO postgres")
    with pytest.raises(rights.Incomplete, match="takes a superuser"):
        rights.mend(migrated.replace("//postgres@", "//diary_owner@"))
    execute("ALTER FUNCTION access(uuid, uuid) OWNER TO diary_owner")
    assert rights.mend(migrated.replace("//postgres@", "//diary_owner@")) == []
