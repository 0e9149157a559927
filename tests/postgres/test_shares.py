"""Who goes alone takes turns by account, and what is slow leaves most connections to others."""

import asyncio
from typing import Any

import pytest

from app.postgres.functions import Function
from app.postgres.shares import (
    HEAVY_SECONDS,
    MOST_REMEMBERED,
    REMEMBERED,
    REMEMBERED_SECONDS,
    SECONDS_OF_COST,
    SLOW_SECONDS,
    Pending,
    Turns,
    Weights,
)

pytestmark = pytest.mark.anyio

READ = Function("read", "number integer")
WRITE = Function("write", "number integer")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pending(account: Any, function: Function = READ, cost: int = 1) -> Pending:
    call = function(number=1)
    return Pending(call, account, cost, 0.0, asyncio.get_running_loop().create_future(), True, None)


def anybody(call: Pending) -> bool:
    return True


async def test_a_call_is_heavy_for_a_hundred_times_as_long_as_it_took() -> None:
    clock = Clock()
    weights = Weights(clock)
    took = 2 * HEAVY_SECONDS
    weights.note(pending("ada"), took + SECONDS_OF_COST)
    assert weights.heavy(pending("ada"))
    assert not weights.slow(pending("ada"))
    assert not weights.heavy(pending("bob"))
    assert not weights.heavy(pending("ada", WRITE))
    clock.now += REMEMBERED * took - 0.001
    assert weights.heavy(pending("ada"))
    clock.now += 0.002
    assert not weights.heavy(pending("ada"))


async def test_what_took_no_longer_than_it_was_to_cost_is_not_heavy() -> None:
    weights = Weights(Clock())
    weights.note(pending("ada", cost=30), 30 * SECONDS_OF_COST + HEAVY_SECONDS / 2)
    weights.note(pending(None), 1.0)  # and of nobody nothing is remembered
    assert not weights.heavy(pending("ada"))
    assert not weights.heavy(pending(None))


async def test_a_light_call_between_makes_none_lighter_and_there_is_an_end_to_it() -> None:
    clock = Clock()
    weights = Weights(clock)
    weights.note(pending("ada"), 10.0)
    weights.note(pending("ada"), HEAVY_SECONDS + SECONDS_OF_COST)
    weights.note(pending("ada"), 0.0)
    clock.now += REMEMBERED_SECONDS - 1
    assert weights.slow(pending("ada"))
    clock.now += 1
    assert not weights.slow(pending("ada"))


async def test_only_so_many_are_remembered() -> None:
    weights = Weights(Clock())
    for account in range(MOST_REMEMBERED + 1):
        weights.note(pending(account), 1.0)
    assert not weights.heavy(pending(0))
    assert weights.heavy(pending(1))
    assert weights.heavy(pending(MOST_REMEMBERED))


async def test_slow_calls_of_all_accounts_have_half_of_the_connections() -> None:
    weights = Weights(Clock())
    for account in ("ada", "bob"):
        weights.note(pending(account), 2 * SLOW_SECONDS)
    turns = Turns(3, weights)
    for account in ("ada", "bob", "eve"):
        turns.add(pending(account))
    first = list(turns.leave(anybody))
    assert [call.account for call in first] == ["ada", "eve"]
    turns.back(first[0])
    assert [call.account for call in turns.leave(anybody)] == ["bob"]


async def test_each_account_has_its_turn_however_many_calls_another_has() -> None:
    turns = Turns(1, Weights(Clock()))
    for account in ("ada", "ada", "ada", "bob", "eve"):
        turns.add(pending(account))
    served = []
    while len(turns):
        [call] = turns.leave(anybody)
        served.append(call.account)
        turns.back(call)
    assert served == ["ada", "bob", "eve", "ada", "ada"]


async def test_an_account_that_rests_has_no_turn_and_holds_no_connection() -> None:
    turns = Turns(1, Weights(Clock()))
    for account in ("ada", "ada", "bob"):
        turns.add(pending(account))
    [first] = turns.leave(anybody)
    assert turns.followed(first)
    turns.rest(first)
    [second] = turns.leave(anybody)
    assert second.account == "bob"
    turns.back(second)
    assert list(turns.leave(anybody)) == []
    turns.rested(first)
    [third] = turns.leave(anybody)
    assert third.account == "ada"
    assert not turns.followed(third)


async def test_what_may_not_leave_yet_holds_up_no_other_of_its_account() -> None:
    turns = Turns(1, Weights(Clock()))
    waits, goes = pending("ada", WRITE), pending("ada")
    turns.add(waits)
    turns.add(goes)
    [left] = turns.leave(lambda call: call.call.function is READ)
    assert left is goes
    turns.back(goes)
    waits.answer.cancel()  # whoever asked has left
    assert list(turns.leave(anybody)) == []
    assert len(turns) == 0
