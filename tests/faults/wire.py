"""The wire between the service and PostgreSQL: a socket in its place whose open connections can be lost in silence."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

NAME = ".s.PGSQL.5432"


class Wire:
    """Carries bytes both ways. What it swallows stays open, and nothing of it arrives any more."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._lost: set[asyncio.Event] = set()
        self._open: dict[asyncio.Event, list[asyncio.StreamWriter]] = {}
        self.replies_only = False  # the next loss lets requests through: the server does what nobody hears of

    @property
    def lost(self) -> int:
        """How many were lost and not closed by the service since."""
        return len(self._open.keys() & self._lost)

    def swallow(self) -> int:
        """Loses every connection that is open now, and says how many; those opened later work."""
        found = self._open.keys() - self._lost
        for lost in found:
            lost.set()
        self._lost |= found
        return len(found)

    def cut(self) -> None:
        """Ends every connection at once."""
        for writers in list(self._open.values()):
            for writer in writers:
                writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the service or PostgreSQL ends it."""
        lost = asyncio.Event()
        upstream, upstream_writer = await asyncio.open_unix_connection(str(self._target))
        self._open[lost] = [writer, upstream_writer]
        try:
            back = asyncio.create_task(self._carry(upstream, writer, lost, request=False))
            await self._carry(reader, upstream_writer, lost, request=True)
            back.cancel()
        finally:
            del self._open[lost]
            writer.close()
            upstream_writer.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event, *, request: bool
    ) -> None:
        with suppress(OSError):
            while read := await reader.read(65536):
                if not lost.is_set() or (request and self.replies_only):
                    writer.write(read)
                    await writer.drain()
        if not request and not lost.is_set():
            writer.close()


@asynccontextmanager
async def wire(socket_directory: str) -> AsyncIterator[tuple[Wire, str]]:
    """A wire to the server whose socket lies there, and the directory to look in instead."""
    carrying = Wire(Path(socket_directory) / NAME)
    with tempfile.TemporaryDirectory(prefix="diary-wire-") as place:
        server = await asyncio.start_unix_server(carrying.serve, str(Path(place) / NAME))
        try:
            yield carrying, place
        finally:
            server.close()
            carrying.cut()
