"""Diary entries: what of them SQL filters by, and the ages their scales are validated for."""

from typing import Any

from app.domain.entries import facts, scale_ages
from app.schemas.entries import SCALES, EntryFields
from app.services.records import Kind


def _facts(body: EntryFields) -> dict[str, Any]:
    """Regions, characters, scale, score and minutes; the birth dates let the database flag an age."""
    known = facts(body)
    return {
        "regions": known.regions,
        "characters": known.characters,
        "worst_score": known.worst_score,
        "scale": known.scale,
        "duration_minutes": known.duration_minutes,
        "scale_birth_dates": {
            code: (first.isoformat(), last.isoformat()) for code, (first, last) in scale_ages(body, SCALES).items()
        },
    }


ENTRY = Kind("entry", "entries", "entries", EntryFields, _facts)
