"""What is still to come: on a timeline where it is asked for, and never above the present."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest
from fastapi import FastAPI

from tests.answers import ids
from tests.people import Phone, grant, lent, treatment
from tests.routers.test_timeline import in_pages, place, whole

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NOW = datetime.now(UTC).replace(microsecond=0)
ALL = "2199-12-31"


def at(**later: float) -> str:
    return (NOW + timedelta(**later)).isoformat()


class Clock:
    """The server's clock, put at some seconds after the start of a test, so that access tokens stay good."""

    def __init__(self) -> None:
        self.start = self.present = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)

    def after(self, seconds: int) -> str:
        """An instant of the test."""
        return (self.start + timedelta(seconds=seconds)).isoformat()

    def go_to(self, seconds: int) -> None:
        self.present = self.start + timedelta(seconds=seconds)


@pytest.fixture
def clock(app: FastAPI, ada: Phone, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock, from when somebody has signed in."""
    clock = Clock()
    monkeypatch.setattr(app.state.diary.database.clock, "now", lambda: clock.present)
    return clock


def running(**fields: Any) -> dict[str, Any]:
    """A plan of spring that pauses in three days and ends in ten."""
    regimen = treatment()["regimens"][0] | {"valid_to": at(days=10)}
    return treatment(regimens=[regimen], pauses=[{"from": at(days=3), "to": at(days=4)}], name="Running", **fields)


def coming() -> dict[str, Any]:
    """A plan that was agreed for next year."""
    regimen = treatment()["regimens"][0] | {"valid_from": at(days=400)}
    return treatment(regimens=[regimen], occurred_at=at(days=400), name="Coming")


@pytest.fixture
async def planned(ada: Phone) -> Phone:
    """A diary with an entry, one of a phone whose clock is fast, and both plans."""
    for body in (running(), coming()):
        assert (await ada.post("/treatments", body)).status_code == 201
    for later in ({"hours": -1}, {"hours": 1}):
        assert (await ada.log(occurred_at=at(**later))).status_code == 201
    return ada


def told(items: list[dict[str, Any]]) -> list[str]:
    return [item.get("change", item["kind"]) for item in items]


async def test_without_an_end_a_timeline_ends_now(planned: Phone) -> None:
    # What somebody logged has happened, whatever the phone's clock says: it is never held back.
    assert told(await whole(planned)) == ["entry", "entry", "treatment", "started"]
    assert told(await whole(planned, kinds="treatment_change")) == ["started"]
    assert told(await whole(planned, kinds="treatment")) == ["treatment"]
    assert told(await whole(planned, **{"from": at(days=1)[:10]})) == []


async def test_what_is_planned_comes_as_far_as_it_is_asked_for(planned: Phone) -> None:
    everything = await whole(planned, to=ALL)
    assert everything == sorted(everything, key=place, reverse=True)
    assert sorted(told(everything)[:2]) == ["started", "treatment"]
    assert told(everything)[2:] == ["ended", "resumed", "paused", "entry", "entry", "treatment", "started"]
    assert told(await whole(planned, to=at(days=5)[:10]))[:3] == ["resumed", "paused", "entry"]
    assert told(await whole(planned, **{"from": at(days=5)[:10], "to": at(days=300)[:10]})) == ["ended"]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_pages_of_any_size_end_now_too(planned: Phone, limit: int) -> None:
    assert await in_pages(planned, limit) == [item["id"] for item in await whole(planned)]
    assert await in_pages(planned, limit, to=ALL) == [item["id"] for item in await whole(planned, to=ALL)]


async def test_lists_and_sync_know_the_plans_to_come(planned: Phone) -> None:
    listed = (await planned.get("/treatments")).json()["items"]
    assert [one["name"] for one in listed] == ["Coming", "Running"]
    changes = (await planned.get("/sync/pull")).json()["changes"]
    assert {one["record"]["name"] for one in changes if one["kind"] == "treatment"} == {"Coming", "Running"}


async def test_a_page_that_is_known_holds_until_something_planned_is_due(ada: Phone, clock: Clock) -> None:
    ending = treatment()["regimens"][0] | {"valid_to": clock.after(120)}
    assert (await ada.post("/treatments", treatment(regimens=[ending]))).status_code == 201
    first = await ada.get("/timeline")
    assert told(first.json()["items"]) == ["treatment", "started"]
    known = {"If-None-Match": first.headers["ETag"]}
    for seconds in (0, 119):
        clock.go_to(seconds)
        again = await ada.get("/timeline", headers=known)
        assert (again.status_code, again.headers["ETag"]) == (304, first.headers["ETag"])
    clock.go_to(120)
    moved = await ada.get("/timeline", headers=known)
    assert (moved.status_code, told(moved.json()["items"])) == (200, ["ended", "treatment", "started"])
    assert moved.headers["ETag"] != first.headers["ETag"]
    clock.go_to(300)  # nothing is planned any more: it holds as long as the diary does not move
    for tag in (moved.headers["ETag"], "*"):
        assert (await ada.get("/timeline", headers={"If-None-Match": tag})).status_code == 304


@pytest.mark.parametrize("kinds", [{}, {"kinds": "treatment"}, {"kinds": "treatment,treatment_event"}])
async def test_a_plan_that_begins_later_is_due_then(ada: Phone, clock: Clock, kinds: dict[str, str]) -> None:
    regimen = treatment()["regimens"][0] | {"valid_from": at(days=3)}
    body = treatment(occurred_at=clock.after(120), regimens=[regimen])
    assert (await ada.post("/treatments", body)).status_code == 201
    first = await ada.get("/timeline", params=kinds)
    assert ids(first) == []
    known = {"If-None-Match": first.headers["ETag"]}
    assert (await ada.get("/timeline", params=kinds, headers=known)).status_code == 304
    clock.go_to(120)
    assert len(ids(await ada.get("/timeline", params=kinds, headers=known))) == 1


@pytest.mark.parametrize("until", ["u", "u1", "u٣", "u9999999999999", "u-1", "u1.u2", "x", "", "."])
async def test_no_made_up_etag_is_an_error(planned: Phone, until: str) -> None:
    state = (await planned.get("/timeline")).headers["ETag"].strip('"').partition(".")[0]
    answer = await planned.get("/timeline", headers={"If-None-Match": f'"{state}.{until}"'.encode()})
    assert answer.status_code in (200, 304)


async def test_a_reader_of_entries_is_not_told_when_a_plan_changes(
    planned: Phone, bob: Phone, superuser: Connection
) -> None:
    await grant(superuser, planned, bob, scopes=["entries:read"])
    answer = await lent(bob, planned).get("/timeline")
    assert told(answer.json()["items"]) == ["entry", "entry"]
    assert ".u" not in answer.headers["ETag"]
    assert ".u" in (await planned.get("/timeline")).headers["ETag"]
