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


def quantity_of(quantity: Quantity | None) -> regimens.Amount | None:
    """The quantity as arithmetic takes it."""
    return None if quantity is None else regimens.Amount(quantity.value, quantity.unit)
