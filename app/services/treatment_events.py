"""Treatment events: doses and sessions, done or not."""

from typing import Any

from app.schemas.treatment_events import TreatmentEventFields
from app.services.records import Kind


def _facts(body: TreatmentEventFields) -> dict[str, Any]:
    return {"treatment_id": body.treatment_id}


TREATMENT_EVENT = Kind("treatment_event", "treatment_events", "treatments", TreatmentEventFields, _facts)
