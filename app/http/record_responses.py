"""What the routes of records share: how they are described in OpenAPI, and how a record or page is answered."""

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from app.errors import Conflict, ConsentChanged, InvalidCursor, PreconditionRequired, Stale
from app.http import etags, problems
from app.services.access import Diary
from app.services.record_store import RenderedPage
from app.services.records import Stored

JSON = "application/json"
ETAG = {"ETag": {"description": "The version, strong.", "schema": {"type": "string"}, "example": '"1"'}}
CONTENT_ETAG = {"ETag": {"description": "Stays while the content does.", "schema": {"type": "string"}}}
PAGE_ETAG = {"ETag": {"description": "The state of the diary for this reader.", "schema": {"type": "string"}}}
Described = dict[str, Any]  # keyword arguments of a route


def creating(out: type[BaseModel]) -> Described:
    """A route that stores a new record."""
    answer = {"model": out, "headers": ETAG}
    new = {"description": "Stored, durably.", **answer}
    known = {"description": "It was stored before; this is how it is now.", **answer}
    return _described({201: new, 200: known, **problems.responses(Conflict)}, status_code=201)


def listing(model: type[BaseModel]) -> Described:
    """A route that answers a page, or 304 while the diary has not moved."""
    unmodified = {"description": "Nothing has changed."}
    return _described(
        {
            200: {"model": model, "headers": PAGE_ETAG},
            304: unmodified,
            **problems.responses(InvalidCursor, ConsentChanged),
        }
    )


def showing(model: type[BaseModel]) -> Described:
    """A route that answers what follows from records, or 304 while that is the same."""
    unmodified = {"description": "It is what you have."}
    return _described({200: {"model": model, "headers": CONTENT_ETAG}, 304: unmodified})


def reading(out: type[BaseModel]) -> Described:
    """A route that answers one record."""
    return _described({200: {"model": out, "headers": ETAG}})


def replacing(out: type[BaseModel]) -> Described:
    """A route that puts new content in the place of a version."""
    refusals = problems.responses(Conflict, PreconditionRequired, Stale)
    return _described({200: {"model": out, "headers": ETAG}, **refusals})


def revising(out: type[BaseModel], patch: type[BaseModel]) -> Described:
    """A route that takes a merge patch, under either media type."""
    schema = {"schema": {"$ref": f"#/components/schemas/{patch.__name__}"}}
    content = dict.fromkeys((JSON, "application/merge-patch+json"), schema)
    return replacing(out) | {"openapi_extra": {"requestBody": {"required": True, "content": content}}}


def deleting() -> Described:
    """A route that deletes a version."""
    return _described(problems.responses(PreconditionRequired, Stale), status_code=204)


def tracing(model: type[BaseModel]) -> Described:
    """A route that answers the history of a record."""
    return _described({200: {"model": model}, **problems.responses(InvalidCursor, ConsentChanged)})


def created(diary: Diary, place: str, record: Stored) -> Response:
    """The record with its address below the patient's; 200 where it was there before."""
    answer = stored(record, 201 if record.created else 200)
    answer.headers["Location"] = f"/v1/patients/{diary.patient_id}/{place}"
    return answer


def stored(record: Stored, status: int = 200) -> Response:
    """The record with its version as the ETag."""
    return Response(record.record, status, {"ETag": f'"{record.version}"'}, JSON)


def page(found: RenderedPage) -> Response:
    """A page of records with the ETag of its diary, or 304."""
    headers = {"ETag": f'"{found.etag}"'}
    if found.items is None:
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=JSON, headers=headers)


def unless_known(body: bytes, etag: str, if_none_match: str | None) -> Response:
    """The body with this entity tag, or 304 for who has it already."""
    headers = {"ETag": etag}
    if etags.holds(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=JSON, headers=headers)


def history(body: bytes) -> Response:
    """A page of versions."""
    return Response(body, media_type=JSON)


def _described(answers: dict[int | str, Any], **more: Any) -> Described:
    return {"response_class": Response, "responses": answers, **more}
