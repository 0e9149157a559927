"""A device's word that it has nothing left to send: who gives it, and when it counts for the whole diary."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from tests.answers import pointers, told
from tests.people import Phone, dose, entry, grant, lent, make_clinician, profile, treatment, without_id
from tests.routers.test_me import another_device

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


async def send_last(
    phone: Phone, method: str, path: str, body: dict[str, Any] | None = None, version: int = 1
) -> httpx.Response:
    """A write that says that nothing is left to send after it."""
    headers = {} if method == "POST" else {"If-Match": f'"{version}"'}
    words = {"outbox_empty": "true"}
    return await phone.http.request(method, f"{phone.diary}{path}", json=body, headers=headers, params=words)


async def log_last(phone: Phone) -> None:
    """Logs an entry, the last thing to send."""
    assert (await send_last(phone, "POST", "/entries", entry())).status_code == 201


async def push(phone: Phone, *, outbox_empty: bool = False) -> None:
    """Pushes an entry, perhaps the last thing to send."""
    record = entry()
    mutation = {"mutation_id": str(uuid4()), "op": "put", "kind": "entry", "id": record["id"], "base_version": 0}
    body = {
        "device_id": "phone",
        "client_now": datetime.now(UTC).isoformat(timespec="seconds"),
        "outbox_empty": outbox_empty,
        "mutations": [mutation | {"data": without_id(record)}],
    }
    pushed = await phone.post("/sync/push", body)
    assert [result["status"] for result in pushed.json()["results"]] == ["created"]


async def signed_in_at(superuser: Connection, phone: Phone) -> datetime:
    at: datetime = await superuser.fetchval("SELECT created_at FROM sessions WHERE id = $1", UUID(phone.session_id))
    return at


async def own_word(superuser: Connection, phone: Phone) -> datetime | None:
    """When this device last had nothing left to send."""
    word: datetime | None = await superuser.fetchval(
        "SELECT outbox_empty_at FROM sessions WHERE id = $1", UUID(phone.session_id)
    )
    return word


async def last_word(superuser: Connection, phone: Phone) -> datetime | None:
    """When all the devices of the diary had."""
    word: datetime | None = await superuser.fetchval("SELECT last_sync_confirmation($1)", UUID(phone.patient_id))
    return word


async def set_word(superuser: Connection, phone: Phone, word: datetime) -> None:
    await superuser.execute(
        "UPDATE sessions SET has_sent = true, outbox_empty_at = $2 WHERE id = $1", UUID(phone.session_id), word
    )


@pytest.mark.parametrize(
    ("place", "record", "change"),
    [
        ("/entries", entry(), {"mood": 3}),
        ("/treatments", treatment(), {"name": "Drops"}),
        ("/treatment-events", dose(str(uuid4())), {"pain_after": 3}),
    ],
)
async def test_every_write_may_be_the_last_one(
    ada: Phone, superuser: Connection, place: str, record: dict[str, Any], change: dict[str, Any]
) -> None:
    path, changed = f"{place}/{record['id']}", without_id(record) | change
    for method, at, body, version, status in (
        ("POST", place, record, 0, 201),
        ("POST", place, record, 0, 200),
        ("PUT", path, changed, 1, 200),
        ("PUT", path, changed, 1, 200),
        ("PATCH", path, {"performer": "caregiver"}, 2, 200),
        ("PATCH", path, {"performer": "caregiver"}, 2, 200),
        ("PATCH", path, {}, 3, 200),
        ("DELETE", path, None, 3, 204),
        ("DELETE", path, None, 3, 204),
    ):
        before = await own_word(superuser, ada) or LONG_AGO
        answer = await send_last(ada, method, at, body, version)
        assert answer.status_code == status, answer.text
        word = await own_word(superuser, ada)
        assert word is not None, (method, status)
        assert word > before, (method, status)


async def test_a_profile_may_be_the_last_thing_to_send(ada: Phone, superuser: Connection) -> None:
    for method, body in (("POST", profile()), ("PUT", profile(locale="de")), ("PATCH", {"breastfeeding": True})):
        await superuser.execute("UPDATE sessions SET outbox_empty_at = NULL WHERE id = $1", UUID(ada.session_id))
        answer = await send_last(ada, method, "/profile", body, 2 if method == "PATCH" else 1)
        assert answer.status_code in (200, 201), answer.text
        assert await own_word(superuser, ada) is not None


async def test_the_word_is_the_servers_time_of_the_last_one(ada: Phone, superuser: Connection) -> None:
    await log_last(ada)
    word = await own_word(superuser, ada)
    assert word is not None
    assert abs(await superuser.fetchval("SELECT now()") - word) < timedelta(minutes=1)
    await ada.log()
    assert await own_word(superuser, ada) == word  # what comes later does not take back what was said


async def test_a_refused_write_is_still_to_be_sent(ada: Phone, superuser: Connection) -> None:
    sent, gone = entry(), (await ada.log()).json()["id"]
    await ada.log(**sent)
    await ada.delete(f"/entries/{gone}")
    await set_word(superuser, ada, LONG_AGO)
    path = f"/entries/{sent['id']}"
    for status, answer in (
        (409, await send_last(ada, "POST", "/entries", sent | {"mood": 3})),
        (410, await send_last(ada, "POST", "/entries", sent | {"id": gone})),
        (422, await send_last(ada, "POST", "/entries", entry(mood=11))),
        (404, await send_last(ada, "PUT", f"/entries/{uuid4()}", without_id(sent))),
        (412, await send_last(ada, "PUT", path, without_id(sent) | {"mood": 3}, 2)),
        (412, await send_last(ada, "PATCH", path, {"mood": 3}, 2)),
        (422, await send_last(ada, "PATCH", path, {"mood": 11})),
        (412, await send_last(ada, "DELETE", path, None, 2)),
        (404, await send_last(ada, "DELETE", f"/entries/{uuid4()}")),
    ):
        assert answer.status_code == status, answer.text
    assert await own_word(superuser, ada) == LONG_AGO


@pytest.mark.parametrize("word", ["1", "True", "TRUE", "yes", "", "null", "true,true"])
async def test_a_word_is_true_or_false(ada: Phone, superuser: Connection, word: str) -> None:
    refused = await ada.post("/entries", entry(), params={"outbox_empty": word})
    assert (told(refused), pointers(refused)) == ((422, "invalid"), ["#query/outbox_empty"])
    assert (await ada.post("/entries", entry(), params={"outbox_empty": "false"})).status_code == 201
    assert await own_word(superuser, ada) is None


async def test_only_a_write_carries_a_word(ada: Phone) -> None:
    for path in ("/entries", "/timeline", "/treatments", "/treatment-events", "/profile"):
        refused = await ada.get(path, params={"outbox_empty": "true"})
        assert (told(refused), pointers(refused)) == ((422, "invalid"), ["#query/outbox_empty"])


async def test_a_diary_whose_devices_have_said_nothing_has_no_word(ada: Phone, superuser: Connection) -> None:
    assert await last_word(superuser, ada) is None
    await ada.log()
    await push(ada)
    assert await last_word(superuser, ada) is None
    await log_last(ada)
    assert await last_word(superuser, ada) == await own_word(superuser, ada) is not None


async def test_the_word_of_a_diary_is_true_of_all_its_devices(app: FastAPI, ada: Phone, superuser: Connection) -> None:
    await log_last(ada)
    first = await own_word(superuser, ada)
    assert first is not None
    async with another_device(app, ada, "Ada's tablet") as tablet:
        await tablet.get("/entries")
        assert await last_word(superuser, ada) == first  # it reads only
        await tablet.log()
        assert await last_word(superuser, ada) == first  # a write that was answered leaves nothing waiting
        await push(tablet)
        # It cannot hold anything from before it signed in; the service reads the clock, perhaps a moment behind.
        assert await last_word(superuser, ada) == min(first, await signed_in_at(superuser, tablet))
        await log_last(ada)
        assert await last_word(superuser, ada) == await signed_in_at(superuser, tablet)  # but since then it may
        await push(tablet, outbox_empty=True)
        await log_last(ada)
        second = await own_word(superuser, tablet)
        assert await last_word(superuser, ada) == second
        assert second is not None
        assert first < second


async def test_a_refused_write_changes_no_word(ada: Phone, app: FastAPI, superuser: Connection) -> None:
    sent = entry()
    await ada.log(**sent)
    await log_last(ada)
    word = await own_word(superuser, ada)
    async with another_device(app, ada, "Ada's tablet") as tablet:
        assert told(await send_last(tablet, "DELETE", f"/entries/{uuid4()}")) == (404, "not-found")
        assert told(await tablet.post("/entries", sent | {"mood": 3})) == (409, "conflict")
        assert told(await send_last(tablet, "POST", "/entries", sent | {"mood": 3})) == (409, "conflict")
        assert await own_word(superuser, tablet) is None
        assert await last_word(superuser, ada) == word


@pytest.mark.parametrize("ending", ["revoked_at = now()", "expires_at = now()"])
async def test_a_device_that_is_signed_out_counts_only_where_there_is_no_other(
    app: FastAPI, ada: Phone, superuser: Connection, ending: str
) -> None:
    async def sign_out(phone: Phone) -> None:
        await superuser.execute(f"UPDATE sessions SET {ending} WHERE id = $1", UUID(phone.session_id))

    async with another_device(app, ada, "lost on the train") as lost:
        await push(lost)
        await push(ada, outbox_empty=True)
        assert await last_word(superuser, ada) == await signed_in_at(superuser, lost)
        await sign_out(lost)
        assert await last_word(superuser, ada) == await own_word(superuser, ada)
    await sign_out(ada)
    assert await last_word(superuser, ada) == await own_word(superuser, ada)
    async with another_device(app, ada, "new") as new:
        await new.get("/entries")
        assert await last_word(superuser, ada) == await own_word(superuser, ada)  # nobody else has ever sent anything
        await new.log()
        assert await last_word(superuser, ada) == await own_word(superuser, ada)
        await push(new)
        assert await last_word(superuser, ada) == await signed_in_at(superuser, new)  # the other is asked no more


async def test_a_word_is_of_one_diary_only(ada: Phone, bob: Phone, superuser: Connection) -> None:
    await log_last(ada)
    assert await last_word(superuser, bob) is None
    await bob.log()
    assert await last_word(superuser, ada) == await own_word(superuser, ada)


@pytest.mark.parametrize(
    ("role", "scopes", "counted"),
    [
        ("caregiver", ["treatments:read", "treatments:write", "entries:read", "entries:write"], True),
        ("caregiver", ["treatments:read", "entries:read", "entries:write"], False),
        ("clinician", ["treatments:read", "treatments:write"], False),
    ],
)
async def test_who_logs_doses_for_a_patient_has_a_word_in_it(
    ada: Phone, bob: Phone, superuser: Connection, role: str, scopes: list[str], *, counted: bool
) -> None:
    if role == "clinician":
        await make_clinician(superuser, bob)
    else:
        await superuser.execute("UPDATE users SET role = $2 WHERE id = $1", UUID(bob.user_id), role)
    consent = await grant(superuser, ada, bob, scopes=scopes)
    await log_last(ada)
    helper = lent(bob, ada)
    plan = treatment(authored_by="clinician" if role == "clinician" else "patient")
    place, record = ("/entries", entry()) if "entries:read" in scopes else ("/treatments", plan)
    assert (await helper.post(place, record)).status_code == 201
    word = await own_word(superuser, ada)
    assert await last_word(superuser, ada) == word
    if counted:
        await push(helper)
    assert await last_word(superuser, ada) == (await signed_in_at(superuser, bob) if counted else word)
    await superuser.execute("UPDATE grants SET revoked_at = now() WHERE id = $1", consent)
    assert await last_word(superuser, ada) == word
