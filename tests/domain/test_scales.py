"""Pain scales: what each offers, and the birth dates that its ages mean on a day."""

from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app import vocabularies
from app.domain.scales import Scale, birth_dates, fault, scale_of

SCALES = {scale.code: scale for scale in map(scale_of, vocabularies.load("pain_scales").rows)}

days = st.dates(date(1900, 1, 1), date(2199, 12, 31))


def between(minimum: int | None, maximum: int | None) -> Scale:
    """A scale for these ages."""
    return Scale("any", 0, 10, 1, minimum, maximum, frozenset({"self"}), frozenset({"now"}))


def completed_years(born: date, on: date) -> int:
    """The age by counting: a year is complete when month and day are reached (1 March for 29 February)."""
    birthday_to_come = (on.month, on.day) < (born.month, born.day)
    return on.year - born.year - birthday_to_come


def test_a_scale_is_read_from_its_row() -> None:
    assert SCALES["flacc"] == Scale(
        "flacc", 0, 10, 1, 0, 7, frozenset({"caregiver", "clinician_observer"}), frozenset({"now"})
    )
    assert (SCALES["painad"].min_age_years, SCALES["painad"].max_age_years) == (None, None)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_step_of_a_scale_fits_and_nothing_beside_it(scale: Scale) -> None:
    measure, performer = min(scale.measures), min(scale.performers)
    fitting = {v for v in range(-1, 102) if fault(scale, v, measure, performer) is None}
    assert fitting == set(range(int(scale.minimum), int(scale.maximum) + 1, int(scale.step)))


@pytest.mark.parametrize(
    ("code", "value", "measure", "performer", "expected"),
    [
        ("nrs_0_10", 11, "now", "self", ("value", "outside_scale", "This scale goes from 0 to 10.")),
        ("vas_0_100_mm", -1, "now", "self", ("value", "outside_scale", "This scale goes from 0 to 100.")),
        ("nrs_0_10", 6.5, "now", "self", ("value", "off_step", "This scale goes in steps of 1 from 0.")),
        ("faces_fps_r", 3, "now", "self", ("value", "off_step", "This scale goes in steps of 2 from 0.")),
        (
            "faces_fps_r",
            4,
            "worst",
            "self",
            ("measure", "measure_not_offered", "This scale offers only: now."),
        ),
        (
            "flacc",
            4,
            "now",
            "self",
            (
                "scale",
                "performer_not_offered",
                "This scale is only for the performer: caregiver, clinician_observer.",
            ),
        ),
    ],
)
def test_a_score_that_does_not_fit_is_told_why(
    code: str, value: float, measure: str, performer: str, expected: tuple[str, str, str]
) -> None:
    assert fault(SCALES[code], value, measure, performer) == expected


@given(st.integers(0, 12).flatmap(lambda low: st.tuples(st.just(low), st.integers(low, 20))), days, days)
@example((3, 3), date(2020, 2, 29), date(2023, 2, 28))
@example((3, 3), date(2020, 2, 29), date(2023, 3, 1))
@example((3, 3), date(2021, 2, 28), date(2024, 2, 29))
@example((3, 3), date(2021, 3, 1), date(2024, 2, 29))
@example((4, 8), date(2016, 2, 29), date(2020, 2, 29))
def test_birth_dates_are_those_whose_age_fits(ages: tuple[int, int], born: date, on: date) -> None:
    earliest, latest = birth_dates(between(*ages), on)
    assert (earliest <= born <= latest) == (ages[0] <= completed_years(born, on) <= ages[1])


@given(st.integers(0, 12).flatmap(lambda low: st.tuples(st.just(low), st.integers(low, 20))), days)
def test_birth_dates_end_exactly_where_the_ages_do(ages: tuple[int, int], on: date) -> None:
    earliest, latest = birth_dates(between(*ages), on)
    assert (completed_years(latest, on), completed_years(earliest, on)) == ages


def test_a_year_of_who_was_born_on_29_february_is_complete_on_1_march() -> None:
    leap_day, scale = date(2016, 2, 29), between(8, None)
    assert not leap_day <= birth_dates(scale, date(2024, 2, 28))[1]
    assert leap_day <= birth_dates(scale, date(2024, 2, 29))[1]
    seven = between(7, None)
    assert not leap_day <= birth_dates(seven, date(2023, 2, 28))[1]
    assert leap_day <= birth_dates(seven, date(2023, 3, 1))[1]


def test_an_open_end_is_the_end_of_the_calendar() -> None:
    on = date(2026, 3, 29)
    assert birth_dates(between(None, None), on) == (date.min, date.max)
    assert birth_dates(between(8, None), on) == (date.min, date(2018, 3, 29))
    assert birth_dates(between(None, 16), on) == (date(2009, 3, 30), date.max)
