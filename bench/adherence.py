"""`python -m bench.adherence`: CPU time of one year of adherence, three doses a day; the goal is under 50 ms.

1 095 slots, 1 000 events: on time, late, partial, skipped and extra, over both changes of the clock and one of dose.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from statistics import median
from time import process_time
from zoneinfo import ZoneInfo

from app.domain.adherence import assess
from app.domain.matching import Event, Word
from app.domain.regimens import Quantity, Regimen, Scheduled, Treatment, slots

RUNS = 40
GOAL_MS = 50
BERLIN = ZoneInfo("Europe/Berlin")
FIRST, LAST = date(2025, 1, 1), date(2025, 12, 31)
THRICE = Scheduled((time(8), time(14), time(20)))
TREATMENT = Treatment(
    "prescription_medication",
    (
        Regimen(datetime.fromisoformat("2025-01-01T00:00:00+01:00"), BERLIN, THRICE, Quantity(300, "mg")),
        Regimen(
            datetime.fromisoformat("2025-07-01T12:00:00+02:00"),
            BERLIN,
            THRICE,
            Quantity(600, "mg"),
            valid_to=datetime.fromisoformat("2026-01-01T00:00:00+01:00"),
        ),
    ),
)
WORD = Word(*[datetime.fromisoformat("2026-01-02T12:00:00+01:00")] * 2)


def events() -> Iterator[Event]:
    """One event for most slots, and now and then one more."""
    for number, slot in enumerate(slots(TREATMENT, FIRST, LAST)):
        if number % 9 == 8:
            continue
        delay = timedelta(minutes=(number * 37) % 240 - 100)
        status = ("skipped", "partial")[number % 2] if number % 23 == 0 else "taken"
        yield Event(slot.due_at + delay, status, slot.due_at if number % 3 else None, id=f"{number:04}")
        if number % 37 == 0:
            yield Event(slot.due_at + delay + timedelta(minutes=7), "taken", id=f"{number:04}x")


def main() -> None:
    year = list(events())[:1000]
    spent = []
    for _ in range(RUNS):
        before = process_time()
        assessment = assess(TREATMENT, year, FIRST, LAST, WORD)
        spent.append((process_time() - before) * 1000)
    within = sum(ms < GOAL_MS for ms in spent)
    print(f"{len(assessment.matching.judged)} slots, {len(year)} events: {RUNS} runs")
    print(f"CPU per run: median {median(spent):.1f} ms, least {min(spent):.1f} ms, most {max(spent):.1f} ms")
    print(f"under {GOAL_MS} ms: {within} of {RUNS}")
    print({str(outcome): count for outcome, count in assessment.doses.outcomes.items()} if assessment.doses else "")


if __name__ == "__main__":
    main()
