"""Applications to be served where the server is what a test is about; their processes import little more than it."""

import asyncio
import os
from threading import Event
from types import SimpleNamespace
from typing import Any

from app.config import Settings
from app.http import rate_limits
from app.http.lifecycle import Lifecycle
from app.http.rate_limits import Windows
from tests.waiting import PATIENCE


class TinyApp:
    """Answers /echo with the body it read, /readyz with the lifecycle, /slow when released."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(lifecycle=Lifecycle())
        self.paths: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.release = Event()
        self.entered = Event()
        self.left = Event()
        self.disconnected = Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        self.paths.append(scope["path"])
        self.headers = scope["headers"]
        self.entered.set()
        try:
            await getattr(self, scope["path"].strip("/"))(receive, send)
        finally:
            self.left.set()

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def echo(self, receive: Any, send: Any) -> None:
        """The whole body again."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            body, more = body + message["body"], message["more_body"]
        await answer(send, 200, body)

    async def readyz(self, _: Any, send: Any) -> None:
        """503 while draining."""
        await answer(send, 503 if self.state.lifecycle.draining else 200, b"")

    async def slow(self, _: Any, send: Any) -> None:
        """An answer as soon as the test allows it."""
        await asyncio.to_thread(self.release.wait, PATIENCE)
        await answer(send, 200, b"done")

    async def early(self, _: Any, send: Any) -> None:
        """An answer before the body was read."""
        await answer(send, 413, b"no")

    async def begun(self, receive: Any, send: Any) -> None:
        """An answer that has begun while the body is still arriving."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()

    async def flood(self, _: Any, send: Any) -> None:
        """More than any socket buffers."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(512):
            await send({"type": "http.response.body", "body": bytes(256 * 1024), "more_body": True})
        await send({"type": "http.response.body"})

    async def environment(self, _: Any, send: Any) -> None:
        """The process and its metrics directory."""
        await answer(send, 200, f"{os.getpid()} {os.environ['PROMETHEUS_MULTIPROC_DIR']}".encode())


class CountingApp(TinyApp):
    """Answers /count with who counted and whether it was allowed, while time stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = Windows(os.environ[rate_limits.FILE], lambda: 10**15)

    async def count(self, _: Any, send: Any) -> None:
        """At most five."""
        await answer(send, 200, f"{os.getpid()} {self.windows.count(b'ada', 5).allowed}".encode())


async def answer(send: Any, status: int, body: bytes) -> None:
    """The whole answer."""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def settings(**changes: Any) -> Settings:
    """Of a server that nothing configures but these."""
    values: dict[str, Any] = {"environment": "development", "port": 0, "shutdown_seconds": PATIENCE} | changes
    return Settings(_env_file=None, **values)
