"""The coded lists, to read and to keep: they change only with a release."""

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from starlette.responses import Response

from app import vocabularies
from app.errors import NotFound
from app.http import etags
from app.http.languages import VARY, Preference, preference
from app.schemas.vocabularies import LIST_EXAMPLE, VOCABULARY_EXAMPLE, VocabularyList, VocabularyOut

router = APIRouter(prefix="/v1/vocabularies", tags=["vocabularies"])

PreferenceOf = Annotated[Preference, Depends(preference)]
_LANGUAGE = {"Content-Language": {"description": "In which language it is.", "schema": {"type": "string"}}}
_HEADERS = _LANGUAGE | {
    "ETag": {
        "description": "Strong, another in each language; send it back in `If-None-Match`.",
        "schema": {"type": "string"},
    }
}


@router.get(
    "",
    summary="List the vocabularies",
    response_model=VocabularyList,
    responses={200: {"headers": _LANGUAGE, "content": {"application/json": {"example": LIST_EXAMPLE}}}},
)
async def list_vocabularies(request: Request, preferred: PreferenceOf) -> Response:
    """The name, title, languages and ETag of each: a phone reads again only what has changed."""
    items = []
    for vocabulary in map(vocabularies.load, vocabularies.names()):
        edition = _edition(vocabulary, preferred)
        items.append(
            {
                "name": vocabulary.name,
                "title": edition.title,
                "language": edition.language,
                "languages": [*vocabulary.editions],
                "etag": edition.etag,
            }
        )
    told = ", ".join(dict.fromkeys(str(item["language"]) for item in items))
    body = json.dumps({"items": items}, ensure_ascii=False)
    return Response(body, media_type="application/json", headers=_caching(request, told))


@router.get(
    "/{name}",
    summary="Read a vocabulary",
    response_model=VocabularyOut,
    responses={
        200: {"headers": _HEADERS, "content": {"application/json": {"example": VOCABULARY_EXAMPLE}}},
        304: {"description": "It is still the one you have.", "headers": _HEADERS},
    },
)
async def read_vocabulary(
    request: Request,
    preferred: PreferenceOf,
    name: Annotated[str, Path(description="A name of the list.", examples=["pain_scales"])],
    if_none_match: Annotated[str | None, Header(alias="If-None-Match", description="The ETag you have.")] = None,
) -> Response:
    """Every code of the vocabulary with its display text, source and whether it was verified.

    `display` is in the language that suits the caller best of those that have words for the whole list; the others are
    beside it, as `display_de`.
    """
    try:
        vocabulary = vocabularies.load(name)
    except LookupError:
        raise NotFound("There is no vocabulary of this name.") from None
    edition = _edition(vocabulary, preferred)
    headers = {"ETag": edition.etag, **_caching(request, edition.language)}
    if etags.holds(if_none_match, edition.etag):
        return Response(status_code=304, headers=headers)
    return Response(edition.document, media_type="application/json", headers=headers)


def _edition(vocabulary: vocabularies.Vocabulary, preferred: Preference) -> vocabularies.Edition:
    return vocabulary.editions[preferred.choose([*vocabulary.editions])]


def _caching(request: Request, language: str) -> dict[str, str]:
    """Who may keep the answer, for how long, and what it depends on: for who is signed in, on the profile too."""
    scope = "private" if "Authorization" in request.headers else "public"
    return {"Cache-Control": f"{scope}, max-age=3600", "Vary": VARY, "Content-Language": language}
