"""Body validation: what must hold for the bytes of a request before Pydantic or PostgreSQL may see them.

Parsers disagree about malformed JSON, and PostgreSQL takes neither NUL nor half a surrogate pair. What is refused here
means the same to whoever reads it later.
"""

import asyncio
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote_to_bytes

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.errors import (
    BadRequest,
    Problem,
    RequestTimeout,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnsupportedMediaType,
)
from app.http import problems, push_body, rate_limits, strict_json

MAX_RATIO = 200  # of what gzip unpacks to what arrived; real pushes reach about 20
MAX_PUBLIC_BYTES = 16 * 1024  # of who is not signed in: nothing that anybody may send is longer
LEAST_HELD = 16 * 1024
MOST_HELD_OF_ONE = 4 * 1024 * 1024
MOST_HELD = 64 * 1024 * 1024  # in each worker
RETRY_SECONDS = 10

LINGER_SECONDS = 2.0  # how long what still arrives of a refused body is thrown away
_LENGTH = re.compile(rb"\d{1,18}")  # int() would take signs, spaces and underscores, and time for a long text
_BAD_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})|%00")
_JSON = re.compile(rb'application/json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
_MERGE_PATCH = re.compile(rb'application/merge-patch\+json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
_CLOSE = {"Connection": "close"}
_threads = CapacityLimiter(1)  # a push that breaks a rule takes up to 20 milliseconds: others are answered meanwhile


class Held:
    """The bytes of bodies that have begun and not ended, by client and in sum; beyond a bound the newest is refused.

    A body that comes whole at once is never held. Each other counts for some thousand bytes at least, as a connection
    that waits is not free either.
    """

    def __init__(self) -> None:
        self.total = 0
        self.of_client: Counter[bytes] = Counter()

    @contextmanager
    def body(self, client: bytes) -> Iterator[Callable[[int], None]]:
        """A function that is told the size of the body as it grows; raises TooManyRequests or Unavailable."""
        held = 0

        def grow(size: int) -> None:
            nonlocal held
            more = max(size, LEAST_HELD) - held
            if self.of_client[client] + more > MOST_HELD_OF_ONE:
                raise TooManyRequests("Too many of your requests are unfinished.", retry_after=RETRY_SECONDS)
            if self.total + more > MOST_HELD:
                raise Unavailable
            held += more
            self.total += more
            self.of_client[client] += more

        try:
            yield grow
        finally:
            self.total -= held
            self.of_client[client] -= held
            if not self.of_client[client]:
                del self.of_client[client]


class BodyValidation:
    """Passes a request on once its whole body is well formed, with the body as `state["body"]`."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_bytes = settings.max_body_bytes
        self.seconds = settings.receive_seconds
        self.held = Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http" or "leads_nowhere" in scope["state"]:
            return await self.app(scope, receive, send)
        state = scope["state"]
        most = self.max_bytes if state.get("claims") else min(self.max_bytes, MAX_PUBLIC_BYTES)
        try:
            headers = dict(scope["headers"])
            length = _announced(headers)
            if length:
                _check_method(scope["method"])
                _check_length(length, most)
                _check_kind(scope["method"], headers)
            body = await self._read(length, most, state["client"], receive)
            if body:
                if length is None:
                    _check_method(scope["method"])
                    _check_kind(scope["method"], headers)
                if headers.get(b"content-encoding") == b"gzip":
                    body = inflate(body, most)
                state["charge"](len(body) // rate_limits.BYTES_OF_A_REQUEST)
                state["body"] = await _parsed(body, scope)
        except TooLarge as problem:
            return await _refuse_early(problem, scope, receive, send)
        except Problem as problem:
            return await problems.respond(problem, state["request_id"])(scope, receive, send)
        return await self.app(scope, _replay(body, receive), send)

    async def _read(self, length: int | None, most: int, client: bytes, receive: Receive) -> bytes | None:
        """The whole body, or None where the request announces none."""
        if length == 0:
            return None  # none is waited for
        try:
            async with asyncio.timeout(self.seconds):
                return await self._collect(most, client, receive)
        except TimeoutError:
            raise RequestTimeout(headers=_CLOSE) from None

    async def _collect(self, most: int, client: bytes, receive: Receive) -> bytes:
        body, more = await _part(receive)
        if not more and len(body) <= most:
            return body
        whole = bytearray(body)
        with self.held.body(client) as grow:
            while True:
                _check_length(len(whole), most)  # a chunked body announces none
                if not more:
                    return bytes(whole)
                grow(len(whole))
                body, more = await _part(receive)
                whole += body


async def _part(receive: Receive) -> tuple[bytes, bool]:
    """What has arrived of the body, and whether there is more."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _announced(headers: dict[bytes, bytes]) -> int | None:
    """How many bytes come; None where they come in chunks, and nobody knows."""
    length = headers.get(b"content-length", b"0")
    if not _LENGTH.fullmatch(length):
        raise BadRequest("Content-Length is not a number.")
    return None if b"transfer-encoding" in headers else int(length)


def _check_length(length: int, most: int) -> None:
    if length > most:
        raise TooLarge(f"Send at most {most // 1024} KiB here.", headers=_CLOSE)


def inflate(packed: bytes, most: int) -> bytes:
    """The body that was sent with gzip: TooLarge beyond `most` bytes or MAX_RATIO, BadRequest where it is none."""
    unpacking = zlib.decompressobj(wbits=31)  # the gzip container only
    try:
        # One byte more than is allowed shows that it is too much, without unpacking the rest of a zip bomb.
        body = unpacking.decompress(packed, min(most, MAX_RATIO * len(packed)) + 1)
    except zlib.error:
        raise BadRequest("The body is not in gzip.") from None
    if len(body) > min(most, MAX_RATIO * len(packed)):
        raise TooLarge
    if not unpacking.eof or unpacking.unused_data:
        raise BadRequest("The body is not one whole gzip stream.")
    return body


async def _parsed(body: bytes, scope: Scope) -> object:
    """The JSON value of a body; of a push that breaks a rule, with the items told apart that do not."""
    try:
        return strict_json.parse(body)
    except BadRequest as refusal:
        if not scope["path"].endswith(push_body.PATH):
            raise
        scope["state"]["charge"](len(body) // rate_limits.BYTES_OF_A_REQUEST)  # it takes as long again
        return await to_thread.run_sync(push_body.parse, body, refusal, limiter=_threads)


def check_url(scope: Scope) -> None:
    """Refuses what a URL cannot say in UTF-8, NUL, which PostgreSQL cannot store, and control characters of a path.

    A path that ends in one would else pass for another, wherever a pattern takes a line's end for the text's.
    """
    for part in (scope["raw_path"], scope["query_string"]):
        if not part.isascii() or _BAD_ESCAPE.search(part):
            raise BadRequest("The address holds a bad escape, a NUL or a character outside ASCII.")
        if b"%" in part:
            text = _decoded(unquote_to_bytes(part))
            if part is scope["raw_path"] and any(map(_is_control, text)):
                raise BadRequest("The path holds a control character.")


def _decoded(part: bytes) -> str:
    try:
        return part.decode()
    except UnicodeDecodeError:
        raise BadRequest("The address is not UTF-8.") from None


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp")  # also the separators of lines and paragraphs


def _check_method(method: str) -> None:
    if method in ("GET", "HEAD"):
        raise BadRequest(f"A {method} request has no body.")


def _check_kind(method: str, headers: dict[bytes, bytes]) -> None:
    """Refuses a body that is no JSON by what its header says."""
    if headers.get(b"content-encoding", b"identity") not in (b"identity", b"gzip"):
        raise UnsupportedMediaType
    content_type = headers.get(b"content-type", b"")
    if not _JSON.fullmatch(content_type) and not (method == "PATCH" and _MERGE_PATCH.fullmatch(content_type)):
        raise UnsupportedMediaType


def _replay(body: bytes | None, receive: Receive) -> Receive:
    """A `receive` that gives the body once and then what still comes, such as the client's leaving."""
    if body is None:
        return receive
    pending: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def replay() -> Message:
        nonlocal pending
        message, pending = pending, None
        return message or await receive()

    return replay


async def _refuse_early(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Responds at once, then throws away for a moment what still arrives.

    Closing a connection with unread bytes resets it, and the client may lose the response.
    """

    async def hold(message: Message) -> None:
        # As long as the response is not complete uvicorn goes on reading.
        await send({**message, "more_body": True} if "body" in message else message)

    await problems.respond(problem, scope["state"]["request_id"])(scope, receive, hold)
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})
