"""How much a client may send: windows of ten seconds, counted in memory that all workers share.

A client's window begins with its first request. Nothing is locked: what two workers count in the same instant may
count once, and where more clients come than there is room for, the oldest window is forgotten. Both favour the client.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from mmap import mmap
from pathlib import Path
from secrets import token_bytes
from struct import unpack
from time import monotonic_ns
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from app import errors
from app.config import Settings
from app.http import problems
from app.http.deps import claims_of
from app.security.client_address import network

API = "/v1/"  # the rest is for operators: counted apart, so that no client uses up what they need
WINDOW_SECONDS = 10
MOST_WINDOWS = 6  # for which somebody waits, whatever the calls cost that were under way at once
REFUSAL_SECONDS = 1.0  # until a refusal leaves: who repeats at once costs one request a second and connection
BYTES_OF_A_REQUEST = 16 * 1024  # a body counts as one request more for each
BYTES_OF_AN_ANSWER = 128 * 1024  # and an answer for each of these
FILE = "DIARY_LIMITS_FILE"  # tells workers where the memory is that they share

# The memory: a key, then sets of cells. A cell holds who is counted, and when the window began with the count.
KEY_BYTES = 32
SETS = 65_536
WAYS = 4
CELL_BYTES = 16
COUNTS = 2**24

_WINDOW = WINDOW_SECONDS * 1000  # milliseconds, as all times here


class Standing(NamedTuple):
    """Whether the request is within the limit, how many more are, and for how many seconds that holds."""

    allowed: bool
    remaining: int
    seconds: int


class Windows:
    """What each client has sent, to any process that opened the same file; without one, to this process."""

    def __init__(self, file: str | None = None, clock: Callable[[], int] = monotonic_ns) -> None:
        self.clock = clock  # nanoseconds; the system's monotonic clock is the same for all workers
        memory = _fresh() if file is None else _opened(Path(file))
        self._key = memory[:KEY_BYTES]
        self._cells = memoryview(memory)[KEY_BYTES:].cast("Q")

    def count(self, client: bytes, quota: int) -> Standing:
        """Counts a request, unless the client has sent as many as its quota in this window, or still owes as many."""
        cell, now = self._cell(client), self._now()
        begun, sent = self._window(cell, quota, now)
        if sent >= quota:
            return Standing(False, 0, -((now - begun - sent // quota * _WINDOW) // 1000))
        self._cells[cell] = begun * COUNTS + sent + 1
        return Standing(True, quota - sent - 1, -((now - begun - _WINDOW) // 1000))

    def charge(self, client: bytes, quota: int, requests: int, most: int = MOST_WINDOWS) -> None:
        """Counts so many requests more. What goes beyond the quota is owed to the windows after, `most` in all."""
        cell = self._cell(client)
        begun, sent = self._window(cell, quota, self._now())
        self._cells[cell] = begun * COUNTS + min(sent + requests, quota * most, COUNTS - 1)

    def _now(self) -> int:
        return self.clock() // 1_000_000

    def _window(self, cell: int, quota: int, now: int) -> tuple[int, int]:
        """When the client's window began and what counts in it: at first, what it owes of those before."""
        begun, sent = divmod(self._cells[cell], COUNTS)
        if abs(now - begun) < _WINDOW:  # another worker's window may have begun since we looked at the clock
            return begun, sent
        if sent <= quota or now < begun:
            return now, 0
        passed = min((now - begun) // _WINDOW, MOST_WINDOWS)
        owed = max(0, sent - quota * passed)
        return (begun + passed * _WINDOW, owed) if owed else (now, 0)

    def _cell(self, client: bytes) -> int:
        """The index of the client's window. The key keeps others from choosing whose set they share."""
        choice, tag = unpack("QQ", blake2b(client, digest_size=16, key=self._key).digest())
        cells = self._cells
        first = choice % SETS * WAYS * 2
        end = first + WAYS * 2
        for index in range(first, end, 2):
            if cells[index] == tag:
                return index + 1
        # As in a CPU's set-associative cache: a table of fixed size has no lock, no growth and no sweeping.
        oldest = min(range(first + 1, end, 2), key=cells.__getitem__)
        cells[oldest] = 0  # before the tag, or the new client would begin with the count of the old
        cells[oldest - 1] = tag
        return oldest


def create(file: Path) -> None:
    """Makes the memory as a file, for workers to open."""
    with file.open("xb") as created:
        created.write(token_bytes(KEY_BYTES))
        created.truncate(_size())


def _fresh() -> mmap:
    memory = mmap(-1, _size())
    memory[:KEY_BYTES] = token_bytes(KEY_BYTES)
    return memory


def _opened(file: Path) -> mmap:
    with file.open("r+b") as opened:
        return mmap(opened.fileno(), _size())


def _size() -> int:
    return KEY_BYTES + SETS * WAYS * CELL_BYTES


class RateLimit:
    """Responds with 429 to whoever sends too much, before the body is read or the database asked.

    A device that is signed in is counted by its session and, with the account's others, by the account; anybody else by
    address: a token that is made up buys no second allowance and takes nobody's. `state["charge"]` counts so many
    more, for a call that turns out to cost as much.
    """

    def __init__(self, app: ASGIApp, settings: Settings, windows: Windows) -> None:
        self.app = app
        self.windows = windows
        self.per_session = Policy(b"session", settings.requests_per_session)
        self.per_account = Policy(b"account", settings.requests_per_account)
        self.per_address = Policy(
            b"address", settings.requests_per_address, windows=1
        )  # others share it, who owe nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection; other protocols than HTTP pass."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        state = scope["state"]
        charged = self._charged(scope)
        state["client"] = charged[-1][0]  # who holds what is sent: the account, or else the address
        charged = [(client, policy) for client, policy in charged if policy.quota]
        state["charge"] = partial(charge, self.windows, charged)
        standings = [(policy, self.windows.count(client, policy.quota)) for client, policy in charged]
        if not standings:
            return await self.app(scope, receive, send)
        policy, standing = min(standings, key=_room)
        state["headers"] += policy.headers(standing)
        if standing.allowed:
            return await self.app(scope, receive, send)
        await asyncio.sleep(REFUSAL_SECONDS)
        problem = errors.TooManyRequests(retry_after=standing.seconds)
        return await problems.respond(problem, state["request_id"])(scope, receive, send)

    def _charged(self, scope: Scope) -> "list[tuple[bytes, Policy]]":
        """The windows that a request counts in, each with its limit."""
        of_api = scope["path"].startswith(API)
        claims = claims_of(scope) if of_api else None
        if claims is None:
            area = b"address" if of_api else b"operations"
            return [(area + network(scope["state"]["address"]), self.per_address)]
        return [
            (b"session" + claims.session_id.bytes, self.per_session),
            (b"account" + claims.user_id.bytes, self.per_account),
        ]


def charge(windows: Windows, charged: "list[tuple[bytes, Policy]]", requests: int) -> None:
    """Counts a call as so many requests more than the one that it came as: what they would cost, it does."""
    if requests > 0:
        for client, policy in charged:
            windows.charge(client, policy.quota, requests, policy.windows)


class Policy:
    """A limit and how it is told (draft-ietf-httpapi-ratelimit-headers-11), and how many windows may be owed."""

    def __init__(self, name: bytes, quota: int, windows: int = MOST_WINDOWS) -> None:
        self.name = name
        self.quota = quota
        self.windows = windows
        self._header = (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, quota, WINDOW_SECONDS))

    def headers(self, standing: Standing) -> list[tuple[bytes, bytes]]:
        """What the client is told: the limit, and where it stands."""
        return [self._header, (b"ratelimit", b'"%b";r=%d;t=%d' % (self.name, standing.remaining, standing.seconds))]


def _room(counted: tuple[Policy, Standing]) -> tuple[bool, int]:
    """How much is left, to find the limit that is nearest."""
    _, standing = counted
    return standing.allowed, standing.remaining
