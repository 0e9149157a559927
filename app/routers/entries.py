"""Diary entries: log, correct, delete, read back."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import Field, WithJsonSchema

from app.errors import Fault, Invalid
from app.http import record_responses as answers
from app.http import validation
from app.http.date_range import FirstDay, LastDay, check_order
from app.http.deps import BaseVersion, Cursor, DiaryOf, DiaryToWrite, IfNoneMatch, Limit, PlainNumber
from app.schemas.entries import (
    Character,
    EntryFields,
    EntryIn,
    EntryOut,
    EntryPage,
    EntryPatch,
    EntryVersionPage,
    PainScale,
    Region,
)
from app.services import records
from app.services.entries import ENTRY
from app.services.record_store import Filters

router = APIRouter(prefix="/v1/patients/{patient_id}/entries", tags=["entries"])
EntryId = Annotated[UUID, Path(description="The id that the phone chose.")]
MinScore = Annotated[
    Decimal,
    PlainNumber,
    Field(ge=0, le=100, decimal_places=2),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 100}),  # else also any string: a Decimal may be one
]


async def entry_filters(
    from_: FirstDay = None,
    to: LastDay = None,
    region: Annotated[Region | None, Query(description="A site is in this region.")] = None,
    character: Annotated[Character | None, Query(description="A site has this character.")] = None,
    scale: Annotated[PainScale | None, Query(description="Its main scale: that of most sites.")] = None,
    min_score: Annotated[MinScore | None, Query(description="Needs `scale`.")] = None,
) -> Filters:
    """Which entries are asked for."""
    if min_score is not None and scale is None:
        raise Invalid(faults=(Fault("#query/min_score", "needs_scale", "A score means something on a scale only."),))
    check_order(from_, to)
    return Filters((ENTRY.name,), from_, to, region, character, scale, min_score)


@router.post("", summary="Log pain", **answers.creating(EntryOut))
async def create_entry(diary: DiaryToWrite, body: EntryIn) -> Response:
    """Stores an entry under the id that the phone chose, so sending it again after a lost answer is safe."""
    return answers.created(diary, f"entries/{body.id}", await records.create(ENTRY, diary, body.id, body))


@router.get("", summary="List entries", **answers.listing(EntryPage))
async def list_entries(
    diary: DiaryOf,
    filters: Annotated[Filters, Depends(entry_filters)],
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Entries that fit, newest first, a page at a time."""
    known = answers.known_etags(if_none_match)
    return answers.page(await records.read_page(ENTRY, diary, filters, limit, cursor, known))


@router.get("/{entry_id}", summary="Read an entry", **answers.reading(EntryOut))
async def read_entry(diary: DiaryOf, entry_id: EntryId) -> Response:
    """The entry as it is now; 410 once it was deleted."""
    return answers.stored(await records.read(ENTRY, diary, entry_id))


@router.put("/{entry_id}", summary="Replace an entry", **answers.replacing(EntryOut))
async def replace_entry(
    diary: DiaryToWrite, entry_id: EntryId, base_version: BaseVersion, body: EntryFields
) -> Response:
    """Puts new content in the place of the version that If-Match names; never creates one."""
    return answers.stored(await records.replace(ENTRY, diary, entry_id, base_version, body))


@router.patch("/{entry_id}", summary="Correct an entry", **answers.revising(EntryOut, EntryPatch))
async def revise_entry(diary: DiaryToWrite, entry_id: EntryId, base_version: BaseVersion, body: EntryPatch) -> Response:
    """A merge patch (RFC 7396): what is absent stays, null removes, a list is replaced as a whole."""
    patch = body.model_dump(mode="json", exclude_unset=True)
    return answers.stored(await records.revise(ENTRY, diary, entry_id, base_version, patch, validation.validated))


@router.delete("/{entry_id}", summary="Delete an entry", **answers.deleting())
async def delete_entry(diary: DiaryToWrite, entry_id: EntryId, base_version: BaseVersion) -> Response:
    """Deletes the version that If-Match names; doing it again is no error. A deleted entry stays deleted."""
    await records.delete(ENTRY, diary, entry_id, base_version)
    return Response(status_code=204)


@router.get("/{entry_id}/versions", summary="Read an entry's history", **answers.tracing(EntryVersionPage))
async def list_entry_versions(diary: DiaryOf, entry_id: EntryId, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Every version with its author, device and time, newest first; also of a deleted entry."""
    return answers.history(await records.read_versions(ENTRY, diary, entry_id, limit, cursor))
