"""Accounts that an operator disables and enables: on the next request, for whatever they could do, and in the audit."""

import asyncio
from typing import TypeAlias
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.services import accounts
from app.services.invitations import Refused
from tests.conftest import url_of
from tests.people import Phone, grant, lent
from tests.waiting import until_locked_out

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def refresh(phone: Phone) -> httpx.Response:
    """What the phone gets for its refresh token."""
    return await phone.http.post("/v1/auth/refresh", json={"refresh_token": phone.tokens["refresh_token"]})


async def test_a_disabled_account_can_do_nothing_from_the_next_request_on_and_an_enabled_one_what_it_could(
    ada: Phone, bob: Phone, owner_url: str, superuser: Connection
) -> None:
    await grant(superuser, bob, ada)

    async def statuses() -> list[int]:
        answers = [
            await ada.get("/timeline"),
            await ada.log(),
            await lent(ada, bob).get(),
            await ada.http.get("/v1/me"),
        ]
        return [answer.status_code for answer in answers]

    assert await statuses() == [200, 201, 200, 200]
    await accounts.disable(owner_url, ada.person.email)
    assert await statuses() == [401] * 4
    assert [(await refresh(ada)).status_code, (await ada.person.sign_in(bob.http)).status_code] == [401, 401]
    await accounts.enable(owner_url, ada.person.email)
    assert await statuses() == [200, 201, 200, 200]
    assert (await refresh(ada)).is_success


async def test_what_an_operator_did_is_in_the_audit_trail(ada: Phone, owner_url: str, superuser: Connection) -> None:
    await accounts.disable(owner_url, ada.person.email)
    [since] = [one.disabled_at for one in await accounts.list_accounts(owner_url) if one.email == ada.person.email]
    await accounts.disable(owner_url, ada.person.email)
    listed = await accounts.list_accounts(owner_url, "patient", disabled=True)
    assert [one.disabled_at for one in listed if one.email == ada.person.email] == [since]
    await accounts.enable(owner_url, ada.person.email)
    noted = "SELECT action, role, outcome, patient_id, actor_id FROM audit_events WHERE record_ids = ARRAY[$1::uuid]"
    rows = [tuple(row) for row in await superuser.fetch(f"{noted} ORDER BY id", UUID(ada.user_id))]
    told = ("operator", "ok", UUID(ada.patient_id), None)
    assert rows == [("accounts.disable", *told), ("accounts.disable", *told), ("accounts.enable", *told)]


async def test_a_write_that_is_under_way_is_finished_before_the_account_is_disabled(
    ada: Phone, owner_url: str, superuser: Connection
) -> None:
    clock = "SELECT 1 FROM patient_clocks WHERE patient_id = $1 FOR UPDATE"
    writer = await asyncpg.connect(owner_url)
    async with writer.transaction():
        await writer.execute(clock, UUID(ada.patient_id))
        disabling = asyncio.create_task(accounts.disable(owner_url, ada.person.email))
        await until_locked_out(superuser)
    await disabling
    await writer.close()
    assert (await ada.log()).status_code == 401


async def test_the_serving_role_cannot_disable_anybody(ada: Phone, server_url: str, database_name: str) -> None:
    with pytest.raises(Refused, match=r"^This takes the owner's rights: set DIARY_MIGRATION_DATABASE_URL"):
        await accounts.disable(url_of(server_url, "diary_app", database_name), ada.person.email)
    assert (await ada.get()).is_success
