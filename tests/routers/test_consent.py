"""What a clinician with a grant may do at its edges: before its window, without its scopes, with an older ETag."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from tests.answers import told
from tests.conftest import connect
from tests.people import Person, Phone, entry

pytestmark = pytest.mark.anyio

OLD, NEW = "2024-05-01T08:00:00Z", "2026-05-01T08:00:00Z"


@pytest.fixture
async def clinician(
    app: FastAPI, ada: Phone, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> AsyncIterator[httpx.AsyncClient]:
    """Signed in, with Ada's consent to read and write entries from 2025 on, without notes."""
    async with connect(app) as http:
        phone = await Person().register_and_sign_in(http)
        await superuser.execute("UPDATE users SET role = 'clinician' WHERE id = $1", UUID(phone.user_id))
        await superuser.execute("DELETE FROM patient_clocks WHERE patient_id = $1", UUID(phone.patient_id))
        await superuser.execute("DELETE FROM patients WHERE id = $1", UUID(phone.patient_id))
        await grant(superuser, ada, phone.user_id, ["entries:read", "entries:write"])
        yield http


async def grant(superuser: "asyncpg.Connection[asyncpg.Record]", ada: Phone, grantee: str, scopes: list[str]) -> None:
    await superuser.execute(
        "INSERT INTO grants (patient_id, grantee_id, status, scopes, data_from, purpose, expires_at)"
        " VALUES ($1, $2, 'active', $3, '2025-01-01', 'care', now() + interval '90 days')",
        UUID(ada.patient_id),
        UUID(grantee),
        scopes,
    )


async def test_nothing_is_written_before_the_window(ada: Phone, clinician: httpx.AsyncClient) -> None:
    path = f"{ada.diary}/entries"
    assert told(await clinician.post(path, json=entry(occurred_at=OLD))) == (403, "insufficient-scope")
    new = entry(occurred_at=NEW)
    assert (await clinician.post(path, json=new)).status_code == 201
    moved = await clinician.patch(f"{path}/{new['id']}", json={"occurred_at": OLD}, headers={"If-Match": '"1"'})
    assert told(moved) == (403, "insufficient-scope")
    assert (await ada.get()).json()["head"] == 1


async def test_what_lies_before_the_window_is_neither_shown_nor_changed(
    ada: Phone, clinician: httpx.AsyncClient
) -> None:
    old = entry(occurred_at=OLD, mood=3)
    await ada.log(**old)
    taken = await clinician.post(f"{ada.diary}/entries", json=entry(id=old["id"], occurred_at=NEW))
    assert told(taken) == (409, "conflict")
    assert "current" not in taken.json()
    fields = {name: value for name, value in entry(occurred_at=NEW).items() if name != "id"}
    path, match = f"{ada.diary}/entries/{old['id']}", {"If-Match": '"1"'}
    for answer in (
        await clinician.get(path),
        await clinician.put(path, json=fields, headers=match),
        await clinician.patch(path, json={"mood": 1}, headers=match),
        await clinician.delete(path, headers=match),
    ):
        assert told(answer) == (404, "not-found")
    assert (await ada.get(f"/entries/{old['id']}")).json()["version"] == 1


async def test_versions_from_before_the_window_stay_hidden_when_the_entry_moves_into_it(
    ada: Phone, clinician: httpx.AsyncClient
) -> None:
    moved = entry(occurred_at=OLD)
    await ada.log(**moved)
    path = f"/entries/{moved['id']}"
    await ada.http.patch(f"{ada.diary}{path}", json={"occurred_at": NEW}, headers={"If-Match": '"1"'})
    seen = (await clinician.get(f"{ada.diary}{path}/versions")).json()["items"]
    assert [version["version"] for version in seen] == [2]
    assert len((await ada.get(f"{path}/versions")).json()["items"]) == 2


async def test_an_etag_is_of_one_grant_only(
    ada: Phone, clinician: httpx.AsyncClient, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await ada.log(note="between us", occurred_at=NEW)
    first = await clinician.get(f"{ada.diary}/timeline")
    again = {"If-None-Match": first.headers["ETag"]}
    assert (await clinician.get(f"{ada.diary}/timeline", headers=again)).status_code == 304
    revoked = await superuser.fetchval(
        "UPDATE grants SET revoked_at = now() WHERE patient_id = $1 RETURNING grantee_id::text", UUID(ada.patient_id)
    )
    await grant(superuser, ada, revoked, ["entries:read", "notes:read"])
    renewed = await clinician.get(f"{ada.diary}/timeline", headers=again)
    assert renewed.status_code == 200
    assert "between us" in renewed.text


@pytest.mark.parametrize("scopes", [["entries:write"], ["notes:read"], ["treatments:write", "entries:read"]])
async def test_nobody_is_allowed_to_write_or_see_notes_without_reading(
    ada: Phone, clinician: httpx.AsyncClient, superuser: "asyncpg.Connection[asyncpg.Record]", scopes: list[str]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="readable"):
        await grant(superuser, ada, str(uuid4()), scopes)
