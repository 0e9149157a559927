"""What follows from an entry."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import vocabularies
from app.domain.entries import facts, scale_ages
from app.domain.scales import scale_of

SCALES = {scale.code: scale for scale in map(scale_of, vocabularies.load("pain_scales").rows)}
EIGHT = datetime(2026, 3, 29, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Score:
    scale: str
    value: int


@dataclass(frozen=True)
class Site:
    region: str
    scores: tuple[Score, ...]
    characters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    sites: tuple[Site, ...] = ()
    occurred_at: datetime = EIGHT
    time_zone: str = "UTC"
    ended_at: datetime | None = None
    duration_minutes: int | None = None


nrs = [Score("nrs_0_10", value) for value in range(11)]
vrs = [Score("vrs_4", value) for value in range(4)]

sites = st.builds(
    Site,
    st.sampled_from(["face_left", "face_right", "neck_back_left"]),
    st.lists(st.sampled_from(nrs + vrs), max_size=4).map(tuple),
    st.lists(st.sampled_from(["dull", "aching"]), unique=True).map(tuple),
)


def test_an_entry_without_sites_has_no_score() -> None:
    found = facts(Entry())
    assert (found.regions, found.characters, found.scale, found.worst_score) == ((), (), None, None)


def test_a_place_without_a_score_is_a_place() -> None:
    found = facts(Entry((Site("face_left", ()), Site("face_right", (nrs[3],)))))
    assert (found.regions, found.scale, found.worst_score) == (("face_left", "face_right"), "nrs_0_10", 3)
    assert facts(Entry((Site("face_left", ()),))).worst_score is None


def test_a_score_of_zero_is_a_score() -> None:
    assert facts(Entry((Site("face_left", (nrs[0],)),))).worst_score == 0


def test_the_worst_score_is_the_highest_of_all_sites_and_measures() -> None:
    found = facts(Entry((Site("face_left", (nrs[2], nrs[7])), Site("face_right", (nrs[5],)))))
    assert (found.scale, found.worst_score) == ("nrs_0_10", 7)


def test_the_scale_is_the_one_that_most_sites_use() -> None:
    found = facts(Entry((Site("face_left", (vrs[3],)), Site("face_right", (nrs[1],)), Site("chest_left", (nrs[2],)))))
    assert (found.scale, found.worst_score) == ("nrs_0_10", 2)


def test_two_measures_of_one_site_do_not_outvote_another_site() -> None:
    found = facts(Entry((Site("face_left", (vrs[1],)), Site("face_right", (nrs[1], nrs[2])))))
    assert (found.scale, found.worst_score) == ("vrs_4", 1)


def test_regions_and_characters_are_named_once_and_in_order() -> None:
    left, right = Site("face_left", (nrs[1],), ("dull", "aching")), Site("face_right", (nrs[1],), ("dull",))
    found = facts(Entry((right, left, left)))
    assert (found.regions, found.characters) == (("face_left", "face_right"), ("aching", "dull"))


@given(st.lists(sites, max_size=6).map(tuple))
def test_scale_and_worst_score_come_together_and_from_the_entry(places: tuple[Site, ...]) -> None:
    found = facts(Entry(places))
    values = [score.value for site in places for score in site.scores if score.scale == found.scale]
    assert (found.scale is None) == (found.worst_score is None) == (not any(site.scores for site in places))
    assert found.worst_score == (max(values) if values else None)
    assert set(found.regions) == {site.region for site in places}


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 0), (59, 0), (60, 1), (3_599, 59), (525_600 * 60, 525_600)])
def test_the_duration_is_whole_minutes_from_start_to_end(seconds: int, minutes: int) -> None:
    assert facts(Entry(ended_at=EIGHT + timedelta(seconds=seconds))).duration_minutes == minutes


def test_the_duration_spans_a_change_of_clocks_by_true_time() -> None:
    before = datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=1)))
    after = datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=2)))
    assert facts(Entry(occurred_at=before, ended_at=after)).duration_minutes == 60


def test_without_an_end_the_duration_is_what_the_patient_said() -> None:
    assert facts(Entry(duration_minutes=45)).duration_minutes == 45
    assert facts(Entry()).duration_minutes is None


def test_each_scale_used_comes_with_its_birth_dates_on_the_local_day() -> None:
    late = datetime(2026, 3, 29, 0, 30, tzinfo=timezone(timedelta(hours=2)))  # still the 28th in UTC
    entry = Entry((Site("face_left", (Score("nrs_0_10", 3), Score("painad", 2))),), occurred_at=late)
    assert scale_ages(entry, SCALES) == {
        "nrs_0_10": (date.min, date(2018, 3, 29)),
        "painad": (date.min, date.max),
    }
