"""Starts an embedded PostgreSQL again when it dies, as a supervisor would: at once, then ever later, then no more."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from app.postgres.embedded import CannotStart, Server

PAUSES = (0, 1, 2, 4, 8)  # seconds before each start within the time in which they count
COUNTED_SECONDS = 600
LOOK_SECONDS = 0.2

logger = logging.getLogger("diary.postgres")


@contextmanager
def kept_alive(server: Server) -> Iterator[None]:
    """Restarts the server while the block runs. Where that does not help it ends this process by SIGTERM.

    The block then has the time to end what it began; CannotStart follows.
    """
    keeper = Keeper(server)
    keeper.start()
    try:
        yield
    finally:
        keeper.end()
    if keeper.gave_up:
        raise CannotStart(
            f"PostgreSQL died more than {len(PAUSES)} times within {COUNTED_SECONDS // 60} minutes: the end of"
            f" {server.data_directory.parent / 'postgres.log'} may say why."
        )


class Keeper(Thread):
    """Watches over one server in a thread of its own."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="postgres", daemon=True)
        self.gave_up = False
        self._server = server
        self._ending = Event()
        self._starts: list[float] = []

    def end(self) -> None:
        """Watches no longer."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        """What the thread does."""
        while not self._ending.wait(LOOK_SECONDS):
            if self._server.dead:
                self._start_again()

    def _start_again(self) -> None:
        self._starts = [start for start in self._starts if time.monotonic() - start < COUNTED_SECONDS]
        if len(self._starts) == len(PAUSES):
            self._give_up()
            return
        pause = PAUSES[len(self._starts)]
        logger.warning("PostgreSQL died; it is started again %s", f"in {pause} seconds" if pause else "at once")
        if self._ending.wait(pause):
            return
        self._starts.append(time.monotonic())
        try:
            self._server.restart()
        except CannotStart:
            logger.error("PostgreSQL does not start: the end of its log may say why")
        else:
            logger.warning("PostgreSQL runs again")

    def _give_up(self) -> None:
        logger.error("PostgreSQL died too often: the service ends")
        self.gave_up = True
        self._ending.set()
        os.kill(os.getpid(), signal.SIGTERM)
