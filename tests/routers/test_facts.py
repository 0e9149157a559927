"""Every fact has a place: it is taken on every way in, and comes back on every way out as it was said."""

from typing import Any

import asyncpg
import pytest
from asyncpg import Connection

from tests.answers import pointers, told
from tests.people import Phone, entry, site, without_id
from tests.routers.test_sync import pull_all, pushed, put

pytestmark = pytest.mark.anyio

EPISODE = "0195d3f4-8e2a-7c31-9b1e-5a2f6c7d8e90"
WHERE: dict[str, Any] = {"characters": [], "radiates_to": []}
FACTS: dict[str, dict[str, Any]] = {
    "a score without a place": {"sites": [site(4, "unspecified")]},
    "a place that is in no list": {"sites": [site(4, "other")], "note": "Where the tooth was."},
    "a place without a score": {"sites": [{"region": "jaw_left", "characters": ["dull"]}]},
    "a symptom that was not there": {"associated_symptoms": [{"code": "fever", "present": False}]},
    "how severe a symptom was": {"associated_symptoms": [{"code": "nausea", "severity": "moderate_to_severe"}]},
    "a pain that is over": {"mood": 7, "course": "resolved"},
    "an attack in a chronic pain": {"mood": 2, "clinical_course": "acute_on_chronic", "course": "increasing"},
    "one reading of an attack": {"sites": [site(9)], "episode_id": EPISODE},
    "how long it has lasted so far": {"sites": [site(5)], "ongoing": True, "duration_minutes": 180},
}


def only_said(record: dict[str, Any]) -> dict[str, Any]:
    """The record without empty lists and without what a symptom that was named says of itself."""
    symptoms = [{"present": True} | one for one in record.get("associated_symptoms", ())]
    sites = [WHERE | {"scores": []} | one for one in record.get("sites", ())]
    return {
        name: value for name, value in (record | {"associated_symptoms": symptoms, "sites": sites}).items() if value
    }


def assert_said(sent: dict[str, Any], answered: dict[str, Any]) -> None:
    said = only_said(sent)
    assert {name: only_said(answered).get(name) for name in said} == said


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
async def test_a_fact_comes_back_as_it_was_said_whichever_way_it_went(ada: Phone, fact: dict[str, Any]) -> None:
    by_rest, by_sync, replaced = ({"mood": None, **entry(**fact)} for _ in range(3))
    posted = await ada.log(**by_rest)
    assert posted.status_code == 201, posted.text
    [result] = await pushed(ada, put("entry", by_sync))
    assert result["status"] == "created", result
    assert (await ada.log(**entry(id=replaced["id"], mood=1))).status_code == 201
    assert (await ada.put(f"/entries/{replaced['id']}", without_id(replaced))).status_code == 200
    timeline = {item["id"]: item for item in (await ada.get("/timeline")).json()["items"]}
    copy = await pull_all(ada, 100)
    for sent in (by_rest, by_sync, replaced):
        [newest, *_] = (await ada.get(f"/entries/{sent['id']}/versions")).json()["items"]
        for answered in (timeline[sent["id"]], copy[sent["id"]], newest["record"]):
            assert_said(sent, answered)


async def test_a_place_that_is_on_no_map_is_found_by_its_code(ada: Phone) -> None:
    for region in ("unspecified", "other", "jaw_left"):
        await ada.log(**entry(sites=[site(3, region)]))
    for region in ("unspecified", "other"):
        found = (await ada.get("/entries", params={"region": region})).json()["items"]
        assert [one["sites"][0]["region"] for one in found] == [region]


async def test_a_place_without_a_score_is_found_by_place_and_not_by_score(ada: Phone) -> None:
    sent = entry(sites=[{"region": "jaw_left"}])
    assert (await ada.log(**sent)).status_code == 201
    by_place = await ada.get("/entries", params={"region": "jaw_left"})
    by_score = await ada.get("/entries", params={"scale": "nrs_0_10", "min_score": "0"})
    assert [len(page.json()["items"]) for page in (by_place, by_score)] == [1, 0]


async def test_a_symptom_that_was_not_there_is_told_apart_in_sql(
    ada: Phone, superuser: "Connection[asyncpg.Record]"
) -> None:
    symptoms = [{"code": "nausea", "severity": "mild"}, {"code": "fever", "present": False}]
    await ada.log(**entry(associated_symptoms=symptoms))
    asked = "SELECT symptom, present, severity FROM associated_symptoms WHERE patient_id = $1 ORDER BY symptom"
    found = await superuser.fetch(asked, ada.patient_id)
    assert [tuple(row) for row in found] == [("fever", False, None), ("nausea", True, "mild")]


@pytest.mark.parametrize(
    ("fact", "pointer"),
    [
        ({"no_pain": True, "sites": [{"region": "jaw_left"}]}, "/no_pain"),
        (
            {"associated_symptoms": [{"code": "fever", "present": False, "severity": "mild"}]},
            "/associated_symptoms/0/severity",
        ),
        ({"ended_at": "2026-03-29T09:00:00+02:00", "duration_minutes": 60}, "/duration_minutes"),
        ({"course": "cured"}, "/course"),
    ],
)
async def test_what_contradicts_itself_is_told_at_its_place_on_every_way_in(
    ada: Phone, fact: dict[str, Any], pointer: str
) -> None:
    wrong = entry(**fact)
    posted = await ada.post("/entries", wrong)
    assert (told(posted), pointers(posted)) == ((422, "invalid"), [pointer])
    [result] = await pushed(ada, put("entry", wrong))
    assert [one["pointer"] for one in result["errors"]] == [f"/mutations/0/data{pointer}"]
