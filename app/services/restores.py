"""After a backup was restored: what it cannot know is taken back or asked anew (ADR 13 and 21)."""

import asyncio
from dataclasses import dataclass

from sqlalchemy import text

from app.postgres.database import owner_transaction

# Where nothing was written since the last restore, what phones lost is still of the epoch before that. The clocks stay
# locked until all is done, as whoever changes consent locks them.
NEW_EPOCHS = """
UPDATE patient_clocks SET epoch = gen_random_uuid(), restored_head = head,
    previous_epoch = CASE WHEN previous_epoch IS NULL OR head > restored_head THEN epoch ELSE previous_epoch END
"""
# That an outbox was empty counts no more: what was acknowledged since the backup is to be offered again.
FORGET_CONFIRMATIONS = "UPDATE sessions SET outbox_empty_at = NULL WHERE outbox_empty_at IS NOT NULL"
END_SESSIONS = "UPDATE sessions SET revoked_at = now() WHERE revoked_at IS NULL AND expires_at > now()"
END_LINKS = "UPDATE invitations SET expires_at = now() WHERE used_at IS NULL AND expires_at > now()"
END_CODES = "UPDATE share_codes SET expires_at = now() WHERE expires_at > now()"
# A new version: what its holder keeps of the time before, a cursor or a page, is of another consent.
SUSPEND_GRANTS = """
WITH suspended AS (
    UPDATE grants SET status = 'pending', confirmed_at = NULL, version = version + 1
    WHERE status = 'active' AND revoked_at IS NULL AND expires_at > now()
    RETURNING id, patient_id
)
SELECT count(audit(NULL, NULL, NULL, id, patient_id, 'grants.suspend', '{}', 'ok', NULL, NULL)::text) FROM suspended
"""


# Named so by `database.SESSION_SETTINGS`; whoever may connect is told of it.
SERVING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pain-diary'
"""


class StillServed(Exception):
    """The service runs on what would be taken back; the text says so."""


@dataclass(frozen=True, slots=True)
class Restored:
    """How much was taken back: diaries in a new epoch, sessions and links that ended, consents that wait."""

    diaries: int
    sessions: int
    links: int
    grants: int


def require_stopped(url: str) -> None:
    """Raises StillServed where the service is connected: a database in use was not restored just now."""
    if asyncio.run(_connections_of_the_service(url)):
        raise StillServed("The service runs on this database: `restored` would end every session, so stop it first.")


async def _connections_of_the_service(url: str) -> int:
    async with owner_transaction(url) as connection:
        return int((await connection.execute(text(SERVING))).scalar_one())


def take_back(url: str) -> Restored:
    """Ends or suspends whatever may have ended since the backup was made, in one transaction; needs the owner's URL."""
    return asyncio.run(_take_back(url))


async def _take_back(url: str) -> Restored:
    async with owner_transaction(url) as connection:
        diaries = (await connection.execute(text(NEW_EPOCHS))).rowcount
        await connection.execute(text(FORGET_CONFIRMATIONS))
        sessions = (await connection.execute(text(END_SESSIONS))).rowcount
        links = (await connection.execute(text(END_LINKS))).rowcount
        await connection.execute(text(END_CODES))
        grants = (await connection.execute(text(SUSPEND_GRANTS))).scalar_one()
    return Restored(diaries, sessions, links, grants)
