"""What follows from a treatment's category."""

import pytest

from app.domain.treatments import fits, flags

DOSES = {"taken", "partial", "skipped", "held"}
SESSIONS = {"attended", "partial", "not_attended", "cancelled_by_patient", "cancelled_by_provider"}


@pytest.mark.parametrize("category", ["otc_medication", "prescription_medication", "opioid_medication"])
def test_a_medication_is_done_in_doses(category: str) -> None:
    assert {status for status in DOSES | SESSIONS if fits(category, status)} == DOSES


@pytest.mark.parametrize(
    "category",
    [
        "physical_therapy",
        "interventional_procedure",
        "psychological_counselling",
        "complementary_therapy",
        "lifestyle",
        "self_management",
        "education",
    ],
)
def test_everything_else_is_done_in_sessions(category: str) -> None:
    assert {status for status in DOSES | SESSIONS if fits(category, status)} == SESSIONS


@pytest.mark.parametrize(
    ("category", "status", "expected"),
    [
        ("otc_medication", "taken", ()),
        ("otc_medication", "attended", ("status_does_not_fit",)),
        ("lifestyle", "partial", ()),
        ("lifestyle", "held", ("status_does_not_fit",)),
        (None, "taken", ("treatment_missing",)),
    ],
)
def test_an_event_is_flagged_by_what_is_known_of_its_treatment(
    category: str | None, status: str, expected: tuple[str, ...]
) -> None:
    assert flags(category, status) == expected
