"""Body validation: what must hold for the bytes of a request before Pydantic or PostgreSQL may see them.

Parsers disagree about malformed JSON, and PostgreSQL takes neither NUL nor half a surrogate pair. What is refused here
means the same to whoever reads it later.
"""

import asyncio
import json
import math
import re
import zlib
from codecs import BOM_UTF8
from typing import NoReturn
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.errors import BadRequest, Problem, RequestTimeout, TooLarge, UnsupportedMediaType
from app.http import problems
from app.security.encoding import DuplicateKey, unique_members

MAX_DEPTH = 32
MAX_RATIO = 200  # of what gzip unpacks to what arrived; real pushes reach about 20
MAX_MEMBERS = 20_000  # many times what a full push holds; each costs time before any field is known
MAX_INTEGER = 2**53  # beyond it a phone that reads numbers as doubles would see another one
MAX_NUMBER_LENGTH = 64  # characters; keeps the conversion of a literal cheap

LINGER_SECONDS = 2.0  # how long what still arrives of a refused body is thrown away
_LENGTH = re.compile(rb"\d{1,18}")  # int() would take signs, spaces and underscores, and time for a long text
_BAD_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})|%00")
_JSON = re.compile(rb'application/json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
_MERGE_PATCH = re.compile(rb'application/merge-patch\+json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
_CLOSE = {"Connection": "close"}
# The closing quote is optional: an open string then ends with the body, and no second start is ever tried.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# All escapes of a valid JSON text, or none of its lone surrogates and NULs: a pair is read as one unit.
_CLEAN_ESCAPES = re.compile(
    rb"(?:[^\\]++"
    rb"|\\[^u]"
    rb"|\\u[dD][89abAB]..\\u[dD][c-fC-F].."
    rb"|\\u(?!0000|[dD][89a-fA-F]))*+",
    re.DOTALL,
)


class BodyValidation:
    """Passes a request on once its address and its whole body are well formed, with the body as `state["body"]`."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_bytes = settings.max_body_bytes
        self.seconds = settings.receive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            _check_url(scope)
            headers = dict(scope["headers"])
            body = await self._read(headers, receive)
            if body and headers.get(b"content-encoding") == b"gzip":
                body = inflate(body, self.max_bytes)
            if body:
                scope["state"]["body"] = _checked(scope["method"], headers, body)
        except TooLarge as problem:
            return await _refuse_early(problem, scope, receive, send)
        except Problem as problem:
            return await problems.respond(problem, scope["state"]["request_id"])(scope, receive, send)
        return await self.app(scope, _replay(body, receive), send)

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body, or None where the request announces none."""
        length = headers.get(b"content-length", b"0")
        if not _LENGTH.fullmatch(length):
            raise BadRequest("Content-Length is not a number.")
        if int(length) > self.max_bytes:
            raise TooLarge(headers=_CLOSE)
        if int(length) == 0 and b"transfer-encoding" not in headers:
            return None  # no body is announced, so none is waited for
        try:
            async with asyncio.timeout(self.seconds):
                return await self._collect(receive)
        except TimeoutError:
            raise RequestTimeout(headers=_CLOSE) from None

    async def _collect(self, receive: Receive) -> bytes:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_bytes:  # a chunked body announces no length
                raise TooLarge(headers=_CLOSE)
        return bytes(body)


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


def parse(body: bytes) -> object:
    """The JSON value of a body, or BadRequest that names the broken rule and never what was sent."""
    if body.startswith(BOM_UTF8):
        raise BadRequest("The body starts with a byte order mark.")
    # Depth and members are counted on the bytes: the decoder would recurse, or build the objects, before it could tell.
    _check_depth(body)
    if body.count(b":") > MAX_MEMBERS and _STRING.sub(b"", body).count(b":") > MAX_MEMBERS:
        raise BadRequest("The body has too many members.")
    try:
        value: object = _DECODER.decode(body.decode())
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.") from None
    except DuplicateKey:
        raise BadRequest("An object holds the same key twice.") from None
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    if b"\\u" in body and not _CLEAN_ESCAPES.fullmatch(body):
        raise BadRequest("A string holds a NUL character or half of a surrogate pair.")
    return value


def _check_depth(body: bytes) -> None:
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    # Without escapes every quote begins or ends a string, and every second part lies outside.
    outside = _STRING.sub(b"", body) if b"\\" in body else b"".join(body.split(b'"')[::2])
    brackets = rest = outside.translate(None, delete=_NOT_BRACKETS)
    for _ in range(MAX_DEPTH // 2):  # takes at most two levels off at a time
        rest = rest.replace(b"{}", b"").replace(b"[]", b"")
        if not rest:
            return
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise BadRequest(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _integer(literal: str) -> int:
    # The length comes first: int() takes quadratic time.
    if len(literal) > MAX_NUMBER_LENGTH or not -MAX_INTEGER <= int(literal) <= MAX_INTEGER:
        raise BadRequest("An integer is outside ±2^53.")
    return int(literal)


def _float(literal: str) -> float:
    if len(literal) > MAX_NUMBER_LENGTH:
        raise BadRequest(f"A number is longer than {MAX_NUMBER_LENGTH} characters.")
    number = float(literal)
    if not math.isfinite(number):
        raise BadRequest("A number is not finite.")
    return number


def _constant(_literal: str) -> NoReturn:
    raise BadRequest("NaN and Infinity are not JSON.")


def _check_url(scope: Scope) -> None:
    """Refuses what a URL cannot say in UTF-8, and NUL, which PostgreSQL cannot store."""
    for part in (scope["raw_path"], scope["query_string"]):
        if not part.isascii() or _BAD_ESCAPE.search(part):
            raise BadRequest("The address holds a bad escape, a NUL or a character outside ASCII.")
        if b"%" in part:
            _check_utf8(unquote_to_bytes(part))


def _check_utf8(part: bytes) -> None:
    try:
        part.decode()
    except UnicodeDecodeError:
        raise BadRequest("The address is not UTF-8.") from None


def _checked(method: str, headers: dict[bytes, bytes], body: bytes) -> object:
    """The JSON value of the body."""
    if method in ("GET", "HEAD"):
        raise BadRequest(f"A {method} request has no body.")
    if headers.get(b"content-encoding", b"identity") not in (b"identity", b"gzip"):
        raise UnsupportedMediaType
    content_type = headers.get(b"content-type", b"")
    if not _JSON.fullmatch(content_type) and not (method == "PATCH" and _MERGE_PATCH.fullmatch(content_type)):
        raise UnsupportedMediaType
    return parse(body)


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


_DECODER = json.JSONDecoder(
    object_pairs_hook=unique_members, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
