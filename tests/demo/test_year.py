"""The demo patient and the year of entries: the same for everybody, believable, and what a phone could have sent."""

from datetime import date, timedelta
from statistics import mean

from app.demo import year
from app.schemas.entries import EntryIn
from app.schemas.profile import ProfileFields

LAST_DAY = date(2026, 11, 21)
FIRST_DAY = year.first_day(LAST_DAY)
YEAR = list(year.year_of_entries(LAST_DAY))


def back_pain(first: int, last: int) -> float:
    """The mean score of the back between two days of the year."""
    scores = [
        entry.sites[0].scores[0].value if entry.sites else 0
        for entry in YEAR
        if first <= (entry.occurred_at.date() - FIRST_DAY).days < last
        if not entry.sites or entry.sites[0].region in ("lower_back_left", "unspecified")
    ]
    return mean(scores)


def test_the_year_is_the_same_each_time_it_is_made() -> None:
    assert list(year.year_of_entries(LAST_DAY)) == YEAR


def test_a_year_that_ends_on_another_day_tells_the_same_story() -> None:
    later = list(year.year_of_entries(LAST_DAY + timedelta(days=3)))
    assert [entry.sites for entry in later] == [entry.sites for entry in YEAR]
    assert [entry.id for entry in later] == [entry.id for entry in YEAR]


def test_the_year_has_days_with_several_entries_and_days_without_a_word() -> None:
    days = [entry.occurred_at.date() for entry in YEAR]
    assert FIRST_DAY <= min(days) < max(days) <= LAST_DAY
    assert 1.0 < len(YEAR) / year.DAYS < 2.0
    assert 20 < year.DAYS - len(set(days)) < 100


def test_the_pain_gets_better_over_the_year_but_for_a_flare_in_the_middle() -> None:
    before, flare, after = back_pain(0, 120), back_pain(175, 205), back_pain(260, 365)
    assert after + 1 < before < flare - 1
    assert back_pain(0, 60) > back_pain(305, 365) + 1


def test_the_year_holds_what_real_diaries_hold() -> None:
    used = {name for entry in YEAR for name in entry.model_dump(exclude_defaults=True)}
    assert used >= {"sites", "no_pain", "note", "sleep", "mood", "triggers", "relief", "onset", "associated_symptoms"}
    assert any(entry.sites and entry.sites[0].region == "head_front_right" for entry in YEAR)
    assert {entry.occurred_at.utcoffset() for entry in YEAR} == {timedelta(hours=1), timedelta(hours=2)}
    assert len({entry.id for entry in YEAR}) == len(YEAR)


def test_a_migraine_is_an_episode_of_two_readings_the_later_without_a_score() -> None:
    readings = [entry for entry in YEAR if entry.episode_id]
    bad, later = ([entry for entry in readings if (entry.episode_id == entry.id) is first] for first in (True, False))
    assert [entry.episode_id for entry in later] == [entry.id for entry in bad]
    assert len(bad) > 5
    assert not any(site.scores for entry in later for site in entry.sites)
    assert {(one.code, one.present) for entry in bad for one in entry.associated_symptoms} >= {("fever", False)}
    assert any(site.region == "unspecified" for entry in YEAR for site in entry.sites)


def test_the_year_begins_with_what_was_imported_of_which_only_the_day_is_known() -> None:
    [imported] = [entry for entry in YEAR if entry.source and entry.source.record_id]
    assert (imported.entry_mode, imported.occurred_precision, imported.sites[0].region) == ("imported", "day", "other")
    assert imported.occurred_at.date() == FIRST_DAY


def test_an_entry_is_saved_soon_after_the_pain_it_tells_of() -> None:
    for entry in YEAR:
        assert entry.recorded_at is not None
        assert timedelta() < entry.recorded_at - entry.occurred_at < timedelta(minutes=10)


def test_every_entry_is_one_that_a_phone_could_have_sent() -> None:
    for entry in YEAR:
        assert EntryIn.model_validate(entry.model_dump(mode="json")) == entry


def test_the_profile_is_one_that_a_phone_could_have_sent() -> None:
    profile = year.profile(LAST_DAY)
    assert ProfileFields.model_validate(profile.model_dump(mode="json")) == profile
    assert year.profile(LAST_DAY) == profile


def test_the_profile_names_what_the_entries_tell_of() -> None:
    profile = year.profile(LAST_DAY)
    assert {"back_pain", "migraine"} <= set(profile.conditions)
    assert (profile.birth_date, profile.locale) == (date(1974, 9, 12), "en")
    assert profile.occurred_at.date() == FIRST_DAY
    assert profile.weight is not None
    assert profile.weight.on <= FIRST_DAY


def test_whatever_its_last_day_a_year_has_that_many_days() -> None:
    for last_day in (date(2024, 2, 29), date(2026, 3, 29), date(2026, 12, 31)):
        days = {entry.occurred_at.date() for entry in year.year_of_entries(last_day)}
        assert year.first_day(last_day) + timedelta(days=year.DAYS - 1) == last_day
        assert year.first_day(last_day) <= min(days) < max(days) <= last_day
