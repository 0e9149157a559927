"""Whose the database is, and who may do what in it: owners, row security and privileges as app/models says.

A restore loses them without a word: by --no-owner or --no-privileges, in a cluster without the roles, or where only a
part of a dump was restored. What can be given back is given back; a database that lacks more is refused.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app import models
from app.models import Base
from app.postgres.database import owner_transaction

SOURCES = Path(models.__file__).parent
NOT_ALLOWED = "42501"
ROLES = ("diary_owner", "diary_app", "diary_eraser")
# What a line of SQL makes, and how the catalogs below call it.
MADE = {
    r"FUNCTION (\w+)\(": "function {}",
    r"VIEW (\w+)": "view {}",
    r"TYPE (\w+) AS": "type {}",
    r"TRIGGER (\w+) .* ON (\w+)": "trigger {} on {}",
    r"TABLE (?P<t>\w+) ADD CONSTRAINT (?P<c>\w+)": "constraint {1} on {0}",
}
GUARDED = {
    r"POLICY (\w+) ON (\w+)": "policy {} on {}",
    r"TABLE (\w+) ENABLE ROW": "row security of {}",
    r"TABLE (\w+) FORCE ROW": "forced row security of {}",
}
FOUND = """
SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' ELSE 'type' END || ' ' || relname
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'i', 'c')
UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT format('constraint %s on %s', conname, relname)
FROM pg_constraint JOIN pg_class c ON c.oid = conrelid WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT format('trigger %s on %s', tgname, relname)
FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT format('policy %s on %s', policyname, tablename) FROM pg_policies WHERE schemaname = 'public'
UNION ALL SELECT 'row security of ' || relname
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relrowsecurity
UNION ALL SELECT 'forced row security of ' || relname
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relforcerowsecurity
"""
# The statement that gives each object of ours back which is somebody else's; what an operator added stays theirs.
GIVE_BACK = """
SELECT format('ALTER %s %s OWNER TO diary_owner',
              CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, oid::regclass)
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'c')
    AND relowner <> 'diary_owner'::regrole AND relname = ANY (:names)
UNION ALL SELECT format('ALTER FUNCTION %s OWNER TO diary_owner', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proowner <> 'diary_owner'::regrole AND proname = ANY (:names)
"""
SHUT_OUT = """
SELECT NOT (has_schema_privilege('diary_owner', 'public', 'CREATE')
            AND has_schema_privilege('diary_app', 'public', 'USAGE')
            AND has_schema_privilege('diary_eraser', 'public', 'USAGE'))
    OR has_database_privilege('diary_app', current_database(), 'TEMPORARY')
"""
LET_IN = """
GRANT CREATE, USAGE ON SCHEMA public TO diary_owner;
GRANT USAGE ON SCHEMA public TO diary_app, diary_eraser;
DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$
"""
PRIVILEGES = """
SELECT array_agg(acl ORDER BY acl) FROM (
    SELECT relname || ': ' || privilege AS acl
    FROM pg_class,
        unnest(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) AS privilege
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
    UNION ALL SELECT format('%s.%s: %s', relname, attname, privilege)
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid, unnest(attacl) AS privilege
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT format('%s: %s', oid::regprocedure, privilege)
    FROM pg_proc, unnest(coalesce(proacl, acldefault('f', proowner))) AS privilege
    WHERE pronamespace = 'public'::regnamespace
) AS given
"""


class Incomplete(RuntimeError):
    """The database lacks what nobody can give back here; the text says what, in one sentence."""


def mend(url: str) -> list[str]:
    """Gives a database at the newest migration back what a restore lost, and says what; needs the owner's URL.

    Raises Incomplete where more is missing, or where the URL's role may not mend it.
    """
    return asyncio.run(_mend(url))


async def _mend(url: str) -> list[str]:
    try:
        async with owner_transaction(url) as connection:
            return [sentence async for sentence in _mended(connection)]
    except DBAPIError as failure:
        if getattr(failure.orig, "sqlstate", None) != NOT_ALLOWED:
            raise
        raise Incomplete(
            "Owners or privileges of the database are not those of a migrated one, and mending them takes a superuser:"
            " name one in DIARY_MIGRATION_DATABASE_URL for once."
        ) from None


async def _mended(connection: AsyncConnection) -> AsyncIterator[str]:
    await _refuse_what_is_missing(connection)
    owned = [name.split()[1] for name in _made() if name.split()[0] in ("table", "view", "type", "function")]
    statements = list((await connection.execute(text(GIVE_BACK), {"names": owned})).scalars())
    for statement in statements:
        await connection.exec_driver_sql(statement)
    if statements:
        yield f"{len(statements)} tables, views, types and functions belong to diary_owner again."
    if (await connection.execute(text(SHUT_OUT))).scalar_one():
        await _run(connection, LET_IN)
        yield "The roles may enter the schema again, and nobody may make temporary tables."
    await connection.exec_driver_sql("SET LOCAL ROLE diary_owner")
    unguarded = sorted(_guards() - await _found(connection))
    if unguarded:
        await _run(connection, (SOURCES / "policies.sql").read_text())
        yield f"Guarded again: {', '.join(unguarded)}."
    before = (await connection.execute(text(PRIVILEGES))).scalar_one()
    async with connection.begin_nested() as trial:
        await _run(connection, (SOURCES / "privileges.sql").read_text())
        if (await connection.execute(text(PRIVILEGES))).scalar_one() == before:
            await trial.rollback()  # or everybody would plan every statement anew
            return
    yield "The privileges of diary_app and diary_eraser are given again."


async def _refuse_what_is_missing(connection: AsyncConnection) -> None:
    there = set((await connection.execute(text("SELECT rolname::text FROM pg_roles"))).scalars())
    missing = [f"role {name}" for name in ROLES if name not in there] or sorted(_made() - await _found(connection))
    if missing:
        raise Incomplete(
            f"The database lacks {', '.join(missing)}: restore the whole backup, the roles first (docs/backup.md)."
        )


async def _found(connection: AsyncConnection) -> set[str]:
    return set((await connection.execute(text(FOUND))).scalars())


async def _run(connection: AsyncConnection, script: str) -> None:
    driver: asyncpg.Connection[asyncpg.Record] | None = (await connection.get_raw_connection()).driver_connection
    assert driver is not None  # noqa: S101 - an open connection has one
    try:
        await driver.execute(script)
    except asyncpg.InsufficientPrivilegeError as failure:
        raise DBAPIError(None, None, failure) from failure


@cache
def _made() -> frozenset[str]:
    """The name of everything that a migrated database has, but for what guards it."""
    tables = Base.metadata.tables.values()
    return frozenset(
        {
            "table alembic_version",
            *(f"table {table.name}" for table in tables),
            *(f"index {index.name}" for table in tables for index in table.indexes),
            *(f"constraint {one.name} on {table.name}" for table in tables for one in table.constraints),
            *_named(MADE),
        }
    )


@cache
def _guards() -> frozenset[str]:
    """The name of each policy, and of each table whose rows are guarded."""
    return frozenset(_named(GUARDED))


def _named(patterns: dict[str, str]) -> Iterator[str]:
    for path in SOURCES.glob("*.sql"):
        for pattern, name in patterns.items():
            for found in re.finditer(rf"^(?:CREATE|CREATE OR REPLACE|ALTER) {pattern}", path.read_text(), re.MULTILINE):
                yield name.format(*found.groups())
