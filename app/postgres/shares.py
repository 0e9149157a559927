"""What an account may use of the connections: its calls that go alone take turns, so what is heavy delays it only.

How heavy a call is shows when it was made: the database says how long it took. For a while after, the account's calls
of that function join no group, and those that took really long share few connections with whoever else has such calls.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import asyncpg

from app.errors import Unavailable
from app.postgres.functions import Call

Rows = list[asyncpg.Record]

HEAVY_SECONDS = 0.01  # what takes longer is no company for others, whatever it was thought to cost
SLOW_SECONDS = 0.1  # what takes longer leaves most connections to others
SECONDS_OF_COST = 0.001  # for each unit of cost it may take so much longer
# And so much before it counts as slow: a full push is a second's work on a machine that is busy with such pushes, and
# keeping them off half of the connections would not make it less.
SLOW_SECONDS_OF_COST = 0.01
REMEMBERED = 100  # times as long as it took: so it may take one part in a hundred of what others wait for
REMEMBERED_SECONDS = 60.0  # at most
MOST_REMEMBERED = 10_000
MOST_OF_ONE = 64  # calls of an account that wait or are under way


@dataclass(eq=False, slots=True)
class Pending:
    """A call that waits, or is under way."""

    call: Call
    account: Any  # None: of nobody, and so of no share
    cost: int
    since: float
    answer: asyncio.Future[Rows]
    alone: bool
    key: Any


class Weights:
    """Which calls were heavy lately, by function and account."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heavy: dict[tuple[str, Any], tuple[float, bool]] = {}

    def note(self, call: Pending, seconds: float) -> None:
        """Notes how long it took, if that is worth it."""
        beyond = seconds - call.cost * SECONDS_OF_COST
        if beyond < HEAVY_SECONDS or call.account is None:
            return
        name = (call.call.function.name, call.account)
        until = self._clock() + min(REMEMBERED_SECONDS, REMEMBERED * beyond)
        slow = seconds >= SLOW_SECONDS + call.cost * SLOW_SECONDS_OF_COST
        if name in self._heavy:
            was_until, was_slow = self._heavy.pop(name)
            if self._clock() < was_until:  # nobody gets lighter by a call that is
                until, slow = max(until, was_until), slow or was_slow
        elif len(self._heavy) >= MOST_REMEMBERED:
            del self._heavy[next(iter(self._heavy))]
        self._heavy[name] = (until, slow)

    def heavy(self, call: Pending) -> bool:
        """Whether it is to be expected that it would hold up a group."""
        return bool(self._heavy) and self._found(call) is not None

    def slow(self, call: Pending) -> bool:
        """Whether it is to be expected that it holds a connection for long."""
        return bool(self._heavy) and self._found(call) is True

    def _found(self, call: Pending) -> bool | None:
        """Whether it is slow; None where nothing is known."""
        name = (call.call.function.name, call.account)
        until, slow = self._heavy.get(name, (0.0, False))
        if self._clock() < until:
            return slow
        self._heavy.pop(name, None)
        return None


class Turns:
    """Those who go alone, over so many `connections`: one call of an account at a time, each account in its turn.

    Slow ones have half of the connections at most, whoever they belong to.
    """

    def __init__(self, connections: int, weights: Weights) -> None:
        self._weights = weights
        self._free = connections
        self._free_for_slow = max(1, connections // 2)
        self._queues: dict[Any, deque[Pending]] = {}  # by account, in the order of their turns
        self._under_way: dict[Any, bool] = {}  # accounts, and whether their call is a slow one

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    def add(self, call: Pending, *, first: bool = False) -> None:
        """Puts a call into its account's queue."""
        queue = self._queues.setdefault(_owner(call), deque())
        if first:
            queue.appendleft(call)
        else:
            queue.append(call)

    def since(self) -> dict[Any, float]:
        """The keys of those who wait, each with the time since when."""
        found: dict[Any, float] = {}
        for queue in self._queues.values():
            for call in queue:
                if call.key is not None:
                    found[call.key] = min(call.since, found.get(call.key, call.since))
        return found

    def leave(self, may: Callable[[Pending], bool]) -> Iterator[Pending]:
        """Those who leave now, one by one: of each account that has none under way the first one that `may`."""
        left = (self._next(owner, may) for owner in list(self._queues) if owner not in self._under_way)
        return (call for call in left if call is not None)

    def _next(self, owner: Any, may: Callable[[Pending], bool]) -> Pending | None:
        queue = self._queues[owner]
        for call in tuple(queue):
            if call.answer.done():  # whoever asked has left
                queue.remove(call)
            elif may(call) and self._has_room(call):
                queue.remove(call)
                self._under_way[owner] = slow = self._weights.slow(call)
                self._free -= 1
                self._free_for_slow -= slow
                self._queues[owner] = self._queues.pop(owner)  # its next turn comes after those of the others
                break
        else:
            call = None
        if not queue:
            del self._queues[owner]
        return call

    def _has_room(self, call: Pending) -> bool:
        return self._free > 0 and (self._free_for_slow > 0 or not self._weights.slow(call))

    def back(self, call: Pending) -> None:
        """Its connection is free again."""
        self.rest(call)
        self.rested(call)

    def rest(self, call: Pending) -> None:
        """The same, but its account has no turn before it has rested."""
        self._free += 1
        self._free_for_slow += self._under_way[_owner(call)]
        self._under_way[_owner(call)] = False

    def rested(self, call: Pending) -> None:
        """Its account may have another turn."""
        del self._under_way[_owner(call)]

    def followed(self, call: Pending) -> bool:
        """Whether others of its account wait already."""
        return _owner(call) in self._queues

    def late(self, latest: float) -> list[Pending]:
        """Takes out those who have waited since then or longer."""
        found = [call for queue in self._queues.values() for call in queue if call.since <= latest]
        if found:
            kept = {
                owner: deque(call for call in queue if call.since > latest) for owner, queue in self._queues.items()
            }
            self._queues = {owner: queue for owner, queue in kept.items() if queue}
        return found

    def first_since(self) -> float:
        """Since when the one waits who came first; infinity where nobody does."""
        return min((call.since for queue in self._queues.values() for call in queue), default=inf)


class Shares:
    """How many calls each account has, which wait or are under way."""

    def __init__(self) -> None:
        self._calls: dict[Any, int] = {}

    def take(self, account: Any) -> None:
        """One more; raises Unavailable where those are too many."""
        calls = self._calls.get(account, 0)
        if calls >= MOST_OF_ONE and account is not None:
            raise Unavailable
        self._calls[account] = calls + 1

    def give_back(self, account: Any) -> None:
        """One less."""
        calls = self._calls.pop(account) - 1
        if calls:
            self._calls[account] = calls


def _owner(call: Pending) -> Any:
    """Whose turn it is; who has no account has a turn of their own."""
    return call if call.account is None else call.account
