"""The timeline's pages: records of every kind, told apart by `kind`."""

from pydantic import Field

from app.schemas.base import Strict
from app.schemas.entries import EntryOut


class TimelinePage(Strict):
    """Records, newest first."""

    items: list[EntryOut] = Field(max_length=200)
    next_cursor: str | None = Field(description="Ask for the next page with it; null when there is none.")
