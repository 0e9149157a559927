"""Instants, dates and zones: one spelling in, the same spelling out."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import moments

offsets = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
NOW = datetime(2026, 3, 29, 6, tzinfo=UTC)
instants = st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31, 23, 59, 59, 999_999), timezones=offsets)  # noqa: DTZ001 - hypothesis adds the zone


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-29T08:00:00Z", datetime(2026, 3, 29, 8, tzinfo=UTC)),
        ("2026-03-29T08:00:00+00:00", datetime(2026, 3, 29, 8, tzinfo=UTC)),
        ("2026-03-29T08:00:00+02:00", datetime(2026, 3, 29, 6, tzinfo=UTC)),
        ("2026-03-29T08:00:00.5-03:30", datetime(2026, 3, 29, 11, 30, tzinfo=UTC)),
        ("2024-02-29T23:59:59.999999+14:00", datetime(2024, 2, 29, 9, 59, 59, tzinfo=UTC)),
        ("1900-01-01T00:00:00+14:00", datetime(1899, 12, 31, 10, tzinfo=UTC)),
        ("2199-12-31T23:59:59-12:00", datetime(2200, 1, 1, 11, 59, 59, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_with_its_offset(text: str, moment: datetime) -> None:
    assert moments.parse_instant(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-29",
        "2026-03-29T08:00:00",  # naive
        "2026-03-29T08:00Z",  # no seconds
        "2026-03-29 08:00:00Z",
        "2026-03-29t08:00:00Z",
        "2026-03-29T08:00:00z",
        "2026-03-29T08:00:60Z",  # leap second
        "2026-03-29T24:00:00Z",
        "2026-02-29T08:00:00Z",  # no such day
        "2026-13-01T08:00:00Z",
        "2026-03-29T08:00:00.1234567890Z",
        "2026-03-29T08:00:00,5Z",
        "2026-03-29T08:00:00.Z",
        "2026-03-29T08:00:00+0200",
        "2026-03-29T08:00:00+02",
        "2026-03-29T08:00:00+02:60",
        "2026-03-29T08:00:00+14:01",
        "2026-03-29T08:00:00-12:01",
        "2026-03-29T08:00:00+99:00",
        "2026-03-29T08:00:00-00:00",  # an offset nobody knows
        "1899-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "20260329T080000Z",
        "2026-W13-7T08:00:00Z",
        " 2026-03-29T08:00:00Z",
        "2026-03-29T08:00:00Z\n",
        "２０２６-03-29T08:00:00Z",  # digits, but not ASCII
        "2026-03-29T08:00:00Z[Europe/Berlin]",
    ],
)
def test_anything_else_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an|must be|out of range"):
        moments.parse_instant(text)


@given(st.text())
def test_no_text_breaks_the_reading_of_instants(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not an instant$"):
        moments.parse_instant(text)


@given(instants)
def test_an_instant_survives_being_written_and_read(moment: datetime) -> None:
    if moment.utcoffset() == timedelta(0):
        assert moments.render_instant(moment).endswith("Z")
    again = moments.parse_instant(moments.render_instant(moment))
    assert (again, again.utcoffset()) == (moment.replace(microsecond=0), moment.utcoffset())


@given(instants)
def test_every_accepted_instant_has_a_utc_time_and_a_local_day(moment: datetime) -> None:
    assert moment.astimezone(UTC) == moment
    assert abs(moments.local_date(moment) - moment.astimezone(UTC).date()) <= timedelta(days=1)


@pytest.mark.parametrize(
    ("given_text", "written"),
    [
        ("2026-03-29T08:00:00.500000+02:00", "2026-03-29T08:00:00+02:00"),
        ("2026-03-29T08:00:10.000+02:00", "2026-03-29T08:00:10+02:00"),
        ("2026-03-29T08:00:00+00:00", "2026-03-29T08:00:00Z"),
        ("2026-03-29T08:00:00.000001-03:30", "2026-03-29T08:00:00-03:30"),
    ],
)
def test_an_instant_has_one_spelling(given_text: str, written: str) -> None:
    assert moments.render_instant(moments.parse_instant(given_text)) == written


def test_the_local_day_is_that_of_the_place_not_of_utc() -> None:
    assert moments.local_date(moments.parse_instant("2026-03-29T00:30:00+14:00")) == date(2026, 3, 29)
    assert moments.local_date(moments.parse_instant("2026-03-28T23:30:00-12:00")) == date(2026, 3, 28)


@given(st.integers(0, 24 * 60 - 1))
def test_on_the_day_the_clocks_change_every_instant_belongs_to_the_day_its_own_offset_says(
    minute: int,
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for midnight in (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)):
        moment = (midnight + timedelta(minutes=minute)).astimezone(berlin)
        written = moments.render_instant(moment)
        assert moments.local_date(moments.parse_instant(written)) == moment.date()


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("2026-03-29T08:00:00Z", 0),
        ("2026-03-29T08:00:00+14:00", 840),
        ("2026-03-29T08:00:00-03:30", -210),
    ],
)
def test_an_offset_counts_minutes_east_of_utc(text: str, minutes: int) -> None:
    assert moments.utc_offset(moments.parse_instant(text)) == minutes


def test_a_naive_time_has_no_offset() -> None:
    with pytest.raises(ValueError, match="naive"):
        moments.utc_offset(datetime(2026, 3, 29, 8))  # noqa: DTZ001 - naive is the point


@given(st.dates(date(1900, 1, 1), date(2199, 12, 31)))
def test_every_date_of_three_centuries_is_read(day: date) -> None:
    assert moments.parse_date(day.isoformat()) == day


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20260329",
        "2026-3-29",
        "2026-02-29",
        "2026-03-29T00:00:00Z",
        "1899-12-31",
        "2200-01-01",
        "2026-03-29\n",
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a date|day is out of range"):
        moments.parse_date(text)


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/Argentina/Buenos_Aires", "UTC", "Asia/Kathmandu", "Etc/GMT+5"]
)
def test_iana_zones_are_known(name: str) -> None:
    assert moments.is_zone(name)
    assert ZoneInfo(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Berlin",
        "europe/berlin",
        "localtime",
        "Factory",
        "posixrules",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
        "../Europe/Berlin",
        "/etc/localtime",
        "Europe",
        "Europe/Berlin\n",
        "+2",
        "+0530",
        "+05:60",
        "+14:01",
        "-12:01",
        "-00:00",
        "+05:30\n",
        "UTC+05:30",
        "GMT+05:30",
        "05:30",
        "Z",
    ],
)
def test_everything_else_is_no_zone(name: str) -> None:
    assert not moments.is_zone(name)
    with pytest.raises(ValueError, match="not a zone"):
        moments.zone_of(name)


@given(offsets)
def test_a_fixed_offset_is_a_zone_of_its_own(offset: timezone) -> None:
    shift = offset.utcoffset(None)
    sign, minutes = "-" if shift < timedelta() else "+", abs(shift) // timedelta(minutes=1)
    name = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    assert moments.is_zone(name)
    assert moments.zone_of(name).utcoffset(NOW.replace(tzinfo=None)) == shift


@pytest.mark.parametrize(
    ("text", "zone", "day", "differs"),
    [
        ("2026-03-29T00:30:00+02:00", "Europe/Berlin", "2026-03-29", True),  # an hour before clocks go forward
        ("2026-03-29T00:30:00+01:00", "Europe/Berlin", "2026-03-29", False),
        ("2026-03-28T23:30:00Z", "Europe/Berlin", "2026-03-29", False),
        ("2026-03-28T23:30:00+00:00", "Europe/Berlin", "2026-03-29", False),
        ("2026-03-28T22:59:59Z", "Europe/Berlin", "2026-03-28", False),
        ("2026-03-29T23:30:00Z", "America/Los_Angeles", "2026-03-29", False),
        ("2026-03-29T05:30:00Z", "America/Los_Angeles", "2026-03-28", False),
        ("2026-03-28T23:30:00Z", "UTC", "2026-03-28", False),
        ("2026-03-28T23:30:00Z", "Europe/London", "2026-03-28", False),  # Z is the time of the place there
        ("2026-06-28T23:30:00Z", "Europe/London", "2026-06-29", False),
        ("2026-03-28T18:30:00Z", "+05:30", "2026-03-29", False),
        ("2026-03-28T18:29:59Z", "+05:30", "2026-03-28", False),
        ("2026-03-29T00:00:00+05:30", "+05:30", "2026-03-29", False),
        ("2026-03-29T00:00:00+05:30", "-05:30", "2026-03-29", True),
        ("2026-03-29T00:30:00+05:30", "Asia/Kathmandu", "2026-03-29", True),
        ("2026-03-28T23:30:00-07:00", "Europe/Berlin", "2026-03-28", True),
        ("2026-03-28T11:30:00Z", "Pacific/Kiritimati", "2026-03-29", False),
        ("2026-03-29T05:00:00Z", "Etc/GMT+5", "2026-03-29", False),
        ("2026-03-29T04:59:59Z", "Etc/GMT+5", "2026-03-28", False),
    ],
)
def test_the_day_is_that_of_the_offset_or_of_a_plain_z_that_of_the_zone(
    text: str, zone: str, day: str, differs: bool
) -> None:
    moment = moments.parse_instant(text)
    there = moments.at_place(moment, zone)
    assert there == moment
    assert moments.local_date(there).isoformat() == day
    assert moments.differs_from_zone(moment, zone) is differs


@given(instants, st.sampled_from(["Europe/Berlin", "America/New_York", "+05:30", "UTC", "Australia/Lord_Howe"]))
def test_an_offset_that_was_said_stays_and_what_the_zone_says_differs_from_nothing(moment: datetime, zone: str) -> None:
    there = moments.at_place(moment, zone)
    assert there == moment
    assert there.utcoffset() == moment.utcoffset() or not moment.utcoffset()
    assert not moments.differs_from_zone(moment.astimezone(moments.zone_of(zone)), zone)


@pytest.mark.parametrize(
    ("occurred_at", "event", "plan"),
    [
        ("1999-12-31T23:59:59Z", False, False),
        ("2000-01-01T00:59:59+01:00", False, False),
        ("2000-01-01T00:00:00Z", True, True),
        ("2026-03-31T06:00:00Z", True, True),
        ("2026-03-31T06:00:01Z", False, True),
        ("2027-01-01T00:00:00+01:00", False, True),
    ],
)
def test_a_diary_takes_what_can_have_been_and_what_was_agreed_for_later(
    occurred_at: str, event: bool, plan: bool
) -> None:
    at = moments.parse_instant(occurred_at)
    assert [moments.is_plausible(at, NOW, planned=planned) for planned in (False, True)] == [event, plan]
