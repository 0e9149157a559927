"""Treatments as the description shows them."""

from app.schemas.base import Json
from app.schemas.envelope import example_stored

MINIMAL_TREATMENT: Json = {
    "id": "0195d3f4-6b11-7c40-8e2d-3f9a1c5b7d82",
    "occurred_at": "2026-03-02T08:00:00+01:00",
    "time_zone": "Europe/Berlin",
    "category": "otc_medication",
    "name": "Ibuprofen 400 mg",
    "regimens": [
        {"valid_from": "2026-03-02T00:00:00+01:00", "time_zone": "Europe/Berlin", "schedule": {"type": "prn"}}
    ],
}
EXAMPLE_TREATMENT: Json = {
    "id": "0195d3f4-6a2c-7f10-9d4e-2b8c5a7e1f36",
    "occurred_at": "2026-01-12T10:20:00+01:00",
    "time_zone": "Europe/Berlin",
    "occurred_precision": "minute",
    "recorded_at": "2026-01-12T10:24:41+01:00",
    "performer": "self",
    "source": {"app": "diary-phone", "app_version": "1.4.0", "device_model": "Pixel 9", "schema_version": 1},
    "category": "opioid_medication",
    "name": "Buprenorphine 5 µg/h patch",
    "ingredients": [{"name": "buprenorphine", "rxnorm": "1819", "strength": {"value": 5, "unit": "ug/h"}}],
    "form": "patch",
    "route": "transdermal",
    "regimens": [
        {
            "valid_from": "2026-01-12T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 1, "unit": "{patch}"},
            "schedule": {
                "type": "scheduled",
                "times": ["09:00"],
                "days_of_week": [1],
                "early_minutes": 60,
                "late_minutes": 180,
            },
        },
        {
            "valid_from": "2026-03-02T00:00:00+01:00",
            "valid_to": "2026-06-29T00:00:00+02:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 2, "unit": "{patch}"},
            "schedule": {
                "type": "scheduled",
                "times": ["09:00"],
                "every_n_days": 7,
                "early_minutes": 60,
                "late_minutes": 180,
            },
        },
    ],
    "pauses": [{"from": "2026-02-09T00:00:00+01:00", "to": "2026-02-16T00:00:00+01:00"}],
    "status": "active",
    "prescriber": "Dr. Weber, pain clinic",
    "authored_by": "clinician",
    "acknowledged_at": "2026-01-12T18:05:00+01:00",
    "wear_hours": 168,
    "note": "Change the place each week.",
}
EXAMPLE_PRN: Json = MINIMAL_TREATMENT | {
    "ingredients": [{"name": "ibuprofen", "rxnorm": "5640", "strength": {"value": 400, "unit": "mg"}}],
    "form": "tablet",
    "route": "oral",
    "regimens": [
        {
            "valid_from": "2026-03-02T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 400, "unit": "mg"},
            "schedule": {
                "type": "prn",
                "min_interval_minutes": 360,
                "max_doses_24h": 3,
                "max_amount_24h": {"value": 1200, "unit": "mg"},
                "indication": "Back pain of 5 or more",
            },
        }
    ],
}
EXAMPLE_SESSIONS: Json = {
    "id": "0195d3f4-6c83-7a55-b1f7-6d0e4b2a9c14",
    "occurred_at": "2026-03-02T08:00:00+01:00",
    "time_zone": "Europe/Berlin",
    "category": "physical_therapy",
    "name": "Physiotherapy",
    "regimens": [
        {
            "valid_from": "2026-03-02T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "schedule": {"type": "target", "count": 2, "per": "week", "minutes": 30},
        }
    ],
}
EXAMPLE_LINES: Json = {
    "id": "0195d3f4-6d3e-7b21-8f6a-9c0d1e2f3a4b",
    "occurred_at": "2026-03-02T08:00:00+01:00",
    "time_zone": "Europe/Berlin",
    "category": "prescription_medication",
    "name": "Gabapentin 300 mg, and a tablet more at the weekend",
    "regimens": [
        {
            "valid_from": "2026-03-02T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "schedule": {
                "type": "calendar",
                "days": {"type": "daily", "every_n_days": 1},
                "at": [
                    {"time": "08:00", "dose": {"value": 1, "unit": "{tablet}"}, "meal": "with"},
                    {"time": "20:00", "dose": {"value": 2, "unit": "{tablet}"}},
                ],
                "early_minutes": 60,
                "late_minutes": 120,
            },
        },
        {
            "line": "weekend",
            "valid_from": "2026-03-02T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 1, "unit": "{tablet}"},
            "schedule": {
                "type": "calendar",
                "days": {"type": "weekly", "every_n_weeks": 1, "days_of_week": [6, 7]},
                "at": [{"time": "14:00"}],
                "early_minutes": 60,
                "late_minutes": 60,
            },
        },
    ],
}
EXAMPLE_ELAPSED: Json = {
    "id": "0195d3f4-6e4f-7c32-9a7b-0d1e2f3a4b5c",
    "occurred_at": "2026-03-02T08:00:00+01:00",
    "time_zone": "Europe/Berlin",
    "category": "opioid_medication",
    "name": "Fentanyl 12 µg/h patch",
    "form": "patch",
    "wear_hours": 72,
    "regimens": [
        {
            "valid_from": "2026-03-02T10:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 1, "unit": "{patch}"},
            "schedule": {"type": "elapsed", "every_minutes": 4320, "early_minutes": 120, "late_minutes": 120},
        }
    ],
}
EXAMPLE_RANGE: Json = MINIMAL_TREATMENT | {
    "id": "0195d3f4-6f50-7d43-8b8c-1e2f3a4b5c6d",
    "name": "Paracetamol 500 mg",
    "regimens": [
        {
            "valid_from": "2026-03-02T00:00:00+01:00",
            "time_zone": "Europe/Berlin",
            "dose": {"value": 1, "high": 2, "unit": "{tablet}"},
            "schedule": {
                "type": "prn",
                "min_interval_minutes": 240,
                "max_interval_minutes": 360,
                "max_amount_24h": {"value": 8, "unit": "{tablet}"},
            },
        }
    ],
}
EXAMPLE_STOP: Json = {
    "status": "stopped",
    "regimens": [MINIMAL_TREATMENT["regimens"][0] | {"valid_to": "2026-04-13T00:00:00+02:00"}],
}
EXAMPLES = [
    MINIMAL_TREATMENT,
    EXAMPLE_TREATMENT,
    EXAMPLE_PRN,
    EXAMPLE_SESSIONS,
    EXAMPLE_LINES,
    EXAMPLE_ELAPSED,
    EXAMPLE_RANGE,
]
STORED_TREATMENT = example_stored("treatment", EXAMPLE_TREATMENT)
