"""Bodies in gzip: as good as plain ones, and no way to make the server unpack more than it would have read."""

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from app.errors import BadRequest, TooLarge
from app.http import json_body
from app.http.json_body import MAX_RATIO, inflate
from tests.answers import told
from tests.people import Phone, entry

pytestmark = pytest.mark.anyio


async def log(phone: Phone, packed: bytes, coding: str = "gzip") -> httpx.Response:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    return await phone.http.post(f"{phone.diary}/entries", content=packed, headers=headers)


def packed(value: Any) -> bytes:
    return gzip.compress(json.dumps(value).encode())


async def test_a_body_in_gzip_is_taken_like_a_plain_one(ada: Phone) -> None:
    assert (await log(ada, packed(entry(note="Stiff")))).status_code == 201
    assert (await ada.get("/entries")).json()["items"][0]["note"] == "Stiff"


async def test_a_body_that_unpacks_to_too_much_is_refused(ada: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "LINGER_SECONDS", 0.01)  # for a sender that does not leave, as this one
    assert told(await log(ada, gzip.compress(b" " * 600_000))) == (413, "too-large")
    noise = entry(note="".join(chr(33 + n * 7919 % 90) for n in range(4000)))
    assert told(await log(ada, packed({**noise, "x": "y" * 520_000}))) == (413, "too-large")


async def test_other_codings_and_bytes_that_are_no_gzip_are_refused(ada: Phone) -> None:
    good = packed(entry())
    assert told(await log(ada, zlib.compress(b"{}"), "deflate")) == (415, "unsupported-media-type")
    for bad in (b"{}", good[:-1], good + b"x", good + good, zlib.compress(b"{}")):
        assert told(await log(ada, bad)) == (400, "malformed-request")
    assert (await ada.get("/entries")).json()["items"] == []


def test_no_more_is_unpacked_than_is_allowed() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    with pytest.raises(TooLarge):
        inflate(bomb, 512 * 1024)
    small = gzip.compress(b"a" * 100)
    assert len(inflate(small, 512 * 1024)) == 100 < MAX_RATIO * len(small)
    with pytest.raises(BadRequest):
        inflate(bomb[:20], 512 * 1024)
