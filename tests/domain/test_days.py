"""On which days a rule falls: by hand, and compared with asking each day on its own."""

from calendar import monthrange
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.days import (
    LAST,
    Days,
    DaysOfMonth,
    DaysOfWeek,
    EveryNthDay,
    ListedDates,
    NthWeekday,
    OnAndOff,
    days,
    most_days_between,
)
from tests.domain.test_timing import RULES

BEGAN, END = date(2026, 1, 28), date(2026, 6, 30)  # a Wednesday


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (EveryNthDay(50), ["01-28", "03-19", "05-08", "06-27"]),
        (DaysOfWeek(frozenset({1, 4}), 8), ["01-29", "03-23", "03-26", "05-18", "05-21"]),
        (DaysOfMonth(frozenset({31})), ["01-31", "03-31", "05-31"]),
        (DaysOfMonth(frozenset({LAST})), ["01-31", "02-28", "03-31", "04-30", "05-31", "06-30"]),
        (DaysOfMonth(frozenset({31, LAST}), 3), ["01-31", "04-30"]),
        (DaysOfMonth(frozenset({1, 15}), 2), ["03-01", "03-15", "05-01", "05-15"]),
        (NthWeekday(1, frozenset({1})), ["02-02", "03-02", "04-06", "05-04", "06-01"]),
        (NthWeekday(5, frozenset({5})), ["01-30", "05-29"]),
        (NthWeekday(LAST, frozenset({1, 7}), 2), ["03-29", "03-30", "05-25", "05-31"]),
        (OnAndOff(1, 60), ["01-28", "03-30", "05-30"]),
        (ListedDates((date(2026, 1, 1), date(2026, 2, 3), date(2026, 7, 1))), ["02-03"]),
    ],
)
def test_each_rule_has_its_days(rule: Days, expected: list[str]) -> None:
    assert [f"{day:%m-%d}" for day in days(rule, BEGAN, BEGAN, END)] == expected


def test_three_weeks_on_and_one_off_go_on_for_years() -> None:
    began, year = date(2026, 1, 5), date(2029, 1, 1)
    found = set(days(OnAndOff(21, 7), began, year, year + timedelta(days=363)))
    assert len(found) == 21 * 13
    assert all((day - began).days % 28 < 21 for day in found)


def is_on(rule: Days, began: date, day: date) -> bool:
    """Whether the rule falls on this day, told from the day alone."""
    months = 12 * (day.year - began.year) + day.month - began.month
    length = monthrange(day.year, day.month)[1]
    match rule:
        case EveryNthDay(number):
            return (day - began).days % number == 0
        case OnAndOff(on, off):
            return (day - began).days % (on + off) < on
        case ListedDates(dates):
            return day in dates
        case DaysOfWeek(weekdays, every):
            weeks = (day.toordinal() - 1) // 7 - (began.toordinal() - 1) // 7
            return day.isoweekday() in weekdays and weeks % every == 0
        case DaysOfMonth(numbers, every):
            return months % every == 0 and (day.day in numbers or (LAST in numbers and day.day == length))
        case NthWeekday(week, weekdays, every):
            which = (day.day - 1) // 7 + 1
            fits = day.day + 7 > length if week == LAST else which == week
            return months % every == 0 and fits and day.isoweekday() in weekdays


@given(RULES, st.dates(date(2023, 1, 1), date(2026, 12, 31)), st.integers(0, 800), st.integers(0, 500))
def test_a_rule_falls_on_the_days_that_it_says_and_no_others(rule: Days, began: date, after: int, count: int) -> None:
    first = began + timedelta(days=after)
    asked = [first + timedelta(days=number) for number in range(count + 1)]
    assert list(days(rule, began, first, asked[-1])) == [day for day in asked if is_on(rule, began, day)]


@given(RULES, st.dates(date(2025, 1, 1), date(2025, 12, 31)))
def test_no_more_days_lie_between_two_than_is_said(rule: Days, began: date) -> None:
    found = list(days(rule, began, began, date(2028, 2, 28)))
    assert all((later - earlier).days <= most_days_between(rule) for earlier, later in pairwise(found))
