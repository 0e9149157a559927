"""The profile: one for a patient, under the patient's own id, and never out of date by itself."""

from typing import Any

from app.schemas.profile import ProfileFields
from app.services.records import Kind


def _facts(_body: ProfileFields) -> dict[str, Any]:
    return {"valid_to": "infinity"}


PROFILE = Kind("profile", "profile", "profile", ProfileFields, _facts)
