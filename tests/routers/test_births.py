"""A birth date that is known by year or month only: taken as such, and no age is made up of it."""

from typing import Any

import pytest
from fastapi import FastAPI

from tests.answers import pointers, told
from tests.conftest import connect
from tests.people import Person, Phone, consent, profile, site
from tests.routers.test_sync import pushed, put

pytestmark = pytest.mark.anyio


async def born(http: Any, **known: str) -> Phone:
    person = Person()
    assert (await person.register(http, **known)).status_code == 202
    return await person.register_and_sign_in(http)  # a second registration changes nothing


@pytest.mark.parametrize(
    ("known", "day", "outside", "unknown"),
    [
        # The numeric scale is for ages from 8 on.
        ({"birth_date": "2017-01-01", "birth_date_precision": "year"}, "2024-12-31", True, False),
        ({"birth_date": "2017-01-01", "birth_date_precision": "year"}, "2025-01-01", False, True),
        ({"birth_date": "2017-01-01", "birth_date_precision": "year"}, "2025-12-30", False, True),
        ({"birth_date": "2017-01-01", "birth_date_precision": "year"}, "2025-12-31", False, False),
        ({"birth_date": "2018-04-01", "birth_date_precision": "month"}, "2026-03-31", True, False),
        ({"birth_date": "2018-04-01", "birth_date_precision": "month"}, "2026-04-29", False, True),
        ({"birth_date": "2018-04-01", "birth_date_precision": "month"}, "2026-04-30", False, False),
        ({"birth_date": "2018-04-01"}, "2026-03-31", True, None),
        ({"birth_date": "2018-04-01"}, "2026-04-01", False, None),
    ],
)
async def test_an_age_that_nobody_can_tell_is_neither_inside_nor_outside(
    app: FastAPI, known: dict[str, str], day: str, outside: bool, unknown: bool | None
) -> None:
    async with connect(app) as http:
        child = await born(http, **known)
        logged = (await child.log(performer="caregiver", occurred_at=f"{day}T08:00:00+02:00")).json()
        assert logged["outside_validated_age"] == ["nrs_0_10"] * outside
        assert logged.get("validated_age_unknown") == (None if unknown is None else ["nrs_0_10"] * unknown)
        again = await child.put(f"/entries/{logged['id']}", {**_own(logged), "mood": 3})
        assert again.json().get("validated_age_unknown") == logged.get("validated_age_unknown")


async def test_the_profile_tells_how_exactly_it_is_known_from_then_on(ada: Phone) -> None:
    known = profile(id=ada.patient_id, birth_date="2018-01-01", birth_date_precision="year")
    said = site(2) | {"region": "unspecified"}
    before = (await ada.log(sites=[said])).json()
    [stored] = await pushed(ada, put("profile", known))
    assert stored["status"] == "created"
    after = (await ada.log(sites=[said])).json()
    assert ("validated_age_unknown" in before, after["validated_age_unknown"]) == (False, ["nrs_0_10"])
    patient = (await ada.get()).json()
    assert (patient["birth_date"], patient["birth_date_precision"]) == ("2018-01-01", "year")
    [own] = (await ada.http.get("/v1/me/patients")).json()["items"]
    assert own["birth_date_precision"] == "year"
    exact = {"birth_date": "2010-05-17", "birth_date_precision": None}
    assert (await ada.patch("/profile", exact)).json()["birth_date_precision"] == "day"
    assert (await ada.get()).json()["birth_date_precision"] == "day"
    assert "validated_age_unknown" not in (await ada.log()).json()


async def test_a_clinicians_panel_tells_it_too(ada: Phone, bob: Phone) -> None:
    await pushed(ada, put("profile", profile(id=ada.patient_id, birth_date="1980-01-01", birth_date_precision="year")))
    await consent(ada, bob)
    panel = (await bob.http.get("/v1/me/patients")).json()["items"]
    assert {one["id"]: one["birth_date_precision"] for one in panel} == {ada.patient_id: "year", bob.patient_id: "day"}


@pytest.mark.parametrize(
    "known",
    [
        {"birth_date": "1980-05-17", "birth_date_precision": "year"},
        {"birth_date": "1980-02-01", "birth_date_precision": "year"},
        {"birth_date": "1980-05-17", "birth_date_precision": "month"},
    ],
)
async def test_a_date_that_says_more_than_is_known_is_refused_everywhere(ada: Phone, known: dict[str, str]) -> None:
    registered = await Person().register(ada.http, **known)
    assert (told(registered), pointers(registered)) == ((422, "invalid"), ["/birth_date"])
    [result] = await pushed(ada, put("profile", profile(id=ada.patient_id, **known)))
    assert [one["pointer"] for one in result["errors"]] == ["/mutations/0/data/birth_date"]


def _own(record: dict[str, Any]) -> dict[str, Any]:
    """What of an entry a phone may send back."""
    return {name: record[name] for name in ("occurred_at", "time_zone", "performer", "sites")}
