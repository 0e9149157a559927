"""Treatments: what was agreed, how it changed, and what it makes due."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from app.http.date_range import Days, at_most
from app.http.deps import DiaryOf
from app.routers.records import Text, record_routes
from app.schemas.slots import LONGEST_DAYS, SlotsOut
from app.schemas.treatments import TREATMENT
from app.services import slots

router = record_routes(
    TREATMENT,
    texts={
        "create": Text(
            description="Stores a plan under the id that the phone chose; its events may have arrived before."
        ),
        "list": Text(description="Every plan, the newest first, also those that have ended."),
        "read": Text(description="The plan with all its regimens as it is now; 410 once it was deleted."),
        "replace": Text(
            description="Puts a new plan in the place of the version that If-Match names; keep the earlier regimens "
            "in it."
        ),
        "revise": Text(
            "Change a treatment",
            "A merge patch (RFC 7396): what is absent stays, null removes, a list (regimens too) is replaced as a "
            "whole.",
        ),
        "delete": Text(
            description="Deletes a plan that was never one; to end a plan, give its last regimen `valid_to` and set "
            "the status."
        ),
    },
)


@router.get("/{treatment_id}/slots", summary="Expand a treatment's schedule")
async def read_slots(
    diary: DiaryOf,
    treatment_id: Annotated[UUID, Path(description="The id that the phone chose.")],
    days: Annotated[Days, Depends(at_most(LONGEST_DAYS))],
) -> SlotsOut:
    """What the plan makes due: clock times as instants, so that a phone can set its reminders, and days or weeks."""
    return await slots.read_slots(diary, treatment_id, *days)
