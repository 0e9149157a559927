"""Short ways to write what was agreed."""

from datetime import time

from app.domain.regimens import ClockTime


def o_clock(*times: time) -> tuple[ClockTime, ...]:
    """These times of day, with the dose of the regimen."""
    return tuple(map(ClockTime, times))
