"""What the routes that answer pages share: their ETag, their span of days, their body."""

from datetime import date

from fastapi import Response

from app.errors import Fault, Invalid
from app.services.records import Page

JSON = "application/json"
PAGE_ETAG = {"ETag": {"description": "The state of the diary for this reader.", "schema": {"type": "string"}}}


def check_order(from_: date | None, to: date | None) -> None:
    """Refuses a period that ends before it starts."""
    if from_ is not None and to is not None and from_ > to:
        raise Invalid(faults=(Fault("#query/from", "reversed", "It lies after `to`."),))


def answer_page(page: Page) -> Response:
    """A page of records with the ETag of its diary, or 304."""
    headers = {"ETag": f'"{page.etag}"'}
    if page.items is None:
        return Response(status_code=304, headers=headers)
    return Response(page.body, media_type=JSON, headers=headers)


def known_etags(if_none_match: str | None) -> tuple[str, ...]:
    """The ETags of a diary's states that the caller holds; weak ones count too (RFC 9110, 13.1.2)."""
    tags = (if_none_match or "").split(",")
    return tuple(tag.strip().removeprefix("W/").strip('"') for tag in tags)
