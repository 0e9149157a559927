"""Alembic's environment: the owner's connection, asyncpg, one transaction for all pending migrations."""

import asyncio
import warnings

from alembic import context
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import SAWarning

from app.models import Base
from app.postgres.database import make_engine

# One process migrates, another waits and then finds nothing left to do.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('alembic_version'))"
# From the second migration on everything is done as the owner, whoever signed in.
BECOME_OWNER = (
    "SELECT set_config('role', tableowner, false) FROM pg_tables"
    " WHERE schemaname = 'public' AND tablename = 'alembic_version'"
)


def migrate(connection: Connection) -> None:
    connection.execute(text(LOCK))
    connection.execute(text(BECOME_OWNER))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        template_args=context.config.attributes.get("template", {}),  # of `migrations.new`
    )
    with context.begin_transaction(), warnings.catch_warnings():
        # SQLAlchemy reads a constraint that is NOT VALID with an option that it then does not know itself.
        warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'", SAWarning)
        context.run_migrations()


async def main(url: str) -> None:
    engine = make_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()


asyncio.run(main(context.config.attributes["url"]))
