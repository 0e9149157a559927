"""Every kind of record, whatever it is: nothing that a diary does with records leaves one out."""

from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from app.schemas.kinds import KINDS, OF_MANY
from app.schemas.records import RecordKind
from tests.answers import ids, told
from tests.people import Phone, grant, lent, record_of, without_id

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Kind: TypeAlias = RecordKind[Any]


def place(kind: Kind, stored: dict[str, Any]) -> str:
    """The path of a record below the patient's."""
    return f"/{kind.path}" if kind.holds == "singleton" else f"/{kind.path}/{stored['id']}"


async def create(phone: Phone, kind: Kind, **fields: Any) -> dict[str, Any]:
    """A new record as it is answered."""
    answer = await phone.post(f"/{kind.path}", record_of(kind, **fields))
    assert answer.status_code == 201, answer.text
    stored: dict[str, Any] = answer.json()
    return stored


async def push(phone: Phone, kind: Kind, data: dict[str, Any], **mutation: Any) -> dict[str, Any]:
    """What becomes of one mutation."""
    record_id = phone.patient_id if kind.holds == "singleton" else str(uuid4())
    one = {
        "mutation_id": str(uuid4()),
        "op": "put",
        "kind": kind.name,
        "id": record_id,
        "base_version": 0,
        "data": data,
    }
    body = {"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": [one | mutation]}
    answer = await phone.post("/sync/push", body)
    [result] = answer.json()["results"]
    return dict(result)


async def pulled(phone: Phone) -> list[dict[str, Any]]:
    """Every change of a diary."""
    return list((await phone.get("/sync/pull")).json()["changes"])


async def reads(phone: Phone, kind: Kind, stored: dict[str, Any]) -> dict[str, httpx.Response]:
    """Whatever shows a record, by the operation."""
    answers = {
        "read": await phone.get(place(kind, stored)),
        "history": await phone.get(f"{place(kind, stored)}/versions"),
        "timeline": await phone.get("/timeline"),
        "timeline of the kind": await phone.get("/timeline", params={"kinds": kind.name}),
        "pull": await phone.get("/sync/pull"),
    }
    return answers if kind.holds == "singleton" else answers | {"list": await phone.get(f"/{kind.path}")}


async def test_it_is_in_whatever_reads_the_diary(kind: Kind, ada: Phone) -> None:
    stored = await create(ada, kind)
    assert (stored["kind"], stored["version"], stored["deleted"]) == (kind.name, 1, False)
    kind.out.model_validate(stored)
    answers = await reads(ada, kind, stored)
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert [name for name, answer in answers.items() if stored["id"] not in answer.text] == []
    assert (await ada.get()).json()["head"] == 1


async def test_it_is_corrected_and_its_history_tells_of_it(kind: Kind, ada: Phone) -> None:
    stored = await create(ada, kind)
    revised = await ada.patch(place(kind, stored), {"time_zone": "Europe/Paris"})
    replaced = await ada.put(place(kind, stored), without_id(record_of(kind, time_zone="Europe/Rome")), version=2)
    assert [answer.status_code for answer in (revised, replaced)] == [200, 200], replaced.text
    assert told(await ada.patch(place(kind, stored), {"time_zone": "Europe/Oslo"})) == (412, "stale")
    versions = (await ada.get(f"{place(kind, stored)}/versions")).json()["items"]
    zones = [(version["version"], version["record"]["time_zone"]) for version in versions]
    assert zones == [(3, "Europe/Rome"), (2, "Europe/Paris"), (1, stored["time_zone"])]


async def test_it_is_pushed_pulled_and_deleted_by_a_phone(kind: Kind, ada: Phone) -> None:
    data = without_id(record_of(kind))
    created = await push(ada, kind, data)
    assert (created["status"], created["version"]) == ("created", 1)
    [change] = await pulled(ada)
    assert (change["kind"], change["id"], change["record"]["version"]) == (kind.name, created["id"], 1)
    updated = await push(ada, kind, data | {"time_zone": "Europe/Paris"}, id=created["id"], base_version=1)
    assert updated["status"] == "updated"
    deleted = await push(ada, kind, data, op="delete", id=created["id"], base_version=2)
    assert deleted["status"] == ("invalid" if kind.holds == "singleton" else "deleted")
    [change] = await pulled(ada)
    assert change["deleted"] == (kind.holds != "singleton")


async def test_what_is_deleted_stays_deleted(kind: Kind, ada: Phone) -> None:
    if kind.holds == "singleton":
        assert told(await ada.delete(f"/{kind.path}")) == (405, "method-not-allowed")
        return
    stored = await create(ada, kind)
    assert (await ada.delete(place(kind, stored))).status_code == 204
    assert told(await ada.get(place(kind, stored))) == (410, "gone")
    assert told(await ada.post(f"/{kind.path}", record_of(kind, id=stored["id"]))) == (410, "gone")
    assert ids(await ada.get(f"/{kind.path}")) == ids(await ada.get("/timeline", params={"kinds": kind.name})) == []


async def test_its_scope_shares_it_and_no_other_does(kind: Kind, ada: Phone, bob: Phone, superuser: Connection) -> None:
    stored = await create(ada, kind)
    others = [other for other in KINDS if other.scope != kind.scope]
    granted = await grant(superuser, ada, bob, scopes=[kind.read_scope])
    reader = lent(bob, ada)
    answers = await reads(reader, kind, stored)
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert [name for name, answer in answers.items() if stored["id"] not in answer.text] == []
    assert told(await reader.post(f"/{kind.path}", record_of(kind))) == (403, "insufficient-scope")

    scopes = sorted({scope for other in others for scope in (other.read_scope, other.write_scope)})
    await superuser.execute("UPDATE grants SET scopes = $2 WHERE id = $1", granted, scopes)
    answers = await reads(reader, kind, stored)
    assert [name for name, answer in answers.items() if stored["id"] in answer.text] == []
    assert told(answers["read"]) == told(answers["history"]) == (403, "insufficient-scope")
    assert told(await reader.patch(place(kind, stored), {"time_zone": "Europe/Paris"})) == (403, "insufficient-scope")
    written = await push(reader, kind, without_id(record_of(kind)), id=stored["id"], base_version=1)
    assert written["status"] == "forbidden"
    assert (await ada.get(place(kind, stored))).json() == stored


async def test_its_write_scope_lets_others_write_it(kind: Kind, ada: Phone, bob: Phone, superuser: Connection) -> None:
    await grant(superuser, ada, bob, scopes=[kind.read_scope, kind.write_scope])
    helper = lent(bob, ada)
    stored = await create(helper, kind)
    assert (stored["author_id"], stored["patient_id"]) == (bob.user_id, ada.patient_id)
    assert (await helper.patch(place(kind, stored), {"time_zone": "Europe/Paris"})).status_code == 200


async def test_what_a_consent_leaves_before_its_window_is_hidden_unless_it_still_holds(
    kind: Kind, ada: Phone, bob: Phone, superuser: Connection
) -> None:
    stored = await create(ada, kind)
    await grant(superuser, ada, bob, scopes=[kind.read_scope], data_from=await superuser.fetchval("SELECT now()"))
    reader = lent(bob, ada)
    seen = stored["id"] in (await reader.get("/timeline")).text
    assert seen == (kind.holds != "moment")
    assert (await reader.get(place(kind, stored))).status_code == (200 if seen else 404)


async def test_of_an_erased_diary_nothing_is_answered(kind: Kind, ada: Phone, superuser: Connection) -> None:
    stored = await create(ada, kind)
    await superuser.execute("UPDATE patients SET erased_at = now() WHERE id = $1", UUID(ada.patient_id))
    answers = await reads(ada, kind, stored)
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 410)
    assert told(await ada.post(f"/{kind.path}", record_of(kind))) == (410, "gone")


async def test_the_id_of_another_kind_is_no_place_for_it(kind: Kind, ada: Phone) -> None:
    if kind.holds == "singleton":
        assert (await push(ada, kind, without_id(record_of(kind)), id=str(uuid4())))["status"] == "invalid"
        return
    other = await create(ada, OF_MANY[OF_MANY.index(kind) - 1])
    assert told(await ada.post(f"/{kind.path}", record_of(kind, id=other["id"]))) == (409, "conflict")
    assert told(await ada.get(place(kind, other))) == (404, "not-found")
    assert (await push(ada, kind, without_id(record_of(kind)), id=other["id"]))["status"] == "conflict"


async def test_it_is_verified_with_the_rest(kind: Kind, ada: Phone, superuser: Connection) -> None:
    await create(ada, kind)
    function = await superuser.fetchval("SELECT max(proname) FROM pg_proc WHERE proname LIKE 'verify_diary%'")
    assert await superuser.fetch(f"SELECT {function}($1::uuid)", ada.patient_id) == []
