"""The timeline: every kind of record in one stream, newest first."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.http import etags
from app.http import record_responses as answers
from app.http.date_range import FirstDay, LastDay, check_order
from app.http.deps import Cursor, DiaryOf, IfNoneMatch, Limit
from app.schemas.timeline import ITEM_KINDS, TimelinePage
from app.services import record_store
from app.services.record_store import Filters

router = APIRouter(prefix="/v1/patients/{patient_id}", tags=["timeline"])
ONE = "|".join(ITEM_KINDS)


@router.get("/timeline", summary="Read the timeline", **answers.listing(TimelinePage))
async def read_timeline(
    diary: DiaryOf,
    kinds: Annotated[
        str | None,
        Query(
            pattern=f"^({ONE})(,({ONE}))*$",
            max_length=200,
            description=f"Only these, comma-separated: {', '.join(ITEM_KINDS)}.",
            examples=["entry,treatment_event"],
        ),
    ] = None,
    from_: FirstDay = None,
    to: LastDay = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """What the caller may see of the diary, told apart by `kind`; 304 while the diary has not moved.

    Beside each treatment event stands the name of its treatment. A `treatment_change` is no record of its own: it
    follows from a plan, at the instant from which it applies. Without `to` the timeline ends now: plans that begin
    later, and changes that are still to come, are on it as far as a `to` reaches.
    """
    check_order(from_, to)
    filters = Filters(tuple(kinds.split(",")) if kinds else None, from_, to)
    known = etags.known(if_none_match)
    planned_to = diary.database.clock.now() if to is None else None
    return answers.page(
        await record_store.read_page(diary, "timeline.read", None, filters, limit, cursor, known, planned_to)
    )
