"""Packs of what is nearly right: bytes on a socket, gzip, and text of every sort. None is our fault, none is echoed."""

import gzip
import json
import unicodedata
import zlib
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from tests.conftest import connect
from tests.forms import size
from tests.http.test_server import connect as open_socket
from tests.http.test_server import read_to_end
from tests.people import Person, Phone, entry
from tests.serving import Served, serve

pytestmark = [pytest.mark.anyio, pytest.mark.scaled]

CANARY = "canary-4711"
ASKED = [200, 201, 202, 204, 304]
REFUSED = [400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 415, 422, 428, 429]


@pytest.fixture(scope="module")
async def phone(app: FastAPI) -> AsyncIterator[Phone]:
    """A patient to whose diary the packs are sent."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


def accept(answer: httpx.Response, sent: str) -> None:
    """It is no failure of ours, and does not repeat what it refuses."""
    assert answer.status_code in ASKED + REFUSED, (answer.status_code, sent)
    if answer.status_code in REFUSED:
        assert CANARY not in answer.text, sent


# --- Bytes on a socket


def mangled(random: Random, request: bytes) -> bytes:
    """The request with a few bytes replaced, doubled, dropped or put in."""
    data = bytearray(request)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(data))
        match random.randrange(5):
            case 0:
                data[place] = random.randrange(256)
            case 1:
                del data[place : place + random.randint(1, 8)]
            case 2:
                data[place:place] = random.choice(
                    [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%", b"\xff", b"0"]
                )
            case 3:
                data[place:place] = data[place : place + random.randint(1, 40)]
            case _:
                data[place : place + 1] = data[place : place + 1].swapcase()
    return bytes(data)


@pytest.fixture(scope="module")
def hasty(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that waits a second for what is unfinished."""
    with serve(settings, tmp_path_factory.mktemp("hasty"), RECEIVE_SECONDS="1") as server:
        yield server


async def test_mangled_requests_get_a_refusal_or_silence_and_the_next_one_an_answer(hasty: Served) -> None:
    body = json.dumps(entry(note=CANARY)).encode()
    requests = [
        b"GET /v1/me HTTP/1.1\r\nHost: diary\r\nAuthorization: Bearer a.b.c\r\nConnection: close\r\n\r\n",
        b"POST /v1/auth/sessions HTTP/1.1\r\nHost: diary\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%b" % (len(body), body),
        b"POST /v1/auth/refresh HTTP/1.1\r\nHost: diary\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    ]
    random = Random(4711)
    for _ in range(size("MANGLED", 3, 15)):
        sent = [mangled(random, random.choice(requests)) for _ in range(50)]
        clients = [open_socket(hasty.port) for _ in sent]
        for client, request in zip(clients, sent, strict=True):
            client.sendall(request)
        for client, request in zip(clients, sent, strict=True):
            with client:
                answer = read_to_end(client)
            assert not answer.startswith(b"HTTP/1.1 5"), request
            assert CANARY.encode() not in answer, request
    async with hasty.client() as http:
        assert (await http.get("/readyz")).status_code == 200


# --- gzip


async def test_gzip_that_is_cut_joined_or_spoilt_is_refused(phone: Phone) -> None:
    random = Random(4711)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for _ in range(size("SPOILT", 60, 2000)):
        body = json.dumps(entry(note=CANARY, mood=random.randrange(12))).encode()
        packed = random.choice([gzip.compress(body), zlib.compress(body), gzip.compress(body, 0) + gzip.compress(b"")])
        data = bytearray(packed)
        match random.randrange(3):
            case 0:
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            case 1:
                del data[random.randrange(len(data)) :]
            case _:
                data += random.randbytes(random.randint(1, 9))
        answer = await phone.http.post(f"{phone.diary}/entries", content=bytes(data), headers=headers)
        accept(answer, bytes(data).hex())


# --- Text


def characters(random: Random) -> list[str]:
    """One character of each category, those that programs stumble over, and some at random."""
    found: dict[str, str] = {}
    for code in range(0x3000):
        found.setdefault(unicodedata.category(chr(code)), chr(code))
    odd = "\ufeff\u202e\u2028\u2029\u0085\u0000\u0300\u200d\uffff\ufffe\U0010ffff\U0001f600\ud800\udfff\u0130\ufdfa"
    return [*found.values(), *odd, *(chr(random.randrange(0x110000)) for _ in range(size("TEXTS", 10, 1500)))]


async def test_no_character_is_a_failure_wherever_it_stands(phone: Phone) -> None:
    random = Random(4711)
    for character in characters(random):
        text = f"{CANARY}{character}"
        escaped = quote(text, errors="surrogatepass")
        content = json.dumps(entry(note=text)).encode()
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", f"/entries/{escaped}", {}),
            ("GET", f"/entries?region={escaped}", {}),
            ("GET", f"/entries?cursor={escaped}", {}),
            ("GET", f"/timeline?kinds=entry&{escaped}=1", {}),
            ("POST", "/entries", {"content": content, "headers": {"Content-Type": "application/json"}}),
        ]
        for method, path, more in asked:
            url = phone.http.base_url.copy_with(raw_path=f"{phone.diary}{path}".encode())
            accept(await phone.http.request(method, url, **more), f"U+{ord(character):04X} {path[:9]}")
