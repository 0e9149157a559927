"""What a clinician with a grant may do at its edges: before its window, without its scopes, with an older ETag."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from tests.answers import ids, told
from tests.conftest import connect
from tests.people import Person, Phone, dose, entry, grant, lent, make_clinician, profile, treatment, without_id

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
LetIn: TypeAlias = Callable[..., Awaitable[Phone]]

SINCE = datetime(2025, 1, 1, tzinfo=UTC)
OLD, NEW = "2024-05-01T08:00:00Z", "2026-05-01T08:00:00Z"
DAYS = {"from": "2026-03-01", "to": "2026-03-31"}
OPENED = {  # by each scope, of the timeline
    "entries:read": {"entry"},
    "treatments:read": {"treatment", "treatment_event", "treatment_change"},
    "profile:read": {"profile"},
}
LISTS = {"entry": "/entries", "treatment": "/treatments", "treatment_event": "/treatment-events"}


@pytest.fixture
async def let_in(app: FastAPI, ada: Phone, superuser: Connection) -> AsyncIterator[LetIn]:
    """Signs in a new clinician with Ada's consent to these scopes, and points the phone at her diary."""
    async with AsyncExitStack() as stack:

        async def sign_in(*scopes: str, **fields: Any) -> Phone:
            phone = await Person().register_and_sign_in(await stack.enter_async_context(connect(app)))
            await make_clinician(superuser, phone)
            await grant(superuser, ada, phone, scopes=list(scopes), **fields)
            return lent(phone, ada)

        yield sign_in


@pytest.fixture
async def clinician(let_in: LetIn) -> Phone:
    """With Ada's consent to read and write entries from 2025 on, without notes."""
    return await let_in("entries:read", "entries:write", data_from=SINCE)


@pytest.fixture
async def therapist(let_in: LetIn) -> Phone:
    """With Ada's consent to read and write treatments from 2025 on."""
    return await let_in("treatments:read", "treatments:write", data_from=SINCE)


def plan(*years: int, until: str | None = None, **fields: Any) -> dict[str, Any]:
    """A plan agreed in the first of these years, with a regimen from each of them on."""
    regimens = [
        {"valid_from": f"{year}-03-01T00:00:00Z", "time_zone": "UTC", "schedule": {"type": "prn"}} for year in years
    ]
    if until is not None:
        regimens[-1]["valid_to"] = until
    agreed = f"{years[0]}-03-01T00:00:00Z"
    return treatment(occurred_at=agreed, recorded_at=agreed, regimens=regimens, **fields)


async def fill(ada: Phone) -> dict[str, dict[str, Any]]:
    """One record of each kind: of the pain an hour after a dose of what is taken as needed."""
    medicine = treatment(name="Canary drops", prescriber="Dr. Canary")
    records = {
        "entry": entry(occurred_at="2026-03-28T09:00:00+01:00"),
        "treatment": medicine,
        "treatment_event": dose(medicine["id"], pain_before=8),
    }
    for kind, record in records.items():
        assert (await ada.post(LISTS[kind], record)).status_code == 201
    assert (await ada.post("/profile", profile())).status_code == 201
    return records


async def test_nothing_is_written_before_the_window(ada: Phone, clinician: Phone) -> None:
    assert told(await clinician.log(occurred_at=OLD)) == (403, "insufficient-scope")
    new = (await clinician.log(occurred_at=NEW)).json()
    assert told(await clinician.patch(f"/entries/{new['id']}", {"occurred_at": OLD})) == (403, "insufficient-scope")
    assert (await ada.get()).json()["head"] == 1


async def test_what_lies_before_the_window_is_neither_shown_nor_changed(ada: Phone, clinician: Phone) -> None:
    old, new = entry(occurred_at=OLD, mood=3), entry(occurred_at=NEW)
    for sent in (old, new):
        await ada.log(**sent)
    taken = await clinician.log(id=old["id"], occurred_at=NEW)
    assert told(taken) == (409, "conflict")
    assert "current" not in taken.json()
    path = f"/entries/{old['id']}"
    for answer in (
        await clinician.get(path),
        await clinician.get(f"{path}/versions"),
        await clinician.put(path, without_id(new)),
        await clinician.patch(path, {"mood": 1}),
        await clinician.delete(path),
    ):
        assert told(answer) == (404, "not-found")
    for page in ("/entries", "/timeline"):
        assert ids(await clinician.get(page)) == [new["id"]]
    assert (await ada.get(path)).json()["version"] == 1


async def test_versions_from_before_the_window_stay_hidden_when_the_entry_moves_into_it(
    ada: Phone, clinician: Phone
) -> None:
    moved = entry(occurred_at=OLD)
    await ada.log(**moved)
    path = f"/entries/{moved['id']}"
    await ada.patch(path, {"occurred_at": NEW})
    seen = (await clinician.get(f"{path}/versions")).json()["items"]
    assert [version["version"] for version in seen] == [2]
    assert len((await ada.get(f"{path}/versions")).json()["items"]) == 2


async def test_a_plan_is_in_the_window_as_long_as_it_holds(ada: Phone, therapist: Phone) -> None:
    held, ended = plan(2024), plan(2024, until="2024-12-31T00:00:00Z")
    ending = plan(2024, until="2025-01-01T00:00:00Z")
    for sent in (held, ended, ending):
        await ada.post("/treatments", sent)
    assert set(ids(await therapist.get("/treatments"))) == {held["id"], ending["id"]}
    assert (await therapist.get(f"/treatments/{held['id']}")).json()["regimens"] == held["regimens"]
    own = {"prescriber": "Dr. Weber", "authored_by": "clinician"}
    assert (await therapist.patch(f"/treatments/{held['id']}", own)).status_code == 200
    assert len((await therapist.get(f"/treatments/{held['id']}/versions")).json()["items"]) == 2
    path = f"/treatments/{ended['id']}"
    for answer in (
        await therapist.get(path),
        await therapist.get(f"{path}/versions"),
        await therapist.get(f"{path}/slots", params=DAYS),
        await therapist.put(path, without_id(held)),
        await therapist.patch(path, {"prescriber": "Dr. Weber"}),
        await therapist.delete(path),
    ):
        assert told(answer) == (404, "not-found")
    assert ended["id"] not in (await therapist.get("/timeline")).text


async def test_a_plan_can_neither_end_before_the_window_nor_be_moved_there(ada: Phone, therapist: Phone) -> None:
    ended = plan(2024, until="2024-12-31T00:00:00Z", authored_by="clinician")
    assert told(await therapist.post("/treatments", ended)) == (403, "insufficient-scope")
    held = plan(2024)
    await ada.post("/treatments", held)
    cut = await therapist.patch(
        f"/treatments/{held['id']}", {"regimens": ended["regimens"], "status": "stopped", "authored_by": "clinician"}
    )
    assert told(cut) == (403, "insufficient-scope")
    assert (await ada.get()).json()["head"] == 1


async def test_events_and_changes_of_plans_before_the_window_are_not_there(ada: Phone, therapist: Phone) -> None:
    held = plan(2024, 2026, name="Held on to")
    old, new = dose(held["id"], OLD), dose(held["id"], NEW)
    await ada.post("/treatments", held)
    for sent in (old, new):
        await ada.post("/treatment-events", sent)
    assert ids(await therapist.get("/treatment-events")) == [new["id"]]
    assert told(await therapist.get(f"/treatment-events/{old['id']}")) == (404, "not-found")
    items = (await therapist.get("/timeline")).json()["items"]
    assert [(item["kind"], item["occurred_at"][:4]) for item in items] == [
        ("treatment_event", "2026"),
        ("treatment_change", "2026"),
        ("treatment", "2024"),
    ]
    assert (items[0]["treatment_name"], items[1]["change"]) == ("Held on to", "regimen_changed")
    own = (await ada.get("/timeline", params={"kinds": "treatment_change"})).json()["items"]
    assert [item["change"] for item in own] == ["regimen_changed", "started"]


async def test_a_plan_from_before_the_window_is_not_even_named_beside_an_event(ada: Phone, therapist: Phone) -> None:
    ended = plan(2024, until="2024-12-31T00:00:00Z", name="Canary drops")
    event = dose(ended["id"], NEW)
    await ada.post("/treatments", ended)
    assert (await ada.post("/treatment-events", event)).json()["treatment_name"] == "Canary drops"
    path = f"/treatment-events/{event['id']}"
    answers = [await therapist.get(one) for one in (path, f"{path}/versions", "/treatment-events", "/timeline")]
    answers.append(await therapist.patch(path, {"pain_after": 2}))
    answers.append(await therapist.post("/treatment-events", dose(ended["id"], NEW)))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 201]
    assert all('"treatment_missing"' in answer.text for answer in answers)
    assert [answer.text for answer in answers if "Canary" in answer.text or "treatment_name" in answer.text] == []


@pytest.mark.parametrize("scope", OPENED)
async def test_the_timeline_holds_what_the_scopes_open(ada: Phone, let_in: LetIn, scope: str) -> None:
    await fill(ada)
    reader = await let_in(scope)
    everything = (await ada.get("/timeline")).json()["items"]
    seen = await reader.get("/timeline")
    assert {item["kind"] for item in everything} == set.union(*OPENED.values())
    assert seen.json()["items"] == [item for item in everything if item["kind"] in OPENED[scope]]
    assert ("Canary" in seen.text) == (scope == "treatments:read")
    closed = set.union(*OPENED.values()) - OPENED[scope]
    assert (await reader.get("/timeline", params={"kinds": ",".join(closed)})).json()["items"] == []


async def test_several_scopes_open_what_each_of_them_does(ada: Phone, let_in: LetIn) -> None:
    await fill(ada)
    reader = await let_in(*OPENED)
    assert (await reader.get("/timeline")).json()["items"] == (await ada.get("/timeline")).json()["items"]


async def test_figures_can_be_shown_without_what_they_are_made_of(ada: Phone, let_in: LetIn) -> None:
    records = await fill(ada)
    reader = await let_in("adherence:read")
    own, shown = [(await phone.get("/adherence", params=DAYS)).json() for phone in (ada, reader)]
    assert shown | {"as_of": None} == own | {"as_of": None}
    assert shown["treatments"][0]["prn"]["change_after"]["value"] == -2
    lists = ["", "/timeline", "/profile", *LISTS.values()]
    for path in [*lists, *(f"{LISTS[kind]}/{record['id']}" for kind, record in records.items())]:
        assert told(await reader.get(path)) == (403, "insufficient-scope")


async def test_figures_begin_with_the_first_whole_day_of_the_window(ada: Phone, let_in: LetIn) -> None:
    medicine = treatment("08:00")
    await ada.post("/treatments", medicine)
    for day in (9, 10, 11):
        await ada.post("/treatment-events", dose(medicine["id"], f"2026-03-{day:02}T08:00:00+01:00"))
    reader = await let_in("adherence:read", data_from=datetime(2026, 3, 10, 12, tzinfo=UTC))
    own = (await ada.get("/adherence", params=DAYS | {"from": "2026-03-11"})).json()
    shown = (await reader.get("/adherence", params=DAYS)).json()
    assert shown | {"as_of": None} == own | {"as_of": None}
    assert (shown["from"], shown["overall"]["doses"]["outcomes"]["on_time"]) == ("2026-03-11", 1)
    before = await reader.get("/adherence", params=DAYS | {"to": "2026-03-10"})
    assert told(before) == (403, "insufficient-scope")


async def test_figures_are_not_shown_with_what_they_are_made_of(ada: Phone, let_in: LetIn) -> None:
    reader = await let_in(*OPENED)
    assert told(await reader.get("/adherence", params=DAYS)) == (403, "insufficient-scope")


@pytest.mark.parametrize("kind", LISTS)
async def test_an_id_that_is_taken_by_what_the_consent_does_not_open_is_a_conflict_that_shows_nothing(
    ada: Phone, let_in: LetIn, kind: str
) -> None:
    records = await fill(ada)
    scope = "treatments" if kind == "entry" else "entries"
    writer, other = await let_in(f"{scope}:read", f"{scope}:write"), "treatment" if kind == "entry" else "entry"
    path = f"{LISTS[other]}/{records[kind]['id']}"
    own = {"id": records[kind]["id"]} | ({"authored_by": "clinician"} if other == "treatment" else {})

    async def answers() -> list[httpx.Response]:
        return [
            await writer.post(LISTS[other], records[other] | own),
            await writer.get(path),
            await writer.get(f"{path}/versions"),
            await writer.put(path, without_id(records[other])),
            await writer.patch(path, {"time_zone": "Europe/Paris"}),
            await writer.delete(path),
        ]

    there = await answers()
    assert (await ada.delete(f"{LISTS[kind]}/{records[kind]['id']}")).status_code == 204
    for taken, *others in (there, await answers()):
        assert told(taken) == (409, "conflict")
        assert "current" not in taken.json()
        assert "ETag" not in taken.headers
        assert [told(answer) for answer in others] == [(404, "not-found")] * 5
    assert (await ada.get()).json()["head"] == 5


@pytest.mark.parametrize("path", [*LISTS.values(), "/timeline", "/entries/{entry}/versions"])
async def test_a_cursor_is_of_use_to_nobody_else(ada: Phone, let_in: LetIn, path: str) -> None:
    sent = (await fill(ada))["entry"]
    await ada.patch(f"/entries/{sent['id']}", {"mood": 1})
    for kind, make in (("treatment", plan(2026)), ("treatment_event", dose(str(uuid4()))), ("entry", entry())):
        await ada.post(LISTS[kind], make)
    readers = [ada, await let_in(*OPENED), await let_in(*OPENED)]
    place = path.format(entry=sent["id"])
    cursors = [(await reader.get(place, params={"limit": 1})).json()["next_cursor"] for reader in readers]
    for reader in readers:
        answers = [await reader.get(place, params={"cursor": cursor}) for cursor in cursors]
        refused = [answer for answer, holder in zip(answers, readers, strict=True) if holder is not reader]
        assert [told(answer) for answer in refused] == [(400, "cursor-invalid")] * 2
        assert sum(answer.status_code == 200 for answer in answers) == 1


async def test_an_etag_is_of_one_grant_only(ada: Phone, clinician: Phone, superuser: Connection) -> None:
    await ada.log(note="between us", occurred_at=NEW)
    first = await clinician.get("/timeline")
    again = {"If-None-Match": first.headers["ETag"]}
    assert (await clinician.get("/timeline", headers=again)).status_code == 304
    await superuser.execute("UPDATE grants SET revoked_at = now() WHERE patient_id = $1", UUID(ada.patient_id))
    await grant(superuser, ada, clinician, scopes=["entries:read", "notes:read"])
    renewed = await clinician.get("/timeline", headers=again)
    assert renewed.status_code == 200
    assert "between us" in renewed.text


@pytest.mark.parametrize(
    "scopes",
    [
        ["entries:write"],
        ["notes:read"],
        ["notes:read", "profile:read"],
        ["treatments:write", "entries:read"],
        ["profile:write"],
    ],
)
async def test_nobody_is_allowed_to_write_or_see_notes_without_reading(
    ada: Phone, clinician: Phone, superuser: Connection, scopes: list[str]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="readable"):
        await grant(superuser, ada, clinician, scopes=scopes)


async def test_of_a_profile_only_the_versions_that_held_in_the_window_are_shown(
    ada: Phone, bob: Phone, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await ada.post("/profile", profile(pregnancy={"status": "pregnant"}))
    await ada.patch("/profile", {"pregnancy": None})
    await grant(superuser, ada, bob, data_from=datetime.now(UTC))
    await ada.patch("/profile", {"breastfeeding": False}, version=2)
    history = await lent(bob, ada).get("/profile/versions")
    assert [version["version"] for version in history.json()["items"]] == [3, 2]
    assert "pregnan" not in history.text


async def test_a_deleted_record_of_another_kind_is_like_none(ada: Phone) -> None:
    plan = treatment()
    await ada.post("/treatments", plan)
    await ada.delete(f"/treatments/{plan['id']}")
    answers = [
        await ada.get(f"/entries/{plan['id']}"),
        await ada.put(f"/entries/{plan['id']}", without_id(entry())),
        await ada.patch(f"/entries/{plan['id']}", {"mood": 1}),
        await ada.delete(f"/entries/{plan['id']}"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert told(await ada.post("/entries", entry(id=plan["id"]))) == (409, "conflict")


@pytest.mark.parametrize("path", ["/timeline", "/entries", "/entries/{entry}/versions"])
@pytest.mark.parametrize("narrower", [{"scopes": ["entries:read"]}, {"data_from": "2024-06-01T00:00:00Z"}], ids=str)
async def test_a_cursor_of_before_a_narrowing_says_so_and_tells_nothing(
    ada: Phone, let_in: LetIn, superuser: Connection, path: str, narrower: dict[str, Any]
) -> None:
    sent = entry(occurred_at=NEW, note="between us")
    for record in (sent, entry(occurred_at=NEW), plan(2026), plan(2025)):
        await ada.post("/entries" if "sites" in record else "/treatments", record)
    await ada.patch(f"/entries/{sent['id']}", {"mood": 3})
    reader = await let_in("entries:read", "treatments:read", "notes:read", data_from=datetime(2024, 1, 1, tzinfo=UTC))
    place = path.format(entry=sent["id"])
    cursor = (await reader.get(place, params={"limit": 1})).json()["next_cursor"]
    own = (await ada.get(place, params={"limit": 1})).json()["next_cursor"]
    assert (await reader.get(place, params={"cursor": cursor})).status_code == 200
    [given] = (await ada.get("/grants")).json()["items"]
    assert (await ada.patch(f"/grants/{given['id']}", narrower)).status_code == 200
    refused = await reader.get(place, params={"cursor": cursor})
    assert told(refused) == (410, "consent-changed")
    assert (await ada.get(place, params={"cursor": own})).status_code == 200
    again = await reader.get(place, params={"limit": 1})
    assert (await reader.get(place, params={"cursor": again.json()["next_cursor"]})).status_code == 200
    seen = "SELECT cardinality(record_ids), outcome FROM audit_events WHERE request_id = $1"
    request = UUID(refused.headers["X-Request-Id"])
    found = await superuser.fetch(seen, request)
    assert [outcome for _, outcome in found] == ["consent_changed"]
