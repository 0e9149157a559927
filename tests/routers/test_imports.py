"""What was imported from a record of another system is there once, however often and under whatever ids it comes."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from asyncpg import Connection

from app.schemas.kinds import KINDS
from app.schemas.records import AnyKind
from tests.answers import pointers, told
from tests.people import Phone, consent, dose, entry, lent, record_of, site, without_id
from tests.routers.test_sync import delete, pull_all, pushed, put

pytestmark = pytest.mark.anyio

SYSTEM = "https://example.com/headache-log"


def imported(record_id: str = "attack-1", **fields: Any) -> dict[str, Any]:
    """An entry as an import makes it: with a new id each time."""
    return entry(entry_mode="imported", source={"system": SYSTEM, "record_id": record_id}, **fields)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.holds != "singleton"], ids=lambda kind: kind.name)
async def test_an_import_that_is_repeated_is_answered_with_the_record_of_the_first(ada: Phone, kind: AnyKind) -> None:
    source = {"system": SYSTEM, "record_id": "7"}
    first, again, by_sync = (record_of(kind, source=source) for _ in range(3))
    stored = (await ada.post(f"/{kind.path}", first)).json()
    repeated = await ada.post(f"/{kind.path}", again)
    assert (repeated.status_code, repeated.json()) == (200, stored)
    [result] = await pushed(ada, put(kind.name, by_sync))
    assert (result["status"], result["id"], result["same_as"]) == ("unchanged", by_sync["id"], first["id"])
    assert result["version"] == 1
    assert result["record"].items() <= stored.items()  # by REST an event has its treatment beside it
    assert set(await pull_all(ada, 100)) == {first["id"]}


async def test_other_content_from_the_same_record_is_a_conflict_that_shows_what_is_there(ada: Phone) -> None:
    first, other = imported(sites=[site(3)]), imported(sites=[site(4)])
    stored = (await ada.log(**first)).json()
    refused = await ada.log(**other)
    assert told(refused) == (409, "conflict")
    assert refused.json()["current"] == stored
    [result] = await pushed(ada, put("entry", other))
    assert (result["status"], result["same_as"], result["record"]) == ("conflict", first["id"], stored)
    taken = await ada.put(f"/entries/{first['id']}", without_id(other))
    assert taken.json()["sites"][0]["scores"][0]["value"] == 4


async def test_an_import_that_was_corrected_since_is_not_undone(ada: Phone) -> None:
    first = imported()
    await ada.log(**first)
    await ada.patch(f"/entries/{first['id']}", {"mood": 3})
    again = await ada.log(**imported())
    assert (again.status_code, again.json()["id"], again.json()["mood"]) == (200, first["id"], 3)


async def test_what_was_deleted_stays_deleted(ada: Phone) -> None:
    first = imported()
    await ada.log(**first)
    await ada.delete(f"/entries/{first['id']}")
    assert (await ada.log(**imported())).status_code == 410
    [result] = await pushed(ada, put("entry", imported()))
    assert (result["status"], result["deleted"], result["same_as"]) == ("conflict", True, first["id"])
    assert await pull_all(ada, 100) == {}


async def test_in_one_push_the_first_is_stored_and_what_follows_goes_to_it(ada: Phone) -> None:
    first, second, elsewhere = imported(), imported(), imported("attack-2")
    mutations = [
        put("entry", first),
        put("entry", second),
        put("entry", elsewhere),
        put("entry", second | {"mood": 5}, 1),
    ]
    results = await pushed(ada, *mutations)
    assert [one["status"] for one in results] == ["created", "unchanged", "created", "updated"]
    assert [one.get("same_as") for one in results] == [None, first["id"], None, first["id"]]
    again = await pushed(ada, *mutations)  # the answer was lost
    assert [one["status"] for one in again] == ["unchanged"] * 4
    assert {id_: record.get("mood") for id_, record in (await pull_all(ada, 100)).items()} == {
        first["id"]: 5,
        elsewhere["id"]: None,
    }
    [gone] = await pushed(ada, delete("entry", second["id"], 2))
    assert gone["status"] == "conflict"  # nobody has a record of that id


async def test_a_record_of_another_kind_system_or_patient_is_another(ada: Phone, bob: Phone) -> None:
    others = [
        entry(source={"system": "other", "record_id": "attack-1"}),
        imported("attack-2"),
        entry(source={"system": SYSTEM}),
        entry(source={"system": SYSTEM}),
    ]
    for one in (imported(), *others):
        assert (await ada.log(**one)).status_code == 201
    taken = dose(str(uuid4()), source={"system": SYSTEM, "record_id": "attack-1"})
    assert (await ada.post("/treatment-events", taken)).status_code == 201
    assert (await bob.log(**imported())).status_code == 201


async def test_a_change_keeps_its_source_and_takes_none_that_another_record_has(ada: Phone) -> None:
    first, second = imported("attack-1"), imported("attack-2")
    await pushed(ada, put("entry", first), put("entry", second))
    early = without_id(second) | {"source": first["source"], "mood": 8}
    assert (await ada.put(f"/entries/{second['id']}", early)).status_code == 409
    kept = await ada.patch(f"/entries/{second['id']}", {"mood": 4})
    assert (kept.status_code, kept.json()["source"]["record_id"]) == (200, "attack-2")
    stolen = without_id(second) | {"source": first["source"], "mood": 9}
    refused = await ada.put(f"/entries/{second['id']}", stolen, 2)
    assert told(refused) == (409, "conflict")
    assert refused.json()["current"]["id"] == first["id"]
    [result] = await pushed(ada, put("entry", second | stolen, 2))
    assert (result["status"], result["same_as"]) == ("conflict", first["id"])
    records = await pull_all(ada, 100)
    assert [records[one["id"]].get("mood") for one in (first, second)] == [None, 4]
    freed = await ada.patch(f"/entries/{first['id']}", {"source": None})
    assert "source" not in freed.json()
    assert (await ada.put(f"/entries/{second['id']}", stolen, 2)).status_code == 200


async def test_devices_that_import_at_the_same_time_make_one_record(ada: Phone) -> None:
    answers = await asyncio.gather(*(ada.log(**imported()) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_who_may_not_see_the_first_import_learns_neither_id_nor_content(app: Any, ada: Phone, bob: Phone) -> None:
    await ada.log(**imported())
    await consent(ada, bob, scopes=["entries:read", "entries:write"], data_from="2026-03-29T00:00:00Z")
    reader = lent(bob, ada)
    later = imported(occurred_at="2026-03-30T08:00:00+02:00")
    [result] = await pushed(reader, put("entry", later))
    assert result == {"mutation_id": result["mutation_id"], "id": later["id"], "status": "conflict", "deleted": False}
    refused = await reader.log(**later)
    assert (told(refused), "current" in refused.json()) == ((409, "conflict"), False)


async def test_a_record_id_without_its_system_is_refused(ada: Phone) -> None:
    wrong = entry(source={"record_id": "attack-1"})
    assert pointers(await ada.post("/entries", wrong)) == ["/source/system"]
    [result] = await pushed(ada, put("entry", wrong))
    assert [one["pointer"] for one in result["errors"]] == ["/mutations/0/data/source/system"]


async def test_the_database_itself_holds_a_source_once(ada: Phone, superuser: "Connection[asyncpg.Record]") -> None:
    await ada.log(**imported("attack-1"))
    await ada.log(**imported("attack-2"))
    with pytest.raises(asyncpg.UniqueViolationError, match="uq_records_source"):
        await superuser.execute(
            "UPDATE records SET source_record_id = 'attack-1' WHERE patient_id = $1", ada.patient_id
        )
    with pytest.raises(asyncpg.CheckViolationError):
        await superuser.execute("UPDATE records SET source_system = NULL WHERE patient_id = $1", ada.patient_id)
