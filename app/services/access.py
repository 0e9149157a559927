"""Who calls, whose diary it is, and whether the database authorizes the one for the other."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Gone, InsufficientScope, NotFound, Problem, ResyncRequired, Unauthenticated
from app.postgres.database import Database
from app.security.cursors import Cursors

OPEN_DIARY = "SELECT open_diary_v1($1, $2, $3, $4, $5, $6)"
OWNER = "*"
REFUSALS: dict[str, type[Problem]] = {
    "unauthenticated": Unauthenticated,
    "not_found": NotFound,
    "erased": Gone,
    "insufficient_scope": InsufficientScope,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, by a verified token; whether the session behind it still lives, the database says."""

    user_id: UUID
    session_id: UUID
    request_id: UUID
    address: str | None
    role: str = "patient"


@dataclass(frozen=True, slots=True)
class Diary:
    """One patient's diary as one caller asks for it. It grants nothing: each call asks access() with its data."""

    database: Database
    cursors: Cursors
    caller: Caller
    patient_id: UUID
    outbox_empty: bool = False  # the device has nothing left to send after this call


async def enter(transaction: AsyncSession, diary: Diary, action: str, scope: str | None = None) -> None:
    """Authorize the transaction for this diary and set the row-security context; `action` names the call in the audit.

    Without a scope any consent that opens a kind of record will do; OWNER is the patient's alone. Raises
    Unauthenticated, NotFound, Gone or InsufficientScope.
    """
    caller = diary.caller
    visit = (caller.session_id, diary.patient_id, scope, action, caller.request_id, caller.address)
    connection = await transaction.connection()
    outcome = (await connection.exec_driver_sql(OPEN_DIARY, visit)).scalar_one()
    if outcome != "ok":
        await diary.database.call(OPEN_DIARY, *visit)  # the refusal rolls the transaction back, and its trail must stay
        refuse(outcome)


def refuse(outcome: str) -> None:
    """Raises the problem behind a refusal of enter_diary(); other outcomes pass."""
    if outcome in REFUSALS:
        raise REFUSALS[outcome]
    if outcome in ("reload", "reoffer"):
        raise ResyncRequired(outcome)
