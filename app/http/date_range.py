"""Spans of local days in queries: both ends included."""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, NamedTuple

from fastapi import Query

from app.errors import Fault, Invalid
from app.schemas.base import LocalDate

FirstDay = Annotated[LocalDate | None, Query(alias="from", description="First local day.")]
LastDay = Annotated[LocalDate | None, Query(description="Last local day.")]


class Days(NamedTuple):
    """From a local day to another, both included."""

    first: date
    last: date


def at_most(longest: int) -> Callable[[LocalDate, LocalDate], Awaitable[Days]]:
    """A dependency: the days that a query must name, so many at most."""

    async def asked_days(
        from_: Annotated[LocalDate, Query(alias="from", description="First local day.")],
        to: Annotated[LocalDate, Query(description=f"Last local day; at most {longest} days in all.")],
    ) -> Days:
        check_order(from_, to)
        if (to - from_).days >= longest:
            raise Invalid(faults=(Fault("#query/to", "too_long", f"Ask for at most {longest} days at a time."),))
        return Days(from_, to)

    return asked_days


def check_order(from_: date | None, to: date | None) -> None:
    """Refuses a period that ends before it starts."""
    if from_ is not None and to is not None and from_ > to:
        raise Invalid(faults=(Fault("#query/from", "reversed", "It lies after `to`."),))
