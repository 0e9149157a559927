"""The timeline over HTTP: every kind in one stream. What it shares with the list of entries is tested there."""

import httpx
import pytest

from tests.answers import ids, pointers, told
from tests.people import Phone

pytestmark = pytest.mark.anyio


async def test_the_timeline_tells_the_kinds_apart_and_shows_the_newest_first(ada: Phone) -> None:
    days = [(await ada.log(occurred_at=f"2026-03-{day}T08:00:00+01:00")).json() for day in (11, 13, 12)]
    items = (await ada.get("/timeline")).json()["items"]
    assert items == [days[1], days[2], days[0]]
    assert {item["kind"] for item in items} == {"entry"}


async def test_the_timeline_can_be_narrowed_to_kinds(ada: Phone) -> None:
    logged = (await ada.log()).json()
    assert ids(await ada.get("/timeline", params={"kinds": "entry"})) == [logged["id"]]


async def test_a_timeline_of_nothing_is_an_empty_page(ada: Phone) -> None:
    assert (await ada.get("/timeline")).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("filters", "pointer"),
    [
        ("kinds=entry,dream", "#query/kinds"),
        ("kinds=", "#query/kinds"),
        ("kinds=entry&kinds=entry", "#query/kinds"),
        ("from=2026-03-29&to=2026-03-28", "#query/from"),
        ("to=tomorrow", "#query/to"),
        ("limit=0", "#query/limit"),
        ("limit=201", "#query/limit"),
        ("region=lower_back_left", "#query"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused_not_ignored(ada: Phone, filters: str, pointer: str) -> None:
    answer = await ada.get(f"/timeline?{filters}")
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == [pointer]


async def test_a_cursor_goes_with_the_kinds_it_was_made_for(ada: Phone) -> None:
    for _ in range(2):
        await ada.log()
    cursor = (await ada.get("/timeline", params={"limit": 1})).json()["next_cursor"]
    assert told(await ada.get("/timeline", params={"cursor": cursor, "kinds": "entry"})) == (400, "cursor-invalid")
    assert len(ids(await ada.get("/timeline", params={"cursor": cursor}))) == 1


async def test_the_head_of_the_diary_and_nothing_else_moves_the_etag(ada: Phone, bob: Phone) -> None:
    before = (await ada.get("/timeline")).headers["ETag"]
    await bob.log()
    await ada.get("/entries")
    assert (await ada.get("/timeline", headers={"If-None-Match": before})).status_code == 304
    await ada.log()
    assert (await ada.get("/timeline", headers={"If-None-Match": before})).status_code == 200


async def test_nobody_reads_a_timeline_without_signing_in(client: httpx.AsyncClient, ada: Phone) -> None:
    assert told(await client.get(f"{ada.diary}/timeline")) == (401, "unauthenticated")
