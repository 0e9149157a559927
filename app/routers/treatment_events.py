"""Treatment events: doses and sessions, done or not."""

from typing import Annotated
from uuid import UUID

from fastapi import Query

from app.http.date_range import FirstDay, LastDay, check_order
from app.routers.records import Text, record_routes
from app.schemas.treatment_events import TREATMENT_EVENT
from app.services.record_store import Filters


async def event_filters(
    from_: FirstDay = None,
    to: LastDay = None,
    treatment_id: Annotated[UUID | None, Query(description="Of this treatment.")] = None,
) -> Filters:
    """Which events are asked for."""
    check_order(from_, to)
    return Filters((TREATMENT_EVENT.name,), from_, to, treatment_id=treatment_id)


router = record_routes(
    TREATMENT_EVENT,
    filters=event_filters,
    id_name="event_id",
    texts={
        "create": Text(
            "Log a dose or session",
            "Stores what was done, or not, under the id that the phone chose; its treatment may arrive later.",
        ),
        "list": Text(description="Doses and sessions that fit, newest first, each with the name of its treatment."),
        "read": Text(description="The event as it is now; 410 once it was deleted."),
        "revise": Text(
            description="A merge patch (RFC 7396): how it felt afterwards, say. What is absent stays, null removes."
        ),
        "delete": Text(
            description="Deletes the version that If-Match names; doing it again is no error. A deleted event stays "
            "deleted."
        ),
        "list_versions": Text(
            description="Every version with its author, device and time, newest first; also of a deleted event."
        ),
    },
)
