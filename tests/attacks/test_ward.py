"""What stops an attacker stops no ward: two hundred phones behind one address, with the limits there are by default.

Time is the test's: windows of ten seconds pass as quickly as the calls are made, so ten minutes take a few seconds.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.http import rate_limits
from tests.conftest import connect, started
from tests.forms import size
from tests.people import Person, dose, entry, treatment
from tests.routers.test_sync import put

pytestmark = [pytest.mark.anyio, pytest.mark.scaled]
logger = logging.getLogger(__name__)

PHONES = size("WARD_PHONES", short=40, long=200)
TEN_MINUTES = 600
ADDRESS = ("192.0.2.7", 4000)
LIMITS = (
    "requests_per_session",
    "requests_per_account",
    "requests_per_address",
    "requests_in_progress",
    "sessions_per_account",
    "changes_per_day",
)


@dataclass
class Ward:
    """The service as phones behind one address see it: what they were answered, and the least that was left to them."""

    http: httpx.AsyncClient
    people: list[Person]
    nanoseconds: int = 10**15
    statuses: Counter[int] = field(default_factory=Counter)
    left: dict[str, int] = field(default_factory=dict)

    def wait(self, seconds: float) -> None:
        """So much time passes for the limits."""
        self.nanoseconds += int(seconds * 1e9)

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None, **query: Any) -> Any:
        """The answer, which is counted."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = await self.http.request(method, path, json=body, headers=headers, params=query)
        self.statuses[answer.status_code] += 1
        name, left = answer.headers["RateLimit"].split(";")[:2]
        self.left[name.strip('"')] = min(self.left.get(name.strip('"'), 10**9), int(left.removeprefix("r=")))
        return answer

    async def sign_in(self, person: Person) -> dict[str, Any]:
        """What the sign-in answered."""
        told = await self.call("POST", "/v1/auth/sessions", {"email": person.email, "password": person.password})
        return dict(told.json())


@pytest.fixture(scope="module")
async def people(app: FastAPI) -> list[Person]:
    """So many patients, who made their accounts elsewhere."""
    people = [Person() for _ in range(PHONES)]
    await asyncio.gather(*(_register(app, person) for person in people))
    return people


@pytest.fixture
async def ward(people: list[Person], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ward]:
    """The ward, with a service that has the limits of its defaults."""
    monkeypatch.setattr(rate_limits, "REFUSAL_SECONDS", 0)
    defaults = {name: Settings.model_fields[name].default for name in LIMITS}
    async with started(settings, **defaults) as limited:
        transport = httpx.ASGITransport(limited, client=ADDRESS)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            made = Ward(http, people)
            limited.state.windows.clock = lambda: made.nanoseconds
            yield made


async def _register(app: FastAPI, person: Person) -> None:
    async with connect(app) as somewhere:
        assert (await person.register(somewhere)).status_code == 202


def day() -> list[dict[str, Any]]:
    """What somebody in hospital logs in a day, and the phone pushes at once."""
    plan = treatment("08:00", "14:00", "20:00")
    doses = [dose(plan["id"], f"2026-03-28T{hour}:00:00+01:00") for hour in ("08", "14", "20")]
    return [
        put("treatment", plan),
        *(put("treatment_event", one) for one in doses),
        *(put("entry", entry(note="after the visit")) for _ in range(8)),
    ]


async def synchronise(ward: Ward, session: dict[str, Any]) -> None:
    """A new token, what others changed, what was logged, and the timeline to look at it."""
    tokens = (await ward.call("POST", "/v1/auth/refresh", {"refresh_token": session["refresh_token"]})).json()
    call = partial(ward.call, token=tokens["access_token"])
    diary = f"/v1/patients/{session['user']['patient_id']}"
    await call("GET", f"{diary}/sync/pull", limit=200)
    push = {"device_id": "phone", "client_now": "2026-03-28T21:00:00+01:00", "mutations": day()}
    pushed = await call("POST", f"{diary}/sync/push", push)
    assert [one["status"] for one in pushed.json()["results"]] == ["created"] * 12
    await call("GET", f"{diary}/timeline", limit=50)


async def test_in_ten_minutes_a_ward_signs_in_and_synchronises_and_nobody_is_refused(ward: Ward) -> None:
    for person in ward.people:
        await synchronise(ward, await ward.sign_in(person))
        ward.wait(TEN_MINUTES / PHONES)
    logger.info("statuses %s, least left %s", ward.statuses, ward.left)
    assert ward.statuses == {201: PHONES, 200: 4 * PHONES}
    assert ward.left["address"] >= 200  # of 300


async def test_phones_that_come_back_at_the_same_moment_are_all_served(ward: Ward) -> None:
    """The network of the house was away: nobody signs in, and everybody has something to send."""
    sessions = []
    for person in ward.people:
        sessions.append(await ward.sign_in(person))
        ward.wait(TEN_MINUTES / PHONES)
    ward.wait(rate_limits.WINDOW_SECONDS)
    ward.statuses.clear()
    await asyncio.gather(*(synchronise(ward, session) for session in sessions))
    logger.info("statuses %s, least left %s", ward.statuses, ward.left)
    assert ward.statuses == {200: 4 * PHONES}


async def test_who_signs_in_at_the_same_moment_as_all_others_waits_two_minutes_at_most(ward: Ward) -> None:
    waiting, seconds = list(ward.people), 0
    while waiting:
        waiting = [person for person in waiting if "access_token" not in await ward.sign_in(person)]
        seconds += rate_limits.WINDOW_SECONDS
        ward.wait(rate_limits.WINDOW_SECONDS)
    logger.info("all are signed in after %s seconds", seconds - rate_limits.WINDOW_SECONDS)
    assert ward.statuses.keys() == {201, 429}
    assert seconds <= 120
