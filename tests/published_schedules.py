"""Twenty schedules as leaflets, guidelines and prescriptions give them, each with what it makes due by hand.

All begin on Thursday, 1 January 2026, in Berlin. `due` are the first slots, month-day hour:minute, each with its dose.
"""

from typing import Any, NamedTuple

Json = dict[str, Any]

START, ZONE = "2026-01-01T00:00:00+01:00", "Europe/Berlin"
DAILY = {"type": "daily", "every_n_days": 1}


class Published(NamedTuple):
    """A schedule in words, the regimens it is written as, and what is due first."""

    words: str
    regimens: list[Json]
    due: list[tuple[str, float | None]]


def tablets(value: float, **more: float) -> Json:
    return {"value": value, "unit": "{tablet}", **more}


def at(clock: str, dose: float | None = None, meal: str | None = None) -> Json:
    """A time of day, with so many tablets and a meal, where they are given."""
    own = {"dose": tablets(dose)} if dose else {}
    return {"time": clock, **own, **({"meal": meal} if meal else {})}


def calendar(days: Json, *times: Json, **fields: Any) -> Json:
    """A regimen on these days at these times, one tablet each unless they say otherwise."""
    schedule = {"type": "calendar", "days": days, "at": list(times), "early_minutes": 60, "late_minutes": 120}
    return regimen(schedule, **fields)


def regimen(schedule: Json, **fields: Any) -> Json:
    return {"valid_from": START, "time_zone": ZONE, "dose": tablets(1), "schedule": schedule, **fields}


def weekly(*days: int, every: int = 1) -> Json:
    return {"type": "weekly", "every_n_weeks": every, "days_of_week": list(days)}


def monthly(*days: int, every: int = 1) -> Json:
    return {"type": "monthly", "every_n_months": every, "days_of_month": list(days)}


def elapsed(hours: int) -> Json:
    return {"type": "elapsed", "every_minutes": 60 * hours, "early_minutes": 60, "late_minutes": 60}


def taper(*steps: tuple[str, str | None, float]) -> list[Json]:
    """One dose a day in the morning, less with each step."""
    return [
        calendar(
            DAILY,
            at("08:00", meal="with"),
            valid_from=f"2026-{since}T00:00:00+01:00",
            dose=tablets(dose),
            **({"valid_to": f"2026-{until}T00:00:00+01:00"} if until else {}),
        )
        for since, until, dose in steps
    ]


def prn(dose: Json, **limits: Any) -> list[Json]:
    return [regimen({"type": "prn", **limits}, dose=dose)]


PUBLISHED = [
    Published(
        "Methotrexate once a week, on Mondays",
        [calendar(weekly(1), at("08:00", 4))],
        [("01-05 08:00", 4), ("01-12 08:00", 4)],
    ),
    Published(
        "Fentanyl patch, changed every 72 hours",
        [regimen(elapsed(72), valid_from="2026-03-27T10:00:00+01:00", dose={"value": 1, "unit": "{patch}"})],
        [("03-27 10:00", 1), ("03-30 11:00", 1), ("04-02 11:00", 1)],
    ),
    Published(
        "Alendronate once a week, before food",
        [calendar(weekly(7), at("07:00", meal="before"))],
        [("01-04 07:00", 1), ("01-11 07:00", 1)],
    ),
    Published(
        "A pill for 21 days, then 7 days without",
        [calendar({"type": "cycle", "days_on": 21, "days_off": 7}, at("22:00"))],
        [*((f"01-{day:02} 22:00", 1) for day in range(1, 22)), ("01-29 22:00", 1)],
    ),
    Published(
        "Prednisolone, tapered from 4 to 2 to 1 tablet every 3 days",
        taper(("01-01", "01-04", 4), ("01-04", "01-07", 2), ("01-07", "01-10", 1)),
        [(f"01-0{day} 08:00", dose) for day, dose in enumerate([4, 4, 4, 2, 2, 2, 1, 1, 1], start=1)],
    ),
    Published(
        "Levothyroxine, 1 and 1.5 tablets on alternate days",
        [
            calendar({"type": "daily", "every_n_days": 2}, at("06:30", 1, "before"), line="odd"),
            calendar(
                {"type": "daily", "every_n_days": 2},
                at("06:30", 1.5, "before"),
                line="even",
                valid_from="2026-01-02T00:00:00+01:00",
            ),
        ],
        [("01-01 06:30", 1), ("01-02 06:30", 1.5), ("01-03 06:30", 1), ("01-04 06:30", 1.5)],
    ),
    Published(
        "Warfarin, 1 tablet on weekdays and 1.5 at the weekend",
        [calendar(weekly(1, 2, 3, 4, 5), at("18:00", 1)), calendar(weekly(6, 7), at("18:00", 1.5), line="weekend")],
        [("01-01 18:00", 1), ("01-02 18:00", 1), ("01-03 18:00", 1.5), ("01-04 18:00", 1.5), ("01-05 18:00", 1)],
    ),
    Published(
        "Vitamin B12 injection every 3 months",
        [calendar(monthly(1, every=3), at("10:00"), dose={"value": 1, "unit": "{injection}"})],
        [("01-01 10:00", 1), ("04-01 10:00", 1)],
    ),
    Published(
        "Denosumab every 6 months",
        [calendar(monthly(15, every=6), at("10:00"), dose={"value": 60, "unit": "mg"})],
        [("01-15 10:00", 60), ("07-15 10:00", 60)],
    ),
    Published(
        "Gabapentin 1-0-2",
        [calendar(DAILY, at("08:00", 1), at("20:00", 2))],
        [("01-01 08:00", 1), ("01-01 20:00", 2), ("01-02 08:00", 1), ("01-02 20:00", 2)],
    ),
    Published(
        "On the first Monday of the month",
        [calendar({"type": "monthly_weekday", "every_n_months": 1, "week": 1, "days_of_week": [1]}, at("09:00"))],
        [("01-05 09:00", 1), ("02-02 09:00", 1), ("03-02 09:00", 1), ("04-06 09:00", 1)],
    ),
    Published(
        "On the last day of the month",
        [calendar(monthly(-1), at("09:00"))],
        [("01-31 09:00", 1), ("02-28 09:00", 1), ("03-31 09:00", 1)],
    ),
    Published(
        "Every 5 hours",
        [regimen(elapsed(5))],
        [("01-01 00:00", 1), ("01-01 05:00", 1), ("01-01 10:00", 1), ("01-01 15:00", 1), ("01-01 20:00", 1)],
    ),
    Published(
        "Every 36 hours, as at a low clearance",
        [regimen(elapsed(36), valid_from="2026-01-01T08:00:00+01:00")],
        [("01-01 08:00", 1), ("01-02 20:00", 1), ("01-04 08:00", 1)],
    ),
    Published(
        "1 to 2 tablets every 4 to 6 hours as needed, at most 8 a day",
        prn(
            tablets(1, high=2),
            min_interval_minutes=240,
            max_interval_minutes=360,
            max_doses_24h=6,
            max_amount_24h=tablets(8),
            indication="Pain",
        ),
        [],
    ),
    Published(
        "Metformin twice a day with meals",
        [calendar(DAILY, at("08:00", meal="with"), at("19:00", meal="with"))],
        [("01-01 08:00", 1), ("01-01 19:00", 1), ("01-02 08:00", 1)],
    ),
    Published(
        "Adalimumab every other week",
        [calendar(weekly(4, every=2), at("19:00"), dose={"value": 40, "unit": "mg"})],
        [("01-01 19:00", 40), ("01-15 19:00", 40), ("01-29 19:00", 40)],
    ),
    Published(
        "Alternate-day prednisolone",
        [calendar({"type": "daily", "every_n_days": 2}, at("08:00", 2, "after"))],
        [("01-01 08:00", 2), ("01-03 08:00", 2), ("01-05 08:00", 2)],
    ),
    Published(
        "Infliximab in weeks 0, 2 and 6, then every 8 weeks",
        [
            calendar(
                {"type": "listed", "dates": ["2026-01-01", "2026-01-15", "2026-02-12"]},
                at("11:00"),
                dose={"value": 300, "unit": "mg"},
                line="loading",
                valid_to="2026-04-09T00:00:00+02:00",
            ),
            calendar(
                weekly(4, every=8),
                at("11:00"),
                dose={"value": 300, "unit": "mg"},
                valid_from="2026-04-09T00:00:00+02:00",
            ),
        ],
        [("01-01 11:00", 300), ("01-15 11:00", 300), ("02-12 11:00", 300), ("04-09 11:00", 300), ("06-04 11:00", 300)],
    ),
    Published(
        "Amitriptyline every night, as it was always written",
        [regimen({"type": "scheduled", "times": ["21:00"], "early_minutes": 60, "late_minutes": 60})],
        [("01-01 21:00", 1), ("01-02 21:00", 1)],
    ),
    Published(
        "Naratriptan as needed beside a daily dose",
        [
            calendar(DAILY, at("08:00")),
            regimen({"type": "prn", "max_doses_24h": 2}, line="rescue"),
        ],
        [("01-01 08:00", 1), ("01-02 08:00", 1)],
    ),
]
