"""The parts behind the routes: made once for each application, and started with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.config import Settings
from app.http.deps import State
from app.postgres.database import Database
from app.security import tokens
from app.security.cursors import Cursors, ensure_secret
from app.services import readiness


def assemble(settings: Settings) -> State:
    """The parts behind the routes; in development their keys are made on first use."""
    keys = settings.signing_keys_directory or tokens.ensure_key(settings.state_directory / "keys")
    secret = settings.secret_key.get_secret_value() if settings.secret_key else ensure_secret(settings.state_directory)
    return State(
        settings=settings,
        database=Database(settings),
        tokens=tokens.AccessTokens(
            tokens.Keyring(keys),
            settings.token_issuer,
            settings.token_audience,
            settings.access_token_seconds,
        ),
        cursors=Cursors(secret.encode()),
        secret=secret.encode(),
    )


@asynccontextmanager
async def started(parts: State) -> AsyncIterator[None]:
    """The database is there while the block runs; raises what would keep the application from serving."""
    await parts.database.start()
    try:
        await readiness.require_schema(parts.database)
        yield
    finally:
        await parts.database.stop()


async def check_start(settings: Settings) -> None:
    """Starts and stops what the application starts with; raises what would keep it from serving."""
    async with started(assemble(settings)):
        pass
