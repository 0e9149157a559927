"""Entries over HTTP."""

import pytest

from tests.people import Phone, entry, site

pytestmark = pytest.mark.anyio


async def test_a_new_entry_is_stored_and_read_back(ada: Phone) -> None:
    sent = entry(note="after the stairs")
    answer = await ada.http.post(f"{ada.diary}/entries", json=sent)
    assert answer.status_code == 201
    assert answer.headers["ETag"] == '"1"'
    stored = answer.json()
    assert stored["version"] == stored["change_seq"] == 1
    assert stored["local_date"] == "2026-03-28"
    assert stored["note"] == "after the stairs"
    assert (await ada.get(f"/entries/{sent['id']}")).json() == stored


async def test_resending_an_entry_stores_it_once(ada: Phone) -> None:
    sent = entry(sites=[site(3)])
    first = await ada.log(**sent)
    again = await ada.log(**sent)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert (await ada.get()).json()["head"] == 1
