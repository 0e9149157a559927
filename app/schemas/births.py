"""How exactly a birth date is known, in accounts and profiles alike."""

from collections.abc import Iterator
from datetime import date
from typing import Annotated

from pydantic import Field
from typing_extensions import TypeAliasType

from app.domain import people
from app.schemas.base import BodyFault

BirthDatePrecision = TypeAliasType(
    "BirthDatePrecision",
    Annotated[
        people.BirthDatePrecision,
        Field(
            description="What is known of `birth_date`: with `month` or `year` it is the first day of that, and no "
            "more is meant."
        ),
    ],
)


def birth_faults(birth_date: date, precision: people.BirthDatePrecision) -> Iterator[BodyFault]:
    """The date that stands for a month or a year is the first day of it, so that nobody takes it for more."""
    if precision != "day" and birth_date.day != 1:
        yield BodyFault(("birth_date",), "not_the_first_day", f"Give the first day of the {precision} that is known.")
    elif precision == "year" and birth_date.month != 1:
        yield BodyFault(("birth_date",), "not_the_first_day", "Give the first of January of the year that is known.")
