"""The timeline over HTTP: every kind in one stream. What it shares with the list of entries is tested there."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import chain, combinations
from random import Random
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter

from app.schemas.entries import ENTRY
from app.schemas.kinds import OF_MANY
from app.schemas.timeline import ITEM_KINDS, KnownItem
from app.schemas.treatment_events import TREATMENT_EVENT
from app.schemas.treatments import TREATMENT
from tests.answers import ids, pointers, told
from tests.conftest import connect
from tests.people import Person, Phone, dose, entry, grant, lent, profile, record_of, treatment

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Item = dict[str, Any]

ITEM: TypeAdapter[Any] = TypeAdapter(KnownItem)
# Eight ways to write four instants, on days that differ by place.
MOMENTS = [
    ["2026-03-27T20:00:00-10:00", "2026-03-28T06:00:00Z"],
    ["2026-03-28T23:30:00+01:00", "2026-03-29T11:30:00+13:00"],
    ["2026-03-29T01:30:00+01:00", "2026-03-28T17:30:00-07:00"],
    ["2026-03-29T03:30:00+02:00", "2026-03-29T01:30:00Z"],
]
PATHS = {kind.name: f"/{kind.path}" for kind in OF_MANY}
EVERY_COMBINATION = list(
    chain.from_iterable(combinations(ITEM_KINDS, count) for count in range(1, len(ITEM_KINDS) + 1))
)
COMBINATIONS = EVERY_COMBINATION[:31] + Random(1).sample(EVERY_COMBINATION[31:], min(31, len(EVERY_COMBINATION) - 31))


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
        ("region=lower_back_left", "#query/region"),
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


def plan(chance: Random) -> Item:
    """A treatment whose regimens and pauses begin and end at some of the moments."""
    at = [chance.choice(moment) for moment in MOMENTS]
    starts = sorted(chance.sample(range(3), chance.randint(1, 2)))
    regimens = []
    for start, after in zip(starts, [*starts[1:], 3], strict=True):
        until = {"valid_to": at[chance.randint(start + 1, after)]} if chance.random() < 0.5 else {}
        regimens.append(treatment()["regimens"][0] | {"valid_from": at[start]} | until)
    pauses = [{"from": at[number], "to": at[number + 1]} for number in range(3) if chance.random() < 0.4]
    status = chance.choice(["active", "active", "draft"])
    return treatment(occurred_at=chance.choice(at), regimens=regimens, pauses=pauses, status=status, name="A plan")


async def write(phone: Phone, method: str, path: str, body: Item | None = None, version: int = 1) -> httpx.Response:
    """A write that is accepted."""
    headers = {} if method == "POST" else {"If-Match": f'"{version}"'}
    answer = await phone.http.request(method, f"{phone.diary}{path}", json=body, headers=headers)
    assert answer.status_code in (200, 201, 204), answer.text
    return answer


async def fill(phone: Phone, chance: Random) -> None:
    """Writes a diary of every kind at few instants, and changes and deletes some of it."""

    def moment() -> str:
        return chance.choice(chance.choice(MOMENTS))

    plans = [plan(chance) for _ in range(8)]
    known = [chance.choice(plans)["id"] for _ in range(20)]
    records = [("/treatments", one) for one in plans]
    records += [("/treatment-events", dose(one, moment())) for one in [*known, str(uuid4())]]
    records += [("/entries", entry(occurred_at=moment(), note="a note")) for _ in range(16)]
    others = [kind for kind in OF_MANY if kind not in (ENTRY, TREATMENT, TREATMENT_EVENT)]
    records += [(f"/{kind.path}", record_of(kind, occurred_at=moment())) for kind in others for _ in range(8)]
    chance.shuffle(records)
    await write(phone, "POST", "/profile", profile(occurred_at=moment()))
    for path, record in records:
        await write(phone, "POST", path, record)
        if chance.random() < 0.2:
            await write(phone, "PATCH", f"{path}/{record['id']}", {"note": "changed", "performer": "caregiver"})
        elif chance.random() < 0.15:
            await write(phone, "DELETE", f"{path}/{record['id']}")
    await write(phone, "PATCH", "/profile", {"locale": "de"})


@pytest.fixture(scope="module")
async def mixed(app: FastAPI) -> AsyncIterator[Phone]:
    """A diary of every kind, many of it at one instant, that no test changes."""
    async with connect(app) as http:
        phone = await Person().register_and_sign_in(http)
        await fill(phone, Random(3))
        yield phone


async def whole(phone: Phone, **filters: str) -> list[Item]:
    """All items on one page."""
    answer = await phone.get("/timeline", params={"limit": 200, **filters})
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    assert page["next_cursor"] is None
    items: list[Item] = page["items"]
    return items


async def in_pages(phone: Phone, limit: int, **filters: str) -> list[str]:
    """The ids of all pages, in the order in which they came."""
    asked = filters | {"limit": str(limit)}
    page = await phone.get("/timeline", params=asked)
    seen = ids(page)
    while cursor := page.json()["next_cursor"]:
        page = await phone.get("/timeline", params=asked | {"cursor": cursor})
        assert 0 < len(ids(page)) <= limit
        assert not set(seen) & set(ids(page))  # or there might be no end to it
        seen += ids(page)
    return seen


def place(item: Item) -> tuple[datetime, str]:
    return datetime.fromisoformat(item["occurred_at"]), item["id"]


async def test_the_timeline_holds_every_record_and_every_change_once_in_one_order(
    mixed: Phone, superuser: Connection
) -> None:
    items = await whole(mixed)
    assert items == sorted(items, key=place, reverse=True)
    stored = await superuser.fetch(
        "SELECT id FROM records WHERE patient_id = $1 AND NOT deleted UNION ALL SELECT id FROM treatment_changes($1)",
        UUID(mixed.patient_id),
    )
    assert sorted(item["id"] for item in items) == sorted(str(row["id"]) for row in stored)
    assert {item["kind"] for item in items} == set(ITEM_KINDS)
    assert {item["change"] for item in items if "change" in item} == {
        "started",
        "regimen_changed",
        "paused",
        "resumed",
        "ended",
    }
    assert len({place(item)[0] for item in items}) == len(MOMENTS)


async def test_every_item_is_what_its_schema_says(mixed: Phone) -> None:
    for item in await whole(mixed):
        ITEM.validate_json(json.dumps(item))


async def test_every_item_is_what_its_own_call_answers(mixed: Phone) -> None:
    items = [item for item in await whole(mixed) if item["kind"] in PATHS]
    for item in items[::3]:
        assert (await mixed.get(f"{PATHS[item['kind']]}/{item['id']}")).json() == item


@pytest.mark.parametrize("limit", range(1, 8))
async def test_pages_of_any_size_hold_everything_once(mixed: Phone, limit: int) -> None:
    assert await in_pages(mixed, limit) == [item["id"] for item in await whole(mixed)]


@pytest.mark.parametrize("kinds", COMBINATIONS, ids="+".join)
async def test_any_kinds_can_be_asked_for_together(mixed: Phone, kinds: tuple[str, ...]) -> None:
    expected = [item for item in await whole(mixed) if item["kind"] in kinds]
    assert expected
    assert await whole(mixed, kinds=",".join(kinds)) == expected
    assert await in_pages(mixed, 5, kinds=",".join(reversed(kinds))) == [item["id"] for item in expected]


@pytest.mark.parametrize("kinds", [{}, *({"kinds": kind} for kind in ITEM_KINDS)])
@pytest.mark.parametrize(
    ("first", "last"),
    [("27", "27"), ("28", "28"), ("29", "29"), ("28", "29"), (None, "27"), (None, "28"), ("28", None), ("29", None)],
)
async def test_a_day_holds_what_was_on_it_by_the_clock_of_the_place(
    mixed: Phone, kinds: dict[str, str], first: str | None, last: str | None
) -> None:
    days = {"from": first and f"2026-03-{first}", "to": last and f"2026-03-{last}"}
    filters = kinds | {name: day for name, day in days.items() if day}
    expected = [
        item
        for item in await whole(mixed, **kinds)
        if filters.get("from", "2026-01-01") <= item["local_date"] <= filters.get("to", "2026-12-31")
    ]
    assert await whole(mixed, **filters) == expected
    assert await in_pages(mixed, 4, **filters) == [item["id"] for item in expected]


async def test_the_name_of_its_treatment_stands_beside_every_event(mixed: Phone) -> None:
    items = await whole(mixed)
    names = {item["id"]: item["name"] for item in items if item["kind"] == "treatment"}
    events = [item for item in items if item["kind"] == "treatment_event"]
    for event in events:
        assert event.get("treatment_name", "") == names.get(event["treatment_id"], "")
        assert event["flags"] == ([] if event["treatment_id"] in names else ["treatment_missing"])
    assert {event.get("treatment_name") for event in events} == {"A plan", None}


@pytest.mark.parametrize("seed", range(3))
async def test_a_diary_of_every_kind_keeps_the_invariants(ada: Phone, superuser: Connection, seed: int) -> None:
    await fill(ada, Random(seed))
    assert await superuser.fetch("SELECT verify_diary_v1($1)", UUID(ada.patient_id)) == []


async def test_every_kind_of_change_moves_the_etag_once(ada: Phone) -> None:
    plan, noted = treatment(), dose(str(uuid4()))
    for method, path, body, version in (
        ("POST", "/profile", profile(), 1),
        ("PATCH", "/profile", {"locale": "de"}, 1),
        ("POST", "/treatments", plan, 1),
        ("PATCH", f"/treatments/{plan['id']}", {"name": "Another"}, 1),
        ("DELETE", f"/treatments/{plan['id']}", None, 2),
        ("POST", "/treatment-events", noted, 1),
        ("DELETE", f"/treatment-events/{noted['id']}", None, 1),
    ):
        for page in ("/timeline", "/treatments", "/treatment-events"):
            known = {"If-None-Match": (await ada.get(page)).headers["ETag"]}
            assert (await ada.get(page, headers=known)).status_code == 304
        await write(ada, method, path, body, version)
        for page in ("/timeline", "/treatments", "/treatment-events"):
            assert (await ada.get(page, headers=known)).status_code == 200


async def test_a_plan_that_is_written_anew_shows_other_changes_at_once(ada: Phone) -> None:
    plan = treatment()
    await write(ada, "POST", "/treatments", plan)
    ended = plan["regimens"][0] | {"valid_to": "2026-04-13T00:00:00+02:00"}
    before = await whole(ada, kinds="treatment_change")
    await write(ada, "PATCH", f"/treatments/{plan['id']}", {"status": "stopped", "regimens": [ended]})
    after = await whole(ada, kinds="treatment_change")
    assert [change["change"] for change in before] == ["started"]
    assert [(change["change"], change["local_date"]) for change in after] == [
        ("ended", "2026-04-13"),
        ("started", "2026-03-01"),
    ]
    assert after[1] == before[0] | {"regimen": ended}


@pytest.mark.parametrize(
    ("scopes", "kinds"),
    [
        (["entries:read"], {"entry"}),
        (["treatments:read"], {"treatment", "treatment_event", "treatment_change"}),
        (["profile:read"], {"profile"}),
        (["entries:read", "profile:read"], {"entry", "profile"}),
    ],
)
async def test_a_reader_sees_the_kinds_that_the_consent_opens(
    mixed: Phone, ada: Phone, superuser: Connection, scopes: list[str], kinds: set[str]
) -> None:
    expected = [
        {name: value for name, value in item.items() if name != "note"}
        for item in await whole(mixed)
        if item["kind"] in kinds
    ]
    consent = await grant(superuser, mixed, ada, scopes=scopes)
    assert await whole(lent(ada, mixed)) == await whole(lent(ada, mixed), kinds=",".join(ITEM_KINDS)) == expected
    assert await in_pages(lent(ada, mixed), 6) == [item["id"] for item in expected]
    await superuser.execute("DELETE FROM grants WHERE id = $1", consent)


async def test_a_window_shows_the_plans_that_reach_into_it_and_what_happened_in_it(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    april, may = "2026-04-13T00:00:00+02:00", "2026-05-01T00:00:00+02:00"
    over = treatment(regimens=[treatment()["regimens"][0] | {"valid_to": april}])
    lasting = treatment(pauses=[{"from": april, "to": may}])
    for record in (over, lasting):
        await write(ada, "POST", "/treatments", record)
    await write(ada, "POST", "/profile", profile())
    old, new, ended = (
        dose(lasting["id"], "2026-04-20T08:00:00Z"),
        dose(lasting["id"], "2026-05-20T08:00:00Z"),
        dose(over["id"], "2026-05-21T08:00:00Z"),
    )
    for record in (old, new, ended):
        await write(ada, "POST", "/treatment-events", record)
    scopes = ["treatments:read", "treatments:write", "profile:read"]
    await grant(superuser, ada, bob, scopes=scopes, data_from=datetime(2026, 4, 25, tzinfo=UTC))
    reader = lent(bob, ada)
    seen = await whole(reader)
    assert [(item["kind"], item.get("change"), item.get("flags")) for item in seen] == [
        ("treatment_event", None, ["treatment_missing"]),
        ("treatment_event", None, []),
        ("treatment_change", "resumed", None),
        ("treatment", None, None),
        ("profile", None, None),
    ]
    assert [item["id"] for item in seen if item["kind"] != "treatment_change"] == [
        ended["id"],
        new["id"],
        lasting["id"],
        ada.patient_id,
    ]
    path = f"/treatment-events/{ended['id']}"
    assert (await reader.get(path)).json() == seen[0]
    assert (await reader.get(f"{path}/versions")).json()["items"][0]["record"] == seen[0]
    revised = (await reader.patch(path, {"pain_after": 2})).json()
    assert ("treatment_name" in revised, revised["flags"]) == (False, ["treatment_missing"])


async def test_a_page_of_days_that_are_over_keeps_its_content_while_the_diary_goes_on(ada: Phone) -> None:
    await ada.log(occurred_at="2025-03-28T08:00:00+01:00")
    old = {"from": "2025-01-01", "to": "2025-12-31"}
    for page in ("/timeline", "/entries"):
        first = await ada.get(page, params=old)
        await ada.log()
        again = await ada.get(page, params=old, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        moved = await ada.get(page, params=old, headers={"If-None-Match": again.headers["ETag"]})
        assert (moved.status_code, moved.headers["ETag"]) == (304, again.headers["ETag"])
        assert again.headers["ETag"] != first.headers["ETag"]
        await ada.log(occurred_at="2025-03-29T08:00:00+01:00")
        changed = await ada.get(page, params=old, headers={"If-None-Match": again.headers["ETag"]})
        assert changed.status_code == 200
        assert set(ids(first)) < set(ids(changed))
