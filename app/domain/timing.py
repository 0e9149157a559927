"""A version of the plan as FHIR R4 `Dosage`s with their `Timing`, and back without loss.

| schedule | FHIR R4 |
|--|--|
| times of day | `repeat.timeOfDay`; times of one dose and meal share a `Dosage` |
| meal | `additionalInstruction`: AC, C, PC of v3-TimingEvent, for `when` excludes `timeOfDay` |
| every n days | `repeat.period` n `d` |
| every n weeks, days of week | `repeat.period` n `wk`, `dayOfWeek` |
| every n months, days of month | `repeat.period` n `mo`, extension `timing-dayOfMonth`; the last day: one of our own |
| nth weekday | `repeat.period` n `mo`, `dayOfWeek`, an extension of our own for n |
| cycle | `repeat.period` of the whole, extension `timing-daysOfCycle` of `Timing` |
| dates | `Timing.event` |
| elapsed time | `repeat.period` in `h` or `min` |
| as needed | `asNeeded[x]`; interval: `period`, `periodMax`; 24 hours: `maxDosePerPeriod`, a second one as in R5 |
| target | `repeat.frequency`, no `timeOfDay`; `duration` |
| valid from … to | `repeat.boundsPeriod`, its zone as `tz-code` or offset; a period includes its end: the last second |
| window, line | extensions of our own |
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.days import LAST, Days, DaysOfMonth, DaysOfWeek, EveryNthDay, ListedDates, NthWeekday, OnAndOff
from app.domain.moments import parse_instant, render_instant
from app.domain.regimens import (
    Amount,
    AsNeeded,
    ClockTime,
    ElapsedTime,
    FixedTimes,
    Frequency,
    Meal,
    PlanVersion,
    Schedule,
)

Json = dict[str, Any]

FHIR = "http://hl7.org/fhir/StructureDefinition/"
OURS = "https://pain-diary.example/fhir/StructureDefinition/"
ZONE, DAYS_OF_CYCLE, DAY_OF_MONTH = FHIR + "tz-code", FHIR + "timing-daysOfCycle", FHIR + "timing-dayOfMonth"
SECOND_MAXIMUM = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Dosage.maxDosePerPeriod"
LAST_DAY, WEEK_OF_MONTH, WINDOW, LINE = (
    OURS + name for name in ("last-day-of-month", "week-of-month", "on-time-window", "line")
)
UCUM, MEALS_OF = "http://unitsofmeasure.org", "http://terminology.hl7.org/CodeSystem/v3-TimingEvent"
_MEALS: dict[Meal, str] = {"before": "AC", "with": "C", "after": "PC"}
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_PERIODS = {"day": "d", "week": "wk", "month": "mo"}
_DOSE, _SECOND = "{dose}", timedelta(seconds=1)


def dosages(version: PlanVersion) -> list[Json]:
    """The version as FHIR `Dosage`s: one, or one for each dose and meal of its times of day."""
    schedule = version.schedule
    if not isinstance(schedule, FixedTimes):
        return [_dosage(version, _timing(schedule), version.dose)]
    shared = dict[tuple[Amount | None, Meal | None], list[ClockTime]]()
    for at in schedule.at:
        shared.setdefault((at.dose or version.dose, at.meal), []).append(at)
    return [_dosage(version, _calendar(schedule, times), dose, meal) for (dose, meal), times in shared.items()]


def version_of(written: Iterable[Json]) -> PlanVersion:
    """The version that `dosages()` wrote."""
    found = list(written)
    first = found[0]
    bounds = first["timing"]["repeat"]["boundsPeriod"]
    dose, most = _doses(first)
    schedule = _schedule(first)
    if isinstance(schedule, FixedTimes):
        own = [_doses(one)[0] for one in found]
        if len(set(own)) > 1:
            dose = None
        at = [one for dosage in found for one in _times(dosage, None if dose else _doses(dosage)[0])]
        at.sort(key=lambda one: one.time)
        schedule = FixedTimes(tuple(at), schedule.days, schedule.early_minutes, schedule.late_minutes)
    return PlanVersion(
        parse_instant(bounds["start"]),
        _zone(bounds),
        schedule,
        dose,
        parse_instant(bounds["end"]) + _SECOND if "end" in bounds else None,
        most,
        next((one["valueCode"] for one in _extensions(first, LINE)), None),
    )


def as_written(version: PlanVersion) -> PlanVersion:
    """The same plan in the one way in which `version_of()` writes it: doses that are all the same are the regimen's."""
    schedule = version.schedule
    if not isinstance(schedule, FixedTimes):
        return version
    doses = [at.dose or version.dose for at in schedule.at]
    same = len(set(doses)) == 1
    at = (ClockTime(at.time, None if same else dose, at.meal) for at, dose in zip(schedule.at, doses, strict=True))
    fixed = FixedTimes(tuple(at), schedule.days, schedule.early_minutes, schedule.late_minutes)
    return PlanVersion(
        version.valid_from, version.zone, fixed, doses[0] if same else None, version.valid_to, None, version.line
    )


def _dosage(version: PlanVersion, timing: Json, dose: Amount | None, meal: Meal | None = None) -> Json:
    """One `Dosage`, with the members that say something."""
    bounds: Json = {"start": render_instant(version.valid_from)}
    if isinstance(version.zone, ZoneInfo):
        bounds["_start"] = {"extension": [{"url": ZONE, "valueCode": version.zone.key}]}
    else:
        bounds["start"] = version.valid_from.astimezone(version.zone).isoformat(timespec="seconds")
    if version.valid_to:
        bounds["end"] = render_instant(version.valid_to - _SECOND)
    timing["repeat"] = {"boundsPeriod": bounds} | timing["repeat"]
    found: Json = {"timing": timing}
    if version.line:
        found["extension"] = [{"url": LINE, "valueCode": version.line}]
    if meal:
        found["additionalInstruction"] = [{"coding": [{"system": MEALS_OF, "code": _MEALS[meal]}]}]
    if dose and version.dose_up_to:
        found["doseAndRate"] = [{"doseRange": {"low": _quantity(dose), "high": _quantity(version.dose_up_to)}}]
    elif dose:
        found["doseAndRate"] = [{"doseQuantity": _quantity(dose)}]
    return found | (_limits(version.schedule, found) if isinstance(version.schedule, AsNeeded) else {})


def _timing(schedule: ElapsedTime | AsNeeded | Frequency) -> Json:
    """What has no time of day."""
    if isinstance(schedule, Frequency):
        repeat: Json = {"frequency": schedule.count, "period": 1, "periodUnit": _PERIODS[schedule.per]}
        if schedule.minutes:
            repeat |= {"duration": schedule.minutes, "durationUnit": "min"}
    elif isinstance(schedule, ElapsedTime):
        hours, rest = divmod(schedule.every_minutes, 60)
        period = (
            {"period": schedule.every_minutes, "periodUnit": "min"} if rest else {"period": hours, "periodUnit": "h"}
        )
        repeat = {"frequency": 1, **period, "extension": [_window(schedule)]}
    else:
        least, most = schedule.min_interval_minutes, schedule.max_interval_minutes
        repeat = {"frequency": 1, "period": least, "periodUnit": "min"} if least else {}
        repeat |= {"periodMax": most} if most else {}
    return {"repeat": repeat}


def _calendar(schedule: FixedTimes, times: list[ClockTime]) -> Json:
    """The days, and these times."""
    timing, repeat, named = _rule(schedule.days)
    repeat["timeOfDay"] = [at.time.strftime("%H:%M:00") for at in times]
    repeat["extension"] = [*repeat.get("extension", ()), _window(schedule)]
    if named:
        repeat["frequency"] = named * len(times)
    return timing | {"repeat": repeat}


def _rule(rule: Days) -> tuple[Json, Json, int]:
    """The days as members of `Timing` and of `repeat`, and on how many days of a period it is."""
    match rule:
        case EveryNthDay(number):
            return {}, {"period": number, "periodUnit": "d"}, 1
        case DaysOfWeek(weekdays, every):
            return {}, {"period": every, "periodUnit": "wk", "dayOfWeek": _names(weekdays)}, len(weekdays)
        case DaysOfMonth(numbers, every):
            marks: list[Json] = [
                {"url": DAY_OF_MONTH, "valuePositiveInt": day} for day in sorted(numbers) if day != LAST
            ]
            marks += [{"url": LAST_DAY, "valueBoolean": True}] * (LAST in numbers)
            return {}, {"period": every, "periodUnit": "mo", "extension": marks}, len(numbers)
        case NthWeekday(week, weekdays, every):
            mark = {"url": WEEK_OF_MONTH, "valueInteger": week}
            repeat = {"period": every, "periodUnit": "mo", "dayOfWeek": _names(weekdays), "extension": [mark]}
            return {}, repeat, len(weekdays)
        case OnAndOff(on, off):
            numbers_on = [{"url": "day", "valueInteger": day} for day in range(1, on + 1)]
            timing = {"extension": [{"url": DAYS_OF_CYCLE, "extension": numbers_on}]}
            return timing, {"period": on + off, "periodUnit": "d"}, on
        case ListedDates(dates):
            return {"event": [day.isoformat() for day in dates]}, {}, 0


def _zone(bounds: Json) -> tzinfo:
    """The zone that is named, else the offset of the start."""
    start = parse_instant(bounds["start"])
    return next(
        (ZoneInfo(one["valueCode"]) for one in _extensions(bounds.get("_start", {}), ZONE)), start.tzinfo or UTC
    )


def _limits(schedule: AsNeeded, dosage: Json) -> Json:
    """What it is for, and how much at most in 24 hours: by amount, by number of doses, or both."""
    needed: Json = {"asNeededBoolean": True}
    if schedule.indication:
        needed = {"asNeededCodeableConcept": {"text": schedule.indication}}
    count = schedule.max_doses_24h
    most = [one for one in (schedule.max_amount_24h, Amount(count, _DOSE) if count else None) if one]
    ratios = [{"numerator": _quantity(one), "denominator": _quantity(Amount(24, "h"))} for one in most]
    if ratios:
        needed["maxDosePerPeriod"] = ratios[0]
    if ratios[1:]:
        second = {"url": SECOND_MAXIMUM, "valueRatio": ratios[1]}
        needed["extension"] = [*dosage.get("extension", ()), second]
    return needed


def _schedule(dosage: Json) -> Schedule:
    """The schedule of a `Dosage`; of times of day without these."""
    repeat = dosage["timing"]["repeat"]
    if "asNeededBoolean" in dosage or "asNeededCodeableConcept" in dosage:
        return _as_needed(dosage, repeat)
    if "timeOfDay" in repeat:
        early, late = _window_of(repeat)
        return FixedTimes((), _days(dosage["timing"]), early, late)
    if repeat["periodUnit"] in ("h", "min"):
        early, late = _window_of(repeat)
        return ElapsedTime(repeat["period"] * (60 if repeat["periodUnit"] == "h" else 1), early, late)
    per = next(name for name, unit in _PERIODS.items() if unit == repeat["periodUnit"])
    return Frequency(repeat["frequency"], per, repeat.get("duration"))  # type: ignore[arg-type] # one of its three


def _as_needed(dosage: Json, repeat: Json) -> AsNeeded:
    ratios = [dosage["maxDosePerPeriod"]] if "maxDosePerPeriod" in dosage else []
    ratios += [one["valueRatio"] for one in _extensions(dosage, SECOND_MAXIMUM)]
    most = [_amount(ratio["numerator"]) for ratio in ratios]
    return AsNeeded(
        repeat.get("period"),
        next((int(one.value) for one in most if one.unit == _DOSE), None),
        next((one for one in most if one.unit != _DOSE), None),
        repeat.get("periodMax"),
        dosage.get("asNeededCodeableConcept", {}).get("text"),
    )


def _days(timing: Json) -> Days:
    """The days of a `Timing` with times of day."""
    repeat = timing["repeat"]
    if "event" in timing:
        return ListedDates(tuple(map(date.fromisoformat, timing["event"])))
    for cycle in _extensions(timing, DAYS_OF_CYCLE):
        return OnAndOff(len(cycle["extension"]), repeat["period"] - len(cycle["extension"]))
    every, unit = repeat["period"], repeat["periodUnit"]
    weekdays = frozenset(_WEEKDAYS.index(name) + 1 for name in repeat.get("dayOfWeek", ()))
    if unit == "d":
        return EveryNthDay(every)
    if unit == "wk":
        return DaysOfWeek(weekdays, every)
    for mark in _extensions(repeat, WEEK_OF_MONTH):
        return NthWeekday(mark["valueInteger"], weekdays, every)
    numbers = {mark["valuePositiveInt"] for mark in _extensions(repeat, DAY_OF_MONTH)}
    return DaysOfMonth(frozenset(numbers | {LAST for _ in _extensions(repeat, LAST_DAY)}), every)


def _times(dosage: Json, dose: Amount | None) -> Iterator[ClockTime]:
    codes = {one["coding"][0]["code"] for one in dosage.get("additionalInstruction", ())}
    meal = next((meal for meal, code in _MEALS.items() if code in codes), None)
    for at in dosage["timing"]["repeat"]["timeOfDay"]:
        yield ClockTime(time.fromisoformat(at), dose, meal)


def _doses(dosage: Json) -> tuple[Amount | None, Amount | None]:
    """The dose, or the least and the most of its range."""
    [rate] = dosage.get("doseAndRate", [{}])
    if "doseRange" in rate:
        return _amount(rate["doseRange"]["low"]), _amount(rate["doseRange"]["high"])
    return (_amount(rate["doseQuantity"]), None) if rate else (None, None)


def _quantity(amount: Amount) -> Json:
    return {"value": amount.value, "unit": amount.unit, "system": UCUM, "code": amount.unit}


def _amount(quantity: Json) -> Amount:
    return Amount(quantity["value"], quantity["code"])


def _names(weekdays: Iterable[int]) -> list[str]:
    return [_WEEKDAYS[number - 1] for number in sorted(weekdays)]


def _window(schedule: FixedTimes | ElapsedTime) -> Json:
    """How much before and after the time is on time."""
    parts = (("early", schedule.early_minutes), ("late", schedule.late_minutes))
    marks = [{"url": name, "valueDuration": _quantity(Amount(minutes, "min"))} for name, minutes in parts]
    return {"url": WINDOW, "extension": marks}


def _window_of(repeat: Json) -> tuple[int, int]:
    early, late = _extension(repeat, WINDOW)["extension"]
    return early["valueDuration"]["value"], late["valueDuration"]["value"]


def _extensions(element: Json, url: str) -> Iterator[Json]:
    return (one for one in element.get("extension", ()) if one["url"] == url)


def _extension(element: Json, url: str) -> Json:
    return next(_extensions(element, url))
