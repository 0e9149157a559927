"""Mutants of figures: each is a way in which they would mislead, and the tests that must notice."""

from mutants import Mutant

ADHERENCE = "app/domain/adherence.py"
AMOUNTS = "app/domain/amounts.py"
COURSE = "app/models/course.sql"
DAYS = "app/domain/days.py"
DUE = "app/domain/due.py"
REGIMENS = "app/domain/regimens.py"
TIMING = "app/domain/timing.py"
MATCHING = "app/domain/matching.py"
MOMENTS = "app/domain/moments.py"
OUTCOMES = "app/domain/outcomes.py"
PRN = "app/domain/prn.py"
PLAN = "app/schemas/treatments.py"
WRITE_STEPS = "app/models/write_steps.sql"

PLANNED = "tests/domain/test_regimens.py"
PLANNED_DAYS = "tests/domain/test_days.py"
TIMED = "tests/domain/test_timing.py"
MATCHED = "tests/domain/test_matching.py"
USED = "tests/domain/test_prn.py tests/domain/test_matching.py"
OUTBOX = "tests/services/test_outbox.py"
DATED = "tests/routers/test_treatment_dates.py"
TOLD = "tests/routers/test_figures.py"

FIGURES = (
    # Which dose is for which slot.
    Mutant(
        "a name of a slot is not heard",
        MATCHING,
        "place = self._named(event) or self._by_day(event)",
        "place = self._by_day(event)",
        MATCHED,
    ),
    Mutant(
        "a dose in no window takes the slot of one that is in it",
        MATCHING,
        "for event in self._fill_windows(timed) if not",
        "for event in timed if not",
        MATCHED,
    ),
    Mutant(
        "of two slots a dose takes the farther",
        MATCHING,
        "in sorted(near):",
        "in sorted(near, reverse=True):",
        f"{MATCHED} tests/domain/test_adherence.py",
    ),
    # A slot holds an amount.
    Mutant("any amount is one dose", MATCHING, "else (share, True)", "else (1, True)", MATCHED),
    Mutant("what is over is lost", OUTCOMES, "if left == part or left > ROUNDING:", "if left == part:", MATCHED),
    Mutant("a little is whole", OUTCOMES, "_WHOLE = 1 - ROUNDING", "_WHOLE = ROUNDING", MATCHED),
    Mutant(
        "a late half comes before one on time",
        OUTCOMES,
        "key=lambda one: one[0] is not Outcome.ON_TIME",
        "key=lambda one: one[0] is Outcome.ON_TIME",
        MATCHED,
    ),
    Mutant("grams are no milligrams", AMOUNTS, '"g": ("mg", Fraction(1000))', '"g": ("g", Fraction(1))', USED),
    Mutant(
        "a tablet is not what is in it",
        AMOUNTS,
        "inside = content and _inside(amount.unit, content)",
        "inside = None",
        USED,
    ),
    # What was used as needed.
    Mutant("no amount is too much", PRN, "dose.amount_24h.get(unit, 0) > most", "False", USED),
    Mutant(
        "what cannot be compared is no breach",
        PRN,
        "breaches if breaches or not not_comparable else None",
        "breaches",
        USED,
    ),
    Mutant(
        "an amount that nobody knows is none",
        PRN,
        "return False if known and dose.most_24h.get(unit, 0) <= most else None",
        "return False",
        USED,
    ),
    Mutant(
        "a day has 24 hours and a moment",
        PRN,
        "timed[oldest].occurred_at >= DAY",
        "timed[oldest].occurred_at > DAY",
        USED,
    ),
    Mutant(
        "what was used outside of the plan is not told apart",
        PRN,
        "sum(dose.outside_plan for dose in used)",
        "0",
        USED,
    ),
    # Nothing vanishes.
    Mutant("what is not yet due vanishes", OUTCOMES, 'reason = "not_yet_due"', "continue", MATCHED),
    Mutant("what is of other days vanishes", OUTCOMES, 'reason = "other_days"', "continue", MATCHED),
    Mutant("what cannot be compared vanishes", OUTCOMES, 'reason = "not_comparable"', "continue", MATCHED),
    Mutant(
        "a word on nothing vanishes",
        MATCHING,
        '            found.leave_out("no_plan", event)\n    for place',
        "            pass\n    for place",
        MATCHED,
    ),
    # Days with the right number of doses.
    Mutant(
        "a day without a dose due is no day",
        ADHERENCE,
        "quiet = list(planned_days(treatment, start, end, but=due))",
        "quiet = list[tuple[date, Any, Any]]()",
        TOLD,
    ),
    Mutant(
        "a day with a dose too many is right",
        ADHERENCE,
        "known += sum(doses or 0 for doses in beyond)",
        "known += 0",
        f"{MATCHED} tests/domain/test_adherence.py",
    ),
    # What the devices have said.
    Mutant("a plain write has an outbox", WRITE_STEPS, "CASE p_action WHEN 'sync.push'", "CASE true WHEN true", OUTBOX),
    Mutant(
        "a refused write is the last one",
        "app/models/write_records_v1.sql",
        "p_outbox_empty AND refused = '{}'",
        "p_outbox_empty",
        OUTBOX,
    ),
    Mutant(
        "a device has been silent since for ever",
        WRITE_STEPS,
        "s.outbox_empty_at, s.created_at) ELSE",
        "s.outbox_empty_at, '-infinity') ELSE",
        OUTBOX,
    ),
    Mutant(
        "a device that was signed out is waited for",
        COURSE,
        "revoked_at IS NULL AND expires_at > clock_timestamp() AS alive",
        "true AS alive",
        OUTBOX,
    ),
    Mutant(
        "one device speaks for all", COURSE, "coalesce(min(outbox_empty_at)", "coalesce(max(outbox_empty_at)", OUTBOX
    ),
    # What is due.
    Mutant(
        "a time of day has no dose of its own",
        DUE,
        "at.dose or regimen.dose, at.meal",
        "regimen.dose, at.meal",
        PLANNED,
    ),
    Mutant(
        "elapsed hours begin at midnight",
        DUE,
        "regimen.valid_from.astimezone(UTC)",
        "_instant(first, time.min, regimen.zone)",
        PLANNED,
    ),
    Mutant("every week is the first", DAYS, "// 7 // rule.every * rule.every", "// 7", PLANNED_DAYS),
    Mutant(
        "the last day of a month is its thirtieth", DAYS, "length if day == LAST", "30 if day == LAST", PLANNED_DAYS
    ),
    Mutant("a cycle is never off", DAYS, "if number % length < rule.on", "if number % length < length", PLANNED_DAYS),
    Mutant(
        "a version ends with the next of any line",
        REGIMENS,
        "for line in self.lines for pair",
        "for line in (tuple(range(len(self.regimens))),) for pair",
        PLANNED,
    ),
    Mutant("of a range the least is certain", PRN, "known and dose.most_24h.get(unit, 0) <= most", "known", USED),
    Mutant(
        "beside a plan all is as needed", MATCHING, "not any(planned) or not _is_due(treatment, event)", "True", USED
    ),
    Mutant("a weekend is said in another week", TIMING, "_WEEKDAYS.index(name) + 1", "_WEEKDAYS.index(name)", TIMED),
    Mutant("stop ends the last line only", PLAN, "sorted(last.values())", "sorted(last.values())[-1:]", DATED),
    # Status and dates of a plan.
    Mutant("what was stopped goes on", PLAN, "ended_at is not None and ended_at > soon", "False", DATED),
    Mutant("what has ended is active", PLAN, "if all(ended_at is not None and ended_at <= at", "if all(False", DATED),
    Mutant("what pauses is active", PLAN, 'body.status == "active" and _is_on_hold(body, at, at)', "False", DATED),
    Mutant("a new plan is not judged", PLAN, "    new_rule=new_rule,\n", "", DATED),
    Mutant("what was saved offline is judged as of now", PLAN, "min(now, body.recorded_at or now)", "now", DATED),
    Mutant(
        "what is there is judged as if it were new",
        "app/services/records.py",
        "    if not faults:\n        return\n    try:",
        "    if faults:\n        raise Invalid(faults=faults)\n    try:",
        DATED,
    ),
    Mutant("a day names the slot at noon", MOMENTS, "time(12, 0, 1)", "time(12, 0)", TOLD),
)
