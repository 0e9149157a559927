"""Pain scales: which values, measures and performers each offers, and for which ages it is validated."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Scale:
    """One pain scale; no age bound means that none is known."""

    code: str
    minimum: float
    maximum: float
    step: float
    min_age_years: int | None
    max_age_years: int | None
    performers: frozenset[str]
    measures: frozenset[str]


def scale_of(row: Mapping[str, str]) -> Scale:
    """The scale that a row of the vocabulary `pain_scales` describes."""
    return Scale(
        code=row["code"],
        minimum=float(row["min"]),
        maximum=float(row["max"]),
        step=float(row["step"]),
        min_age_years=int(row["min_age_years"]) if row["min_age_years"] else None,
        max_age_years=int(row["max_age_years"]) if row["max_age_years"] else None,
        performers=frozenset(row["performers"].split("|")),
        measures=frozenset(row["measures"].split("|")),
    )


def fault(scale: Scale, value: float, measure: str, performer: str) -> tuple[str, str, str] | None:
    """Why a scale cannot have this score, as `(member at fault, code, sentence)`; None when it can."""
    if not scale.minimum <= value <= scale.maximum:
        return "value", "outside_scale", f"This scale goes from {scale.minimum:g} to {scale.maximum:g}."
    if (value - scale.minimum) % scale.step:
        return "value", "off_step", f"This scale goes in steps of {scale.step:g} from {scale.minimum:g}."
    if measure not in scale.measures:
        return "measure", "measure_not_offered", f"This scale offers only: {_listed(scale.measures)}."
    if performer not in scale.performers:
        return (
            "scale",
            "performer_not_offered",
            f"This scale is only for the performer: {_listed(scale.performers)}.",
        )
    return None


def birth_dates(scale: Scale, on: date) -> tuple[date, date]:
    """The earliest and the latest birth date for which the scale is validated on that day, both included.

    Ages are completed years; who was born on 29 February completes one on 1 March where the year has no 29th.
    An open end is the end of the calendar.
    """
    earliest, latest = date.min, date.max
    if scale.max_age_years is not None:
        earliest = _years_before(on, scale.max_age_years + 1) + timedelta(days=1)
    if scale.min_age_years is not None:
        latest = _years_before(on, scale.min_age_years)
    return earliest, latest


def _years_before(day: date, years: int) -> date:
    """The last day whose anniversary has come by then."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February, in a year that has none
        return day.replace(year=day.year - years, day=28)


def _listed(codes: frozenset[str]) -> str:
    """The codes as a sentence names them."""
    return ", ".join(sorted(codes))
