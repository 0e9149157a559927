"""A TCP proxy between phones and server that understands just enough HTTP to break exchanges at chosen places."""

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import Any

DELAY = 0.05  # seconds
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Fault(Enum):
    """What becomes of one exchange."""

    NONE = auto()
    DELAY = auto()  # the reply comes late
    CUT_REQUEST = auto()  # after so many bytes; the server sees half a request
    CUT_REPLY = auto()  # after so many bytes; the server has done its work
    DROP_REPLY = auto()  # none of it arrives
    RESET = auto()  # the same, and the connection is reset
    HALF_OPEN = auto()  # the same, and nobody says so


class Proxy:
    """Asks `choose` about each exchange: which fault, after how many bytes. Keeps what it lost."""

    def __init__(self, port: int, choose: Callable[[bytes], tuple[Fault, int]]) -> None:
        self._target = port
        self._choose = choose
        self.calm = False  # nothing goes wrong any more
        self.lost: list[bytes] = []  # replies that the server gave and no phone saw whole

    def lost_results(self) -> list[dict[str, Any]]:
        """The results of pushes in replies that were lost."""
        bodies = [reply.partition(b"\r\n\r\n")[2] for reply in self.lost if reply.startswith(b"HTTP/1.1 200")]
        return [result for body in bodies for result in json.loads(body).get("results", [])]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, exchange by exchange, until either side or a fault ends it."""
        upstream_writer = None
        try:
            upstream, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
            while await self._exchange(reader, writer, upstream, upstream_writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            if upstream_writer is not None:
                upstream_writer.close()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
    ) -> bool:
        request = await _message(reader)
        fault, number = (Fault.NONE, 0) if self.calm else self._choose(request)
        if fault is Fault.CUT_REQUEST:
            upstream_writer.write(request[: number % len(request)])
            await upstream_writer.drain()
            return False
        upstream_writer.write(request)
        reply = await _message(upstream)
        if fault in (Fault.NONE, Fault.DELAY):
            await asyncio.sleep(DELAY if fault is Fault.DELAY else 0)
            writer.write(reply)
            await writer.drain()
            return True
        self.lost.append(reply)
        if fault is Fault.CUT_REPLY:
            writer.write(reply[: number % len(reply)])
            await writer.drain()
        elif fault is Fault.RESET:
            reset(writer)
        elif fault is Fault.HALF_OPEN:
            await reader.read(1)  # until the phone loses patience
        return False


@asynccontextmanager
async def between(proxy: Proxy) -> AsyncIterator[str]:
    """The URL of the proxy while it listens."""
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 5)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One request or reply with its body, as long as Content-Length says."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection without a good-bye."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
