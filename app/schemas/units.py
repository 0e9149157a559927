"""Amounts: a number with its unit, from the closed list of UCUM units that treatments are written in."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypeAliasType

from app.domain import regimens
from app.schemas.base import CodeOf, Strict

Unit = TypeAliasType("Unit", Annotated[str, CodeOf("units")])


class Quantity(Strict):
    """How much: a number above 0 and a UCUM unit."""

    value: float = Field(gt=0, le=1_000_000, examples=[400])
    unit: Unit


class Dose(Quantity):
    """How much each time. As needed it may be a range: 1 to 2 tablets are `value` 1, `high` 2."""

    high: float | None = Field(
        default=None, gt=0, le=1_000_000, description="The most of a range; of what is taken as needed only."
    )


def quantity_of(quantity: Quantity | None) -> regimens.Amount | None:
    """The quantity as arithmetic takes it."""
    return None if quantity is None else regimens.Amount(quantity.value, quantity.unit)
