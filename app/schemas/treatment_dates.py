"""What the status of a treatment says of its dates, at the time of a change."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from app.errors import Fault

if TYPE_CHECKING:
    from app.schemas.treatments import TreatmentFields, TreatmentShape

NOT_OVER = "What is stopped or completed has ended: let it end now or before, or leave it active until then."
CLOCKS_DIFFER = timedelta(minutes=15)  # a phone that says "now" may be so much ahead of the server


def dates_rule(body: "TreatmentFields", current: "TreatmentFields | None", now: datetime) -> Iterator[Fault]:
    """Status and dates say the same at the time of the change; a phone's clock may be a little ahead.

    What was true when it was saved is true when it is sent again. What a change leaves as it was is not judged anew.
    """
    if current is not None and _times(body) == _times(current):
        return
    saved_at = now if current else body.recorded_at or body.occurred_at
    soon, lasts = now + CLOCKS_DIFFER, last_of_lines(body)
    if body.status in ("stopped", "completed"):
        for index, ended_at in lasts.items():
            if ended_at is not None and ended_at > soon:
                yield Fault(f"/regimens/{index}/valid_to", "not_over", NOT_OVER)
        return
    if body.status == "on_hold" and not _is_on_hold(body, soon, saved_at):
        yield Fault("/pauses", "missing_pause", "Say since when: give a pause that holds now.")
    if current is not None:
        yield from _goes_on(body, now)


def new_rule(body: "TreatmentFields", now: datetime) -> Iterator[Fault]:
    """A new plan says of a course that is over how it ended; of one that a phone saved offline, as of that time."""
    yield from _goes_on(body, min(now, body.recorded_at or now))


def _goes_on(body: "TreatmentFields", at: datetime) -> Iterator[Fault]:
    """What is active or on hold has not ended at this instant, and what is active is not on hold."""
    if body.status not in ("active", "on_hold"):
        return
    if all(ended_at is not None and ended_at <= at for ended_at in last_of_lines(body).values()):
        yield Fault("/status", "over", "The plan has ended: say stopped or completed, or give it a later end or none.")
    elif body.status == "active" and _is_on_hold(body, at, at):
        yield Fault("/status", "on_hold", "It is on hold now: say on_hold, or end the pause.")


def last_of_lines(treatment: "TreatmentShape") -> dict[int, datetime | None]:
    """The place of the last regimen of each line, and when that ends."""
    last = {regimen.line: index for index, regimen in enumerate(treatment.regimens)}
    return {index: treatment.regimens[index].valid_to for index in sorted(last.values())}


def _is_on_hold(treatment: "TreatmentFields", begun: datetime, over: datetime) -> bool:
    """Whether a pause had begun at the one instant and is not over at the other."""
    return any(pause.from_ <= begun and (pause.to is None or pause.to > over) for pause in treatment.pauses)


def _times(treatment: "TreatmentFields") -> tuple[object, ...]:
    """What the status and the dates of the plan are."""
    return treatment.status, last_of_lines(treatment), treatment.pauses
