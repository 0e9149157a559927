"""`python -m bench.adherence`: CPU time of one year of adherence, three doses a day; the goal is under 50 ms.

1 095 slots, 1 000 events: on time, late, partial, skipped and extra, over both changes of the clock and one of dose.
Two things are timed, in turn: the arithmetic alone, and all that an answer takes beside the database: the stored
records from JSON bytes, the figures, and the answer as JSON bytes.
"""

import json
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from statistics import median
from time import process_time
from typing import Any

from pydantic import TypeAdapter

from app.domain.adherence import assess
from app.domain.due import DueSlot, slots
from app.domain.moments import render_instant
from app.domain.outcomes import Event, Word
from app.schemas.adherence import AdherenceOut
from app.schemas.envelope import example_stored
from app.schemas.slots import plan_of
from app.schemas.treatment_events import TreatmentEventOut, event_of
from app.schemas.treatments import TreatmentOut
from app.services.adherence import assessed

RUNS = 40
GOAL_MS = 50
FIRST, LAST = date(2025, 1, 1), date(2025, 12, 31)
WORD = Word(*[datetime.fromisoformat("2026-01-02T12:00:00+01:00")] * 2)
TREATMENTS, EVENTS = TypeAdapter(list[TreatmentOut]), TypeAdapter(list[TreatmentEventOut])
ZONE = {"time_zone": "Europe/Berlin"}
THRICE = {"type": "scheduled", "times": ["08:00", "14:00", "20:00"]}
TREATMENT: dict[str, Any] = ZONE | {
    "status": "completed",
    "id": "0195d3f4-6a2c-7f10-9d4e-2b8c5a7e1f36",
    "occurred_at": "2025-01-01T00:00:00+01:00",
    "category": "prescription_medication",
    "name": "Gabapentin",
    "regimens": [
        ZONE | {"valid_from": "2025-01-01T00:00:00+01:00", "schedule": THRICE, "dose": {"value": 300, "unit": "mg"}},
        ZONE
        | {
            "valid_from": "2025-07-01T12:00:00+02:00",
            "valid_to": "2026-01-01T00:00:00+01:00",
            "schedule": THRICE,
            "dose": {"value": 600, "unit": "mg"},
        },
    ],
}


def due() -> list[DueSlot]:
    """The slots of the year."""
    return slots(plan_of(TreatmentOut.model_validate(example_stored("treatment", TREATMENT))), FIRST, LAST)


def events(due: list[DueSlot]) -> Iterator[dict[str, Any]]:
    """One event for most slots, and now and then one more, as a phone sends them."""
    for number, slot in enumerate(due):
        if number % 9 == 8:
            continue
        moment = slot.due_at + timedelta(minutes=(number * 37) % 240 - 100)
        status = ("skipped", "partial")[number % 2] if number % 23 == 0 else "taken"
        named = {"scheduled_for": render_instant(slot.due_at)} if number % 3 else {}
        yield event(2 * number, moment, status) | named
        if number % 37 == 0:
            yield event(2 * number + 1, moment + timedelta(minutes=7), "taken")


def event(number: int, moment: datetime, status: str) -> dict[str, Any]:
    """An event of the treatment."""
    return ZONE | {
        "id": f"0195d3f4-0000-7000-8000-{number:012}",
        "treatment_id": TREATMENT["id"],
        "occurred_at": render_instant(moment),
        "status": status,
    }


def figures(treatments: bytes, year: bytes) -> Callable[[], object]:
    """The arithmetic alone, ready to run."""
    plan = plan_of(TREATMENTS.validate_json(treatments)[0])
    done: list[Event] = [event_of(one) for one in EVENTS.validate_json(year)]
    return lambda: assess(plan, done, FIRST, LAST, WORD)


def answer(treatments: bytes, year: bytes) -> bytes:
    """The answer to a request, from the records that the database gave."""
    known = TREATMENTS.validate_json(treatments), EVENTS.validate_json(year)
    return assessed(*known, [], FIRST, LAST, WORD).model_dump_json().encode()


def main() -> None:
    treatment = example_stored("treatment", TREATMENT)
    year = [example_stored("treatment_event", event) for event in list(events(due()))[:1000]]
    records = json.dumps([treatment]).encode(), json.dumps(year).encode()
    timed: dict[str, Callable[[], object]] = {
        "figures alone": figures(*records),
        "records to answer": lambda: answer(*records),
    }
    spent: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(RUNS):
        for name, run in timed.items():
            before = process_time()
            run()
            spent[name].append((process_time() - before) * 1000)
    print(f"{len(due())} slots, {len(year)} events in {len(records[1])} bytes: {RUNS} runs of each, in turn")
    for name, each in spent.items():
        within = sum(ms < GOAL_MS for ms in each)
        figure = f"CPU per run: median {median(each):.1f} ms, least {min(each):.1f} ms, most {max(each):.1f} ms"
        print(f"{name}: {figure}; under {GOAL_MS} ms: {within} of {RUNS}")
    print(AdherenceOut.model_validate_json(answer(*records)).overall.doses.outcomes)


if __name__ == "__main__":
    main()
