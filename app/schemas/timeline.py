"""The timeline's pages: records of every kind, told apart by `kind`."""

from pydantic import ConfigDict, Field

from app.schemas.base import Strict
from app.schemas.entries import EXAMPLE_PAGE, EntryOut


class TimelinePage(Strict):
    """Records, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_PAGE]})

    items: list[EntryOut] = Field(max_length=200)
    next_cursor: str | None = Field(description="Ask for the next page with it; null when there is none.")
