"""What a treatment makes due: the slots with a clock time, for reminders, and the days or weeks with a target."""

from pydantic import ConfigDict, Field

from app.domain import regimens
from app.domain.moments import zone_of
from app.schemas.base import Instant, Json, LocalDate, RecordId, Strict, TimeZone
from app.schemas.schedules import Meal, schedule_of
from app.schemas.treatment_examples import EXAMPLE_SESSIONS, EXAMPLE_TREATMENT
from app.schemas.treatments import LineName, Regimen, TreatmentShape
from app.schemas.units import Quantity, quantity_of

LONGEST_DAYS = 92
MOST = 24 * (LONGEST_DAYS + 3 * 99)  # each of 99 changes of 100 regimens may repeat three days, in another zone

EXAMPLE_SLOTS: Json = {
    "treatment_id": EXAMPLE_TREATMENT["id"],
    "from": "2026-02-09",
    "to": "2026-03-02",
    "slots": [
        {
            "due_at": f"{day}T09:00:00+01:00",
            "opens_at": f"{day}T08:00:00+01:00",
            "closes_at": f"{day}T12:00:00+01:00",
            "local_date": day,
            "time_zone": "Europe/Berlin",
            "dose": {"value": patches, "unit": "{patch}"},
            "meal": None,
            "line": None,
            "on_hold": on_hold,
        }
        for day, patches, on_hold in (
            ("2026-02-09", 1, True),
            ("2026-02-16", 1, False),
            ("2026-02-23", 1, False),
            ("2026-03-02", 2, False),
        )
    ],
    "periods": [],
}
EXAMPLE_PERIODS: Json = {
    "treatment_id": EXAMPLE_SESSIONS["id"],
    "from": "2026-03-23",
    "to": "2026-04-01",
    "slots": [],
    "periods": [
        {
            "first": "2026-03-23",
            "last": "2026-03-29",
            "opens_at": "2026-03-23T00:00:00+01:00",
            "closes_at": "2026-03-30T00:00:00+02:00",
            "time_zone": "Europe/Berlin",
            "count": 2,
            "minutes": 30,
            "dose": None,
            "line": None,
            "on_hold": False,
        }
    ],
}


class Slot(Strict):
    """One dose or session with a clock time. All instants have the offset of the regimen's zone at that instant."""

    due_at: Instant = Field(description="08:00 stays 08:00 when the clocks change.")
    opens_at: Instant = Field(description="From here on it is on time.")
    closes_at: Instant = Field(description="Up to here, included, it is on time.")
    local_date: LocalDate = Field(description="The day it belongs to, in the regimen's zone.")
    time_zone: TimeZone = Field(description="The regimen's zone.")
    dose: Quantity | None = Field(description="How much at this time; null where no dose was agreed.")
    meal: Meal | None = Field(description="Before, with or after a meal; null where that was not agreed.")
    line: LineName | None = Field(description="The line of its regimen; null for the one without a name.")
    on_hold: bool = Field(description="In a pause: nothing is to be done, and a reminder is not wanted.")


class Period(Strict):
    """A local day, ISO week (Monday to Sunday) or month in which so much is to be done, whenever it suits."""

    first: LocalDate
    last: LocalDate = Field(description="The day by whose end it is due, and to which the period belongs.")
    opens_at: Instant
    closes_at: Instant = Field(description="The first instant after it.")
    time_zone: TimeZone = Field(description="The regimen's zone.")
    count: int = Field(ge=1, description="How many times.")
    minutes: int | None = Field(description="How long each time; null where it was not agreed.")
    dose: Quantity | None = Field(description="How much each time; null where no dose was agreed.")
    line: LineName | None = Field(description="The line of its regimen; null for the one without a name.")
    on_hold: bool = Field(description="A pause touches it: nothing of it counts as due.")


class SlotsOut(Strict):
    """What a treatment makes due on some local days, in time order.

    What is taken as needed is never due, and a draft makes nothing due.
    """

    model_config = ConfigDict(
        serialize_by_alias=True,
        validate_by_name=True,
        json_schema_extra={"examples": [EXAMPLE_SLOTS, EXAMPLE_PERIODS]},
    )

    treatment_id: RecordId
    from_: LocalDate = Field(alias="from", description="The first local day, as asked for.")
    to: LocalDate = Field(description="The last local day, included.")
    slots: list[Slot] = Field(max_length=MOST, description="Of regimens with times.")
    periods: list[Period] = Field(
        max_length=MOST,
        description="Of regimens with a target; a week or month stands here when its last day is among the days.",
    )


def plan_of(treatment: TreatmentShape) -> regimens.Treatment:
    """The treatment as arithmetic takes it: what is due when, and when it was on hold."""
    return regimens.Treatment(
        category=treatment.category,
        regimens=tuple(map(_regimen, treatment.regimens)),
        pauses=tuple(regimens.Hold(pause.from_, pause.to) for pause in treatment.pauses),
        status=treatment.status,
        content=_content(treatment),
    )


def _content(treatment: TreatmentShape) -> regimens.Content | None:
    """What is in one unit of it; of several ingredients none is the medicine's amount."""
    strengths = [quantity_of(ingredient.strength) for ingredient in treatment.ingredients]
    if len(strengths) != 1 or strengths[0] is None:
        return None
    return regimens.Content(strengths[0], treatment.form)


def _regimen(regimen: Regimen) -> regimens.PlanVersion:
    most = regimen.dose and regimen.dose.high
    return regimens.PlanVersion(
        valid_from=regimen.valid_from,
        zone=zone_of(regimen.time_zone),
        schedule=schedule_of(regimen.schedule),
        dose=quantity_of(regimen.dose),
        valid_to=regimen.valid_to,
        dose_up_to=regimens.Amount(most, regimen.dose.unit) if regimen.dose and most else None,
        line=regimen.line,
    )
