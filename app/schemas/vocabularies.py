"""Vocabularies on the wire."""

from pydantic import ConfigDict, Field

from app.schemas.base import Json, Strict

_LANGUAGE = Field(description="BCP 47, as in `Content-Language`.", examples=["de"])
_NAME = Field(description="As it stands in the path.", examples=["pain_scales"])


class VocabularySummary(Strict):
    """Which vocabulary, and whether it changed."""

    name: str = _NAME
    title: str = Field(examples=["Pain scales"])
    language: str = _LANGUAGE
    languages: list[str] = Field(description="All that it is answered in.", examples=[["en", "de"]])
    etag: str = Field(
        description="The ETag of the vocabulary's own answer.",
        examples=['"0f343b0931126a20f133d67c2b018a3b"'],
    )


class VocabularyList(Strict):
    """All vocabularies there are."""

    items: list[VocabularySummary]


class VocabularyItem(Strict):
    """One code; whatever else the list says of it stands beside these members: text, number, list or null.

    `display_` and a language is its text in that language.
    """

    model_config = ConfigDict(extra="allow")

    code: str
    display: str = Field(description="Text to show, in the language of the answer.")
    source: str | None = Field(description="Where the row comes from.")
    verified: bool = Field(description="Whether its codes and numbers were compared with the source.")
    verification_note: str | None = Field(description="What the comparison covered, or what is still to be compared.")


class VocabularyOut(Strict):
    """A coded list."""

    name: str = _NAME
    title: str
    language: str = _LANGUAGE
    items: list[VocabularyItem]


LIST_EXAMPLE: Json = {
    "items": [
        {
            "name": "pain_scales",
            "title": "Pain scales",
            "language": "en",
            "languages": ["en", "de"],
            "etag": '"0f343b0931126a20f133d67c2b018a3b"',
        },
    ]
}
VOCABULARY_EXAMPLE: Json = {
    "name": "pain_characters",
    "title": "What pain feels like",
    "language": "en",
    "items": [
        {
            "code": "aching",
            "display": "Aching",
            "display_en": "Aching",
            "display_de": "Ziehend",
            "family": "nociceptive",
            "snomed_ct": "27635008",
            "source": "HL7 Symptoms IG / cds4cpm value sets",
            "verified": True,
            "verification_note": "snomed",
        }
    ],
}
