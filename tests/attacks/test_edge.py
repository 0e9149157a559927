"""What a stranger may make the edge do: nothing is read, inflated or parsed for who may not have it."""

import asyncio
import gzip
import logging
import socket
from collections.abc import Iterator

import pytest

from app.config import Settings
from app.errors import TooManyRequests, Unavailable
from app.http import json_body, rate_limits
from app.http.json_body import Held
from tests.answers import told
from tests.attacks.flood import flood, wait_of
from tests.forms import size
from tests.http.test_server import connect, problem_of, read_some, read_to_end
from tests.people import Person
from tests.serving import Served, serve

pytestmark = pytest.mark.anyio
logger = logging.getLogger(__name__)

ONES = gzip.compress(b"[" + b",".join([b"1"] * 261_000) + b"]", 9)  # 522 kB of numbers in 1 kB
NOBODYS = "/v1/patients/0195d3f4-0c1d-4b2e-8f3a-4d5e6f708192"
UNREAD = {
    "an unknown path": ("POST", "/nothing", "", 404),
    "an unknown path of the API": ("POST", "/v1/nothing", "", 404),
    "another method": ("PUT", "/v1/me", "", 405),
    "a page": ("POST", "/docs", "", 405),
    "no token": ("POST", f"{NOBODYS}/entries", "", 401),
    "a made-up token": ("POST", f"{NOBODYS}/sync/push", "Authorization: Bearer a.b.c\r\n", 401),
    "other credentials": ("PATCH", f"{NOBODYS}/entries/{NOBODYS[-36:]}", "Authorization: Basic YTpi\r\n", 401),
    "no method of a body": ("GET", "/livez", "", 400),
    "a path with a line feed": ("POST", "/v1/auth/sessions%0A", "", 400),
}


def head(method: str, path: str, fields: str = "", length: int = 400_000) -> bytes:
    """The head of a request whose body does not come."""
    kind = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: diary\r\n{kind}{fields}Content-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize(("method", "path", "fields", "status"), UNREAD.values(), ids=UNREAD.keys())
async def test_a_body_that_leads_nowhere_is_not_waited_for(
    served: Served, method: str, path: str, fields: str, status: int
) -> None:
    with connect(served.port) as client:
        client.sendall(head(method, path, fields))
        assert read_some(client, b"}").startswith(b"HTTP/1.1 %d " % status)
        client.sendall(bytes(400_000) + b"GET /livez HTTP/1.1\r\nHost: diary\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 200 OK" in read_to_end(client)  # what came late was thrown away


async def test_nobody_is_asked_to_send_what_will_not_be_read(served: Served) -> None:
    with connect(served.port) as client:
        client.sendall(head("POST", f"{NOBODYS}/entries", "Expect: 100-continue\r\n"))
        assert read_some(client, b"}").startswith(b"HTTP/1.1 401 ")


async def test_of_a_stranger_no_more_is_read_than_a_sign_in_needs(served: Served) -> None:
    with connect(served.port) as client:
        client.sendall(head("POST", "/v1/auth/sessions", length=json_body.MAX_PUBLIC_BYTES + 1))
        assert problem_of(read_to_end(client), 413)["detail"] == "Send at most 16 KiB here."
    with connect(served.port) as client:
        client.sendall(head("POST", "/v1/auth/sessions", "Connection: close\r\n", len(ONES)) + ONES)
        problem_of(read_to_end(client), 413)


CONTROLS = ["%0A", "%0a", "%0D%0A", "%09", "%1f", "%7F", "%00", "%C2%85", "%E2%80%A8", "%E2%80%A9"]
PATHS = [
    "/metrics",
    "/livez",
    "/v1/me",
    "/openapi.json",
    "/v1/vocabularies/regions",
    f"{NOBODYS}/entries",
    "/docs",
    "/x",
]


@pytest.mark.parametrize("control", CONTROLS)
async def test_a_path_with_a_control_character_is_malformed(served: Served, control: str) -> None:
    async with served.client() as http:
        for path in PATHS:
            for raw in (path + control, control + path, path.replace("/", f"/{control}", 1)):
                answer = await http.get(http.base_url.copy_with(raw_path=f"/{raw.lstrip('/')}".encode()))
                assert told(answer) == (400, "malformed-request"), raw


@pytest.mark.parametrize("more", ["/", "%20", "%2F", ";x", "%3F", ".", "%C2%A0", "%EF%BC%8F"])
async def test_a_path_is_matched_to_its_last_character(served: Served, more: str) -> None:
    async with served.client() as http:
        for path in ("/metrics", "/livez", "/v1/me"):
            answer = await http.get(http.base_url.copy_with(raw_path=f"{path}{more}".encode()))
            assert told(answer) == (404, "not-found"), path


# --- Bodies that do not end


def test_the_bytes_of_unfinished_bodies_are_bounded_by_client_and_in_sum() -> None:
    held = Held()
    with held.body(b"ada") as grow:
        grow(1)
        assert held.total == json_body.LEAST_HELD  # a connection that waits is not free
        grow(json_body.MOST_HELD_OF_ONE)
        with pytest.raises(TooManyRequests):
            grow(json_body.MOST_HELD_OF_ONE + 1)
        with held.body(b"ada") as second, pytest.raises(TooManyRequests):
            second(1)
        with held.body(b"bob") as other:
            other(1)
        assert held.total == json_body.MOST_HELD_OF_ONE
    assert (held.total, held.of_client) == (0, {})


def test_where_all_is_taken_the_newest_is_refused() -> None:
    held = Held()
    clients = [held.body(b"%d" % number) for number in range(json_body.MOST_HELD // json_body.MOST_HELD_OF_ONE)]
    for client in clients:
        client.__enter__()(json_body.MOST_HELD_OF_ONE)
    with held.body(b"one more") as grow, pytest.raises(Unavailable):
        grow(1)
    clients[0].__exit__(None, None, None)
    with held.body(b"one more") as grow:
        grow(1)


async def test_unfinished_bodies_do_not_fill_the_memory_and_whoever_sends_whole_ones_is_served(served: Served) -> None:
    async with served.client() as http:
        ada = await Person().register_and_sign_in(http)
        token = f"Authorization: {http.headers['Authorization']}\r\n"
        most = json_body.MOST_HELD_OF_ONE // 400_000
        before = served.resident()
        clients = [connect(served.port) for _ in range(size("UNFINISHED", 60, 900))]
        try:
            for client in clients:
                client.sendall(head("POST", f"{ada.diary}/entries", token, 500_000) + bytes(400_000))
            refused = [client for client in clients[most:] if read_some(client, b"}").startswith(b"HTTP/1.1 429 ")]
            assert len(refused) >= len(clients) - 2 * most
            assert (await ada.log()).status_code == 201
            assert served.resident() - before < 2 * json_body.MOST_HELD_OF_ONE + len(clients) * 100_000
        finally:
            for client in clients:
                client.close()


# --- Figures


@pytest.fixture(scope="module")
def limited(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the limits that it has unless told otherwise."""
    directory = tmp_path_factory.mktemp("limited")
    with serve(
        settings, directory, REQUESTS_PER_SESSION="", REQUESTS_PER_ACCOUNT="", REQUESTS_PER_ADDRESS=""
    ) as server:
        yield server


async def test_whoever_repeats_what_is_refused_waits_and_costs_nobody_anything(limited: Served) -> None:
    statuses: list[int] = []
    with socket.create_connection(("127.0.0.1", limited.port), source_address=("127.0.0.3", 0)) as client:
        while statuses[-1:] != [429]:
            client.sendall(b"GET /nothing HTTP/1.1\r\nHost: diary\r\n\r\n")
            statuses.append(int(read_some(client, b"}").split()[1]))
    assert set(statuses[:-1]) == {404}
    assert len(statuses) > 100


BY_A_PATIENT = "numbers by another patient"
ATTACKS: dict[str, bytes] = {
    "numbers to nowhere": head("POST", "/nothing", length=len(ONES)) + ONES,
    "numbers without a token": head("POST", f"{NOBODYS}/sync/push", length=len(ONES)) + ONES,
    "numbers to a page": head("POST", "/docs", length=len(ONES)) + ONES,
    "numbers for a sign-in": head("POST", "/v1/auth/sessions", length=len(ONES)) + ONES,
    "made-up tokens": b"GET /v1/me HTTP/1.1\r\nHost: diary\r\nAuthorization: Bearer a.b.c\r\n\r\n",
}


async def by_a_patient(server: Served) -> bytes:
    """The same numbers, with a token that is good."""
    async with server.client() as http:
        bob = await Person().register_and_sign_in(http)
        token = f"Authorization: {http.headers['Authorization']}\r\n"
        return head("POST", f"{bob.diary}/sync/push", token, len(ONES)) + ONES


@pytest.mark.long
@pytest.mark.parametrize("name", [*ATTACKS, BY_A_PATIENT])
async def test_a_patient_waits_no_longer_while_a_stranger_attacks(limited: Served, name: str) -> None:
    async with limited.client() as http:
        ada = await Person().register_and_sign_in(http)

        async def write() -> int:
            return (await ada.log()).status_code

        times = size("VICTIM_CALLS", 100, 200)
        attack = ATTACKS.get(name) or await by_a_patient(limited)
        figures = []
        for _ in range(3):  # other work on the machine disturbs single rounds
            quiet, _ = await wait_of(write, times)
            with flood(limited.port, attack):
                attacked, statuses = await wait_of(write, times)
            assert set(statuses) == {201}
            figures.append((attacked / quiet, quiet, attacked))
            await asyncio.sleep(rate_limits.WINDOW_SECONDS)  # else ada's own allowance ends
        logger.info("%s: times, quiet and attacked milliseconds %s", name, sorted(figures))
        assert min(figures)[0] < 2, figures
