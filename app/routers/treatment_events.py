"""Treatment events: doses and sessions, done or not."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response

from app.http import record_responses as answers
from app.http import validation
from app.http.date_range import FirstDay, LastDay, check_order
from app.http.deps import BaseVersion, Cursor, DiaryOf, DiaryToWrite, IfNoneMatch, Limit
from app.schemas.treatment_events import (
    TreatmentEventFields,
    TreatmentEventIn,
    TreatmentEventOut,
    TreatmentEventPage,
    TreatmentEventPatch,
    TreatmentEventVersionPage,
)
from app.services import records
from app.services.record_store import Filters
from app.services.treatment_events import TREATMENT_EVENT

router = APIRouter(prefix="/v1/patients/{patient_id}/treatment-events", tags=["treatment-events"])
EventId = Annotated[UUID, Path(description="The id that the phone chose.")]


async def event_filters(
    from_: FirstDay = None,
    to: LastDay = None,
    treatment_id: Annotated[UUID | None, Query(description="Of this treatment.")] = None,
) -> Filters:
    """Which events are asked for."""
    check_order(from_, to)
    return Filters((TREATMENT_EVENT.name,), from_, to, treatment_id=treatment_id)


@router.post("", summary="Log a dose or session", **answers.creating(TreatmentEventOut))
async def create_treatment_event(diary: DiaryToWrite, body: TreatmentEventIn) -> Response:
    """Stores what was done, or not, under the id that the phone chose; its treatment may arrive later."""
    stored = await records.create(TREATMENT_EVENT, diary, body.id, body)
    return answers.created(diary, f"treatment-events/{body.id}", stored)


@router.get("", summary="List treatment events", **answers.listing(TreatmentEventPage))
async def list_treatment_events(
    diary: DiaryOf,
    filters: Annotated[Filters, Depends(event_filters)],
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Doses and sessions that fit, newest first, each with the name of its treatment."""
    known = answers.known_etags(if_none_match)
    return answers.page(await records.read_page(TREATMENT_EVENT, diary, filters, limit, cursor, known))


@router.get("/{event_id}", summary="Read a treatment event", **answers.reading(TreatmentEventOut))
async def read_treatment_event(diary: DiaryOf, event_id: EventId) -> Response:
    """The event as it is now; 410 once it was deleted."""
    return answers.stored(await records.read(TREATMENT_EVENT, diary, event_id))


@router.put("/{event_id}", summary="Replace a treatment event", **answers.replacing(TreatmentEventOut))
async def replace_treatment_event(
    diary: DiaryToWrite, event_id: EventId, base_version: BaseVersion, body: TreatmentEventFields
) -> Response:
    """Puts new content in the place of the version that If-Match names; never creates one."""
    return answers.stored(await records.replace(TREATMENT_EVENT, diary, event_id, base_version, body))


@router.patch(
    "/{event_id}",
    summary="Correct a treatment event",
    **answers.revising(TreatmentEventOut, TreatmentEventPatch),
)
async def revise_treatment_event(
    diary: DiaryToWrite, event_id: EventId, base_version: BaseVersion, body: TreatmentEventPatch
) -> Response:
    """A merge patch (RFC 7396): how it felt afterwards, say. What is absent stays, null removes."""
    patch = body.model_dump(mode="json", exclude_unset=True)
    stored = await records.revise(TREATMENT_EVENT, diary, event_id, base_version, patch, validation.validated)
    return answers.stored(stored)


@router.delete("/{event_id}", summary="Delete a treatment event", **answers.deleting())
async def delete_treatment_event(diary: DiaryToWrite, event_id: EventId, base_version: BaseVersion) -> Response:
    """Deletes the version that If-Match names; doing it again is no error. A deleted event stays deleted."""
    await records.delete(TREATMENT_EVENT, diary, event_id, base_version)
    return Response(status_code=204)


@router.get(
    "/{event_id}/versions",
    summary="Read a treatment event's history",
    **answers.tracing(TreatmentEventVersionPage),
)
async def list_treatment_event_versions(
    diary: DiaryOf, event_id: EventId, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Every version with its author, device and time, newest first; also of a deleted event."""
    return answers.history(await records.read_versions(TREATMENT_EVENT, diary, event_id, limit, cursor))
