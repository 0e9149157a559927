"""The database's clock, read without asking each time: what expires by it expires alike on every server."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic


class Clock:
    """The database's time. Between two askings it goes on with the monotonic clock, which nobody sets."""

    def __init__(self, monotonic: Callable[[], float] = monotonic) -> None:
        self._monotonic = monotonic
        self.set(datetime.now(UTC))  # until the database has been asked

    def set(self, present: datetime) -> None:
        """What the database said just now."""
        self._told = present
        self._told_at = self._monotonic()

    def now(self) -> datetime:
        """The present instant."""
        return self._told + timedelta(seconds=self._monotonic() - self._told_at)
