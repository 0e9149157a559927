"""Twenty published schedules: each is stored by REST and by sync as it was sent, due as its leaflet says, and FHIR."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI

from app.domain.timing import as_written, dosages, version_of
from app.schemas.slots import plan_of
from app.schemas.treatments import TreatmentIn
from tests.conftest import connect
from tests.people import Person, Phone, treatment
from tests.published_schedules import PUBLISHED, Published

pytestmark = pytest.mark.anyio

NAMED = [pytest.param(one, id=one.words) for one in PUBLISHED]


@pytest.fixture(scope="module")
async def phone(app: FastAPI) -> AsyncIterator[Phone]:
    """A patient who is given all of them."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


def agreed(published: Published) -> dict[str, Any]:
    """A plan with these regimens; what ended long ago was completed."""
    status = "completed" if all("valid_to" in one for one in published.regimens) else "active"
    return treatment(name=published.words, regimens=published.regimens, status=status)


def test_there_are_twenty_and_more() -> None:
    assert len({one.words for one in PUBLISHED}) == len(PUBLISHED) >= 20


@pytest.mark.parametrize("published", NAMED)
async def test_it_is_stored_as_it_was_sent_by_rest_and_by_sync(phone: Phone, published: Published) -> None:
    sent = agreed(published)
    stored = (await phone.post("/treatments", sent)).json()
    assert stored["regimens"] == published.regimens
    data = agreed(published)
    mutation = {
        "mutation_id": str(uuid4()),
        "kind": "treatment",
        "op": "put",
        "id": data.pop("id"),
        "base_version": 0,
        "data": data,
    }
    push = {"device_id": "phone", "client_now": "2026-03-01T09:00:00+01:00", "mutations": [mutation]}
    [result] = (await phone.post("/sync/push", push)).json()["results"]
    assert result["status"] == "created"
    assert (await phone.get(f"/treatments/{mutation['id']}")).json()["regimens"] == published.regimens


@pytest.mark.parametrize("published", NAMED)
async def test_what_is_due_is_what_the_leaflet_says(phone: Phone, published: Published) -> None:
    sent = agreed(published)
    assert (await phone.post("/treatments", sent)).status_code == 201
    found = list[tuple[str, float | None]]()
    for first, last in (("2026-01-01", "2026-03-31"), ("2026-04-01", "2026-06-30"), ("2026-07-01", "2026-09-30")):
        slots = await phone.get(f"/treatments/{sent['id']}/slots", params={"from": first, "to": last})
        assert slots.status_code == 200, slots.text
        found += [(slot["due_at"][5:16].replace("T", " "), slot["dose"]["value"]) for slot in slots.json()["slots"]]
    assert found[: len(published.due)] == published.due
    assert bool(found) == bool(published.due)


@pytest.mark.parametrize("published", NAMED)
def test_it_is_a_timing_of_fhir_and_back(published: Published) -> None:
    plan = plan_of(TreatmentIn.model_validate(agreed(published)))
    for version in plan.regimens:
        assert version_of(dosages(version)) == as_written(version)
