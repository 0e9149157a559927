"""Where and when it was: fixed offsets, plain UTC, an offset that the zone did not have, and a day without a time."""

from typing import Any

import pytest

from app.schemas.kinds import KINDS
from app.schemas.records import AnyKind
from tests.answers import pointers, told
from tests.people import Person, Phone, dose, entry, record_of, site, treatment, without_id
from tests.routers.test_sync import pull_all, pushed, put

pytestmark = pytest.mark.anyio

EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
MIDNIGHT_IN_BERLIN = "2026-03-28T23:00:00Z"


async def answered(phone: Phone, kind: AnyKind, **fields: Any) -> dict[str, Any]:
    """A record of the kind as it comes back after a push."""
    sent = record_of(kind) | fields
    if kind.holds == "singleton":
        sent["id"] = phone.patient_id
    [result] = await pushed(phone, put(kind.name, sent))
    assert result["status"] == "created", result
    return (await pull_all(phone, 100))[sent["id"]]


@EVERY_KIND
async def test_of_an_instant_in_plain_utc_the_zone_tells_the_day(ada: Phone, kind: AnyKind) -> None:
    record = await answered(ada, kind, occurred_at=MIDNIGHT_IN_BERLIN, time_zone="Europe/Berlin")
    assert (record["local_date"], record["occurred_at"]) == ("2026-03-29", MIDNIGHT_IN_BERLIN)
    assert "offset_differs_from_zone" not in record


@EVERY_KIND
async def test_a_fixed_offset_is_a_zone(ada: Phone, kind: AnyKind) -> None:
    record = await answered(ada, kind, occurred_at="2026-03-28T18:30:00Z", time_zone="+05:30")
    assert (record["local_date"], record["time_zone"]) == ("2026-03-29", "+05:30")


@EVERY_KIND
async def test_an_offset_that_the_zone_did_not_have_is_kept_and_flagged(ada: Phone, kind: AnyKind) -> None:
    said = "2026-03-29T23:30:00-07:00"
    record = await answered(ada, kind, occurred_at=said, time_zone="Europe/Berlin")
    assert (record["local_date"], record["occurred_at"]) == ("2026-03-29", said)
    assert record["offset_differs_from_zone"] is True


@EVERY_KIND
async def test_a_day_without_a_time_says_so(ada: Phone, kind: AnyKind) -> None:
    assert (await answered(ada, kind, occurred_precision="day"))["occurred_precision"] == "day"


async def test_who_corrects_the_zone_corrects_day_and_flag(ada: Phone) -> None:
    sent = entry(occurred_at="2026-03-29T01:00:00+05:30", time_zone="Europe/Berlin")
    logged = (await ada.log(**sent)).json()
    assert (logged["local_date"], logged["offset_differs_from_zone"]) == ("2026-03-29", True)
    corrected = (await ada.patch(f"/entries/{sent['id']}", {"time_zone": "Asia/Kolkata"})).json()
    assert "offset_differs_from_zone" not in corrected
    moved = {"occurred_at": "2026-03-28T19:30:00Z", "time_zone": "UTC"}
    assert (await ada.patch(f"/entries/{sent['id']}", moved, 2)).json()["local_date"] == "2026-03-28"
    again = await ada.log(**sent)
    assert (again.status_code, again.json()["version"]) == (200, 3)  # a replay, though others came after


async def test_pages_go_by_the_patients_days(ada: Phone) -> None:
    await ada.log(**entry(occurred_at=MIDNIGHT_IN_BERLIN))
    for day, found in (("2026-03-28", 0), ("2026-03-29", 1)):
        page = (await ada.get("/timeline", params={"from": day, "to": day})).json()["items"]
        assert len(page) == found


@pytest.mark.parametrize(
    ("zone", "day"), [("Europe/Berlin", "2026-03-02"), ("+05:30", "2026-03-02"), ("-05:30", "2026-03-01")]
)
async def test_the_change_of_a_plan_is_on_the_day_of_its_zone(ada: Phone, zone: str, day: str) -> None:
    plan = treatment(time_zone=zone)
    plan["regimens"] = [plan["regimens"][0] | {"valid_from": "2026-03-01T23:30:00Z", "time_zone": zone}]
    assert (await ada.post("/treatments", plan)).status_code == 201
    items = (await ada.get("/timeline", params={"from": day, "to": day})).json()["items"]
    assert [one["local_date"] for one in items if one["kind"] == "treatment_change"] == [day]


async def test_doses_of_a_plan_at_a_fixed_offset_are_due_by_it(ada: Phone) -> None:
    plan = treatment("08:00", time_zone="+05:30")
    plan["regimens"] = [plan["regimens"][0] | {"time_zone": "+05:30"}]
    assert (await ada.post("/treatments", plan)).status_code == 201
    taken = dose(plan["id"], "2026-03-28T02:30:00Z", time_zone="+05:30")
    assert (await ada.post("/treatment-events", taken)).status_code == 201
    asked = {"from": "2026-03-28", "to": "2026-03-28"}
    [slot] = (await ada.get(f"/treatments/{plan['id']}/slots", params=asked)).json()["slots"]
    assert slot["due_at"] == "2026-03-28T08:00:00+05:30"
    [figures] = (await ada.get("/adherence", params=asked)).json()["treatments"]
    assert figures["doses"]["outcomes"]["on_time"] == 1


async def test_a_dose_in_plain_utc_is_one_of_the_patients_day(ada: Phone) -> None:
    plan = treatment("23:30", time_zone="Europe/Berlin")
    await ada.post("/treatments", plan)
    await ada.post("/treatment-events", dose(plan["id"], "2026-03-27T23:05:00Z"))  # five past midnight in Berlin
    figures = (await ada.get("/adherence", params={"from": "2026-03-28", "to": "2026-03-28"})).json()
    assert figures["left_out"] == dict.fromkeys(figures["left_out"], 0) | {"other_days": 1}


async def test_a_score_of_which_only_the_day_is_known_is_no_score_after_a_dose(ada: Phone) -> None:
    schedule = {"type": "prn", "max_doses_24h": 3}
    plan = treatment("08:00")
    plan["regimens"] = [plan["regimens"][0] | {"schedule": schedule}]
    assert (await ada.post("/treatments", plan)).status_code == 201
    for hour, precision in ((9, "day"), (13, "minute")):
        taken = dose(plan["id"], f"2026-03-28T{hour - 1:02}:00:00+01:00", pain_before=7)
        await ada.post("/treatment-events", taken)
        at = f"2026-03-28T{hour:02}:00:00+01:00"
        await ada.log(**entry(occurred_at=at, occurred_precision=precision, sites=[site(3)]))
    figures = (await ada.get("/adherence", params={"from": "2026-03-28", "to": "2026-03-28"})).json()
    assert figures["treatments"][0]["prn"]["change_after"]["n"] == 1


@pytest.mark.parametrize("zone", ["+5:30", "UTC+05:30", "-00:00", "+15:00", "Berlin"])
async def test_what_is_no_zone_is_refused_in_a_sentence(ada: Phone, zone: str) -> None:
    posted = await ada.log(time_zone=zone)
    assert (told(posted), pointers(posted)) == ((422, "invalid"), ["/time_zone"])
    assert posted.json()["errors"][0]["detail"].startswith(
        "Give an IANA time zone, as Europe/Berlin, or a fixed offset"
    )


async def test_a_patient_may_live_at_a_fixed_offset(ada: Phone) -> None:
    person = Person()
    assert (await person.register(ada.http, time_zone="+05:30")).status_code == 202
    phone = Phone(ada.http, person, (await person.sign_in(ada.http)).json())
    own = {"Authorization": f"Bearer {phone.tokens['access_token']}"}
    assert (await phone.get(headers=own)).json()["time_zone"] == "+05:30"
    figures = await phone.get("/adherence", params={"from": "2026-03-28", "to": "2026-03-28"}, headers=own)
    assert figures.status_code == 200


async def test_a_precision_that_is_none_is_refused(ada: Phone) -> None:
    wrong = entry(occurred_precision="hour")
    assert pointers(await ada.post("/entries", wrong)) == ["/occurred_precision"]
    [result] = await pushed(ada, put("entry", wrong))
    assert [one["pointer"] for one in result["errors"]] == ["/mutations/0/data/occurred_precision"]
    assert without_id(wrong)["occurred_precision"] == "hour"
