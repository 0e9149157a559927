"""The timeline: every kind of record in one stream, newest first."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app import problems
from app.deps import Cursor, DiaryOf, IfNoneMatch, Limit
from app.errors import InvalidCursor
from app.routers.paging import PAGE_ETAG, answer_page, check_order, known_etags
from app.schemas.base import LocalDate
from app.schemas.timeline import TimelinePage
from app.services import records
from app.services.records import Filters

router = APIRouter(prefix="/v1/patients/{patient_id}", tags=["timeline"])


@router.get(
    "/timeline",
    summary="Read the timeline",
    response_class=Response,
    responses={
        200: {"model": TimelinePage, "headers": PAGE_ETAG},
        304: {"description": "Nothing has changed."},
        **problems.responses(InvalidCursor),
    },
)
async def read_timeline(
    diary: DiaryOf,
    kinds: Annotated[str | None, Query(pattern=r"^entry(,entry)*$", description="Kinds, comma-separated.")] = None,
    from_: Annotated[LocalDate | None, Query(alias="from", description="First local day.")] = None,
    to: Annotated[LocalDate | None, Query(description="Last local day.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """What the caller may see of the diary, discriminated by `kind`; 304 while the diary has not moved."""
    check_order(from_, to)
    filters = Filters(tuple(kinds.split(",")) if kinds else None, from_, to)
    return answer_page(
        await records.read_page(diary, "timeline.read", None, filters, limit, cursor, known_etags(if_none_match))
    )
