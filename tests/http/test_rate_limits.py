"""How many requests a client may send: the windows, what HTTP tells of them, and workers that share them."""

import asyncio
import gzip
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.http import access_log, rate_limits
from app.http.rate_limits import Standing, Windows
from app.main import create_app
from app.security.client_address import network
from app.services import costs
from tests.conftest import connect
from tests.http.test_server import answers, ask, port_of, start_process
from tests.people import Phone, entry, treatment
from tests.routers.test_sync import put
from tests.waiting import PATIENCE, block_until

pytestmark = pytest.mark.anyio


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.nanoseconds = 10**15

    def __call__(self) -> int:
        return self.nanoseconds

    def move(self, seconds: float) -> None:
        self.nanoseconds += int(seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _prompt_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal leaves at once: that it waits is seen in tests/attacks."""
    monkeypatch.setattr(rate_limits, "REFUSAL_SECONDS", 0)


@pytest.fixture
def windows(clock: Clock) -> Windows:
    return Windows(clock=clock)


# --- Windows


def test_a_client_may_send_its_quota_and_then_waits_for_the_end_of_its_window(windows: Windows, clock: Clock) -> None:
    assert windows.count(b"ada", 2) == Standing(True, 1, 10)
    clock.move(3.5)
    assert windows.count(b"ada", 2) == Standing(True, 0, 7)
    clock.move(6.499)
    assert windows.count(b"ada", 2) == Standing(False, 0, 1)
    clock.move(0.001)
    assert windows.count(b"ada", 2) == Standing(True, 1, 10)


def test_asking_too_often_does_not_make_the_wait_longer(windows: Windows, clock: Clock) -> None:
    assert windows.count(b"ada", 1).allowed
    for second in range(9):
        clock.move(1)
        assert windows.count(b"ada", 1) == Standing(False, 0, 9 - second)
    clock.move(1)
    assert windows.count(b"ada", 1).allowed


def test_what_calls_cost_beyond_the_quota_is_owed_to_the_windows_after(windows: Windows, clock: Clock) -> None:
    assert windows.count(b"ada", 10).allowed
    windows.charge(b"ada", 10, 24)
    assert windows.count(b"ada", 10) == Standing(False, 0, 20)
    clock.move(12)
    assert windows.count(b"ada", 10) == Standing(False, 0, 8)
    clock.move(8)
    assert windows.count(b"ada", 10) == Standing(True, 4, 10)
    clock.move(10)
    assert windows.count(b"ada", 10) == Standing(True, 9, 10)


def test_where_nothing_may_be_owed_the_next_window_is_whole(windows: Windows, clock: Clock) -> None:
    windows.charge(b"ward", 10, 1000, most=1)
    assert windows.count(b"ward", 10) == Standing(False, 0, 10)
    clock.move(10)
    assert windows.count(b"ward", 10) == Standing(True, 9, 10)


def test_nobody_owes_more_than_a_minute(windows: Windows, clock: Clock) -> None:
    for _ in range(64):
        windows.charge(b"ada", 10, 9)
    assert windows.count(b"ada", 10) == Standing(False, 0, 60)
    clock.move(25)
    windows.charge(b"ada", 10, 1000)
    assert windows.count(b"ada", 10) == Standing(False, 0, 55)
    clock.move(55)
    assert windows.count(b"ada", 10) == Standing(True, 9, 10)


def test_one_client_does_not_use_up_what_another_may_send(windows: Windows) -> None:
    for client in range(1000):
        assert windows.count(b"%d" % client, 1) == Standing(True, 0, 10)
    assert not any(windows.count(b"%d" % client, 1).allowed for client in range(1000))


def test_a_window_that_another_worker_has_just_begun_counts(windows: Windows, clock: Clock) -> None:
    assert windows.count(b"ada", 2).remaining == 1
    clock.move(-0.001)
    assert windows.count(b"ada", 2).remaining == 0


def test_where_there_is_no_room_the_oldest_window_is_forgotten(
    windows: Windows, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "SETS", 1)
    clients = [b"%d" % number for number in range(rate_limits.WAYS)]
    for client in clients:
        assert windows.count(client, 1).allowed
        clock.move(1)
    assert windows.count(b"one more", 1) == Standing(True, 0, 10)
    assert [windows.count(client, 1).allowed for client in clients[1:]] == [False] * (rate_limits.WAYS - 1)
    assert windows.count(clients[0], 1).allowed


def test_nobody_can_foretell_whose_room_is_shared() -> None:
    clients = [b"%d" % number for number in range(10)]
    first, second = Windows(), Windows()
    assert [first._cell(client) for client in clients] != [second._cell(client) for client in clients]


def test_whoever_opens_the_same_file_counts_together(tmp_path: Path, clock: Clock) -> None:
    for name in ("shared", "other"):
        rate_limits.create(tmp_path / name)
    first, second, apart = (Windows(str(tmp_path / name), clock) for name in ("shared", "shared", "other"))
    assert first.count(b"ada", 2) == Standing(True, 1, 10)
    assert second.count(b"ada", 2) == Standing(True, 0, 10)
    assert first.count(b"ada", 2) == Standing(False, 0, 10)
    assert apart.count(b"ada", 2) == Standing(True, 1, 10)


def test_a_file_that_is_there_is_not_emptied(tmp_path: Path) -> None:
    rate_limits.create(tmp_path / "shared")
    with pytest.raises(FileExistsError):
        rate_limits.create(tmp_path / "shared")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        (None, "192.0.2.7", False),
    ],
)
def test_a_subscriber_is_an_ipv4_address_or_an_ipv6_network(one: str | None, other: str, same: bool) -> None:
    assert (network(one) == network(other)) is same


# --- HTTP


@asynccontextmanager
async def limited(settings: Settings, clock: Clock, **quotas: int) -> AsyncIterator[FastAPI]:
    """The application with these limits, started, at this clock."""
    app = create_app(settings.model_copy(update=quotas))
    app.state.windows.clock = clock
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def strict(settings: Settings, clock: Clock) -> AsyncIterator[FastAPI]:
    """Three requests for a device that is signed in, two for an address."""
    async with limited(settings, clock, requests_per_session=3, requests_per_address=2) as app:
        yield app


@pytest.fixture
async def stranger(strict: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is not signed in."""
    async with connect(strict) as http:
        yield http


async def get(http: httpx.AsyncClient, signed_in: Phone | str, path: str = "/v1/me") -> httpx.Response:
    """A request with the phone's access token, or with these credentials, over another connection."""
    credentials = signed_in if isinstance(signed_in, str) else signed_in.http.headers["Authorization"]
    return await http.get(path, headers={"Authorization": credentials})


def told(answer: httpx.Response) -> tuple[str | None, str | None]:
    """What an answer tells of the limit."""
    return answer.headers.get("RateLimit-Policy"), answer.headers.get("RateLimit")


async def test_every_answer_tells_where_the_client_stands(stranger: httpx.AsyncClient, ada: Phone) -> None:
    policy = '"session";q=3;w=10'
    assert told(await get(stranger, ada)) == (policy, '"session";r=2;t=10')
    assert told(await get(stranger, ada, "/v1/nothing")) == (policy, '"session";r=1;t=10')
    assert told(await get(stranger, ada, "/v1/me?q=%00")) == (policy, '"session";r=0;t=10')
    assert told(await stranger.get("/v1/me")) == ('"address";q=2;w=10', '"address";r=1;t=10')


async def test_above_the_limit_the_answer_is_429_until_the_window_is_over(
    stranger: httpx.AsyncClient, ada: Phone, clock: Clock
) -> None:
    for _ in range(3):
        assert (await get(stranger, ada)).status_code == 200
    clock.move(4)
    refused = await get(stranger, ada)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "6")
    assert told(refused) == ('"session";q=3;w=10', '"session";r=0;t=6')
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["type"] == "/problems/too-many-requests"
    assert refused.json()["request_id"] == refused.headers["X-Request-Id"]
    clock.move(6)
    assert (await get(stranger, ada)).status_code == 200


async def test_a_refusal_asks_nothing_of_the_database(settings: Settings, clock: Clock, ada: Phone) -> None:
    app = create_app(settings.model_copy(update={"requests_per_session": 1}))  # not started: it has no database
    app.state.windows.clock = clock
    async with connect(app) as http:
        first = await get(http, ada, f"{ada.diary}/timeline")
        assert (first.status_code, told(first)[1]) == (500, '"session";r=0;t=10')
        assert (await get(http, ada, f"{ada.diary}/timeline")).status_code == 429


async def test_devices_are_counted_apart(stranger: httpx.AsyncClient, ada: Phone, bob: Phone) -> None:
    hers = [(await get(stranger, ada)).status_code for _ in range(4)]
    assert hers == [200, 200, 200, 429]
    assert told(await get(stranger, bob))[1] == '"session";r=2;t=10'
    tablet = (await ada.person.sign_in(ada.http)).json()
    assert told(await get(stranger, f"Bearer {tablet['access_token']}"))[1] == '"session";r=2;t=10'


async def test_made_up_tokens_count_for_the_address_and_for_nobody_else(
    stranger: httpx.AsyncClient, ada: Phone
) -> None:
    signed, _, _ = ada.http.headers["Authorization"].rpartition(".")  # it names her session, but anybody can write it
    got = [await get(stranger, f"{signed}.{'A' * 85}{last}") for last in "AQgw"]
    assert [answer.status_code for answer in got] == [401, 401, 429, 429]
    assert {told(answer)[0] for answer in got} == {'"address";q=2;w=10'}
    assert (await get(stranger, "Basic YTpi")).status_code == 429
    assert told(await get(stranger, ada))[1] == '"session";r=2;t=10'


async def test_addresses_are_counted_apart(strict: FastAPI, stranger: httpx.AsyncClient) -> None:
    assert [(await stranger.get("/v1/me")).status_code for _ in range(3)] == [401, 401, 429]
    async with connect(strict) as another:
        assert (await another.get("/v1/me")).status_code == 401


async def test_every_path_is_limited_and_what_operators_ask_is_counted_apart(stranger: httpx.AsyncClient) -> None:
    assert [(await stranger.get("/v1/me")).status_code for _ in range(3)] == [401, 401, 429]
    got = [await stranger.get(path) for path in ("/livez", "/nothing", "/readyz", "/openapi.json")]
    assert [answer.status_code for answer in got] == [200, 404, 429, 429]
    assert told(got[0]) == ('"address";q=2;w=10', '"address";r=1;t=10')


async def test_the_sessions_of_one_account_share_an_allowance(settings: Settings, clock: Clock, ada: Phone) -> None:
    tokens = [(await ada.person.sign_in(ada.http)).json()["access_token"] for _ in range(10)]
    async with (
        limited(settings, clock, requests_per_session=4, requests_per_account=6) as app,
        connect(app) as http,
    ):
        got = [await get(http, f"Bearer {token}") for token in tokens for _ in range(2)]
        assert [answer.status_code for answer in got] == [200] * 6 + [429] * 14
        assert told(got[0])[0] == '"session";q=4;w=10'
        assert told(got[6]) == ('"account";q=6;w=10', '"account";r=0;t=10')


async def test_a_large_body_counts_as_many_requests(settings: Settings, clock: Clock, ada: Phone) -> None:
    note = b'{"note":"%b"}' % os.urandom(4 * rate_limits.BYTES_OF_A_REQUEST).hex().encode()
    headers = {"Authorization": ada.http.headers["Authorization"], "Content-Type": "application/json"}
    for body, more in ((note, {}), (gzip.compress(note, 1), {"Content-Encoding": "gzip"})):
        async with limited(settings, clock, requests_per_session=10) as app, connect(app) as http:
            sent = [await http.post(f"{ada.diary}/entries", content=body, headers=headers | more) for _ in range(3)]
            assert [answer.status_code for answer in sent] == [422, 422, 429]
            assert told(sent[1])[1] == '"session";r=0;t=10'


async def counted(app: FastAPI, phone: Phone, method: str, path: str, **sent: Any) -> tuple[int, int]:
    """The status of a call, and as how many requests it counted."""
    left = []
    for _ in range(2):
        answer = await phone.http.get("/v1/me")
        left.append(int(answer.headers["RateLimit"].split(";")[1].removeprefix("r=")))
        if len(left) == 1:
            response = await phone.http.request(method, path, **sent)
    return response.status_code, left[0] - left[1] - 1


@asynccontextmanager
async def generous(settings: Settings, clock: Clock, ada: Phone) -> AsyncIterator[tuple[FastAPI, Phone]]:
    """Ada's phone, with a service that has a limit which nobody reaches, and shows what counted."""
    async with limited(settings, clock, requests_per_session=100_000) as app, connect(app) as http:
        http.headers = ada.http.headers
        yield app, Phone(http, ada.person, ada.tokens)


async def test_a_call_counts_as_what_it_costs(
    settings: Settings, clock: Clock, ada: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = treatment(*(f"{hour:02}:00" for hour in range(24)))
    assert (await ada.post("/treatments", plan)).status_code == 201
    monkeypatch.setattr(costs, "PASSED", 10)
    async with generous(settings, clock, ada) as (app, phone):
        diary = phone.diary

        async def as_many(method: str, path: str, **sent: Any) -> int:
            status, requests = await counted(app, phone, method, path, **sent)
            assert status in (200, 201), path
            return requests

        mutations = [put("entry", entry()) for _ in range(100)]
        body = {"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": mutations}
        size = len(json.dumps(body, separators=(",", ":"))) // rate_limits.BYTES_OF_A_REQUEST
        assert await as_many("POST", f"{diary}/sync/push", json=body) == 1 + size + 100 // costs.MUTATIONS
        assert await as_many("POST", f"{diary}/entries", json=entry()) == 1
        assert await as_many("GET", f"{diary}/entries?limit=50") == 1
        assert await as_many("GET", f"{diary}/entries?region=head_front_right") == 11  # of 102 changes, all passed
        assert await as_many("GET", f"{diary}/treatments") == 1  # along an index of their own
        assert await as_many("POST", f"{diary}/sync/digest", json={"records": []}) == 2
        days = "from=2026-04-01&to=2026-05-10"
        due = 40 * 24
        assert await as_many("GET", f"{diary}/treatments/{plan['id']}/slots?{days}") >= 1 + due // costs.PLACES
        assert await as_many("GET", f"{diary}/adherence?{days}") >= 1 + due // costs.ADDED_UP
        credentials = {"email": ada.person.email, "password": ada.person.password}
        assert await as_many("POST", "/v1/auth/sessions", json=credentials) == costs.PASSWORD
        terms = {"scopes": ["entries:read"], "purpose": "Pain clinic"}
        key = {"Idempotency-Key": "0123456789abcdef"}
        assert await as_many("POST", f"{diary}/share-codes", json=terms, headers=key) == costs.CONSENT
        token = {"refresh_token": ada.tokens["refresh_token"]}
        assert await as_many("POST", "/v1/auth/refresh", json=token) == costs.REFRESH


async def test_a_page_counts_as_the_plans_that_it_read(
    settings: Settings, clock: Clock, ada: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "PLAN_BYTES", 500)
    monkeypatch.setattr(costs, "NAMED_BYTES", 1500)
    async with generous(settings, clock, ada) as (app, phone):
        assert await counted(app, phone, "GET", f"{phone.diary}/timeline") == (200, 1)
        for _ in range(6):
            assert (await phone.post("/treatments", treatment("08:00"))).status_code == 201
        whole = await counted(app, phone, "GET", f"{phone.diary}/timeline")
        assert 6 < whole[1] < 18  # of 500 to 1500 bytes each
        assert await counted(app, phone, "GET", f"{phone.diary}/timeline?kinds=treatment_change") == whole
        status, names = await counted(app, phone, "GET", f"{phone.diary}/treatment-events")
        assert status == 200
        assert names in (1 + (whole[1] - 1) // 3, 2 + (whole[1] - 1) // 3)  # and a request for what it may have passed
        assert await counted(app, phone, "GET", f"{phone.diary}/entries") == (200, 1)


async def test_a_large_answer_counts_as_many_requests(
    settings: Settings, clock: Clock, ada: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "BYTES_OF_AN_ANSWER", 1000)
    async with generous(settings, clock, ada) as (app, phone):
        size = len((await phone.http.get("/v1/vocabularies")).content)
        assert await counted(app, phone, "GET", "/v1/vocabularies") == (200, 1 + size // 1000)


@asynccontextmanager
async def crowded(settings: Settings, most: int, ada: Phone) -> AsyncIterator[Phone]:
    """Ada's phone, with a service that answers only so many requests at a time."""
    app = create_app(settings.model_copy(update={"requests_in_progress": most}))
    async with app.router.lifespan_context(app), connect(app) as http:
        http.headers = ada.http.headers
        yield Phone(http, ada.person, ada.tokens)


async def test_whoever_comes_to_a_full_house_is_told_when_to_come_back(settings: Settings, ada: Phone) -> None:
    async with crowded(settings, 4, ada) as phone:
        answers = await asyncio.gather(*(phone.log() for _ in range(40)))
        assert (await phone.log()).status_code == 201  # they have left
    refused = [answer for answer in answers if answer.status_code == 503]
    assert [answer.status_code for answer in answers].count(201) == 40 - len(refused) >= 4
    assert {answer.json()["type"] for answer in refused} == {"/problems/unavailable"}
    waits = {int(answer.headers["Retry-After"]) for answer in refused}
    assert len(waits) > 1
    assert waits <= set(range(4, 17))


async def test_whoever_sends_slowly_takes_nobodys_place(settings: Settings, ada: Phone) -> None:
    begun, rest = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"mood":'
        begun.set()
        await rest.wait()
        yield b"3}"

    async with crowded(settings, 1, ada) as phone:
        headers = {"Content-Type": "application/json"}
        slow = asyncio.create_task(phone.http.post(f"{phone.diary}/entries", content=body(), headers=headers))
        await begun.wait()
        assert (await phone.log()).status_code == 201
        rest.set()
        assert (await slow).status_code == 422


async def test_zero_is_no_limit(settings: Settings, clock: Clock, ada: Phone) -> None:
    async with (
        limited(settings, clock, requests_per_session=0, requests_per_account=0, requests_per_address=0) as app,
        connect(app) as http,
    ):
        got = [await http.get("/v1/me"), await get(http, ada)]
    assert [(answer.status_code, told(answer)) for answer in got] == [(401, (None, None)), (200, (None, None))]


async def test_the_description_names_refusal_and_headers_wherever_they_are(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert set(document["components"]["headers"]) == {"RateLimit", "RateLimit-Policy"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            described = {status for status, answer in operation["responses"].items() if _tells(answer)}
            expected = {status for status in operation["responses"] if status < "400"} | {"429"}
            assert described == expected, (path, operation["operationId"])


def _tells(answer: dict[str, Any]) -> bool:
    return {"RateLimit", "RateLimit-Policy"}.issubset(answer.get("headers", ()))


# --- Workers


def test_workers_count_together() -> None:
    code = "server.run(settings(workers=2), 'tests.http.tiny_apps:CountingApp')"
    counted: list[list[bytes]] = []
    with start_process(f"\nif __name__ == '__main__': {code}") as process:
        try:
            number = port_of(process)
            block_until(lambda: answers(number))
            block_until(lambda: _both_refuse(number, counted))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
    assert [allowed for _, allowed in counted] == [b"True"] * 5 + [b"False"] * (len(counted) - 5)


def _both_refuse(number: int, counted: list[list[bytes]]) -> bool:
    """Counts once more; whether both workers have refused by now."""
    counted.append(ask(number, b"/count").rpartition(b"\r\n\r\n")[2].split())
    return len({worker for worker, allowed in counted if allowed == b"False"}) == 2
