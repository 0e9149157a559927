"""Diary entries: log, correct, delete, read back, and find by place, character and score."""

from decimal import Decimal
from typing import Annotated

from fastapi import Query
from pydantic import Field, WithJsonSchema

from app.errors import Fault, Invalid
from app.http.date_range import FirstDay, LastDay, check_order
from app.http.deps import PlainNumber
from app.routers.records import Text, record_routes
from app.schemas.entries import ENTRY, Character, PainScale, Region
from app.services.record_store import Filters

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


router = record_routes(ENTRY, filters=entry_filters, texts={"create": Text("Log pain")})
