"""What a call counts as in the rate limits, beyond the one request that it is: what it costs (docs/costs.md).

Each is how many of something cost as much as one request may. What was done is counted when it is known, so a call may
go beyond the limit. That is owed: the next one is refused until it is paid off, with an allowance for each window of
ten seconds, in a minute at most whatever was under way at once. Bytes, sent and answered, are counted at the edge.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import Unavailable

PLAN_BYTES = 8 * 1024  # of all plans of a diary, whose changes stand on a page of the timeline
NAMED_BYTES = 96 * 1024  # of the same where their names alone stand beside events
MERGED_BYTES = 16 * 1024  # of a record that is patched
STOPPED = 900  # a call that the database ended, as it took too long
PASSED = 3_000  # records that a filter may have had to pass over
MUTATIONS = 12
PLACES = 80  # in time, that a plan makes due
TREATMENTS = 50  # whose adherence is asked for
EVENTS = 300
ADDED_UP = 150  # treatments, places due and events in figures
GRANTS = 40
HEADS = 200
PANEL = 7
ACCESSES = 60
DIGEST = 1
REFRESH = 2
CONSENT = 3  # that is offered, redeemed, confirmed, narrowed or ended
PASSWORD = 14  # a request in which one is hashed

_STATEMENT_STOPPED = "57014"


@contextmanager
def stopped_counts(charge: Callable[[int], None]) -> Iterator[None]:
    """Counts a call that the database ended for the time it took; how much that would have been nobody knows."""
    try:
        yield
    except Unavailable as failure:
        if getattr(failure.__cause__, "sqlstate", None) == _STATEMENT_STOPPED:
            charge(STOPPED)
        raise
