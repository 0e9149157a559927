"""Who calls, whose diary it is, and whether the database authorizes the one for the other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Gone, InsufficientScope, NotFound, Problem, ResyncRequired, Unauthenticated
from app.postgres.database import Database, call_in
from app.postgres.functions import Call, Function
from app.security.cursors import Cursors

OPEN_DIARY = Function(
    "open_diary_v1", "session uuid, user uuid, patient uuid, scope text, action text, request uuid, address inet"
)
OPEN_OWN_DIARY = Function(
    "open_own_diary_v1", "session uuid, user uuid, patient uuid, action text, request uuid, address inet"
)
Charge = Callable[[int], None]
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


def free(requests: int) -> None:
    """Nobody counts what is done here."""


@dataclass(frozen=True, slots=True)
class Diary:
    """One patient's diary as one caller asks for it. It grants nothing: each call asks access() with its data."""

    database: Database
    cursors: Cursors
    caller: Caller
    patient_id: UUID
    outbox_empty: bool = False  # the device has nothing left to send after this call
    charge: Charge = free  # counts this call as so many requests more: see costs.py

    def asked(self, action: str) -> dict[str, Any]:
        """Who asks for what, in the parameters that every function about a diary has."""
        caller = self.caller
        return {
            "session": caller.session_id,
            "user": caller.user_id,
            "patient": self.patient_id,
            "action": action,
            "request": caller.request_id,
            "address": caller.address,
        }


async def authorize(transaction: AsyncSession, diary: Diary, action: str, scope: str | None = None) -> None:
    """Authorize the transaction for this diary and set the row-security context; `action` names the call in the audit.

    Without a scope any consent that opens a kind of record will do. Raises Unauthenticated, NotFound, Gone or
    InsufficientScope.
    """
    await _enter(transaction, diary, OPEN_DIARY(**diary.asked(action), scope=scope))


async def authorize_owner(transaction: AsyncSession, diary: Diary, action: str) -> None:
    """The same for what only the patient decides: whoever else may see the diary gets InsufficientScope."""
    await _enter(transaction, diary, OPEN_OWN_DIARY(**diary.asked(action)))


async def _enter(transaction: AsyncSession, diary: Diary, visit: Call) -> None:
    outcome = (await call_in(transaction, visit)).scalar_one()
    if outcome != "ok":
        await diary.database.call(visit)  # the refusal rolls the transaction back, and its trail must stay
        refuse(outcome)


def refuse(outcome: str) -> None:
    """Raises the problem behind a refusal of authorize(); other outcomes pass."""
    if outcome in REFUSALS:
        raise REFUSALS[outcome]
    if outcome in ("reload", "reoffer"):
        raise ResyncRequired(outcome)
