"""The schedule on the wire: on which days, at what times, or after how many hours; as needed; so often.

Each form says which FHIR R4 `Timing` it is; `app/domain/timing.py` writes and reads that.
"""

from datetime import time
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import TypeAliasType

from app.domain import days, regimens
from app.schemas.base import BodyFault, Distinct, LocalDate, Says, Strict, line, refuse
from app.schemas.units import Quantity, quantity_of

Meal = TypeAliasType("Meal", Literal["before", "with", "after"])
TargetPeriod = TypeAliasType("TargetPeriod", Literal["day", "week", "month"])
LocalTime = Annotated[
    str,
    Field(
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="A time of day on the wall clock.", examples=["08:00"]
    ),
    Says("local_time", "Give a time of day from 00:00 to 23:59, as 08:00."),
]
Weekday = Annotated[int, Field(ge=1, le=7)]
Weekdays = Annotated[list[Weekday], Distinct(), Field(min_length=1, max_length=7, description="1 Monday to 7 Sunday.")]
Window = Annotated[int, Field(ge=0, le=720)]
EARLY, LATE = "So much before the time is still on time.", "So much after the time is still on time."


def _not_zero(number: int) -> int:
    if number == 0:
        raise ValueError
    return number


NotZero = AfterValidator(_not_zero), Field(json_schema_extra={"not": {"const": 0}})
DayOfMonth = Annotated[int, Field(ge=-1, le=31), *NotZero, Says("day_of_month", "Give 1 to 31, or -1.")]
WeekOfMonth = Annotated[int, Field(ge=-1, le=5), *NotZero, Says("week_of_month", "Give 1 to 5, or -1.")]


class Scheduled(Strict):
    """At these times of day: every day, on some days of the week, or every so many days.

    The short form of `calendar`, where no time has a dose of its own. FHIR: `timeOfDay`, with `dayOfWeek`, or `period`
    days.
    """

    type: Literal["scheduled"]
    times: Annotated[list[LocalTime], Distinct()] = Field(
        min_length=1, max_length=24, description="On the wall clock of the regimen's zone: 08:00 stays 08:00."
    )
    days_of_week: Annotated[list[Weekday], Distinct()] | None = Field(
        default=None, min_length=1, max_length=7, description="1 Monday to 7 Sunday; excludes `every_n_days`."
    )
    every_n_days: int | None = Field(
        default=None, ge=1, le=366, description="Counted from the local day of `valid_from`; excludes `days_of_week`."
    )
    early_minutes: Window = Field(default=60, description=EARLY)
    late_minutes: Window = Field(default=60, description=LATE)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.days_of_week is not None and self.every_n_days is not None:
            refuse([BodyFault(("every_n_days",), "contradiction", "Give it only without days_of_week.")])
        return self


class EveryDays(Strict):
    """Every so many days, counted from the local day of `valid_from`. FHIR: `period` days."""

    type: Literal["daily"]
    every_n_days: int = Field(default=1, ge=1, le=366)


class Weekly(Strict):
    """On days of the week, every so many weeks (Monday to Sunday), the first that of `valid_from`.

    FHIR: `period` weeks, `dayOfWeek`.
    """

    type: Literal["weekly"]
    every_n_weeks: int = Field(default=1, ge=1, le=52)
    days_of_week: Weekdays


class Monthly(Strict):
    """On days of the month, every so many months, the first that of `valid_from`. A month without the day has none.

    FHIR: `period` months, with the extension `timing-dayOfMonth`, for the last day one of our own.
    """

    type: Literal["monthly"]
    every_n_months: int = Field(default=1, ge=1, le=12)
    days_of_month: Annotated[list[DayOfMonth], Distinct()] = Field(
        min_length=1, max_length=31, description="1 to 31, or -1: the last, however long the month is."
    )


class MonthlyWeekday(Strict):
    """On the first, second … or last of days of the week in a month, every so many months from `valid_from` on.

    FHIR: `period` months, `dayOfWeek`, with an extension of our own for which of them.
    """

    type: Literal["monthly_weekday"]
    every_n_months: int = Field(default=1, ge=1, le=12)
    week: WeekOfMonth = Field(description="1: the first such day of the month; 5: where there is one; -1: the last.")
    days_of_week: Weekdays


class Cycle(Strict):
    """So many days on, then so many off, and again, counted from the local day of `valid_from`: 21 on and 7 off.

    FHIR: `period` of all these days, with the extension `timing-daysOfCycle`.
    """

    type: Literal["cycle"]
    days_on: int = Field(ge=1, le=365)
    days_off: int = Field(ge=1, le=365)


class OnDates(Strict):
    """On these days. FHIR: `Timing.event`, each a date."""

    type: Literal["listed"]
    dates: Annotated[list[LocalDate], Distinct()] = Field(min_length=1, max_length=366)


Days = TypeAliasType(
    "Days",
    Annotated[EveryDays | Weekly | Monthly | MonthlyWeekday | Cycle | OnDates, Field(discriminator="type")],
)


class TimeOfDay(Strict):
    """A time of day, with a dose of its own: "1-0-2" is 1 in the morning and 2 at night.

    FHIR: `timeOfDay`. Times with one dose and meal share a `Dosage`; a meal is its `additionalInstruction`.
    """

    time: LocalTime
    dose: Quantity | None = Field(default=None, description="How much then; by default the regimen's dose.")
    meal: Meal | None = Field(default=None, description="Before, with or after a meal.")


class Calendar(Strict):
    """On the days of a rule, at times of day that may each have a dose of their own."""

    type: Literal["calendar"]
    days: Days = Field(default_factory=lambda: EveryDays(type="daily"), description="When absent: every day.")
    at: Annotated[list[TimeOfDay], Distinct("time")] = Field(
        min_length=1, max_length=24, description="On the wall clock of the regimen's zone: 08:00 stays 08:00."
    )
    early_minutes: Window = Field(default=60, description=EARLY)
    late_minutes: Window = Field(default=60, description=LATE)


class Elapsed(Strict):
    """When the regimen begins and every so many minutes from then on, whatever wall clocks do: every 36 or 72 hours.

    FHIR: `period` in `h` or `min`, from the start of `boundsPeriod` on.
    """

    type: Literal["elapsed"]
    every_minutes: int = Field(ge=15, le=527_040, description="Of elapsed time: 2160 are 36 hours.")
    early_minutes: Window = Field(default=60, description=EARLY)
    late_minutes: Window = Field(default=60, description=LATE)


class Prn(Strict):
    """When it is needed, within these limits.

    FHIR: `asNeeded` for the indication, `period` to `periodMax` for the interval, `maxDosePerPeriod` for 24 hours.
    """

    type: Literal["prn"]
    min_interval_minutes: int | None = Field(default=None, ge=1, le=10_080, description="Between two doses, at least.")
    max_interval_minutes: int | None = Field(
        default=None, ge=1, le=10_080, description="The 6 of `every 4 to 6 hours`: advice, to which nobody is held."
    )
    max_doses_24h: int | None = Field(default=None, ge=1, le=100, description="In any 24 hours.")
    max_amount_24h: Quantity | None = Field(default=None, description="In any 24 hours.")
    indication: Annotated[str, line(200)] | None = Field(default=None, description="What it is for.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        least, most = self.min_interval_minutes, self.max_interval_minutes
        if most is not None and (least is None or most <= least):
            sentence = "Give it only with min_interval_minutes, and more than that."
            refuse([BodyFault(("max_interval_minutes",), "contradiction", sentence)])
        return self


class Target(Strict):
    """So often in a day, week or month, whenever it suits. FHIR: `frequency` a `period` of one, `duration`."""

    type: Literal["target"]
    count: int = Field(ge=1, le=100)
    per: TargetPeriod
    minutes: int | None = Field(default=None, ge=1, le=1440, description="How long each time.")


Schedule = TypeAliasType(
    "Schedule", Annotated[Scheduled | Calendar | Elapsed | Prn | Target, Field(discriminator="type")]
)


def schedule_of(schedule: Scheduled | Calendar | Elapsed | Prn | Target) -> regimens.Schedule:
    """The schedule as arithmetic takes it."""
    match schedule:
        case Target():
            return regimens.Frequency(schedule.count, schedule.per, schedule.minutes)
        case Prn():
            return regimens.AsNeeded(
                schedule.min_interval_minutes,
                schedule.max_doses_24h,
                quantity_of(schedule.max_amount_24h),
                schedule.max_interval_minutes,
                schedule.indication,
            )
        case Elapsed():
            return regimens.ElapsedTime(schedule.every_minutes, schedule.early_minutes, schedule.late_minutes)
        case Scheduled():
            at = [regimens.ClockTime(time.fromisoformat(one)) for one in schedule.times]
            rule: days.Days = days.EveryNthDay(schedule.every_n_days or 1)
            if schedule.days_of_week is not None:
                rule = days.DaysOfWeek(frozenset(schedule.days_of_week))
        case Calendar():
            at = [
                regimens.ClockTime(time.fromisoformat(one.time), quantity_of(one.dose), one.meal) for one in schedule.at
            ]
            rule = _rule(schedule.days)
    at.sort(key=lambda one: one.time)
    return regimens.FixedTimes(tuple(at), rule, schedule.early_minutes, schedule.late_minutes)


def _rule(rule: EveryDays | Weekly | Monthly | MonthlyWeekday | Cycle | OnDates) -> days.Days:
    """On which days, as arithmetic takes it."""
    match rule:
        case EveryDays():
            return days.EveryNthDay(rule.every_n_days)
        case Weekly():
            return days.DaysOfWeek(frozenset(rule.days_of_week), rule.every_n_weeks)
        case Monthly():
            return days.DaysOfMonth(frozenset(rule.days_of_month), rule.every_n_months)
        case MonthlyWeekday():
            return days.NthWeekday(rule.week, frozenset(rule.days_of_week), rule.every_n_months)
        case Cycle():
            return days.OnAndOff(rule.days_on, rule.days_off)
        case OnDates():
            return days.ListedDates(tuple(sorted(rule.dates)))
