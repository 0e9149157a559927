"""The own account and its devices: each is listed, and one that is signed out is out at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from tests.answers import pointers, told
from tests.conftest import connect
from tests.people import Phone

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def another_device(app: FastAPI, phone: Phone, name: str | None) -> AsyncIterator[Phone]:
    """The same person signed in on a second device."""
    async with connect(app) as http:
        answer = await phone.person.sign_in(http, **({"device_name": name} if name else {}))
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield Phone(http, phone.person, answer.json())


async def refresh(phone: Phone) -> httpx.Response:
    return await phone.http.post("/v1/auth/refresh", json={"refresh_token": phone.tokens["refresh_token"]})


async def test_who_am_i(ada: Phone) -> None:
    answer = await ada.http.get("/v1/me")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": ada.user_id,
        "role": "patient",
        "email": ada.person.email,
        "display_name": "Ada",
        "locale": "en",
        "patient_id": ada.patient_id,
    }


async def test_every_device_is_listed_the_one_in_use_first_and_marked(app: FastAPI, ada: Phone) -> None:
    async with another_device(app, ada, "Ada's tablet") as tablet, another_device(app, ada, None) as nameless:
        devices = (await tablet.http.get("/v1/me/sessions")).json()["items"]
        assert [device["id"] for device in devices] == [nameless.session_id, tablet.session_id, ada.session_id]
        assert [device.get("device_name") for device in devices] == [None, "Ada's tablet", "Ada's phone"]
        assert [device["current"] for device in devices] == [False, True, False]
        await refresh(ada)
        devices = (await tablet.http.get("/v1/me/sessions")).json()["items"]
        assert devices[0]["id"] == ada.session_id
        assert devices[0]["created_at"] <= devices[0]["last_seen_at"] < devices[0]["expires_at"]


async def test_a_device_that_is_signed_out_is_refused_on_its_next_request(app: FastAPI, ada: Phone) -> None:
    async with another_device(app, ada, "lost on the train") as lost:
        sent = (await lost.log()).json()
        entry = f"/entries/{sent['id']}"
        answer = await ada.http.delete(f"/v1/me/sessions/{lost.session_id}")
        assert (answer.status_code, answer.content) == (204, b"")
        refused = [
            await lost.http.get("/v1/me"),
            await lost.http.get("/v1/me/sessions"),
            await lost.http.delete("/v1/me/sessions"),
            await refresh(lost),
            await lost.get(),
            await lost.log(),
            await lost.get(entry),
            await lost.get("/entries"),
            await lost.get("/timeline"),
            await lost.get(f"{entry}/versions"),
            await lost.http.delete(f"{lost.diary}{entry}", headers={"If-Match": '"1"'}),
        ]
        assert [told(answer) for answer in refused] == [(401, "unauthenticated")] * len(refused)
    assert [device["id"] for device in (await ada.http.get("/v1/me/sessions")).json()["items"]] == [ada.session_id]
    assert (await ada.get(entry)).json()["version"] == 1


async def test_all_other_devices_can_be_signed_out_at_once(app: FastAPI, ada: Phone, bob: Phone) -> None:
    async with another_device(app, ada, "one") as one, another_device(app, ada, "two") as two:
        assert (await ada.http.delete("/v1/me/sessions")).status_code == 204
        for device in (one, two):
            assert told(await device.http.get("/v1/me")) == (401, "unauthenticated")
            assert told(await refresh(device)) == (401, "unauthenticated")
    assert (await ada.http.get("/v1/me")).status_code == (await bob.http.get("/v1/me")).status_code == 200


async def test_signing_out_where_one_is_ends_the_own_session(ada: Phone) -> None:
    assert (await ada.http.delete(f"/v1/me/sessions/{ada.session_id}")).status_code == 204
    assert told(await ada.http.get("/v1/me")) == (401, "unauthenticated")


async def test_only_the_own_live_devices_can_be_signed_out(app: FastAPI, ada: Phone, bob: Phone) -> None:
    async with another_device(app, ada, "old") as old:
        assert (await ada.http.delete(f"/v1/me/sessions/{old.session_id}")).status_code == 204
    for session_id in (bob.session_id, old.session_id, str(uuid4()), "mine", "%F0%9F%98%80"):
        assert told(await ada.http.delete(f"/v1/me/sessions/{session_id}")) == (404, "not-found")
    assert (await bob.http.get("/v1/me")).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/sessions"), ("DELETE", "/sessions")])
async def test_a_parameter_that_the_account_does_not_know_is_refused(ada: Phone, method: str, path: str) -> None:
    answer = await ada.http.request(method, f"/v1/me{path}?user={ada.user_id}")
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == ["#query/user"]
