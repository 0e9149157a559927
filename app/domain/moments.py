"""Instants, dates and zones as text: one spelling on the wire, and the day an instant belongs to."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

ZONES = available_timezones() - {"localtime", "Factory"}  # both depend on the machine, not on a place

_INSTANT = re.compile(
    r"(?:19|2[01])[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-5][0-9])"
)
_DATE = re.compile(r"(?:19|2[01])[0-9]{2}-[0-9]{2}-[0-9]{2}")
EARLIEST, AHEAD = datetime(2000, 1, 1, tzinfo=UTC), timedelta(hours=48)
_WEST, _EAST = timedelta(hours=-12), timedelta(hours=14)
_OFFSET = re.compile(r"[+-][0-9]{2}:[0-5][0-9]")


def parse_instant(text: str) -> datetime:
    """The aware datetime of an RFC 3339 instant, in whole seconds, its offset kept; ValueError otherwise.

    Stricter than the RFC: upper-case `T` and `Z`, at most nanoseconds (which are dropped), no second 60, years 1900 to
    2199 (so that no arithmetic leaves the calendar), offsets -12:00 to +14:00, and not `-00:00`, which says that
    the offset is unknown and so leaves the local day unknown.
    """
    if not _INSTANT.fullmatch(text) or text.endswith("-00:00"):
        raise ValueError("not an instant")
    moment = datetime.fromisoformat(text)
    offset = moment.utcoffset()
    if offset is None or not _WEST <= offset <= _EAST:
        raise ValueError("not an offset in use")
    return moment.replace(microsecond=0) if moment.microsecond else moment


def render_instant(moment: datetime) -> str:
    """The instant as text in its own offset: whole seconds, and `Z` for zero. Parsers of every platform read this."""
    text = moment.isoformat(timespec="seconds")
    if text[-6] == ":":  # an offset with seconds, as Liberia had until 1972: RFC 3339 knows none
        return render_instant(moment.astimezone(timezone(timedelta(minutes=utc_offset(moment)))))
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def parse_date(text: str) -> date:
    """The date of a `YYYY-MM-DD` text in the years 1900 to 2199; ValueError otherwise."""
    if not _DATE.fullmatch(text):
        raise ValueError("not a date")
    return date.fromisoformat(text)


def parse_instant_or_day(text: str) -> datetime | date:
    """The instant of an RFC 3339 text, or the date of a `YYYY-MM-DD` one; ValueError otherwise."""
    return parse_date(text) if len(text) == len("YYYY-MM-DD") else parse_instant(text)


def render_instant_or_day(moment: datetime | date) -> str:
    """The text of an instant or of a date."""
    return render_instant(moment) if isinstance(moment, datetime) else moment.isoformat()


def instant_within(day: date, time_zone: str) -> datetime:
    """An instant of this local day, which is one of the same day in nearly every other zone that the patient may mean.

    A second after noon: the local times of a plan have no seconds, so it names a day and not a slot.
    """
    return datetime.combine(day, time(12, 0, 1), zone_of(time_zone))


def local_date(occurred_at: datetime) -> date:
    """The day it was for the patient, by the instant's own offset: see `at_place`."""
    return occurred_at.date()


def at_place(occurred_at: datetime, time_zone: str) -> datetime:
    """The instant as the clocks of the place showed it: by its own offset, or where that is plain `Z` by the zone.

    A program that keeps UTC writes `Z` wherever it is; any other offset was read off a clock.
    """
    if occurred_at.utcoffset():
        return occurred_at
    offset = occurred_at.astimezone(zone_of(time_zone)).utcoffset()
    return occurred_at.astimezone(timezone(offset)) if offset else occurred_at


def differs_from_zone(occurred_at: datetime, time_zone: str) -> bool:
    """Whether the instant has an offset, and the zone another one then."""
    offset = occurred_at.utcoffset()
    return bool(offset) and occurred_at.astimezone(zone_of(time_zone)).utcoffset() != offset


def utc_offset(occurred_at: datetime) -> int:
    """The instant's own offset in minutes east of UTC; ValueError for a naive one."""
    offset = occurred_at.utcoffset()
    if offset is None:
        raise ValueError("naive")
    return int(offset.total_seconds()) // 60


def is_plausible(occurred_at: datetime, now: datetime, *, planned: bool) -> bool:
    """Whether a diary takes it: from the year 2000 on, and 48 hours ahead at most of what is not planned.

    A phone's clock may be off, and its day may have begun; what was agreed may begin much later.
    """
    return occurred_at >= EARLIEST and (planned or occurred_at <= now + AHEAD)


def is_zone(name: str) -> bool:
    """Whether this is an IANA zone name, no path, no alias of the machine's own zone; or a fixed offset, `+05:30`."""
    return name in ZONES or _offset(name) is not None


@cache
def zone_of(name: str) -> tzinfo:
    """The zone of this name, or of this fixed offset; ValueError where it is neither."""
    if name in ZONES:
        return ZoneInfo(name)
    offset = _offset(name)
    if offset is None:
        raise ValueError("not a zone")
    return timezone(offset)


def name_of(zone: tzinfo) -> str:
    """The name by which `zone_of()` knows this zone."""
    return zone.key if isinstance(zone, ZoneInfo) else datetime(2000, 1, 1, tzinfo=zone).isoformat()[-6:]


def _offset(text: str) -> timedelta | None:
    """The offset that this text is, from -12:00 to +14:00; not `-00:00`, which says that it is unknown."""
    if not _OFFSET.fullmatch(text) or text == "-00:00":
        return None
    size = timedelta(hours=int(text[1:3]), minutes=int(text[4:]))
    offset = -size if text[0] == "-" else size
    return offset if _WEST <= offset <= _EAST else None
