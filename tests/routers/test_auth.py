"""Signing in over HTTP: nobody learns who has an account, nobody is signed out by chance."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from jose import jws

from app import logs
from app.config import Settings
from app.http import deps
from app.main import create_app
from app.security import passwords, tokens
from app.services import invitations, sessions, throttle
from tests.answers import pointers, told, without_request_id
from tests.conftest import connect
from tests.people import PASSWORD, Person, Phone
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
REGISTRATION = {"display_name": "Ada", "birth_date": "1980-05-17", "time_zone": "Europe/Berlin", "password": PASSWORD}


class Clock:
    """What the service takes for the present: it stands still unless the test moves it."""

    def __init__(self) -> None:
        self.present = datetime.now(UTC)

    def advance(self, **step: float) -> None:
        self.present += timedelta(**step)


@pytest.fixture
def clock(app: FastAPI) -> Iterator[Clock]:
    """The clock of the requests of this test."""
    clock = Clock()

    async def now() -> datetime:
        return clock.present

    app.dependency_overrides[deps.now] = now
    yield clock
    del app.dependency_overrides[deps.now]


@pytest.fixture(scope="module")
async def grace(app: FastAPI) -> Person:
    """Somebody with an account whom the tests share that sign in with her right password."""
    person = Person()
    async with connect(app) as http:
        await person.register(http)
    return person


async def refresh(http: httpx.AsyncClient, token: str) -> httpx.Response:
    return await http.post("/v1/auth/refresh", json={"refresh_token": token})


async def next_tokens(http: httpx.AsyncClient, token: str) -> dict[str, Any]:
    """The pair that follows; fails where the token continues nothing."""
    answer = await refresh(http, token)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def me(http: httpx.AsyncClient, access_token: str) -> int:
    """The status that a request with this access token gets."""
    answer = await http.get("/v1/me", headers={"Authorization": f"Bearer {access_token}"})
    return answer.status_code


async def guess(http: httpx.AsyncClient, person: Person) -> httpx.Response:
    return await Person(email=person.email, password="not the right password").sign_in(http)


@asynccontextmanager
async def strict(settings: Settings, **changes: bool) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application of its own, with other settings."""
    application = create_app(settings.model_copy(update=changes))
    async with application.router.lifespan_context(application), connect(application) as http:
        yield http


async def test_registering_makes_a_patient_with_an_empty_diary(client: httpx.AsyncClient) -> None:
    phone = await Person().register_and_sign_in(client)
    assert (await phone.get()).json()["head"] == 0
    assert phone.tokens["user"]["role"] == "patient"


async def test_registering_an_address_again_is_answered_alike_and_changes_nothing(
    client: httpx.AsyncClient, superuser: Connection
) -> None:
    first = Person()
    second = Person(email=first.email.upper(), password="another sentence of mine")
    answers = [await first.register(client), await second.register(client)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].content == answers[1].content
    assert told(await second.sign_in(client)) == (401, "sign-in-failed")
    assert (await first.sign_in(client)).status_code == 201
    count = "SELECT count(*) FROM patients p JOIN users u ON u.id = p.user_id WHERE u.email = $1"
    assert await superuser.fetchval(count, first.email) == 1


async def test_two_registrations_of_one_address_at_once_make_one_account(
    client: httpx.AsyncClient, superuser: Connection
) -> None:
    person = Person()
    answers = await asyncio.gather(*(person.register(client) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [202] * 4
    assert await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", person.email) == 1


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"password": "short"}, "/password"),
        ({"password": "aaaaaaaaaaaaaaaaaaaa"}, "/password"),
        ({"password": "abcdefghijklmnopqrst"}, "/password"),
        ({"password": "passwordpassword"}, "/password"),
        ({"password": "x" * 1025}, "/password"),
        ({"email": "a.long.address@example.org", "password": "a.long.address@example.org"}, "/password"),
        ({"email": "nobody"}, "/email"),
        ({"email": f"a@{'b.' * 130}org"}, "/email"),
        ({"birth_date": "2126-01-01"}, "/birth_date"),
        ({"birth_date": "1899-12-31"}, "/birth_date"),
        ({"birth_date": "1980-02-30"}, "/birth_date"),
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"locale": "deutsch"}, "/locale"),
        ({"display_name": ""}, "/display_name"),
        ({"display_name": "two\nlines"}, "/display_name"),
        ({"role": "admin"}, "/role"),
    ],
)
async def test_a_registration_that_breaks_a_rule_is_refused_at_its_place(
    client: httpx.AsyncClient, superuser: Connection, fields: dict[str, str], pointer: str
) -> None:
    body = {"email": f"{uuid4().hex}@example.org", **REGISTRATION, **fields}
    answer = await client.post("/v1/auth/register", json=body)
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == [pointer]
    assert not await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", body["email"])


@pytest.mark.parametrize(("zone", "status"), [("Pacific/Kiritimati", 202), ("Pacific/Pago_Pago", 422)])
async def test_somebody_born_today_may_have_a_diary_by_the_clock_at_home(
    client: httpx.AsyncClient, clock: Clock, zone: str, status: int
) -> None:
    clock.present = datetime(2026, 11, 22, 12, tzinfo=UTC)  # the 23rd on Kiritimati, the 22nd on Samoa
    body = {**REGISTRATION, "email": f"{uuid4().hex}@example.org", "time_zone": zone, "birth_date": "2026-11-23"}
    assert (await client.post("/v1/auth/register", json=body)).status_code == status


async def test_signing_in_answers_tokens_and_who_one_is(
    client: httpx.AsyncClient, grace: Person, settings: Settings
) -> None:
    answer = await Person(email=grace.email.upper()).sign_in(client, device_name="Grace's phone")
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    found = answer.json()
    assert (found["token_type"], found["expires_in"]) == ("Bearer", settings.access_token_seconds)
    assert found["refresh_token"].startswith("pdr_")
    assert await me(client, found["access_token"]) == 200
    assert set(found["user"]) == {"id", "role", "patient_id"}


async def test_a_wrong_password_an_unknown_address_and_a_disabled_account_are_answered_alike(
    client: httpx.AsyncClient, superuser: Connection
) -> None:
    person, disabled = Person(), Person()
    await person.register(client)
    await disabled.register(client)
    await superuser.execute("UPDATE users SET disabled_at = now() WHERE email = $1", disabled.email)
    answers = [await guess(client, person), await Person().sign_in(client), await disabled.sign_in(client)]
    assert [told(answer) for answer in answers] == [(401, "sign-in-failed")] * 3
    assert len({str(without_request_id(answer)) for answer in answers}) == 1
    assert len({str(_lasting(answer)) for answer in answers}) == 1


def _lasting(answer: httpx.Response) -> list[tuple[str, str]]:
    """The headers but for those that differ from request to request."""
    return sorted((name, value) for name, value in answer.headers.items() if name not in ("x-request-id", "ratelimit"))


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"device_name": "x" * 121}, "/device_name"),
        ({"device_name": "\x1b[31m"}, "/device_name"),
        ({"totp": "123456"}, "/totp"),  # it comes back with what reads it
        ({"remember": True}, "/remember"),
    ],
)
async def test_a_sign_in_that_breaks_a_rule_is_refused_at_its_place(
    client: httpx.AsyncClient, grace: Person, fields: dict[str, Any], pointer: str
) -> None:
    answer = await grace.sign_in(client, **fields)
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == [pointer]


async def test_an_account_that_is_not_ready_is_told_so_by_its_password_only(settings: Settings) -> None:
    person = Person()
    async with strict(settings, require_second_factor=True) as http:
        await person.register(http)
        assert told(await guess(http, person)) == (401, "sign-in-failed")
        assert told(await person.sign_in(http)) == (403, "account-not-ready")


async def test_an_address_that_was_not_verified_fails_like_one_that_somebody_else_has(settings: Settings) -> None:
    first, second = Person(), Person(password="the same address, another sentence")
    second.email = first.email
    async with strict(settings, require_verified_email=True) as http:
        await first.register(http)
        await second.register(http)
        answers = [await first.sign_in(http), await second.sign_in(http)]
    assert without_request_id(answers[0]) == without_request_id(answers[1])
    assert told(answers[0]) == (401, "sign-in-failed")


async def test_a_verified_address_signs_in_where_it_must_be_verified(settings: Settings, superuser: Connection) -> None:
    person = Person()
    async with strict(settings, require_verified_email=True) as http:
        await person.register(http)
        await superuser.execute("UPDATE users SET email_verified_at = now() WHERE email = $1", person.email)
        assert (await person.sign_in(http)).status_code == 201


async def test_the_password_alone_never_opens_an_account_with_a_second_factor(
    client: httpx.AsyncClient, superuser: Connection
) -> None:
    person = Person()
    await person.register(client)
    await superuser.execute("UPDATE users SET second_factor_at = now() WHERE email = $1", person.email)
    assert told(await person.sign_in(client)) == (403, "account-not-ready")


async def test_a_password_hashed_with_weaker_parameters_is_hashed_anew_at_sign_in(
    client: httpx.AsyncClient, superuser: Connection
) -> None:
    person = Person()
    await person.register(client)
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(person.password)
    await superuser.execute("UPDATE users SET password_hash = $2 WHERE email = $1", person.email, weak)
    assert (await person.sign_in(client)).status_code == 201
    stored = await superuser.fetchval("SELECT password_hash FROM users WHERE email = $1", person.email)
    assert not passwords.needs_rehash(stored)
    assert (await person.sign_in(client)).status_code == 201


async def test_failed_sign_ins_make_an_account_wait_longer_and_longer_up_to_a_minute(
    client: httpx.AsyncClient, clock: Clock
) -> None:
    nobody = Person()  # an address without an account waits as well, or waiting would tell
    for _ in range(5):
        assert told(await guess(client, nobody)) == (401, "sign-in-failed")
    waits = []
    for _ in range(8):
        refused = await guess(client, nobody)
        assert told(refused) == (429, "too-many-requests")
        waits.append(int(refused.headers["Retry-After"]))
        clock.advance(seconds=waits[-1] - 0.001)
        assert told(await guess(client, nobody)) == (429, "too-many-requests")
        clock.advance(seconds=0.001)
        assert told(await guess(client, nobody)) == (401, "sign-in-failed")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_while_an_account_waits_the_right_password_waits_too_and_then_clears_it(
    client: httpx.AsyncClient, clock: Clock
) -> None:
    person = Person()
    await person.register(client)
    for _ in range(5):
        await guess(client, person)
    assert told(await person.sign_in(client)) == (429, "too-many-requests")
    clock.advance(seconds=1)
    assert (await person.sign_in(client)).status_code == 201
    assert [(await guess(client, person)).status_code for _ in range(6)] == [401] * 5 + [429]


async def test_an_account_that_waits_makes_no_other_account_and_no_live_session_wait(
    client: httpx.AsyncClient, grace: Person, ada: Phone, clock: Clock
) -> None:
    for _ in range(5):
        await guess(client, ada.person)
    assert told(await guess(client, ada.person)) == (429, "too-many-requests")
    assert (await grace.sign_in(client)).status_code == 201
    assert (await refresh(client, ada.tokens["refresh_token"])).status_code == 200
    assert (await ada.log()).status_code == 201


async def test_an_address_that_tries_many_accounts_waits_and_other_addresses_do_not(
    app: FastAPI, client: httpx.AsyncClient, grace: Person, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "NETWORK_LIMIT", (3, 300))
    assert [(await guess(client, Person())).status_code for _ in range(2)] == [401] * 2
    assert (await grace.sign_in(client)).status_code == 201  # a success takes back itself only
    assert [(await guess(client, Person())).status_code for _ in range(2)] == [401, 429]
    assert told(await grace.sign_in(client)) == (429, "too-many-requests")
    async with connect(app) as elsewhere:
        assert (await grace.sign_in(elsewhere)).status_code == 201


async def test_guesses_from_elsewhere_do_not_keep_the_owner_out(
    app: FastAPI, client: httpx.AsyncClient, grace: Person, clock: Clock
) -> None:
    for _ in range(7):
        await guess(client, grace)
    assert told(await grace.sign_in(client)) == (429, "too-many-requests")
    async with connect(app) as home:
        assert (await grace.sign_in(home)).status_code == 201


async def test_an_ipv6_network_counts_as_one_and_a_mapped_address_as_its_ipv4() -> None:
    def limits(address: str) -> set[bytes]:
        found = throttle.sign_in_limits(b"secret", "a@example.org", address)
        return {key for key, limit in found.all.items() if limit != throttle.SITE_LIMIT}

    assert limits("2001:db8::1") == limits("2001:db8::ffff:2") != limits("2001:db8:0:1::1")
    assert limits("::ffff:192.0.2.1") == limits("192.0.2.1") != limits("192.0.2.2")


async def test_a_network_that_registers_too_often_waits(
    client: httpx.AsyncClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "REGISTRATION_LIMIT", (2, 60))
    answers = [await Person().register(client) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]


async def test_guesses_made_at_once_are_counted_one_by_one(client: httpx.AsyncClient, clock: Clock) -> None:
    person = Person()
    answers = await asyncio.gather(*(guess(client, person) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 15


async def test_sign_ins_of_one_person_at_once_all_succeed(client: httpx.AsyncClient, clock: Clock) -> None:
    person = Person()
    await person.register(client)
    answers = await asyncio.gather(*(person.sign_in(client) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [201] * 5


async def test_failures_are_forgotten_after_a_day(
    app: FastAPI, client: httpx.AsyncClient, superuser: Connection
) -> None:
    await guess(client, Person())
    for hours, forgotten in ((23, False), (25, True)):
        await superuser.execute("UPDATE sign_in_delays SET failed_at = now() - $1 * interval '1 hour'", hours)
        await sessions.purge(app.state.diary.database)
        assert (await superuser.fetchval("SELECT count(*) FROM sign_in_delays") == 0) == forgotten


async def test_a_chain_of_refreshes_stays_one_session(ada: Phone) -> None:
    seen = [ada.tokens]
    for _ in range(3):
        seen.append(await next_tokens(ada.http, seen[-1]["refresh_token"]))
    assert len({one["refresh_token"] for one in seen}) == len({one["access_token"] for one in seen}) == 4
    assert {one["session_id"] for one in seen} == {ada.session_id}
    assert [one["user"] for one in seen] == [ada.tokens["user"]] * 4
    assert await me(ada.http, seen[-1]["access_token"]) == 200


async def test_a_lost_answer_may_be_asked_for_again_and_is_the_same_for_ten_minutes(ada: Phone, clock: Clock) -> None:
    held = ada.tokens["refresh_token"]
    lost = (await next_tokens(ada.http, held))["refresh_token"]
    clock.advance(minutes=10)
    assert (await next_tokens(ada.http, held))["refresh_token"] == lost
    clock.advance(seconds=1)
    arrived = (await next_tokens(ada.http, held))["refresh_token"]
    assert arrived != lost
    assert (await next_tokens(ada.http, lost))["refresh_token"] == arrived  # both were under way at the same time
    await next_tokens(ada.http, arrived)


async def test_two_hundred_lost_answers_sign_nobody_out(ada: Phone, clock: Clock) -> None:
    held = ada.tokens["refresh_token"]
    for number in range(200):
        clock.advance(minutes=number % 15)  # within the grace and beyond it, for 23 hours
        arrived = await next_tokens(ada.http, held)
    await next_tokens(ada.http, arrived["refresh_token"])
    assert (await ada.log()).status_code == 201


async def test_a_token_that_comes_back_after_its_successor_was_used_ends_the_session(app: FastAPI, ada: Phone) -> None:
    async with connect(app) as http:
        tablet = (await ada.person.sign_in(http)).json()
    stolen = ada.tokens["refresh_token"]
    second = await next_tokens(ada.http, stolen)
    third = await next_tokens(ada.http, second["refresh_token"])
    assert told(await refresh(ada.http, stolen)) == (401, "unauthenticated")
    assert told(await refresh(ada.http, third["refresh_token"])) == (401, "unauthenticated")
    assert told(await ada.log()) == (401, "unauthenticated")
    assert await me(ada.http, third["access_token"]) == 401
    assert await me(ada.http, tablet["access_token"]) == 200


@pytest.mark.parametrize("goes_on", ["the thief, who came first", "the owner, who came second"])
async def test_whoever_uses_a_stolen_token_first_both_are_signed_out_and_the_person_is_told(
    app: FastAPI, ada: Phone, clock: Clock, goes_on: str
) -> None:
    stolen = ada.tokens["refresh_token"]
    thief = await next_tokens(ada.http, stolen)
    clock.advance(hours=2)
    owner = await next_tokens(ada.http, stolen)  # so far this may be an answer that got lost
    assert (await ada.http.get("/v1/me/sessions")).json()["ended"] == []
    clock.advance(minutes=11)
    if goes_on.startswith("the owner"):
        owner = await next_tokens(ada.http, owner["refresh_token"])
    for pair in (thief, owner):
        assert told(await refresh(ada.http, pair["refresh_token"])) == (401, "unauthenticated")
    assert told(await ada.log()) == (401, "unauthenticated")
    clock.advance(hours=-2, minutes=-11)
    async with connect(app) as http:
        anew = (await ada.person.sign_in(http)).json()
        [ended] = anew["ended_sessions"]
        assert (ended["id"], ended["device_name"], ended["reason"]) == (ada.session_id, "Ada's phone", "token_reused")
        http.headers["Authorization"] = f"Bearer {anew['access_token']}"
        devices = (await http.get("/v1/me/sessions")).json()
        assert ([one["id"] for one in devices["items"]], devices["ended"]) == ([anew["session_id"]], [ended])
        clock.advance(days=31)
        assert "ended_sessions" not in (await ada.person.sign_in(http)).json()


async def test_a_token_that_comes_back_after_more_than_a_day_ends_the_session(ada: Phone, clock: Clock) -> None:
    held = ada.tokens["refresh_token"]
    await next_tokens(ada.http, held)
    clock.advance(hours=24)
    arrived = await next_tokens(ada.http, held)
    clock.advance(seconds=1)
    assert told(await refresh(ada.http, held)) == (401, "unauthenticated")
    assert told(await refresh(ada.http, arrived["refresh_token"])) == (401, "unauthenticated")


async def test_fifty_refreshes_of_one_token_at_once_get_the_same_successor_which_works(ada: Phone) -> None:
    answers = await asyncio.gather(*(refresh(ada.http, ada.tokens["refresh_token"]) for _ in range(50)))
    assert [answer.status_code for answer in answers] == [200] * 50
    [successor] = {answer.json()["refresh_token"] for answer in answers}
    assert [await me(ada.http, answer.json()["access_token"]) for answer in answers] == [200] * 50
    again = await asyncio.gather(*(refresh(ada.http, successor) for _ in range(10)))
    assert [answer.status_code for answer in again] == [200] * 10
    assert (await ada.log()).status_code == 201


async def test_of_a_long_chain_few_tokens_are_kept_and_the_oldest_still_ends_the_session(
    ada: Phone, clock: Clock, superuser: Connection
) -> None:
    oldest = token = ada.tokens["refresh_token"]
    kept = "SELECT count(*) FROM refresh_tokens WHERE session_id = $1"
    for _ in range(30):
        await next_tokens(ada.http, token)
        clock.advance(minutes=11)
        token = (await next_tokens(ada.http, token))["refresh_token"]
        assert await superuser.fetchval(kept, UUID(ada.session_id)) <= 4
    for one in (oldest, token):
        assert told(await refresh(ada.http, one)) == (401, "unauthenticated")
    await superuser.execute("SELECT purge_v1()")
    assert await superuser.fetchval(kept, UUID(ada.session_id)) == 0


async def test_a_session_that_is_long_over_is_removed_unless_it_wrote_to_a_diary(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    assert (await bob.log()).status_code == 201
    silent, wrote = UUID(ada.session_id), UUID(bob.session_id)
    for days, expected in ((29, {silent, wrote}), (31, {wrote})):
        age = f"UPDATE sessions SET revoked_at = now() - interval '{days} days' WHERE id = ANY ($1)"
        await superuser.execute(age, [silent, wrote])
        await superuser.execute("SELECT purge_v1()")
        left = await superuser.fetch("SELECT id FROM sessions WHERE id = ANY ($1)", [silent, wrote])
        assert {row["id"] for row in left} == expected


async def test_a_one_time_link_that_is_long_over_or_used_is_removed(
    app: FastAPI, ada: Phone, superuser: Connection
) -> None:
    days: dict[str, tuple[int, int | None]] = {
        "good": (5, None),
        "over": (-29, None),
        "used": (5, -29),
        "long over": (-31, None),
        "long used": (5, -31),
    }
    await superuser.executemany(
        "INSERT INTO invitations (digest, user_id, expires_at, used_at)"
        " VALUES (sha256($1::text::bytea), $2, now() + $3 * interval '1 day', now() + $4 * interval '1 day')",
        [(name, UUID(ada.user_id), end, use) for name, (end, use) in days.items()],
    )
    await sessions.purge(app.state.diary.database)
    kept = await superuser.fetch("SELECT digest FROM invitations WHERE user_id = $1", UUID(ada.user_id))
    assert {row["digest"] for row in kept} == {sha256(name.encode()).digest() for name in ("good", "over", "used")}


async def test_a_purge_goes_on_until_nothing_is_left(app: FastAPI, ada: Phone, superuser: Connection) -> None:
    account, many = UUID(ada.user_id), 2100
    await superuser.execute(
        "WITH ended AS (INSERT INTO sessions (user_id, expires_at, revoked_at)"
        " SELECT $1, now() - interval '40 days', now() - interval '40 days' FROM generate_series(1, $2::integer)"
        " RETURNING id)"
        " INSERT INTO refresh_tokens (digest, session_id, state, salt, handed_out_at)"
        " SELECT sha256(id::text::bytea), id, 'successor', '', now() FROM ended",
        account,
        many,
    )
    kept = "SELECT count(*) FROM refresh_tokens JOIN sessions ON id = session_id WHERE user_id = $1"
    assert await superuser.fetchval(kept, account) > many
    await sessions.purge(app.state.diary.database)
    assert await superuser.fetchval("SELECT count(*) FROM sessions WHERE user_id = $1", account) == 1
    assert await superuser.fetchval(kept, account) == 1
    assert (await ada.get()).status_code == 200


async def test_another_secret_ends_no_session(app: FastAPI, ada: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    held = ada.tokens["refresh_token"]
    await next_tokens(ada.http, held)
    monkeypatch.setitem(app.state._state, "diary", replace(app.state.diary, secret=b"another"))
    arrived = await next_tokens(ada.http, held)
    await next_tokens(ada.http, arrived["refresh_token"])


async def test_a_device_that_was_not_used_for_long_signs_in_again(ada: Phone, clock: Clock, settings: Settings) -> None:
    clock.advance(days=settings.session_days - 1)
    kept = await next_tokens(ada.http, ada.tokens["refresh_token"])
    clock.advance(days=settings.session_days - 1)
    kept = await next_tokens(ada.http, kept["refresh_token"])
    clock.advance(days=settings.session_days)
    assert told(await refresh(ada.http, kept["refresh_token"])) == (401, "unauthenticated")


async def test_a_disabled_user_can_do_nothing_from_the_next_request_on(ada: Phone, superuser: Connection) -> None:
    await superuser.execute("UPDATE users SET disabled_at = now() WHERE id = $1", UUID(ada.user_id))
    assert told(await refresh(ada.http, ada.tokens["refresh_token"])) == (401, "unauthenticated")
    assert told(await ada.http.get("/v1/me")) == (401, "unauthenticated")
    for answer in (await ada.log(), await ada.get(), await ada.get("/entries"), await ada.get("/timeline")):
        assert told(answer) == (401, "unauthenticated")


@pytest.mark.parametrize("token", ["pdr_" + "A" * 43, "x", "é" * 20])
async def test_a_refresh_token_that_nobody_was_given_is_refused(client: httpx.AsyncClient, token: str) -> None:
    assert told(await refresh(client, token)) == (401, "unauthenticated")


@pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": None}, {"refresh_token": "x" * 201}])
async def test_a_refresh_without_a_token_is_refused_at_its_place(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await client.post("/v1/auth/refresh", json=body)
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == ["/refresh_token"]


async def test_refresh_tokens_and_passwords_are_stored_hashed(ada: Phone, superuser: Connection) -> None:
    digests = await superuser.fetch("SELECT digest FROM refresh_tokens WHERE session_id = $1", UUID(ada.session_id))
    assert [len(row["digest"]) for row in digests] == [32]
    assert ada.tokens["refresh_token"].encode() not in digests[0]["digest"]
    stored = await superuser.fetchval("SELECT password_hash FROM users WHERE id = $1", UUID(ada.user_id))
    assert stored.startswith("$argon2id$")


async def test_an_access_token_ends_after_its_time_and_a_refresh_goes_on(
    ada: Phone, clock: Clock, settings: Settings
) -> None:
    clock.advance(seconds=PATIENCE - settings.access_token_seconds)
    ending = await next_tokens(ada.http, ada.tokens["refresh_token"])
    assert await me(ada.http, ending["access_token"]) == 200
    clock.advance(seconds=-PATIENCE - 1)
    ended = await next_tokens(ada.http, ending["refresh_token"])
    answer = await ada.http.get("/v1/me", headers={"Authorization": f"Bearer {ended['access_token']}"})
    assert told(answer) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    clock.advance(seconds=settings.access_token_seconds + 1)
    fresh = await next_tokens(ada.http, ended["refresh_token"])
    assert await me(ada.http, fresh["access_token"]) == 200


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer x", "Basic QTpC", "Bearer a.b.c", "bearer " + "x" * 5000]
)
async def test_without_an_access_token_of_ours_every_call_is_refused(
    client: httpx.AsyncClient, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    diary = f"/v1/patients/{uuid4()}"
    for path in ("/v1/me", "/v1/me/sessions", diary, f"{diary}/entries", f"{diary}/timeline"):
        assert told(await client.get(path, headers=headers)) == (401, "unauthenticated")


async def test_the_public_keys_verify_an_access_token(client: httpx.AsyncClient, ada: Phone) -> None:
    keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
    claims = jws.verify(ada.tokens["access_token"], {"keys": keys}, ["ES256"])
    assert ada.user_id.encode() in claims
    assert all("d" not in key for key in keys)


async def test_a_new_key_signs_without_a_restart_and_the_old_one_still_verifies(
    app: FastAPI, client: httpx.AsyncClient, ada: Phone, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kid = tokens.create_signing_key(settings.state_directory / "keys")
    monkeypatch.setattr(app.state.diary.tokens._keyring, "_look_at", 0)  # instead of waiting for a second
    fresh = await next_tokens(client, ada.tokens["refresh_token"])
    assert jws.get_unverified_header(fresh["access_token"])["kid"] == kid
    assert kid in [key["kid"] for key in (await client.get("/.well-known/jwks.json")).json()["keys"]]
    assert await me(client, fresh["access_token"]) == 200
    assert await me(client, ada.tokens["access_token"]) == 200


async def invite(owner_url: str, person: Person) -> str:
    """The token of a one-time link for an admin."""
    return await invitations.invite_admin(owner_url, person.email, None)


async def activate(http: httpx.AsyncClient, token: str, password: str = PASSWORD) -> httpx.Response:
    return await http.post("/v1/auth/activate", json={"token": token, "password": password})


async def test_who_follows_a_link_chooses_a_password_and_has_shown_the_address(
    settings: Settings, owner_url: str
) -> None:
    person = Person()
    token = await invite(owner_url, person)
    async with strict(settings, require_verified_email=True) as http:
        answer = await activate(http, token)
        assert (answer.status_code, answer.content) == (204, b"")
        signed_in = await person.sign_in(http)
    assert signed_in.status_code == 201
    assert (signed_in.json()["user"]["role"], "patient_id" in signed_in.json()["user"]) == ("admin", False)


async def test_before_a_link_was_followed_every_password_is_wrong(client: httpx.AsyncClient, owner_url: str) -> None:
    invited = Person()
    await invite(owner_url, invited)
    answers = [await person.sign_in(client) for person in (invited, Person())]
    assert told(answers[0]) == (401, "sign-in-failed")
    assert without_request_id(answers[0]) == without_request_id(answers[1])


async def test_a_link_that_is_wrong_used_replaced_or_over_is_answered_alike(
    client: httpx.AsyncClient, owner_url: str, clock: Clock
) -> None:
    used, replaced, over = Person(), Person(), Person()
    tokens = [await invite(owner_url, person) for person in (used, replaced, over)]
    assert (await activate(client, tokens[0])).status_code == 204
    current = await invite(owner_url, replaced)
    clock.advance(days=7, minutes=1)
    assert (await activate(client, tokens[2])).status_code == 404
    clock.advance(days=-7, minutes=-1)
    assert (await activate(client, tokens[2])).status_code == 204
    clock.advance(seconds=1)
    answers = [await activate(client, token) for token in (*tokens, "x", "A" * 43)]
    assert [told(answer) for answer in answers] == [(404, "not-found")] * 5
    assert len({str(without_request_id(answer)) for answer in answers}) == 1
    weak = [await activate(client, token, "short") for token in (tokens[0], "x")]
    assert [told(answer) for answer in weak] == [(404, "not-found")] * 2
    assert (await activate(client, current)).status_code == 204


@pytest.mark.parametrize("password", ["short", "a" * 20, "passwordpassword", "x" * 1025, ""])
async def test_a_link_outlives_a_password_that_is_too_weak(
    client: httpx.AsyncClient, owner_url: str, password: str
) -> None:
    token = await invite(owner_url, Person())
    refused = await activate(client, token, password)
    assert (told(refused), pointers(refused)) == ((422, "invalid"), ["/password"])
    assert (await activate(client, token)).status_code == 204


async def test_the_address_is_no_password_for_the_account(client: httpx.AsyncClient, owner_url: str) -> None:
    person = Person()
    refused = await activate(client, await invite(owner_url, person), person.email)
    assert refused.json()["errors"][0]["detail"] == "The password is the e-mail address."


@pytest.mark.parametrize("fields", [{}, {"token": ""}, {"token": "x" * 201}, {"token": None}])
async def test_a_link_without_a_token_is_refused_at_its_place(
    client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    answer = await client.post("/v1/auth/activate", json={"password": PASSWORD, **fields})
    assert (told(answer), pointers(answer)) == ((422, "invalid"), ["/token"])


async def test_of_those_who_follow_a_link_at_once_one_chooses_the_password(
    client: httpx.AsyncClient, owner_url: str
) -> None:
    person = Person()
    token = await invite(owner_url, person)
    chosen = [f"{PASSWORD}, number {number}" for number in range(4)]
    answers = await asyncio.gather(*(activate(client, token, password) for password in chosen))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404]
    sign_ins = [await Person(person.email, password).sign_in(client) for password in chosen]
    assert [answer.status_code == 201 for answer in sign_ins] == [answer.status_code == 204 for answer in answers]


async def test_a_new_password_ends_the_old_one_and_every_session_but_a_link_alone_ends_neither(
    client: httpx.AsyncClient, owner_url: str
) -> None:
    old = Person()
    new = Person(old.email, "another sentence of mine")
    await activate(client, await invite(owner_url, old))
    devices = [(await old.sign_in(client)).json() for _ in range(2)]
    token = await invite(owner_url, old)
    assert [await me(client, device["access_token"]) for device in devices] == [200, 200]
    assert (await activate(client, token, new.password)).status_code == 204
    assert [await me(client, device["access_token"]) for device in devices] == [401, 401]
    assert told(await refresh(client, devices[0]["refresh_token"])) == (401, "unauthenticated")
    assert [(await person.sign_in(client)).status_code for person in (old, new)] == [401, 201]


async def test_a_password_that_is_replaced_while_it_is_verified_starts_no_session(
    client: httpx.AsyncClient, owner_url: str, superuser: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person()
    await activate(client, await invite(owner_url, person))
    token = await invite(owner_url, person)
    verify = passwords.verify_password

    async def slowly(password: str, encoded: str | None) -> bool:
        fits = await verify(password, encoded)
        assert (await activate(client, token, "another sentence of mine")).status_code == 204
        return fits

    monkeypatch.setattr(passwords, "verify_password", slowly)
    assert told(await person.sign_in(client)) == (401, "sign-in-failed")
    sessions = "SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id WHERE email = $1"
    assert await superuser.fetchval(sessions, person.email) == 0


async def test_no_log_holds_a_token_or_the_password_chosen(
    client: httpx.AsyncClient, owner_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(logs.JsonLines())
    token = await invite(owner_url, Person())
    for password in ("short", PASSWORD, PASSWORD):
        await activate(client, token, password)
    assert caplog.text.count('"route": "/v1/auth/activate"') == 3
    assert token not in caplog.text
    assert PASSWORD not in caplog.text
