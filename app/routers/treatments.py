"""Treatments: what was agreed, how it changed, and what it makes due."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response

from app.http import record_responses as answers
from app.http import validation
from app.http.date_range import Days, at_most
from app.http.deps import BaseVersion, Cursor, DiaryOf, DiaryToWrite, IfNoneMatch, Limit
from app.schemas.slots import LONGEST_DAYS, SlotsOut
from app.schemas.treatments import (
    TreatmentFields,
    TreatmentIn,
    TreatmentOut,
    TreatmentPage,
    TreatmentPatch,
    TreatmentVersionPage,
)
from app.services import records, slots
from app.services.record_store import Filters
from app.services.slots import TREATMENT

router = APIRouter(prefix="/v1/patients/{patient_id}/treatments", tags=["treatments"])
TreatmentId = Annotated[UUID, Path(description="The id that the phone chose.")]


@router.post("", summary="Add a treatment", **answers.creating(TreatmentOut))
async def create_treatment(diary: DiaryToWrite, body: TreatmentIn) -> Response:
    """Stores a plan under the id that the phone chose; its events may have arrived before."""
    return answers.created(diary, f"treatments/{body.id}", await records.create(TREATMENT, diary, body.id, body))


@router.get("", summary="List treatments", **answers.listing(TreatmentPage))
async def list_treatments(
    diary: DiaryOf, limit: Limit = 50, cursor: Cursor = None, if_none_match: IfNoneMatch = None
) -> Response:
    """Every plan, the newest first, also those that have ended."""
    filters, known = Filters((TREATMENT.name,)), answers.known_etags(if_none_match)
    return answers.page(await records.read_page(TREATMENT, diary, filters, limit, cursor, known))


@router.get("/{treatment_id}", summary="Read a treatment", **answers.reading(TreatmentOut))
async def read_treatment(diary: DiaryOf, treatment_id: TreatmentId) -> Response:
    """The plan with all its regimens as it is now; 410 once it was deleted."""
    return answers.stored(await records.read(TREATMENT, diary, treatment_id))


@router.put("/{treatment_id}", summary="Replace a treatment", **answers.replacing(TreatmentOut))
async def replace_treatment(
    diary: DiaryToWrite, treatment_id: TreatmentId, base_version: BaseVersion, body: TreatmentFields
) -> Response:
    """Puts a new plan in the place of the version that If-Match names; keep the earlier regimens in it."""
    return answers.stored(await records.replace(TREATMENT, diary, treatment_id, base_version, body))


@router.patch("/{treatment_id}", summary="Change a treatment", **answers.revising(TreatmentOut, TreatmentPatch))
async def revise_treatment(
    diary: DiaryToWrite, treatment_id: TreatmentId, base_version: BaseVersion, body: TreatmentPatch
) -> Response:
    """A merge patch (RFC 7396): what is absent stays, null removes, a list (regimens too) is replaced as a whole."""
    patch = body.model_dump(mode="json", exclude_unset=True)
    return answers.stored(
        await records.revise(TREATMENT, diary, treatment_id, base_version, patch, validation.validated)
    )


@router.delete("/{treatment_id}", summary="Delete a treatment", **answers.deleting())
async def delete_treatment(diary: DiaryToWrite, treatment_id: TreatmentId, base_version: BaseVersion) -> Response:
    """Deletes a plan that was never one; to end a plan, give its last regimen `valid_to` and set the status."""
    await records.delete(TREATMENT, diary, treatment_id, base_version)
    return Response(status_code=204)


@router.get("/{treatment_id}/versions", summary="Read a treatment's history", **answers.tracing(TreatmentVersionPage))
async def list_treatment_versions(
    diary: DiaryOf, treatment_id: TreatmentId, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Every version with its author, device and time, newest first; also of a deleted treatment."""
    return answers.history(await records.read_versions(TREATMENT, diary, treatment_id, limit, cursor))


@router.get("/{treatment_id}/slots", summary="Expand a treatment's schedule")
async def read_slots(
    diary: DiaryOf, treatment_id: TreatmentId, days: Annotated[Days, Depends(at_most(LONGEST_DAYS))]
) -> SlotsOut:
    """What the plan makes due: clock times as instants, so that a phone can set its reminders, and days or weeks."""
    return await slots.read_slots(diary, treatment_id, *days)
