"""Consent over HTTP: shared, redeemed, confirmed, narrowed, ended; and who looked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI

from tests.answers import ids, pointers, told
from tests.conftest import connect
from tests.people import (
    Person,
    Phone,
    consent,
    dose,
    make_clinician,
    make_organisation,
    redeem,
    share,
    treatment,
)
from tests.waiting import until_locked_out

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
TERMS = {"scopes": ["entries:read", "treatments:read"], "purpose": "Pain clinic"}


@pytest.fixture
async def weber(app: FastAPI, superuser: Connection) -> AsyncIterator[Phone]:
    """Dr. Weber, a verified physician of a clinic."""
    async with connect(app) as http:
        yield await make_clinician(superuser, await Person().register_and_sign_in(http))


async def test_a_clinician_sees_the_diary_once_the_patient_has_confirmed(ada: Phone, weber: Phone) -> None:
    logged = (await ada.log()).json()["id"]
    timeline = f"{ada.diary}/timeline"
    code = (await share(ada)).json()["code"]
    assert (await weber.http.get(timeline)).status_code == 404
    pending = (await redeem(weber, code.lower().replace("-", " "))).json()
    assert (pending["status"], (await weber.http.get(timeline)).status_code) == ("pending", 404)
    [waiting] = (await ada.get("/grants")).json()["items"]
    assert waiting == pending
    confirmed = await ada.post(f"/grants/{pending['id']}/confirm", {})
    assert confirmed.json()["status"] == "active"
    assert ids(await weber.http.get(timeline)) == [logged]
    [held] = (await weber.http.get("/v1/me/grants")).json()["items"]
    assert held == confirmed.json() == (await ada.get("/grants")).json()["items"][0]


async def test_what_is_granted_less_counts_for_the_very_next_request(ada: Phone, weber: Phone) -> None:
    for _ in range(3):
        await ada.log()
    grant_id = await consent(ada, weber)
    page = (await weber.http.get(f"{ada.diary}/timeline?limit=1")).json()
    narrowed = await ada.patch(f"/grants/{grant_id}", {"scopes": ["treatments:read"]})
    assert (narrowed.json()["scopes"], narrowed.json()["version"]) == (["treatments:read"], 2)
    more = await weber.http.get(f"{ada.diary}/timeline", params={"limit": 1, "cursor": page["next_cursor"]})
    assert told(more) == (410, "consent-changed")
    assert (await weber.http.get(f"{ada.diary}/timeline")).json()["items"] == []
    assert (await weber.http.get(f"{ada.diary}/entries")).status_code == 403
    assert (await ada.delete(f"/grants/{grant_id}")).status_code == 204
    assert (await weber.http.get(f"{ada.diary}/timeline")).status_code == 404
    assert (await ada.delete(f"/grants/{grant_id}")).status_code == 204


@pytest.mark.parametrize(
    ("wider", "place"),
    [
        ({"scopes": ["entries:read", "notes:read"]}, "/scopes"),
        ({"data_from": "2025-12-31T00:00:00Z"}, "/data_from"),
        ({"expires_at": "2199-01-01T00:00:00Z"}, "/expires_at"),
    ],
)
async def test_a_consent_is_never_widened(ada: Phone, weber: Phone, wider: dict[str, Any], place: str) -> None:
    grant_id = await consent(ada, weber, data_from="2026-01-01T00:00:00Z")
    answer = await ada.patch(f"/grants/{grant_id}", wider)
    assert (told(answer), pointers(answer)) == ((422, "invalid"), [place])
    assert (await ada.get("/grants")).json()["items"][0]["version"] == 1


async def test_a_code_is_good_once_but_a_lost_answer_may_be_asked_for_again(
    ada: Phone, bob: Phone, weber: Phone
) -> None:
    key = uuid4().hex
    first, again = await share(ada, key), await share(ada, key)
    assert first.json() == again.json()
    assert told(await share(ada, key, purpose="Something else")) == (422, "invalid")
    code = first.json()["code"]
    assert (await redeem(weber, code)).json() == (await redeem(weber, code)).json()
    for phone, guess in ((bob, code), (bob, "ZZZZ-ZZZZ"), (ada, (await share(ada)).json()["code"])):
        assert told(await redeem(phone, guess)) == (404, "not-found")
    log = (await ada.get("/access-log")).json()["items"]
    assert {one["actor"]["id"] for one in log if one["action"] == "grants.redeem"} == {weber.user_id}


async def test_a_code_ends_after_ten_minutes(ada: Phone, weber: Phone, superuser: Connection) -> None:
    code = (await share(ada)).json()
    await superuser.execute("UPDATE share_codes SET expires_at = now() WHERE id = $1", UUID(code["id"]))
    assert told(await redeem(weber, code["code"])) == (404, "not-found")


async def test_a_code_that_is_over_is_not_answered_again(ada: Phone, weber: Phone, superuser: Connection) -> None:
    key = uuid4().hex
    code = (await share(ada, key)).json()
    await superuser.execute("UPDATE share_codes SET expires_at = now() WHERE id = $1", UUID(code["id"]))
    assert told(await share(ada, key)) == (410, "gone")
    anew = (await share(ada)).json()
    assert anew["code"] != code["code"]
    assert (await redeem(weber, anew["code"])).status_code == 202


async def test_at_most_three_codes_wait_also_when_they_are_asked_for_at_once(
    ada: Phone, bob: Phone, weber: Phone, superuser: Connection
) -> None:
    keys = [uuid4().hex for _ in range(8)]
    answers = await asyncio.gather(*(share(ada, key) for key in keys))
    codes = {key: answer.json() for key, answer in zip(keys, answers, strict=True) if answer.status_code == 201}
    refused = [answer for answer in answers if answer.status_code != 201]
    assert (len(codes), {told(answer) for answer in refused}) == (3, {(429, "too-many-requests")})
    assert all(0 < int(answer.headers["Retry-After"]) <= 600 for answer in refused)
    assert [(await share(ada, key)).json() for key in codes] == list(codes.values())
    assert (await share(bob)).status_code == 201
    first, second, _ = codes.values()
    assert (await redeem(weber, first["code"])).status_code == 202
    assert (await share(ada)).status_code == 201
    assert (await share(ada)).status_code == 429
    await superuser.execute("UPDATE share_codes SET expires_at = now() WHERE id = $1", UUID(second["id"]))
    assert (await share(ada)).status_code == 201


async def test_guessing_makes_one_wait(bob: Phone) -> None:
    statuses = [(await redeem(bob, f"AAAA-{number:04}")).status_code for number in range(8)]
    assert statuses[:5] == [404] * 5
    assert statuses[-1] == 429


async def test_consent_asks_for_a_fresh_sign_in(ada: Phone, weber: Phone, superuser: Connection) -> None:
    pending = (await redeem(weber, (await share(ada)).json()["code"])).json()
    await superuser.execute(
        "UPDATE sessions SET created_at = now() - interval '16 minutes' WHERE id = $1", UUID(ada.session_id)
    )
    for answer in (await share(ada), await ada.post(f"/grants/{pending['id']}/confirm", {})):
        assert told(answer) == (403, "step-up-required")


async def test_a_clinician_who_is_not_verified_sees_nothing(app: FastAPI, ada: Phone, superuser: Connection) -> None:
    async with connect(app) as http:
        phone = await make_clinician(superuser, await Person().register_and_sign_in(http), verified_at=None)
        code = (await share(ada)).json()["code"]
        assert told(await redeem(phone, code)) == (403, "not-verified")
        user_id = UUID(phone.user_id)
        await superuser.execute("UPDATE clinicians SET verified_at = now() WHERE user_id = $1", user_id)
        await consent(ada, phone)
        assert (await phone.http.get(ada.diary)).status_code == 200
        await superuser.execute("UPDATE clinicians SET verified_at = NULL WHERE user_id = $1", user_id)
        assert (await phone.http.get(ada.diary)).status_code == 404
        assert (await phone.http.get("/v1/me/patients")).json()["items"] == []


async def test_an_organisation_shares_its_consents_with_its_verified_clinicians(
    app: FastAPI, ada: Phone, superuser: Connection
) -> None:
    clinic = await make_organisation(superuser)
    async with connect(app) as one, connect(app) as two, connect(app) as three:
        phones = [await Person().register_and_sign_in(http) for http in (one, two, three)]
        first = await make_clinician(superuser, phones[0], organisation_id=clinic)
        second = await make_clinician(superuser, phones[1], organisation_id=clinic)
        other = await make_clinician(superuser, phones[2])
        await consent(ada, first, as_organisation=True)
        seen = [(await phone.http.get(ada.diary)).status_code for phone in (first, second, other)]
        assert seen == [200, 200, 404]
        [grant] = (await ada.get("/grants")).json()["items"]
        assert grant["grantee"]["kind"] == "organisation"
        assert told(await redeem(other, "AAAA-AAAA", as_organisation=True)) == (403, "not-verified")


async def test_a_caregiver_may_be_somebody_with_a_diary_of_their_own(ada: Phone, bob: Phone) -> None:
    await consent(ada, bob, scopes=["entries:read", "entries:write"])
    created = await bob.http.post(f"{ada.diary}/entries", json=(await ada.log()).json() | {})
    assert created.status_code == 422  # the server's fields are not the phone's
    assert [one["id"] for one in (await bob.http.get("/v1/me/patients")).json()["items"]].count(ada.patient_id) == 1


async def test_a_new_consent_takes_the_place_of_the_old_one(ada: Phone, weber: Phone) -> None:
    first = await consent(ada, weber, scopes=["entries:read"])
    second = await consent(ada, weber, scopes=["entries:read", "notes:read"])
    states = {one["id"]: one["status"] for one in (await ada.get("/grants")).json()["items"]}
    assert states == {first: "revoked", second: "active"}


async def test_the_panel_shows_head_consent_and_the_last_week(ada: Phone, bob: Phone, weber: Phone) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for days in (1, 2, 2, 9):
        await ada.log(occurred_at=(now - timedelta(days=days)).isoformat().replace("+00:00", "Z"), time_zone="UTC")
    grants = [await consent(ada, weber), await consent(bob, weber, scopes=["treatments:read"])]
    items = (await weber.http.get("/v1/me/patients")).json()["items"]
    by_id = {one["id"]: one for one in items}
    assert {one["grant_id"] for one in items} == set(grants)
    assert by_id[bob.patient_id]["last_seven_days"] is None
    glance = by_id[ada.patient_id]["last_seven_days"]
    assert (glance["entries"], glance["days_with_entries"], glance["worst_nrs"]) == (3, 2, 6)
    assert by_id[ada.patient_id]["head"] == 4
    pages = await weber.http.get("/v1/me/patients?limit=1")
    rest = await weber.http.get("/v1/me/patients", params={"limit": 1, "cursor": pages.json()["next_cursor"]})
    assert pages.json()["items"] + rest.json()["items"] == items
    assert rest.json()["next_cursor"] is None


async def test_the_patient_sees_who_looked_and_who_was_refused(ada: Phone, bob: Phone, weber: Phone) -> None:
    grant_id = await consent(ada, weber)
    await weber.http.get(f"{ada.diary}/timeline")
    await weber.http.get(f"{ada.diary}/profile")
    await bob.http.get(f"{ada.diary}/timeline")
    items = (await ada.get("/access-log?limit=3")).json()["items"]
    told_of = [(one["action"], one["outcome"], one["role"], one["grant_id"]) for one in items]
    assert told_of == [
        ("timeline.read", "not_found", "patient", None),
        ("profile.read", "insufficient_scope", "clinician", grant_id),
        ("timeline.read", "ok", "clinician", grant_id),
    ]
    assert items[2]["actor"]["display_name"] == "Dr. Weber"
    assert items[2]["actor"]["profession"] == "physician"
    page = (await ada.get("/access-log?limit=2")).json()
    more = (await ada.get("/access-log", params={"limit": 1, "cursor": page["next_cursor"]})).json()
    assert page["items"] + more["items"] == items
    own = (await ada.get("/access-log?include_own=true&limit=1")).json()["items"][0]
    assert (own["action"], own["actor"]["id"]) == ("accesses.list", ada.user_id)


async def test_nobody_but_the_patient_decides(ada: Phone, bob: Phone, weber: Phone) -> None:
    grant_id = await consent(ada, weber)
    for phone, status in ((weber, 403), (bob, 404)):
        diary = phone.http
        answers = [
            await diary.post(f"{ada.diary}/share-codes", json=TERMS, headers={"Idempotency-Key": uuid4().hex}),
            await diary.get(f"{ada.diary}/grants"),
            await diary.post(f"{ada.diary}/grants/{grant_id}/confirm"),
            await diary.patch(f"{ada.diary}/grants/{grant_id}", json={"scopes": ["entries:read"]}),
            await diary.delete(f"{ada.diary}/grants/{grant_id}"),
            await diary.get(f"{ada.diary}/access-log"),
        ]
        assert [answer.status_code for answer in answers] == [status] * 6
    assert (await ada.get("/grants")).json()["items"][0]["version"] == 1


async def test_a_grant_of_somebody_else_is_not_found_in_the_own_diary(ada: Phone, bob: Phone, weber: Phone) -> None:
    grant_id = await consent(bob, weber)
    assert (await ada.post(f"/grants/{grant_id}/confirm", {})).status_code == 404
    assert (await ada.patch(f"/grants/{grant_id}", {"scopes": []})).status_code in (404, 422)
    assert (await ada.delete(f"/grants/{grant_id}")).status_code == 404


async def test_a_consent_that_has_ended_is_confirmed_no_more(ada: Phone, weber: Phone) -> None:
    pending = (await redeem(weber, (await share(ada)).json()["code"])).json()
    await ada.delete(f"/grants/{pending['id']}")
    assert told(await ada.post(f"/grants/{pending['id']}/confirm", {})) == (410, "gone")


@pytest.mark.parametrize("scopes", [["notes:read"], ["entries:write"], ["treatments:write", "entries:read"]])
async def test_scopes_that_make_no_sense_are_refused(ada: Phone, scopes: list[str]) -> None:
    answer = await share(ada, scopes=scopes)
    assert (told(answer), pointers(answer)) == ((422, "invalid"), ["/scopes"])


async def test_a_clinician_reads_the_whole_story_but_no_note_without_the_scope(ada: Phone, weber: Phone) -> None:
    plan = treatment("08:00", note="canary")
    await ada.post("/treatments", plan)
    await ada.post("/treatment-events", dose(plan["id"], note="canary"))
    await ada.log(note="canary")
    await consent(ada, weber)
    timeline = await weber.http.get(f"{ada.diary}/timeline")
    assert {one["kind"] for one in timeline.json()["items"]} == {
        "entry", "treatment", "treatment_event", "treatment_change",
    }  # fmt: skip
    assert "canary" not in timeline.text


async def test_a_clinician_plans_and_the_patient_acknowledges(ada: Phone, weber: Phone) -> None:
    await consent(ada, weber, scopes=["treatments:read", "treatments:write"])
    place, plan = f"{ada.diary}/treatments", treatment("08:00", authored_by="clinician")
    assert (await weber.http.post(place, json=plan | {"authored_by": "patient"})).json()["errors"][0]["pointer"] == (
        "/authored_by"
    )
    assert (await weber.http.post(place, json=plan)).status_code == 201
    seen = await ada.patch(f"/treatments/{plan['id']}", {"acknowledged_at": "2026-03-02T08:00:00+01:00"})
    assert (seen.status_code, seen.json()["acknowledged_at"]) == (200, "2026-03-02T08:00:00+01:00")
    renamed = await ada.patch(f"/treatments/{plan['id']}", {"name": "Half of it"}, version=2)
    assert (told(renamed), pointers(renamed)) == ((422, "invalid"), ["/authored_by"])
    match = {"If-Match": '"2"'}
    changed = await weber.http.patch(f"{place}/{plan['id']}", json={"name": "Amitriptyline 25 mg"}, headers=match)
    assert pointers(changed) == ["/acknowledged_at"]  # a changed plan has not been acknowledged
    more = {"name": "Amitriptyline 25 mg", "acknowledged_at": None}
    assert (await weber.http.patch(f"{place}/{plan['id']}", json=more, headers=match)).status_code == 200
    own = {"name": "Half of it", "authored_by": "patient"}
    assert (await ada.patch(f"/treatments/{plan['id']}", own, version=3)).json()["authored_by"] == "patient"


async def test_nobody_claims_that_a_clinician_wrote_the_plan(ada: Phone) -> None:
    answer = await ada.post("/treatments", treatment("08:00", authored_by="clinician"))
    assert (told(answer), pointers(answer)) == ((422, "invalid"), ["/authored_by"])


async def test_names_of_any_length_and_script_do_not_stand_in_the_way_of_the_next_page(
    ada: Phone, bob: Phone, weber: Phone, superuser: Connection
) -> None:
    patients = [UUID(phone.patient_id) for phone in (ada, bob)]
    await superuser.execute("UPDATE patients SET display_name = $2 WHERE id = ANY ($1)", patients, "😣" * 120)
    for phone in (ada, bob):
        await consent(phone, weber)
    page = await weber.http.get("/v1/me/patients?limit=1")
    rest = await weber.http.get("/v1/me/patients", params={"limit": 1, "cursor": page.json()["next_cursor"]})
    assert sorted(ids(page) + ids(rest)) == sorted(map(str, patients))


async def test_consent_waits_for_its_turn_with_what_is_written_but_a_stranger_for_nothing(
    ada: Phone, bob: Phone, superuser: Connection, owner_url: str
) -> None:
    writer = await asyncpg.connect(owner_url)
    async with writer.transaction():
        await writer.execute("SELECT FROM patient_clocks WHERE patient_id = $1 FOR UPDATE", UUID(ada.patient_id))
        assert told(await bob.http.get(f"{ada.diary}/grants")) == (404, "not-found")
        asked = asyncio.create_task(ada.get("/grants"))
        await until_locked_out(superuser)
        assert not asked.done()
    assert (await asked).status_code == 200
    await writer.close()


async def test_a_panel_that_is_the_same_is_not_sent_again(ada: Phone, bob: Phone) -> None:
    await consent(ada, bob)
    first = await bob.http.get("/v1/me/patients")
    known = {"If-None-Match": first.headers["ETag"]}
    same = await bob.http.get("/v1/me/patients", headers=known)
    assert (same.status_code, same.content) == (304, b"")
    await ada.log()
    moved = await bob.http.get("/v1/me/patients", headers=known)
    assert (moved.status_code, [one["head"] for one in moved.json()["items"]].count(1)) == (200, 1)
