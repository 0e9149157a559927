"""Alembic's environment: the owner's connection, asyncpg, one transaction for all pending migrations.

A migration never lets those who write wait longer than they do (`SESSION_SETTINGS`): what it cannot lock soon it
leaves, and begins anew. It waits long enough for PostgreSQL to end an autovacuum in its way, after a second.
"""

import asyncio
import warnings

from alembic import context
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError, SAWarning

from app.models import Base
from app.postgres.database import make_engine

# One process migrates, another waits and then finds nothing left to do.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('alembic_version'))"
# From the second migration on everything is done as the owner, whoever signed in.
BECOME_OWNER = (
    "SELECT set_config('role', tableowner, false) FROM pg_tables"
    " WHERE schemaname = 'public' AND tablename = 'alembic_version'"
)
READ_HISTORY = "SELECT obj_description('alembic_version'::regclass, 'pg_class')"
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '1200ms'"
LOCK_NOT_AVAILABLE = "55P03"
ATTEMPTS = 10
PAUSE_SECONDS = 1


def migrate(connection: Connection) -> None:
    done = context.config.attributes["applied"] = []  # each attempt begins anew
    connection.execute(text(LOCK))
    connection.execute(text(LOCK_TIMEOUT))
    connection.execute(text(BECOME_OWNER))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        template_args=context.config.attributes.get("template", {}),  # of `migrations.new`
        on_version_apply=lambda step, **_: done.append(step.up_revision_id),
    )
    with context.begin_transaction(), warnings.catch_warnings():
        # SQLAlchemy reads a constraint that is NOT VALID with an option that it then does not know itself.
        warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'", SAWarning)
        context.run_migrations()
    write_history(connection)


def write_history(connection: Connection) -> None:
    """Writes the migrations that led here into the table's comment: an older worker then finds its own among them."""
    heads = context.get_context().get_current_heads()
    newest_first = [step.revision for step in context.script.iterate_revisions(heads, "base")]
    wanted = " ".join(reversed(newest_first))
    if heads and connection.scalar(text(READ_HISTORY)) != wanted:
        connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{wanted}'"))  # our own names


async def main(url: str, attempts: int) -> None:
    engine = make_engine(url, poolclass=NullPool)
    for left in reversed(range(attempts)):
        try:
            async with engine.begin() as connection:
                await connection.run_sync(migrate)
                return
        except DBAPIError as error:
            if not left or getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            await asyncio.sleep(PAUSE_SECONDS)


asyncio.run(main(context.config.attributes["url"], context.config.attributes.get("attempts", ATTEMPTS)))
