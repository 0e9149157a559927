"""HTTP/1.1, hardened: a deadline for receiving, limits on the head, and strict framing."""

import asyncio
from enum import Enum, auto
from http import HTTPStatus
from uuid import uuid4

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import BadRequest, Problem, RequestTimeout
from app.http import problems

MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100

NOT_HTTP = "This is not a well-formed HTTP/1.1 request."
HEAD_TOO_LARGE = "The request line and header are too large: at most 32 KiB and 100 fields."


class ReceivingConfig(uvicorn.Config):
    """uvicorn's configuration, and how long a request may take to arrive."""

    receive_seconds: float


class Part(Enum):
    """What a connection receives."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 as llhttp's strict mode parses it, with a deadline per request and limits on its head.

    One timer runs from the connection, or the first byte after a request, to the end of the next request. It is for
    the whole: one between two reads could be stretched by a byte now and then.
    """

    config: ReceivingConfig
    part = Part.NOTHING
    timer: asyncio.TimerHandle | None = None
    write_timer: asyncio.TimerHandle | None = None
    head_bytes = 0
    fields = 0
    unseen_bytes = 0  # since the parser last reported something

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """Starts the deadline of the first request."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the deadlines."""
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses; bytes between requests start the deadline too, as they end uvicorn's keep-alive."""
        self._arm()
        self.unseen_bytes += len(data)
        super().data_received(data)
        if self.unseen_bytes > MAX_HEAD_BYTES:  # a field that does not end: the parser collects it silently
            self.refuse(BadRequest(HEAD_TOO_LARGE))

    def on_message_begin(self) -> None:
        """A new request."""
        super().on_message_begin()
        self.part = Part.HEAD
        self.head_bytes = self.fields = self.unseen_bytes = 0
        self._arm()

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the header; one of the trailer is dropped, as it would pass for one of the header."""
        self.fields += 1
        self._count(len(name) + len(value))
        if self.part is Part.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The end of the header: what llhttp lets through and HTTP/1.1 forbids is refused before the app runs."""
        self._check_framing()
        super().on_headers_complete()
        self.part = Part.BODY
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # the parser reads no further after an upgrade that we ignore

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self.unseen_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self.part = Part.NOTHING
        self.unseen_bytes = 0
        self._disarm()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read: it gets as long as a request has to arrive."""
        super().pause_writing()
        self.write_timer = self.loop.call_later(self.config.receive_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self.write_timer is not None:
            self.write_timer.cancel()
            self.write_timer = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says more
        """Responds to what the parser or a limit refused."""
        too_large = self.head_bytes > MAX_HEAD_BYTES or self.fields > MAX_FIELDS
        self.refuse(BadRequest(HEAD_TOO_LARGE if too_large else NOT_HTTP))

    def refuse(self, problem: Problem) -> None:
        """Responds with the problem and closes; says nothing where the client would take it for another response."""
        if self.transport.is_closing():
            return
        if self._may_respond():
            self.transport.write(_render(problem))
        if self.cycle is not None:  # the app's response, if it comes, must not follow ours
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.pipeline.clear()
        self.transport.close()

    def _may_respond(self) -> bool:
        """Whether the next response on this connection can only be taken for that of the refused request."""
        if self.part is Part.BODY:
            return not self.cycle.response_started and not self.pipeline
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        if self.timer is None:
            self.timer = self.loop.call_later(self.config.receive_seconds, self._expire)

    def _disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _expire(self) -> None:
        self.timer = None
        if self.part is not Part.NOTHING:
            self.refuse(RequestTimeout())
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _count(self, size: int) -> None:
        self.unseen_bytes = 0
        self.head_bytes += size
        if self.head_bytes > MAX_HEAD_BYTES or self.fields > MAX_FIELDS:
            raise ValueError(HEAD_TOO_LARGE)

    def _check_framing(self) -> None:
        """Raises ValueError for a head that a proxy in front could frame in another way: request smuggling."""
        version = self.parser.get_http_version()
        named = [name for name, _ in self.headers]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        hosts = named.count(b"host")
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and hosts == 0):
            raise ValueError(NOT_HTTP)
        if codings and (codings != [b"chunked"] or version != "1.1"):
            raise ValueError(NOT_HTTP)
        has_body = codings or any(name == b"content-length" and value != b"0" for name, value in self.headers)
        if has_body and self.parser.should_upgrade():  # the parser would skip the body
            raise ValueError(NOT_HTTP)


def _render(problem: Problem) -> bytes:
    response = problems.respond(problem, uuid4())
    response.headers["connection"] = "close"
    head = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}".encode()]
    head += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*head, b"", bytes(response.body)])
