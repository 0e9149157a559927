"""Group commit: calls that wait for the database at the same time go together, as one statement and one commit.

One group is under way at a time. A call that finds none leaves at once; those that come meanwhile wait for each other,
not for a moment longer than it takes. Each still checks its own session and consent, has its own row-security context
and its own audit row, and ends as if it had been alone: where one of them fails nothing of any is kept, and each is
made again by itself. What is costly, and what would hold up a group, goes alone beside it.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from app.errors import Unavailable
from app.postgres.functions import Call, is_list

Rows = list[asyncpg.Record]
Send = Callable[..., Awaitable[Rows]]  # takes a statement and its arguments

FULL = 32  # the cost of what goes together: each waits until all are done
MOST_WAITING = 2000
BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened here so far, by how it went, in plain numbers: a counter of Prometheus costs ten times as much."""

    calls: Counter[str] = field(default_factory=Counter)
    statements: Counter[str] = field(default_factory=Counter)  # that carried these calls
    mutations: Counter[str] = field(default_factory=Counter)  # that phones pushed
    seals: Counter[str] = field(default_factory=Counter)  # of the audit trail


@dataclass(eq=False, slots=True)
class Pending:
    """A call that waits, or is under way."""

    call: Call
    cost: int
    since: float
    answer: asyncio.Future[Rows]
    alone: bool
    key: Any


class GroupCommit:
    """Sends one group at a time and, beside it, as many calls alone as the other `connections` carry.

    A call that has not left after `patience` seconds is refused.
    """

    def __init__(self, send: Send, connections: int, patience: float, tally: Tally | None = None) -> None:
        self._send = send
        self._tally = tally or Tally()
        self._patience = patience
        self._grouped = False  # is a group under way?
        self._free_connections = max(1, connections - 1)  # for calls that go alone
        self._keys: set[Any] = set()  # of the calls under way
        self._waiting: deque[Pending] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, call: Call, *, cost: int = 1, alone: bool = False) -> Rows:
        """The rows of one call, which is durable once this returns. Raises what the driver does, and Unavailable.

        `cost`: what it takes, where a record that is written takes 1. What takes more than a group may, and what is to
        go `alone`, joins none.
        """
        if len(self._waiting) >= MOST_WAITING:
            self._tally.calls["refused"] += 1
            raise Unavailable
        loop = asyncio.get_running_loop()
        pending = Pending(call, cost, loop.time(), loop.create_future(), alone or cost > FULL, call.key)
        self._waiting.append(pending)
        if self._leaving is None:  # not at once: this round of the loop may bring more
            self._leaving = loop.call_soon(self._leave)
        self._watch()
        return await pending.answer

    def _leave(self) -> None:
        """Sends those who can leave now, in the order in which they came."""
        self._leaving = None
        group: list[Pending] = []
        room = 0 if self._grouped else FULL
        left: deque[Pending] = deque()
        for call in self._waiting:
            if call.answer.done():  # whoever asked has left
                continue
            if call.key in self._keys or not (self._free_connections if call.alone else _fits(call, group, room)):
                left.append(call)
            elif call.alone:
                self._free_connections -= 1
                self._start([call])
            else:
                group.append(call)
                room -= call.cost
        self._waiting = left
        if group:
            self._grouped = True
            self._start(group)

    @property
    def waiting(self) -> int:
        """How many calls have not left yet."""
        return len(self._waiting)

    def _start(self, calls: list[Pending]) -> None:
        way = "alone" if calls[0].alone else "grouped"
        self._tally.calls[way] += len(calls)
        self._tally.statements[way] += 1
        self._keys.update(call.key for call in calls if call.key is not None)
        task = asyncio.ensure_future(self._make(calls))
        self._tasks.add(task)  # the loop itself would let go of it
        task.add_done_callback(self._tasks.discard)

    async def _make(self, calls: list[Pending]) -> None:
        alone = calls[0].alone
        try:
            for call, rows in zip(calls, await self._ask(calls), strict=True):
                self._settle(call, rows)
        except Exception as failure:  # whatever it is, whoever waits for this group hears of it
            self._fail(calls, failure)
        finally:
            self._keys.difference_update(call.key for call in calls)
            self._free_connections += alone
            self._grouped = self._grouped and alone
            self._leave()

    async def _ask(self, calls: list[Pending]) -> list[Rows]:
        """The rows of each call."""
        function = calls[0].call.function
        if len(calls) == 1:
            waits = () if function.key is None else (calls[0].alone,)
            return [await self._send(function.statement, *calls[0].call.arguments, *waits)]
        answers: list[Rows] = [[] for _ in calls]
        for row in await self._send(function.grouped, *_arrays(calls)):
            answers[row["place"] - 1].append(row)
        return answers

    def _settle(self, call: Pending, rows: Rows) -> None:
        if call.key is not None and rows[0][0] == BUSY:
            self._again(call)
        elif not call.answer.done():  # whoever asked may have left
            call.answer.set_result(rows)

    def _fail(self, calls: list[Pending], failure: Exception) -> None:
        # An answer of PostgreSQL's, or an argument that could not be sent: nothing was kept. Otherwise nobody knows.
        unkept = isinstance(failure, asyncpg.PostgresError)
        for call in reversed(calls):
            if unkept and len(calls) > 1:
                self._again(call)
            elif not call.answer.done():
                call.answer.set_exception(failure)

    def _again(self, call: Pending) -> None:
        call.alone = True
        self._waiting.appendleft(call)
        self._watch()

    def _watch(self) -> None:
        """Looks again when the one that came first will have waited too long."""
        if self._timer is None and self._waiting:
            at = self._waiting[0].since + self._patience
            self._timer = asyncio.get_running_loop().call_at(at, self._refuse_late)

    def _refuse_late(self) -> None:
        self._timer = None
        latest = asyncio.get_running_loop().time() - self._patience
        while self._waiting and self._waiting[0].since <= latest:
            late = self._waiting.popleft()
            if not late.answer.done():
                self._tally.calls["refused"] += 1
                late.answer.set_exception(Unavailable())
        self._watch()


def _fits(call: Pending, group: list[Pending], room: int) -> bool:
    return call.cost <= room and (not group or call.call.function is group[0].call.function)


def _arrays(group: list[Pending]) -> list[list[Any]]:
    columns = [list(column) for column in zip(*(pending.call.arguments for pending in group), strict=True)]
    for place, kind in enumerate(group[0].call.function.types.values()):
        if is_list(kind):
            columns[place] = [None if value is None else "\n".join(map(str, value)) for value in columns[place]]
    return columns
