"""Whether this service can read and write: the database answers, is the one of this release, and has room.

A database may be a release ahead, for as long as the workers of this one are being replaced. It says so itself: its
migrations stand in the comment of `alembic_version` (migrations/env.py), and this release's is among them.
It is asked the way that phones ask: through a group, and the replica too where there is one.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any
from uuid import UUID

import asyncpg

from app.errors import Unavailable
from app.models.revision import REVISION
from app.postgres import connections
from app.postgres.database import CannotServe, Database
from app.postgres.functions import Function
from app.services import access, adherence, audit, care_team, record_store, sessions, sync

PROBE_DISK = Function("probe_disk_v1", "")
CALLED = (
    access.OPEN_DIARY,
    access.OPEN_OWN_DIARY,
    adherence.READ_COURSE,
    audit.SEAL_AUDIT,
    audit.SETTLE_AUDIT,
    sessions.REVOKE_SESSIONS,
    sessions.SESSION_ACCOUNT,
    sessions.PURGE,
    care_team.ACCESS_LOG,
    care_team.GRANTS_OF_DIARY,
    care_team.GRANTS_OF_SESSION,
    care_team.LOCK_DIARY,
    care_team.READ_PANEL,
    care_team.REDEEM_SHARE_CODE,
    record_store.READ_PAGE,
    record_store.READ_RECORD,
    record_store.READ_VERSIONS,
    record_store.WRITE_IMPORTS,
    record_store.WRITE_RECORDS,
    sync.COMPARE_DIARY,
    sync.READ_CHANGES,
    sync.READ_HEADS,
    PROBE_DISK,
)
FRESH_SECONDS = 1  # a balancer asks often, and so may anybody
DISK_SECONDS = 10
# Each name with what the database has under it; the catalog may be read before anything is migrated.
SCHEMA = """
SELECT name, p.oid IS NOT NULL AS there, proowner::regrole::text = 'diary_owner' AS owned,
       has_function_privilege(p.oid, 'EXECUTE') AS granted,
       (SELECT bool_or(rolsuper OR rolbypassrls) FROM pg_roles WHERE rolname = 'diary_owner') AS mighty_owner,
       has_table_privilege(to_regclass('public.alembic_version'), 'SELECT') AS migrated,
       obj_description(to_regclass('public.alembic_version'), 'pg_class') AS migrations,
       current_setting('transaction_read_only')::boolean AS read_only
FROM unnest($1::text[]) AS name
LEFT JOIN pg_proc p ON proname = name AND pronamespace = 'public'::regnamespace
"""
NOT_MIGRATED = "The database is not migrated yet: `pain-diary migrate` comes first."
NOBODY = UUID(int=0)
READ_ONLY = "The database is read-only, so nothing can be written, nor read, as every read is audited."
NO_ANSWER = "The database does not answer."


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What the service can do now, and in one sentence why it cannot do the rest.

    `replica`: whether it drafts pages; None where there is none. Without it the primary does.
    """

    reads: bool
    writes: bool
    reason: str | None = None
    replica: bool | None = None


class Readiness:
    """Looks at the database when it is asked, at most once a second however often that is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._state: DatabaseState | None = None
        self._looked_at = self._probed_at = 0.0
        self._looking = asyncio.Lock()
        self._room = True

    @property
    def last(self) -> DatabaseState | None:
        """What was seen last; None before anybody looked."""
        return self._state

    async def look(self) -> DatabaseState:
        """What the service can do now; never raises for what the database does."""
        async with self._looking:
            if self._state is None or monotonic() - self._looked_at >= FRESH_SECONDS:
                state, replica = await asyncio.gather(self._see(), self._see_replica())
                self._state = replace(state, replica=replica)
                self._looked_at = monotonic()
            return self._state

    async def _see(self) -> DatabaseState:
        try:
            async with asyncio.timeout(2 * self._database.settings.database_wait_seconds):
                await self._database.call_grouped(sync.READ_HEADS(session=NOBODY), NOBODY)
                rows = await _read_schema(self._database)
                fault = await _fault(self._database, rows)
                if fault is not None:
                    return DatabaseState(False, False, fault)
                if rows[0]["read_only"]:
                    return DatabaseState(False, False, READ_ONLY)
                if not await self._has_room():
                    return DatabaseState(True, False, connections.refusal("53100"))
        except (Unavailable, TimeoutError, asyncpg.PostgresError) as failure:
            return DatabaseState(False, False, connections.sentence(failure) or NO_ANSWER)
        return DatabaseState(True, True)

    async def _see_replica(self) -> bool | None:
        if not self._database.has_replica:
            return None
        return await self._database.call_replica(sync.READ_HEADS(session=NOBODY), NOBODY) is not None

    async def _has_room(self) -> bool:
        if not self._room or monotonic() - self._probed_at >= DISK_SECONDS:
            self._probed_at = monotonic()
            try:
                await self._database.call(PROBE_DISK())
                self._room = True
            except Unavailable as failure:
                if getattr(failure.__cause__, "sqlstate", None) != "53100":
                    raise
                self._room = False
        return self._room


async def require_schema(database: Database) -> None:
    """Raises CannotServe where the database is not one that this release can serve from."""
    fault = await _fault(database, await _read_schema(database))
    if fault is not None:
        raise CannotServe(fault)


async def _read_schema(database: Database) -> list[Any]:
    return await database.execute(SCHEMA, [function.name for function in CALLED])


async def _fault(database: Database, rows: list[Any]) -> str | None:
    """What is wrong with the schema, in one sentence; the migration comes first, as it explains the rest."""
    first = rows[0]
    if first["migrated"] is None:
        return NOT_MIGRATED
    if first["migrated"]:
        stands_at = [row[0] for row in await database.execute("SELECT version_num FROM alembic_version")]
        fault = revision_fault(stands_at, first["migrations"])
        if fault is not None:
            return fault
    return next(_function_faults(rows), None)


def revision_fault(stands_at: list[str], migrations: str | None) -> str | None:
    """What is wrong with the migration at which a database stands, where `migrations` led to it; None if it will do."""
    if not stands_at:
        return NOT_MIGRATED
    if stands_at == [REVISION]:
        return None
    known = (migrations or "").split()
    if REVISION in known and stands_at == known[-1:]:
        return None  # a release ahead of this one
    return (
        f"The database stands at the migration {', '.join(stands_at)}, and this release needs {REVISION}:"
        " `pain-diary migrate` of this release comes first."
    )


def _function_faults(rows: list[Any]) -> Iterator[str]:
    if rows[0]["mighty_owner"]:
        yield "The role diary_owner is a superuser or bypasses row security: neither may be."
    for words, wrong in (
        ("are missing", [row["name"] for row in rows if not row["there"]]),
        ("do not belong to diary_owner", [row["name"] for row in rows if row["there"] and not row["owned"]]),
        ("may not be called by the serving role", [row["name"] for row in rows if row["there"] and not row["granted"]]),
    ):
        if wrong:
            yield f"Functions of the database {words} ({', '.join(wrong)}): `pain-diary verify` says more."
