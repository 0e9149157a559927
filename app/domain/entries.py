"""What follows from an entry: the facts that filters use, and the ages its scales are validated for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from app.domain.moments import at_place, local_date
from app.domain.scales import Scale, birth_dates


class ScoreLike(Protocol):
    """One score of a site."""

    @property
    def scale(self) -> str: ...
    @property
    def value(self) -> int: ...


class SiteLike(Protocol):
    """One place that hurts."""

    @property
    def region(self) -> str: ...
    @property
    def scores(self) -> Sequence[ScoreLike]: ...
    @property
    def characters(self) -> Sequence[str]: ...


class EntryLike(Protocol):
    """The part of an entry from which facts follow."""

    @property
    def occurred_at(self) -> datetime: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def ended_at(self) -> datetime | None: ...
    @property
    def duration_minutes(self) -> int | None: ...
    @property
    def sites(self) -> Sequence[SiteLike]: ...


@dataclass(frozen=True)
class Facts:
    """What SQL filters entries by; `scale` and `worst_score` are both there or both missing."""

    regions: tuple[str, ...]
    characters: tuple[str, ...]
    scale: str | None
    worst_score: int | None
    duration_minutes: int | None


def facts(entry: EntryLike) -> Facts:
    """The filterable facts of an entry.

    `scale` is the one that most sites are scored on (the first of them when several are), `worst_score` the
    highest value on it, whatever its measure: scores of different scales do not compare.
    """
    scales = {score.scale for site in entry.sites for score in site.scores}
    scale = scales.pop() if len(scales) == 1 else _main_scale(entry.sites)
    return Facts(
        regions=tuple(sorted({site.region for site in entry.sites})),
        characters=tuple(sorted({character for site in entry.sites for character in site.characters})),
        scale=scale,
        worst_score=max((s.value for site in entry.sites for s in site.scores if s.scale == scale), default=None),
        duration_minutes=_duration(entry),
    )


def scale_ages(entry: EntryLike, scales: Mapping[str, Scale]) -> dict[str, tuple[date, date]]:
    """For each scale used: the birth dates for whom it is validated on the entry's local day."""
    on = local_date(at_place(entry.occurred_at, entry.time_zone))
    used = sorted({score.scale for site in entry.sites for score in site.scores})
    return {code: birth_dates(scales[code], on) for code in used}


def _main_scale(sites: Sequence[SiteLike]) -> str | None:
    """The scale that most sites use; a counter keeps first come first, so ties go to the first."""
    sites_by_scale = Counter(scale for site in sites for scale in dict.fromkeys(s.scale for s in site.scores))
    return max(sites_by_scale, key=sites_by_scale.__getitem__, default=None)


def _duration(entry: EntryLike) -> int | None:
    """Whole minutes from start to end, or as the patient said."""
    if entry.ended_at is None:
        return entry.duration_minutes
    return int((entry.ended_at - entry.occurred_at).total_seconds()) // 60
