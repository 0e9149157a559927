"""What follows from a treatment's category."""

MEDICATIONS = frozenset({"otc_medication", "prescription_medication", "opioid_medication"})
DOSE_STATUSES = frozenset({"taken", "partial", "skipped", "held"})
SESSION_STATUSES = frozenset({"attended", "partial", "not_attended", "cancelled_by_patient", "cancelled_by_provider"})


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
