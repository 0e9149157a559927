"""A patient over HTTP: seen by whom the consent allows, and by nobody else known to exist."""

from uuid import uuid4

import httpx
import pytest

from tests.answers import pointers, told, without_request_id
from tests.people import Phone

pytestmark = pytest.mark.anyio


async def test_a_patient_sees_herself_and_how_far_her_diary_has_come(ada: Phone) -> None:
    await ada.log()
    answer = await ada.get()
    assert answer.status_code == 200
    assert answer.json() == {
        "id": ada.patient_id,
        "display_name": "Ada",
        "birth_date": "1980-05-17",
        "birth_date_precision": "day",
        "time_zone": "Europe/Berlin",
        "locale": "en",
        "head": 1,
    }
    assert answer.headers["Cache-Control"] == "no-store"


async def test_another_patient_is_answered_like_one_who_does_not_exist(ada: Phone, bob: Phone) -> None:
    answers = [await ada.http.get(f"/v1/patients/{other}") for other in (bob.patient_id, uuid4(), "bob", "1" * 400)]
    assert [told(answer) for answer in answers] == [(404, "not-found")] * 4
    assert len({str(without_request_id(answer)) for answer in answers}) == 1


async def test_nobody_sees_a_patient_without_signing_in(client: httpx.AsyncClient, ada: Phone) -> None:
    assert told(await client.get(ada.diary)) == (401, "unauthenticated")


async def test_a_parameter_that_a_patient_does_not_know_is_refused(ada: Phone) -> None:
    answer = await ada.get("?fields=head")
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == ["#query/fields"]
