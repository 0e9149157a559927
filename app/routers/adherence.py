"""Adherence: how much of what was agreed was done, as far as the diary can tell."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from app.http import etags
from app.http import record_responses as responses
from app.http.date_range import Days, at_most
from app.http.deps import DiaryOf, IfNoneMatch, Now
from app.schemas.adherence import LONGEST_DAYS, AdherenceOut
from app.services import adherence

router = APIRouter(prefix="/v1/patients/{patient_id}", tags=["adherence"])


@router.get("/adherence", summary="Read adherence", **responses.showing(AdherenceOut))
async def read_adherence(
    diary: DiaryOf,
    days: Annotated[Days, Depends(at_most(LONGEST_DAYS))],
    now: Now,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Self-reported adherence by treatment and overall; every figure says what it rests on and what is unknown.

    The ETag is weak: it stays while the figures do, whatever the time they were computed at.
    """
    found = await adherence.read(diary, *days, now)
    figures = etags.tag_of(found.model_dump_json(exclude={"as_of"}).encode())
    return responses.unless_known(found.model_dump_json().encode(), f'W/"{figures}"', if_none_match)
