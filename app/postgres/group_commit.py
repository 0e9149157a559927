"""Group commit: calls that wait for the database at the same time go together, as one statement and one commit.

One group is under way at a time. A call that finds none leaves at once; those that come meanwhile wait for each other,
not for a moment longer than it takes. Each still checks its own session and consent, has its own row-security context
and its own audit row, and ends as if it had been alone: where one of them fails nothing of any is kept, and each is
made again by itself. What is heavy, and what would hold up a group, goes alone beside it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import asyncpg

from app.errors import Unavailable

Rows = list[asyncpg.Record]
Send = Callable[..., Awaitable[Rows]]  # takes a statement and its arguments

FULL = 32  # the weight that goes together: each waits until all are done
HEAVY = FULL + 1  # too much to go together with others
MOST_WAITING = 2000
BUSY = "busy"


@dataclass(frozen=True)
class Function:
    """A function of the database that answers rows: its name and the types of its arguments, with blanks between.

    `turns`: the place of an argument by which calls take turns, the patient whose diary they lock. Two for the same
    are in one statement or one after the other, and never wait for each other's lock. Such a function takes one
    argument more: whether to wait for a lock that somebody else holds, as it does when it goes alone. Where it must
    not, its first column may say `busy`, and the call is made again alone.
    """

    name: str
    signature: str
    turns: int | None = None

    @cached_property
    def types(self) -> list[str]:
        """The types of its arguments."""
        return self.signature.split()

    @cached_property
    def alone(self) -> str:
        """The statement for one call."""
        places = len(self.types) + (self.turns is not None)
        values = [f"${place}" for place in range(1, places + 1)]
        return f"SELECT * FROM {self.name}({', '.join(values)})"  # noqa: S608 - names of ours

    @cached_property
    def together(self) -> str:
        """The statement for many, with an array of each argument; the last column is the place of the call."""
        names = [f"a{place}" for place, _ in enumerate(self.types, 1)]
        arrays = [f"${place}::{'text' if _is_list(kind) else kind}[]" for place, kind in enumerate(self.types, 1)]
        values = [
            f"string_to_array({name}, E'\\n')::{kind}" if _is_list(kind) else name
            for name, kind in zip(names, self.types, strict=True)
        ]
        if self.turns is not None:
            values.append("false")
        return (
            f"SELECT answer.*, place FROM unnest({', '.join(arrays)})"  # noqa: S608 - names of ours
            f" WITH ORDINALITY AS calls ({', '.join(names)}, place), {self.name}({', '.join(values)}) AS answer"
        )


@dataclass(eq=False, slots=True)
class Call:
    """One call that waits, or is under way."""

    function: Function
    arguments: tuple[Any, ...] = field(repr=False)  # health data
    weight: int
    since: float
    answer: asyncio.Future[Rows]
    alone: bool = False

    @property
    def turn(self) -> Any:
        """By what it takes turns with others, if it does."""
        return None if self.function.turns is None else self.arguments[self.function.turns]


class GroupCommit:
    """Sends one group at a time and, beside it, as many calls alone as the other `connections` carry.

    A call that has not left after `patience` seconds is refused.
    """

    def __init__(self, send: Send, connections: int, patience: float) -> None:
        self._send = send
        self._patience = patience
        self._grouped = False  # is a group under way?
        self._lanes = max(1, connections - 1)  # free for calls that go alone
        self._turns: set[Any] = set()  # of the calls under way
        self._waiting: deque[Call] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, function: Function, *arguments: Any, weight: int = 1) -> Rows:
        """The rows of one call, which is durable once this returns. Raises what the driver does, and Unavailable.

        `weight` is what it costs, where a record that is written costs 1.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable
        loop = asyncio.get_running_loop()
        call = Call(function, arguments, weight, loop.time(), loop.create_future(), alone=weight > FULL)
        self._waiting.append(call)
        if self._leaving is None:  # not at once: this turn of the loop may bring more
            self._leaving = loop.call_soon(self._leave)
        self._watch()
        return await call.answer

    def _leave(self) -> None:
        """Sends those who can leave now, in the order in which they came."""
        self._leaving = None
        group: list[Call] = []
        room = 0 if self._grouped else FULL
        left: deque[Call] = deque()
        for call in self._waiting:
            if call.answer.done():  # whoever asked has left
                continue
            if call.turn in self._turns or not (self._lanes if call.alone else _fits(call, group, room)):
                left.append(call)
            elif call.alone:
                self._lanes -= 1
                self._start([call])
            else:
                group.append(call)
                room -= call.weight
        self._waiting = left
        if group:
            self._grouped = True
            self._start(group)

    def _start(self, calls: list[Call]) -> None:
        self._turns.update(call.turn for call in calls if call.turn is not None)
        task = asyncio.ensure_future(self._make(calls))
        self._tasks.add(task)  # the loop itself would let go of it
        task.add_done_callback(self._tasks.discard)

    async def _make(self, calls: list[Call]) -> None:
        alone = calls[0].alone
        try:
            for call, rows in zip(calls, await self._ask(calls), strict=True):
                self._settle(call, rows)
        except Exception as failure:
            self._fail(calls, failure)
        finally:
            self._turns.difference_update(call.turn for call in calls)
            self._lanes += alone
            self._grouped = self._grouped and alone
            self._leave()

    async def _ask(self, calls: list[Call]) -> list[Rows]:
        """The rows of each call."""
        function = calls[0].function
        if len(calls) == 1:
            waits = () if function.turns is None else (calls[0].alone,)
            return [await self._send(function.alone, *calls[0].arguments, *waits)]
        answers: list[Rows] = [[] for _ in calls]
        for row in await self._send(function.together, *_arrays(calls)):
            answers[row["place"] - 1].append(row)
        return answers

    def _settle(self, call: Call, rows: Rows) -> None:
        if call.turn is not None and rows[0][0] == BUSY:
            self._again(call)
        elif not call.answer.done():  # whoever asked may have left
            call.answer.set_result(rows)

    def _fail(self, calls: list[Call], failure: Exception) -> None:
        # An answer of PostgreSQL's, or an argument that could not be sent: nothing was kept. Otherwise nobody knows.
        unkept = isinstance(failure, asyncpg.PostgresError)
        for call in reversed(calls):
            if unkept and len(calls) > 1:
                self._again(call)
            elif not call.answer.done():
                call.answer.set_exception(failure)

    def _again(self, call: Call) -> None:
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
                late.answer.set_exception(Unavailable())
        self._watch()


def _fits(call: Call, group: list[Call], room: int) -> bool:
    return call.weight <= room and (not group or call.function is group[0].function)


def _arrays(group: list[Call]) -> list[list[Any]]:
    columns = [list(column) for column in zip(*(call.arguments for call in group), strict=True)]
    for place, kind in enumerate(group[0].function.types):
        if _is_list(kind):
            columns[place] = [None if value is None else "\n".join(map(str, value)) for value in columns[place]]
    return columns


def _is_list(kind: str) -> bool:
    """Lists travel as lines: an array of them would have to be rectangular."""
    return kind.endswith("[]")
