"""What follows from a treatment's category, and the fact of an event that SQL filters by."""

from dataclasses import dataclass
from typing import Protocol

MEDICATIONS = frozenset({"otc_medication", "prescription_medication", "opioid_medication"})
DOSE_STATUSES = frozenset({"taken", "partial", "skipped", "held"})
SESSION_STATUSES = frozenset({"attended", "partial", "not_attended", "cancelled_by_patient", "cancelled_by_provider"})


class EventLike(Protocol):
    """The part of a treatment event from which facts follow."""

    @property
    def treatment_id(self) -> str: ...


@dataclass(frozen=True)
class Facts:
    """What SQL filters treatment events by."""

    treatment_id: str


def is_medication(category: str) -> bool:
    """Whether a treatment of this category is done in doses; all others are done in sessions."""
    return category in MEDICATIONS


def fits(category: str, status: str) -> bool:
    """Whether an event of this status can belong to a treatment of this category."""
    return status in (DOSE_STATUSES if is_medication(category) else SESSION_STATUSES)


def flags(category: str | None, status: str) -> tuple[str, ...]:
    """What is to be said of an event whose treatment has this category; None while the treatment has not arrived."""
    if category is None:
        return ("treatment_missing",)
    return () if fits(category, status) else ("status_does_not_fit",)


def facts(event: EventLike) -> Facts:
    """The filterable facts of a treatment event."""
    return Facts(treatment_id=event.treatment_id)
