"""Adherence: how much of what was agreed was done, as far as the diary can tell."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.http.date_range import Days, at_most
from app.http.deps import DiaryOf, Now
from app.schemas.adherence import LONGEST_DAYS, AdherenceOut
from app.services import adherence

router = APIRouter(prefix="/v1/patients/{patient_id}", tags=["adherence"])


@router.get("/adherence", summary="Read adherence")
async def read_adherence(
    diary: DiaryOf, days: Annotated[Days, Depends(at_most(LONGEST_DAYS))], now: Now
) -> AdherenceOut:
    """Self-reported adherence by treatment and overall; every figure says what it rests on and what is unknown."""
    return await adherence.read(diary, *days, now)
