"""Somebody guesses passwords from many networks: the person signs in, and a known network notices nothing."""

from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.models import SignInDelay
from app.security import proof_of_work
from app.services import throttle
from tests.answers import told
from tests.conftest import connect
from tests.forms import size
from tests.people import Person
from tests.routers.test_auth import Clock, clock, guess  # noqa: F401 - the fixture

pytestmark = pytest.mark.anyio

NETWORKS = size("GUESSING_NETWORKS", 30, 1000)
GUESSES = size("GUESSES", 150, 10_000)
PHONES = size("GUESSED_PHONES", 2, 5)  # each works for a second or more
SECONDS_APART = 0.36  # 10 000 an hour


@pytest.fixture
async def person(client: httpx.AsyncClient) -> Person:
    """Somebody with an account, signed in nowhere yet."""
    person = Person()
    await person.register(client)
    return person


async def attack(app: FastAPI, person: Person, failures: int) -> None:
    """The last of so many failures of one account, from a network of its own."""
    async with connect(app) as stranger:
        await guess(stranger, person)
        limits = throttle.sign_in_limits(app.state.diary.secret, person.email, None)
        [account] = [key for key, limit in limits.of_account.items() if limit == throttle.ACCOUNT_LIMIT]
        async with app.state.diary.database.open_transaction() as transaction:
            counted = update(SignInDelay).where(SignInDelay.key == account)
            await transaction.execute(counted.values(failures=failures))


def proof(refused: httpx.Response) -> dict[str, str]:
    """The work that a refusal asks for."""
    challenge = refused.json()["challenge"]
    return {"challenge": challenge, "answer": proof_of_work.solve(challenge)}


@pytest.mark.scaled
async def test_a_new_phone_signs_in_within_half_a_minute_while_a_thousand_addresses_guess(
    app: FastAPI,
    clock: Clock,  # noqa: F811
    client: httpx.AsyncClient,
    person: Person,
) -> None:
    await attack(app, person, 10_000)  # it has gone on for an hour
    async with AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(connect(app)) for _ in range(NETWORKS)]
        signed_in = 0
        for number in range(GUESSES):
            answer = await guess(strangers[number % NETWORKS], person)
            assert answer.status_code in (401, 429)
            clock.advance(seconds=SECONDS_APART)
            if number % (GUESSES // PHONES) == 0:
                async with connect(app) as phone:
                    begun = clock.present
                    refused = await person.sign_in(phone)
                    clock.advance(seconds=5)  # a slow phone's work, while others go on
                    for stranger in strangers[:14]:
                        await guess(stranger, person)
                    answer = await person.sign_in(phone, **({"proof": proof(refused)} if refused.is_error else {}))
                    assert answer.status_code == 201, answer.text
                    assert (clock.present - begun).total_seconds() < 30
                    signed_in += 1
    assert signed_in == PHONES


async def test_proven_work_is_good_once_for_one_account_and_for_minutes(
    app: FastAPI,
    clock: Clock,  # noqa: F811
    client: httpx.AsyncClient,
    person: Person,
) -> None:
    bystander = Person()
    await bystander.register(client)
    for one in (person, bystander):
        await attack(app, one, 100_000)
    refused = await person.sign_in(client)
    assert told(refused) == (429, "too-many-requests")
    assert refused.json()["challenge"].startswith(f"{throttle.MOST_BITS}.")
    work = proof(refused)
    bits, _, rest = work["challenge"].partition(".")
    assert bits == str(throttle.MOST_BITS)
    for bad in (work | {"answer": "x"}, work | {"challenge": f"1.{rest}"}, {"challenge": "x", "answer": "x"}):
        assert told(await person.sign_in(client, proof=bad)) == (429, "too-many-requests")
    assert told(await bystander.sign_in(client, proof=work)) == (429, "too-many-requests")
    wrong = Person(person.email, "not the right password")
    assert told(await wrong.sign_in(client, proof=work)) == (401, "sign-in-failed")
    assert told(await person.sign_in(client, proof=work)) == (429, "too-many-requests")
    late = proof(await person.sign_in(client))
    clock.advance(minutes=5, seconds=1)
    assert told(await person.sign_in(client, proof=late)) == (429, "too-many-requests")
    assert (await person.sign_in(client, proof=proof(await person.sign_in(client)))).status_code == 201


async def test_proven_work_opens_no_network_that_guesses(
    app: FastAPI,
    clock: Clock,  # noqa: F811
    client: httpx.AsyncClient,
    person: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await attack(app, person, 100_000)
    work = proof(await person.sign_in(client))
    monkeypatch.setattr(throttle, "NETWORK_LIMIT", (0, 300))
    refused = await person.sign_in(client, proof=work)
    assert (told(refused), "challenge" in refused.json()) == ((429, "too-many-requests"), False)


async def test_a_network_on_which_one_was_signed_in_does_not_notice(
    app: FastAPI,
    clock: Clock,  # noqa: F811
    client: httpx.AsyncClient,
    person: Person,
) -> None:
    signed_in = (await person.sign_in(client)).json()
    async with connect(app) as moved, connect(app) as elsewhere:
        refresh = {"refresh_token": signed_in["refresh_token"]}
        assert (await moved.post("/v1/auth/refresh", json=refresh)).status_code == 200
        await attack(app, person, 100_000)
        statuses = [(await person.sign_in(http)).status_code for http in (moved, elsewhere)]
        assert statuses == [201, 429]
        clock.advance(days=91)
        await attack(app, person, 100_000)
        assert (await person.sign_in(moved)).status_code == 429


async def test_an_account_that_is_guessed_admits_ever_fewer_without_work_but_never_none(
    app: FastAPI,
    clock: Clock,  # noqa: F811
    client: httpx.AsyncClient,
    person: Person,
) -> None:
    waits: list[Any] = []
    for failures in (100, 101, 105, 110, 100_000):
        await attack(app, person, failures)
        refused = await person.sign_in(client)
        waits.append((int(refused.headers["Retry-After"]), refused.json()["challenge"].partition(".")[0]))
        clock.advance(seconds=901)
    assert waits == [(1, "16"), (2, "16"), (32, "16"), (900, "16"), (900, "20")]
    assert (await person.sign_in(client)).status_code == 201


async def test_the_networks_of_an_ipv6_site_are_counted_together_as_well() -> None:
    one, other, elsewhere = [
        set(throttle.sign_in_limits(b"secret", email, address).all)
        for email, address in (("a@b.c", "2001:db8::1"), ("d@b.c", "2001:db8:0:ff::1"), ("e@b.c", "2001:db8:1::1"))
    ]
    assert (len(one & other), one & elsewhere) == (1, set())


async def test_delays_survive_a_step_of_the_clock(
    client: httpx.AsyncClient,
    clock: Clock,  # noqa: F811
    person: Person,
) -> None:
    for _ in range(5):
        assert (await guess(client, person)).status_code == 401
    assert (await person.sign_in(client)).status_code == 429
    clock.advance(days=-1)
    assert (await person.sign_in(client)).status_code == 201
    assert [(await guess(client, person)).status_code for _ in range(6)] == [401] * 5 + [429]  # counted from there on
