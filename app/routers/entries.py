"""Diary entries: log, correct, delete, read back."""

from decimal import Decimal
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response

from app import problems
from app.deps import BaseVersion, Cursor, DiaryOf, IfNoneMatch, Limit, PlainNumber
from app.errors import Conflict, Fault, Invalid, InvalidCursor, PreconditionRequired, Stale
from app.routers.paging import JSON, PAGE_ETAG, answer_page, check_order, known_etags
from app.schemas.base import LocalDate
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
from app.services import entries
from app.services.records import Filters

ETAG = {"ETag": {"description": "The version, strong.", "schema": {"type": "string"}, "example": '"1"'}}
STORED: dict[str, Any] = {"model": EntryOut, "headers": ETAG}

router = APIRouter(prefix="/v1/patients/{patient_id}/entries", tags=["entries"])
EntryId = Annotated[UUID, Path(description="The id that the phone chose.")]


async def entry_filters(
    from_: Annotated[LocalDate | None, Query(alias="from", description="First local day.")] = None,
    to: Annotated[LocalDate | None, Query(description="Last local day.")] = None,
    region: Annotated[Region | None, Query(description="A site is in this region.")] = None,
    character: Annotated[Character | None, Query(description="A site has this character.")] = None,
    scale: Annotated[PainScale | None, Query(description="Its main scale: that of most sites.")] = None,
    min_score: Annotated[
        Decimal | None, PlainNumber, Query(ge=0, le=100, decimal_places=2, description="Needs `scale`.")
    ] = None,
) -> Filters:
    """Which entries are asked for."""
    if min_score is not None and scale is None:
        raise Invalid(faults=(Fault("#query/min_score", "needs_scale", "A score means something on a scale only."),))
    check_order(from_, to)
    return Filters(("entry",), from_, to, region, character, scale, min_score)


@router.post(
    "",
    status_code=201,
    summary="Log pain",
    response_class=Response,
    responses={
        201: {"description": "Stored, durably.", **STORED},
        200: {"description": "It was stored before; this is how it is now.", **STORED},
        **problems.responses(Conflict),
    },
)
async def create_entry(diary: DiaryOf, body: EntryIn) -> Response:
    """Stores an entry under the id that the phone chose, so sending it again after a lost answer is safe."""
    entry = await entries.create(diary, body)
    answer = _stored(entry, 201 if entry.created else 200)
    answer.headers["Location"] = f"/v1/patients/{diary.patient_id}/entries/{body.id}"
    return answer


@router.get(
    "",
    summary="List entries",
    response_class=Response,
    responses={
        200: {"model": EntryPage, "headers": PAGE_ETAG},
        304: {"description": "Nothing has changed."},
        **problems.responses(InvalidCursor),
    },
)
async def list_entries(
    diary: DiaryOf,
    filters: Annotated[Filters, Depends(entry_filters)],
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Entries that fit, newest first, a page at a time."""
    return answer_page(await entries.read_page(diary, filters, limit, cursor, known_etags(if_none_match)))


@router.get(
    "/{entry_id}",
    summary="Read an entry",
    response_class=Response,
    responses={200: STORED},
)
async def read_entry(diary: DiaryOf, entry_id: EntryId) -> Response:
    """The entry as it is now; 410 once it was deleted."""
    return _stored(await entries.read(diary, entry_id))


@router.put(
    "/{entry_id}",
    summary="Replace an entry",
    response_class=Response,
    responses={200: STORED, **problems.responses(PreconditionRequired, Stale)},
)
async def replace_entry(diary: DiaryOf, entry_id: EntryId, base_version: BaseVersion, body: EntryFields) -> Response:
    """Puts new content in the place of the version that If-Match names; never creates one."""
    return _stored(await entries.replace(diary, entry_id, base_version, body))


@router.patch(
    "/{entry_id}",
    summary="Correct an entry",
    response_class=Response,
    responses={200: STORED, **problems.responses(PreconditionRequired, Stale)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"$ref": "#/components/schemas/EntryPatch"}}
                for kind in (JSON, "application/merge-patch+json")
            },
        }
    },
)
async def revise_entry(diary: DiaryOf, entry_id: EntryId, base_version: BaseVersion, body: EntryPatch) -> Response:
    """A merge patch (RFC 7396): what is absent stays, null removes, a list is replaced as a whole."""
    patch = body.model_dump(mode="json", exclude_unset=True)
    validate = partial(problems.validated, EntryFields)
    return _stored(await entries.revise(diary, entry_id, base_version, patch, validate))


@router.delete(
    "/{entry_id}",
    status_code=204,
    summary="Delete an entry",
    response_class=Response,
    responses=problems.responses(PreconditionRequired, Stale),
)
async def delete_entry(diary: DiaryOf, entry_id: EntryId, base_version: BaseVersion) -> Response:
    """Deletes the version that If-Match names; doing it again is no error. A deleted entry stays deleted."""
    await entries.delete(diary, entry_id, base_version)
    return Response(status_code=204)


@router.get(
    "/{entry_id}/versions",
    summary="Read an entry's history",
    response_class=Response,
    responses={200: {"model": EntryVersionPage}, **problems.responses(InvalidCursor)},
)
async def list_entry_versions(diary: DiaryOf, entry_id: EntryId, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Every version with its author, device and time, newest first; also of a deleted entry."""
    return Response(await entries.read_versions(diary, entry_id, limit, cursor), media_type=JSON)


def _stored(entry: entries.Entry, status: int = 200) -> Response:
    return Response(entry.record, status, {"ETag": f'"{entry.version}"'}, JSON)
