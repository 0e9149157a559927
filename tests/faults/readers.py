"""Phones that read: they fold pages into a copy, and crash between any two transactions of theirs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import httpx

from tests.waiting import PATIENCE

Json = dict[str, Any]
PAUSE, LONGEST_PAUSE = 0.05, 0.8  # seconds, where nothing new or nobody is there


class Reader:
    """A copy of one diary with the cursor that belongs to it."""

    def __init__(self, http: httpx.AsyncClient, patient_id: str, limit: int, random: Random, crash: float = 0) -> None:
        self.http = http
        self.patient_id = patient_id
        self.limit = limit
        self.copy: dict[str, Json] = {}
        self.deleted: dict[str, int] = {}  # what is gone, with the version that this made
        self.cursor: str | None = None
        self.epoch: str | None = None
        self.actions: list[str] = []  # of each 410
        self.faults: list[str] = []
        self.pages = 0
        self._random = random
        self._crash = crash

    async def follow(self, stop: asyncio.Event) -> None:
        """Pulls page after page until it is told to stop."""
        pause = PAUSE
        while not stop.is_set():
            page = await self.pull()
            if page is not None:
                self.store(page)
            pause = PAUSE if page is not None else min(2 * pause, LONGEST_PAUSE)
            if page is None or not page["has_more"]:
                await asyncio.sleep(pause)

    async def catch_up(self, most_pages: int) -> bool:
        """Pulls to the end, without crashes; whether it came there within so many pages."""
        self._crash = 0
        for _ in range(most_pages):
            page = await self._insist()
            if page is None:
                return False
            self.store(page)
            if not page["has_more"]:
                return True
        return False

    async def _insist(self) -> Json | None:
        """The next page, asked for again and again; None where it never comes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (page := await self.pull()) is None:
                    await asyncio.sleep(PAUSE)
                return page
        return None

    async def pull(self) -> Json | None:
        """The next page, or None where there was no answer."""
        params = {"limit": str(self.limit)} | ({"cursor": self.cursor} if self.cursor else {})
        try:
            answer = await self.http.get("/pull", params=params)
        except httpx.TransportError:
            return None
        if answer.status_code == 410:
            self.resync(answer.json()["action"])
        elif answer.status_code == 200:
            self.pages += 1
            return dict(answer.json())
        elif answer.status_code != 503 or "Retry-After" not in answer.headers:
            self.faults.append(f"a pull was answered with {answer.status_code}")
        return None

    def resync(self, action: str) -> None:
        """Whoever writes nothing begins anew, whatever the action."""
        self.actions.append(action)
        self.copy, self.deleted, self.cursor = {}, {}, None

    def store(self, page: Json) -> None:
        """The page in the phone's own store, as far as it comes before it crashes."""
        for transaction in self.transactions():
            if self._random.random() < self._crash:
                return
            transaction(page)

    def transactions(self) -> list[Callable[[Json], None]]:
        """Data and cursor in one."""
        return [self._store_both]

    def _store_both(self, page: Json) -> None:
        self._store_data(page)
        self._store_cursor(page)

    def _store_data(self, page: Json) -> None:
        for change in page["changes"]:
            if change["deleted"]:
                self.copy.pop(change["id"], None)
                self.deleted[change["id"]] = change["version"]
            else:
                self.copy[change["id"]] = change["record"]

    def _store_cursor(self, page: Json) -> None:
        self.cursor, self.epoch = page["cursor"], page["epoch"]


class HastyReader(Reader):
    """The mutant: it stores the cursor before the data."""

    def transactions(self) -> list[Callable[[Json], None]]:
        """The cursor, and then the data."""
        return [self._store_cursor, self._store_data]
