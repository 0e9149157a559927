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
from math import inf
from typing import Any, NoReturn

import asyncpg

from app.errors import Unavailable
from app.postgres.functions import Call, is_list
from app.postgres.shares import SECONDS_OF_COST, Pending, Rows, Shares, Turns, Weights

Send = Callable[..., Awaitable[Rows]]  # takes a statement and its arguments

FULL = 32  # the cost of what goes together: each waits until all are done
MOST_WAITING = 2000
MOST_TOGETHER = 4  # calls of one account in a group: others wait for all of them
MOST_REST_SECONDS = 0.5
SUSPECTED_SECONDS = 0.02  # as which each of a group counts that took too long, until it is known whose fault it was
BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened here so far, by how it went, in plain numbers: a counter of Prometheus costs ten times as much."""

    calls: Counter[str] = field(default_factory=Counter)
    statements: Counter[str] = field(default_factory=Counter)  # that carried these calls
    mutations: Counter[str] = field(default_factory=Counter)  # that phones pushed
    seals: Counter[str] = field(default_factory=Counter)  # of the audit trail


class GroupCommit:
    """Sends one group at a time and, beside it, as many calls alone as the other `connections` carry.

    `together` sends the groups, over a connection where the server soon ends what takes long: then nothing of the group
    was done, and each goes alone. Only statements that are `timed` tell what is heavy. A call that has not left after
    `patience` seconds is refused.
    """

    def __init__(
        self,
        send: Send,
        connections: int,
        patience: float,
        tally: Tally | None = None,
        *,
        together: Send | None = None,
        timed: bool = True,
    ) -> None:
        self._send = send
        self._send_together = together or send
        self._timed = timed
        self._tally = tally or Tally()
        self._patience = patience
        self._grouped = False  # is a group under way?
        self._weights = Weights(lambda: asyncio.get_running_loop().time())
        self._turns = Turns(max(1, connections - 1), self._weights)  # of those who go alone
        self._shares = Shares()
        self._keys: set[Any] = set()  # of the calls under way
        self._waiting: deque[Pending] = deque()  # for a group
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, call: Call, *, account: Any = None, cost: int = 1, alone: bool = False) -> Rows:
        """The rows of one call, which is durable once this returns. Raises what the driver does, and Unavailable.

        `account`: whose share of groups and connections it takes. `cost`: what it takes, where a record that is written
        takes 1. What takes more than a group may, and what is to go `alone`, joins none.
        """
        if self.waiting >= MOST_WAITING:
            self._refuse()
        try:
            self._shares.take(account)
        except Unavailable:
            self._refuse()
        try:
            loop = asyncio.get_running_loop()
            pending = Pending(call, account, cost, loop.time(), loop.create_future(), alone or cost > FULL, call.key)
            if pending.alone:
                self._turns.add(pending)
            else:
                self._waiting.append(pending)
            if self._leaving is None:  # not at once: this round of the loop may bring more
                self._leaving = loop.call_soon(self._leave)
            self._watch()
            return await pending.answer
        finally:
            self._shares.give_back(account)

    @property
    def waiting(self) -> int:
        """How many calls have not left yet."""
        return len(self._waiting) + len(self._turns)

    def _refuse(self) -> NoReturn:
        self._tally.calls["refused"] += 1
        raise Unavailable

    def _leave(self) -> None:
        """Sends those who can leave now."""
        self._leaving = None
        if not self._grouped and self._waiting and (group := self._next_group()):
            self._grouped = True
            self._start(group)
        for call in self._turns.leave(self._may_leave):
            self._start([call])

    def _next_group(self) -> list[Pending]:
        """Those who go together now, in the order in which they came; what is known as heavy takes its turn alone."""
        group: list[Pending] = []
        room = FULL
        stay: list[Pending] = []
        sharing: Counter[Any] = Counter()
        before = self._turns.since()
        while self._waiting and room:
            call = self._waiting.popleft()
            if call.answer.done():  # whoever asked has left
                continue
            if self._weights.heavy(call):
                call.alone = True
                self._turns.add(call)
            elif (
                call.key in self._keys
                or before.get(call.key, inf) < call.since
                or sharing[call.account] >= MOST_TOGETHER
                or not _fits(call, group, room)
            ):
                stay.append(call)
            else:
                group.append(call)
                room -= call.cost
                if call.account is not None:
                    sharing[call.account] += 1
        self._waiting.extendleft(reversed(stay))
        return group

    def _may_leave(self, call: Pending) -> bool:
        """Whether nobody of the same key is under way, or came before."""
        if call.key is None:
            return True
        earlier = (other for other in self._waiting if other.key == call.key and other.since < call.since)
        return call.key not in self._keys and next(earlier, None) is None

    def _start(self, calls: list[Pending]) -> None:
        way = "alone" if calls[0].alone else "grouped"
        self._tally.calls[way] += len(calls)
        self._tally.statements[way] += 1
        self._keys.update(call.key for call in calls if call.key is not None)
        task = asyncio.ensure_future(self._make(calls))
        self._tasks.add(task)  # the loop itself would let go of it
        task.add_done_callback(self._tasks.discard)

    async def _make(self, calls: list[Pending]) -> None:
        alone, since = calls[0].alone, asyncio.get_running_loop().time()
        try:
            for call, rows in zip(calls, await self._ask(calls), strict=True):
                self._settle(call, rows)
        except Exception as failure:  # whatever it is, whoever waits for this group hears of it
            self._fail(calls, failure)
        finally:
            self._keys.difference_update(call.key for call in calls)
            if alone:
                self._end_turn(calls[0], asyncio.get_running_loop().time() - since)
            else:
                self._grouped = False
            self._leave()

    def _end_turn(self, call: Pending, took: float) -> None:
        """Frees its connection. Of an account that reads without a pause the next leaves after as long again.

        So it has half of a processor's time, whatever it asks for and over however many connections; whoever else comes
        meets a processor that is free half of the time. Whoever waits for one answer before the next call never rests.
        """
        if call.key is not None or not self._turns.followed(call):
            self._turns.back(call)
            return
        self._turns.rest(call)
        asyncio.get_running_loop().call_later(min(took, MOST_REST_SECONDS), self._rested, call)

    def _rested(self, call: Pending) -> None:
        self._turns.rested(call)
        self._leave()

    async def _ask(self, calls: list[Pending]) -> list[Rows]:
        """The rows of each call; notes how long each took."""
        [first, *others] = calls
        function = first.call.function
        send = self._send if first.alone else self._send_together
        if not others:
            waits = () if function.key is None else (first.alone,)
            statement = function.timed if self._timed else function.statement
            rows = await send(statement, *first.call.arguments, *waits)
            if self._timed and rows and not any(waits):  # then it may have waited for a lock
                self._weights.note(first, rows[-1]["took"])
            return [rows]
        answers: list[Rows] = [[] for _ in calls]
        for row in await send(function.grouped, *_arrays(calls)):
            answers[row["place"] - 1].append(row)
        before = 0.0
        for call, rows in zip(calls, answers, strict=True):
            if rows:
                self._weights.note(call, rows[-1]["took"] - before)
                before = rows[-1]["took"]
        return answers

    def _settle(self, call: Pending, rows: Rows) -> None:
        if call.key is not None and rows[0][0] == BUSY:
            self._again(call)
        elif not call.answer.done():  # whoever asked may have left
            call.answer.set_result(rows)

    def _fail(self, calls: list[Pending], failure: Exception) -> None:
        # An answer of PostgreSQL's, or an argument that could not be sent: nothing was kept. Otherwise nobody knows.
        unkept = isinstance(failure, asyncpg.PostgresError)
        ended = isinstance(failure, asyncpg.QueryCanceledError) and not calls[0].alone  # it took too long for a group
        for call in reversed(calls):
            if ended:
                self._weights.note(call, SUSPECTED_SECONDS + call.cost * SECONDS_OF_COST)
            if unkept and (len(calls) > 1 or ended):
                self._again(call)
            elif not call.answer.done():
                call.answer.set_exception(failure)

    def _again(self, call: Pending) -> None:
        call.alone = True
        self._turns.add(call, first=True)
        self._watch()

    def _watch(self) -> None:
        """Looks again when the one that came first will have waited too long."""
        if self._timer is None and self.waiting:
            first = min(self._waiting[0].since if self._waiting else inf, self._turns.first_since())
            self._timer = asyncio.get_running_loop().call_at(first + self._patience, self._refuse_late)

    def _refuse_late(self) -> None:
        self._timer = None
        latest = asyncio.get_running_loop().time() - self._patience
        refused = self._turns.late(latest)
        while self._waiting and self._waiting[0].since <= latest:
            refused.append(self._waiting.popleft())
        for late in refused:
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
