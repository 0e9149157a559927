"""On which days a plan is due: the rules of a calendar, expanded without a clock and without a zone.

Every rule counts from the local day on which its regimen began.
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

LONGEST = 366  # days between two doses, of any rule
LAST, _FIFTH = -1, 5


@dataclass(frozen=True)
class EveryNthDay:
    """Every so many days, the first day included."""

    number: int = 1


@dataclass(frozen=True)
class DaysOfWeek:
    """On these days (1 Monday) of every so many weeks from Monday on, the first day's week being the first."""

    days_of_week: frozenset[int]
    every: int = 1


@dataclass(frozen=True)
class DaysOfMonth:
    """On these days of every so many months, the first day's month being the first; -1 is a month's last day."""

    days_of_month: frozenset[int]
    every: int = 1


@dataclass(frozen=True)
class NthWeekday:
    """On the first, second … or last (-1) of these weekdays in every so many months."""

    week: int
    days_of_week: frozenset[int]
    every: int = 1


@dataclass(frozen=True)
class OnAndOff:
    """So many days on, then so many off, and again from the first day on."""

    on: int
    off: int


@dataclass(frozen=True)
class ListedDates:
    """On these days, in their order."""

    dates: tuple[date, ...]


Days = EveryNthDay | DaysOfWeek | DaysOfMonth | NthWeekday | OnAndOff | ListedDates


def days(rule: Days, began: date, first: date, last: date) -> Iterator[date]:
    """The days of the rule from `first`, which is not before `began`, to `last`, both included, in order."""
    if isinstance(rule, EveryNthDay):
        step = timedelta(days=rule.number)
        day = first + timedelta(days=(began - first).days % rule.number)
        while day <= last:
            yield day
            day += step
    elif isinstance(rule, OnAndOff):
        length = rule.on + rule.off
        numbers = range((first - began).days, (last - began).days + 1)
        yield from (began + timedelta(days=number) for number in numbers if number % length < rule.on)
    elif isinstance(rule, ListedDates):
        yield from (day for day in rule.dates if first <= day <= last)
    else:
        yield from (day for day in _named(rule, began, first, last) if first <= day <= last)


def most_days_between(rule: Days) -> int:
    """A number of days that is not exceeded from one day of the rule to the next, but by lists and leap days."""
    if isinstance(rule, EveryNthDay):
        return rule.number
    if isinstance(rule, OnAndOff):
        return rule.off + 1
    if isinstance(rule, DaysOfWeek):
        return 7 * rule.every
    if isinstance(rule, ListedDates) or (isinstance(rule, NthWeekday) and rule.week == _FIFTH):
        return LONGEST
    return min(62 * rule.every, LONGEST)  # two months, where one of them lacks the day


def _named(rule: DaysOfWeek | DaysOfMonth | NthWeekday, began: date, first: date, last: date) -> Iterator[date]:
    """The days of the weeks or months around first…last."""
    if isinstance(rule, DaysOfWeek):
        monday = began - timedelta(days=began.weekday())
        weeks = range((first - monday).days // 7 // rule.every * rule.every, (last - monday).days // 7 + 1, rule.every)
        for week in weeks:
            for weekday in sorted(rule.days_of_week):
                yield monday + timedelta(days=7 * week + weekday - 1)
        return
    start = _month(began)
    for month in range(_month(first) - (_month(first) - start) % rule.every, _month(last) + 1, rule.every):
        opening = date(month // 12, month % 12 + 1, 1)
        for day in sorted(_days_of_month(rule, opening)):
            yield opening.replace(day=day)


def _month(day: date) -> int:
    return 12 * day.year + day.month - 1


def _days_of_month(rule: DaysOfMonth | NthWeekday, opening: date) -> set[int]:
    """The numbers of the days in the month that begins on this day, those that it has."""
    length = monthrange(opening.year, opening.month)[1]
    if isinstance(rule, DaysOfMonth):
        return {length if day == LAST else day for day in rule.days_of_month if day <= length}
    firsts = [1 + (weekday - opening.isoweekday()) % 7 for weekday in rule.days_of_week]
    if rule.week == LAST:
        return {day + (length - day) // 7 * 7 for day in firsts}
    return {day + 7 * (rule.week - 1) for day in firsts if day + 7 * (rule.week - 1) <= length}
