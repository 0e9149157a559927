"""The coded lists, to read and to keep: they change only with a release."""

import json
from typing import Annotated

from fastapi import APIRouter, Header, Path
from starlette.responses import Response

from app import vocabularies
from app.errors import NotFound
from app.http import etags
from app.schemas.vocabularies import LIST_EXAMPLE, VOCABULARY_EXAMPLE, VocabularyList, VocabularyOut

router = APIRouter(prefix="/v1/vocabularies", tags=["vocabularies"])

_CACHING = {"Cache-Control": "public, max-age=3600"}
_ETAG = {"ETag": {"description": "Strong; send it back in `If-None-Match`.", "schema": {"type": "string"}}}


@router.get(
    "",
    summary="List the vocabularies",
    response_model=VocabularyList,
    responses={200: {"content": {"application/json": {"example": LIST_EXAMPLE}}}},
)
async def list_vocabularies() -> Response:
    """The name, title and ETag of each: a phone reads again only what has changed."""
    known = [vocabularies.load(name) for name in vocabularies.names()]
    body = {"items": [{"name": v.name, "title": v.title, "etag": v.etag} for v in known]}
    return Response(json.dumps(body), media_type="application/json", headers=_CACHING)


@router.get(
    "/{name}",
    summary="Read a vocabulary",
    response_model=VocabularyOut,
    responses={
        200: {"headers": _ETAG, "content": {"application/json": {"example": VOCABULARY_EXAMPLE}}},
        304: {"description": "It is still the one you have.", "headers": _ETAG},
    },
)
async def read_vocabulary(
    name: Annotated[str, Path(description="A name of the list.", examples=["pain_scales"])],
    if_none_match: Annotated[str | None, Header(alias="If-None-Match", description="The ETag you have.")] = None,
) -> Response:
    """Every code of the vocabulary with its display text, source and whether it was verified."""
    try:
        vocabulary = vocabularies.load(name)
    except LookupError:
        raise NotFound("There is no vocabulary of this name.") from None
    headers = {"ETag": vocabulary.etag, **_CACHING}
    if etags.holds(if_none_match, vocabulary.etag):
        return Response(status_code=304, headers=headers)
    return Response(vocabulary.document, media_type="application/json", headers=headers)
