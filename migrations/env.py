"""Alembic's environment: the owner's connection, asyncpg, one transaction for all pending migrations."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.database import sqlalchemy_url
from app.models import Base


def migrate(connection: Connection) -> None:
    # From the second migration on everything is done as the owner, whoever signed in.
    if connection.scalar(text("SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = 'diary_owner'")):
        connection.execute(text("SET ROLE diary_owner"))
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


async def main(url: str) -> None:
    engine = create_async_engine(sqlalchemy_url(url), hide_parameters=True)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(main(context.config.attributes["url"]))
