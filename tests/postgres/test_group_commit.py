"""Calls that wait go together, and end as if each had been alone."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.config import Settings
from app.errors import Unavailable
from app.postgres.database import Calls
from app.postgres.functions import Function
from app.postgres.group_commit import FULL, MOST_TOGETHER, MOST_WAITING, GroupCommit, Tally
from app.postgres.shares import MOST_OF_ONE, Rows
from tests.conftest import create_database, url_of
from tests.people import Phone, entry
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.anyio

Pool = Any  # asyncpg.Pool is generic for type checkers only
FUNCTIONS = """
CREATE TABLE kept (number integer NOT NULL);
CREATE FUNCTION keep(p_number integer, p_words text[])
RETURNS TABLE (number integer, words text[], transaction bigint) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO kept VALUES (p_number + 0 / (100 - p_number));
    RETURN QUERY SELECT p_number, p_words, txid_current() FROM generate_series(1, 2);
END $$;
CREATE FUNCTION hold(p_number integer, p_wait boolean) RETURNS TABLE (status text, number integer)
LANGUAGE plpgsql AS $$
BEGIN
    IF p_wait THEN
        PERFORM pg_advisory_xact_lock(p_number);
    END IF;
    RETURN QUERY SELECT CASE WHEN p_wait OR pg_try_advisory_xact_lock(p_number) THEN 'held' ELSE 'busy' END, p_number;
END $$;
CREATE FUNCTION pass(p_number integer) RETURNS TABLE (number integer) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO kept VALUES (p_number);
    PERFORM pg_advisory_xact_lock(p_number);
    RETURN QUERY SELECT p_number;
END $$;
CREATE FUNCTION take(p_seconds float) RETURNS TABLE (seconds float) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(p_seconds);
    RETURN QUERY SELECT p_seconds;
END $$;
"""
KEEP = Function("keep", "number integer, words text[]")
HOLD = Function("hold", "number integer", key="number")
PASS = Function("pass", "number integer")
TAKE = Function("take", "seconds float")
FAILS = 100
LONG = 0.3  # seconds: nobody waits for it, but it is remembered for half a minute


class Wire:
    """Sends to a real database and notes what was sent; with the gate shut it holds everything up."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.sent: list[tuple[str, tuple[Any, ...]]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, statement: str, *arguments: Any) -> Rows:
        self.sent.append((statement, arguments))
        await self.gate.wait()
        rows: Rows = await self.pool.fetch(statement, *arguments)
        return rows

    @property
    def numbers(self) -> list[Any]:
        return [arguments[0] for _, arguments in self.sent]


@pytest.fixture(scope="module")
async def url(server_url: str) -> str:
    """A database of its own."""
    name = f"group_{uuid4().hex[:12]}"
    await create_database(server_url, name)
    return url_of(server_url, "postgres", name)


@pytest.fixture(scope="module")
async def pool(url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        await pool.execute(FUNCTIONS)
        yield pool


@pytest.fixture
async def hurried(url: str, pool: Pool) -> AsyncIterator[Pool]:
    """Over its connection a statement has a tenth of a second; the tables are those of `pool`."""
    hurry = {"statement_timeout": "100ms"}
    async with asyncpg.create_pool(url, min_size=1, max_size=1, server_settings=hurry) as hurried:
        yield hurried


@pytest.fixture
async def wire(pool: Pool) -> Wire:
    await pool.execute("TRUNCATE kept")
    return Wire(pool)


async def settle() -> None:
    """Lets everything run that can run without an answer from outside."""
    for _ in range(10):
        await asyncio.sleep(0)


async def ended(*calls: "asyncio.Task[Rows]") -> None:
    """Returns once all calls have ended; fails where one does not."""

    async def all_done() -> bool:
        return all(call.done() for call in calls)

    await until(all_done)


async def kept(wire: Wire) -> list[int]:
    return [row[0] for row in await wire.pool.fetch("SELECT number FROM kept ORDER BY number")]


async def test_calls_of_one_moment_are_one_transaction_and_each_gets_its_own_rows(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    words: list[list[str] | None] = [["a", "b c"], [], None, ["ä\t'{}\\"]]
    answers = await asyncio.gather(*(group.call(KEEP(number=number, words=said)) for number, said in enumerate(words)))
    assert [[tuple(row)[:2] for row in rows] for rows in answers] == [[(n, said)] * 2 for n, said in enumerate(words)]
    assert len({row["transaction"] for rows in answers for row in rows}) == 1
    assert len(wire.sent) == 1


async def test_a_call_that_meets_nobody_goes_alone(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    [row, _] = await group.call(KEEP(number=1, words=["x"]))
    assert (row["number"], row["words"], wire.sent) == (1, ["x"], [(KEEP.timed, (1, ["x"]))])


async def test_calls_that_come_while_a_group_is_under_way_go_together_after_it(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    wire.gate.clear()
    calls = [asyncio.create_task(group.call(KEEP(number=0)))]
    await settle()
    calls += [asyncio.create_task(group.call(KEEP(number=number))) for number in (1, 2, 3)]
    await settle()
    assert wire.numbers == [0]
    wire.gate.set()
    await asyncio.gather(*calls)
    assert wire.numbers == [0, [1, 2, 3]]


async def test_functions_do_not_mix_and_a_group_has_an_end(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    keeping = [group.call(KEEP(number=number), cost=number and FULL // 4) for number in range(6)]
    await asyncio.gather(*keeping, group.call(HOLD(number=1)))
    assert wire.numbers == [[0, 1, 2, 3, 4], 5, 1]


@pytest.mark.parametrize(
    ("wrong", "failure"),
    [(FAILS, asyncpg.DivisionByZeroError), ("no number", asyncpg.DataError)],
    ids=["answered", "unsent"],
)
async def test_what_fails_fails_alone_and_the_others_are_kept_once(
    wire: Wire, wrong: object, failure: type[Exception]
) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    answers = await asyncio.gather(*(group.call(KEEP(number=n)) for n in (1, wrong, 2)), return_exceptions=True)
    assert isinstance(answers[1], failure)
    assert [rows[0]["number"] for rows in answers if isinstance(rows, list)] == [1, 2]
    assert await kept(wire) == [1, 2]


async def test_where_no_answer_comes_nobody_is_told_anything_else_and_nothing_is_sent_again(wire: Wire) -> None:
    async def lose(*sent: Any) -> Rows:
        await wire.send(*sent)
        raise ConnectionResetError

    group = GroupCommit(lose, 4, PATIENCE)
    answers = await asyncio.gather(*(group.call(KEEP(number=n)) for n in (1, 2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionResetError] * 2
    assert await kept(wire) == [1, 2]


async def test_what_is_to_go_alone_goes_alone_beside_a_group_as_far_as_connections_go(wire: Wire) -> None:
    group = GroupCommit(wire.send, 3, PATIENCE)
    wire.gate.clear()
    calls = [asyncio.create_task(group.call(KEEP(number=n), alone=n > 0)) for n in range(4)]
    await settle()
    assert sorted(wire.numbers) == [0, 1, 2]
    wire.gate.set()
    await asyncio.gather(*calls)
    assert wire.numbers[3:] == [3]


async def test_calls_for_one_key_are_never_under_way_beside_each_other(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    wire.gate.clear()
    calls = [asyncio.create_task(group.call(HOLD(number=7), alone=True)) for _ in range(2)]
    calls += [asyncio.create_task(group.call(HOLD(number=number))) for number in (7, 8)]
    await settle()
    assert sorted(wire.numbers) == [7, 8]
    wire.gate.set()
    assert [rows[0]["status"] for rows in await asyncio.gather(*calls)] == ["held"] * 4


async def test_who_waits_for_a_lock_holds_up_nobody_of_the_group(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    async with wire.pool.acquire() as stranger, stranger.transaction():
        await stranger.execute("SELECT pg_advisory_xact_lock(7)")
        waits, goes = (asyncio.create_task(group.call(HOLD(number=number))) for number in (7, 8))
        await ended(goes)
        assert [row["status"] for row in await goes] == ["held"]
        assert [row["status"] for row in await group.call(HOLD(number=9))] == ["held"]
        assert not waits.done()
    assert [row["status"] for row in await waits] == ["held"]
    assert wire.sent[1] == (HOLD.timed, (7, True))


async def test_whoever_waits_too_long_is_refused_and_told_when_to_come_back(wire: Wire) -> None:
    group = GroupCommit(wire.send, 1, 0.05)
    wire.gate.clear()
    under_way = asyncio.create_task(group.call(KEEP(number=1)))
    await settle()
    late = [asyncio.create_task(group.call(KEEP(number=number))) for number in range(2, 50)]
    await ended(*late)
    refusals = [call.exception() for call in late]
    assert {type(refusal) for refusal in refusals} == {Unavailable}
    assert len({refusal.retry_after for refusal in refusals if isinstance(refusal, Unavailable)}) > 1
    wire.gate.set()
    await under_way
    await group.call(KEEP(number=50))
    assert await kept(wire) == [1, 50]


async def test_more_than_can_wait_are_refused_at_once(wire: Wire) -> None:
    group = GroupCommit(wire.send, 1, PATIENCE)
    wire.gate.clear()
    calls = [asyncio.create_task(group.call(KEEP(number=1))) for _ in range(MOST_WAITING)]
    await settle()
    calls += [asyncio.create_task(group.call(KEEP(number=1))) for _ in range(FULL)]  # those who left made room
    refused = asyncio.create_task(group.call(KEEP(number=1)))
    await settle()
    assert isinstance(refused.exception(), Unavailable)
    for call in calls:
        call.cancel()
    wire.gate.set()
    await asyncio.gather(*group._tasks)
    assert len(await kept(wire)) == FULL  # what nobody waits for any more is not made


async def test_whoever_leaves_takes_nothing_from_the_others(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    wire.gate.clear()
    leaves, stays = (asyncio.create_task(group.call(KEEP(number=number))) for number in (1, 2))
    await settle()
    leaves.cancel()
    wire.gate.set()
    assert (await stays)[0]["number"] == 2
    with pytest.raises(asyncio.CancelledError):
        await leaves


# --- What is heavy


@pytest.mark.parametrize("others", [0, 2])
async def test_what_takes_too_long_for_a_group_goes_alone_and_all_are_kept_once(
    wire: Wire, hurried: Pool, others: int
) -> None:
    tally = Tally()
    group = GroupCommit(wire.send, 4, PATIENCE, tally, together=hurried.fetch)
    async with wire.pool.acquire() as stranger, stranger.transaction():
        await stranger.execute("SELECT pg_advisory_xact_lock(7)")
        waits = asyncio.create_task(group.call(PASS(number=7), account="heavy"))
        light = [asyncio.create_task(group.call(PASS(number=n), account=n)) for n in range(others)]
        await ended(*light)
        assert [call.result()[0]["number"] for call in light] == list(range(others))
        assert await kept(wire) == list(range(others))
        await until(partial(_has_gone_alone, tally, others + 1))
        assert not waits.done()
    assert (await waits)[0]["number"] == 7
    assert await kept(wire) == [*range(others), 7]


async def _has_gone_alone(tally: Tally, calls: int) -> bool:
    return tally.calls["alone"] == calls


async def test_what_took_long_in_a_group_goes_alone_the_next_time_and_nobody_else_does(wire: Wire) -> None:
    tally = Tally()
    group = GroupCommit(wire.send, 4, PATIENCE, tally)

    async def calls() -> None:
        await asyncio.gather(
            group.call(TAKE(seconds=0.0), account="bob"),
            group.call(TAKE(seconds=LONG), account="ada"),
            group.call(TAKE(seconds=0.0), account="eve"),
        )

    await calls()
    assert (tally.calls["grouped"], tally.calls["alone"]) == (3, 0)
    await calls()
    assert (tally.calls["grouped"], tally.calls["alone"]) == (5, 1)
    await group.call(KEEP(number=1), account="ada")  # of another function nothing is known
    assert tally.calls["alone"] == 1


async def test_what_took_long_alone_is_remembered_too(wire: Wire) -> None:
    tally = Tally()
    group = GroupCommit(wire.send, 4, PATIENCE, tally)
    await group.call(TAKE(seconds=LONG), account="ada", alone=True)
    await group.call(TAKE(seconds=0.0), account="ada")
    assert tally.calls["alone"] == 2


async def test_an_account_has_one_call_alone_at_a_time_and_a_part_of_each_group(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    wire.gate.clear()
    numbers = range(2 * MOST_TOGETHER)
    calls = [asyncio.create_task(group.call(KEEP(number=n), account="ada", alone=True)) for n in (10, 11)]
    calls += [asyncio.create_task(group.call(KEEP(number=n), account="ada")) for n in numbers]
    calls += [asyncio.create_task(group.call(KEEP(number=20), account="bob"))]
    await settle()
    assert wire.numbers == [[*numbers[:MOST_TOGETHER], 20], 10]
    wire.gate.set()
    await asyncio.gather(*calls)
    assert sorted(await kept(wire)) == [*numbers, 10, 11, 20]


async def test_an_account_that_reads_without_a_pause_rests_as_long_as_it_read(wire: Wire) -> None:
    loop = asyncio.get_running_loop()
    group = GroupCommit(wire.send, 4, PATIENCE)
    begun = loop.time()
    await asyncio.gather(*(group.call(TAKE(seconds=LONG), account="ada", alone=True) for _ in range(3)))
    assert loop.time() - begun >= 5 * LONG  # three calls and two pauses


async def test_whoever_sends_more_than_can_wait_is_refused_and_nobody_else(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    wire.gate.clear()
    calls = [asyncio.create_task(group.call(KEEP(number=1), account="ada", alone=n > 9)) for n in range(MOST_OF_ONE)]
    await settle()
    with pytest.raises(Unavailable):
        await group.call(KEEP(number=1), account="ada")
    calls += [asyncio.create_task(group.call(KEEP(number=1), account="bob"))]
    wire.gate.set()
    await asyncio.gather(*calls)
    await group.call(KEEP(number=1), account="ada")
    assert len(await kept(wire)) == MOST_OF_ONE + 2


async def test_calls_of_two_accounts_for_one_key_go_one_after_the_other_in_their_order(wire: Wire) -> None:
    group = GroupCommit(wire.send, 4, PATIENCE)
    wire.gate.clear()
    calls = [
        asyncio.create_task(group.call(HOLD(number=7), account="ada", alone=True)),
        asyncio.create_task(group.call(HOLD(number=7), account="bob", alone=True)),
        asyncio.create_task(group.call(HOLD(number=7), account="eve")),
    ]
    await settle()
    assert wire.numbers == [7]
    wire.gate.set()
    await asyncio.gather(*calls)
    assert [arguments[1] for _, arguments in wire.sent] == [True, True, False]


@pytest.mark.parametrize("distributed", [False, True])
async def test_over_nodes_every_call_goes_alone_to_that_of_its_patient(
    wire: Wire, url: str, settings: Settings, distributed: bool
) -> None:
    calls = Calls(url, settings.model_copy(update={"database_distributed": distributed}), PATIENCE)
    await calls.start(1)
    try:
        answers = await asyncio.gather(*(calls.call(KEEP(number=number)) for number in range(3)))
        [[mode]] = await calls.fetch("SELECT current_setting('plan_cache_mode')")
    finally:
        await calls.stop()
    assert len({rows[0]["transaction"] for rows in answers}) == (3 if distributed else 1)
    assert mode == ("auto" if distributed else "force_generic_plan")
    assert await kept(wire) == [0, 1, 2]


async def test_in_one_group_everybody_has_their_own_diary_consent_and_audit_row(
    ada: Phone, bob: Phone, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Bob asks for Ada's diary in the middle of a group of those who ask for their own."""
    mine = [entry(note=f"of Ada {place}") for place in range(3)]
    theirs = entry(note="of Bob")
    stranger = bob.http.post(f"{ada.diary}/entries", json=entry())
    answers = await asyncio.gather(*(ada.post("/entries", one) for one in mine), stranger, bob.post("/entries", theirs))
    assert [answer.status_code for answer in answers] == [201, 201, 201, 404, 201]

    async def pages() -> list[Any]:
        spying = bob.http.get(f"{ada.diary}/timeline")
        return list(await asyncio.gather(ada.get("/timeline"), spying, bob.get("/timeline"), ada.get("/entries")))

    ada_page, refused, bob_page, ada_entries = await pages()
    assert {one["note"] for one in ada_page.json()["items"] if one["kind"] == "entry"} == {one["note"] for one in mine}
    assert ada_entries.status_code == 200
    assert refused.status_code == 404
    assert [one["note"] for one in bob_page.json()["items"] if one["kind"] == "entry"] == ["of Bob"]
    trail = await superuser.fetch(
        "SELECT action, outcome FROM audit_events WHERE patient_id = $1 AND actor_id = $2",
        *(ada.patient_id, bob.user_id),
    )
    assert sorted(tuple(row) for row in trail) == [("entries.create", "not_found"), ("timeline.read", "not_found")]
