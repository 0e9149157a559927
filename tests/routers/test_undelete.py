"""What was deleted by mistake comes back as it was: by REST, by sync, in the history, in figures and on every phone."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from app.schemas.kinds import OF_MANY
from app.schemas.records import AnyKind
from tests.answers import told
from tests.people import Phone, dose, entry, grant, lent, make_clinician, treatment, without_id
from tests.routers.test_sync import delete, pull, pull_all, push, pushed, put, statuses

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Record: TypeAlias = dict[str, Any]

DAYS = {"from": "2026-03-28", "to": "2026-03-28"}


def undeletion(kind: str, record_id: str, base_version: int | None) -> Record:
    return {
        "mutation_id": str(uuid4()),
        "op": "undelete",
        "kind": kind,
        "id": record_id,
        "base_version": base_version,
    }


async def undelete(phone: Phone, path: str, record_id: str, etag: str = '"2"') -> httpx.Response:
    return await phone.http.post(f"{phone.diary}{path}/{record_id}/undelete", headers={"If-Match": etag})


async def deleted(phone: Phone, path: str, record: Record) -> str:
    """The id of the record, which was written and deleted: a tombstone of version 2."""
    assert (await phone.post(path, record)).status_code == 201
    assert (await phone.delete(f"{path}/{record['id']}")).status_code == 204
    return str(record["id"])


async def sound(superuser: Connection, phone: Phone) -> bool:
    """Whether the diary holds what it must."""
    return await superuser.fetch("SELECT * FROM verify_diary_v1($1)", UUID(phone.patient_id)) == []


def unnumbered(record: Record) -> Record:
    """The record but for what each version has of its own."""
    own = ("version", "change_seq", "received_at", "author_id")
    return {name: value for name, value in record.items() if name not in own}


@pytest.mark.parametrize("kind", OF_MANY, ids=lambda kind: kind.name)
async def test_a_record_comes_back_as_it_was(kind: AnyKind, ada: Phone, superuser: Connection) -> None:
    whole = {name: value for name, value in kind.examples[-1].items() if name not in ("authored_by", "acknowledged_at")}
    record, path = whole | {"id": str(uuid4())}, f"/{kind.path}"
    before = (await ada.post(path, record)).json()
    assert (await ada.delete(f"{path}/{record['id']}")).status_code == 204
    answer = await undelete(ada, path, record["id"])
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"3"')
    assert answer.json() == (await ada.get(f"{path}/{record['id']}")).json()
    assert unnumbered(answer.json()) == unnumbered(before)
    assert (answer.json()["version"], answer.json()["change_seq"]) == (3, 3)
    assert await sound(superuser, ada)


async def test_what_came_back_is_found_by_every_filter_again(ada: Phone) -> None:
    hurt = entry(sites=[entry()["sites"][0] | {"characters": ["burning"]}], note="canary")
    await deleted(ada, "/entries", hurt)
    filters = {"region": "lower_back_left", "character": "burning", "scale": "nrs_0_10", "min_score": "6"}
    assert (await ada.get("/entries", params=filters)).json()["items"] == []
    await undelete(ada, "/entries", hurt["id"])
    [found] = (await ada.get("/entries", params=filters)).json()["items"]
    assert (found["id"], found["note"]) == (hurt["id"], "canary")


async def test_the_events_of_a_plan_are_joined_again(ada: Phone) -> None:
    plan = treatment("08:00")
    taken = dose(plan["id"])
    await ada.post("/treatment-events", taken)
    await deleted(ada, "/treatments", plan)

    async def shown() -> tuple[str | None, list[str], int, set[str]]:
        event = (await ada.get(f"/treatment-events/{taken['id']}")).json()
        figures = (await ada.get("/adherence", params=DAYS)).json()
        timeline = (await ada.get("/timeline")).json()["items"]
        kinds = {item["kind"] for item in timeline}
        return event.get("treatment_name"), event["flags"], len(figures["treatments"]), kinds

    assert await shown() == (None, ["treatment_missing"], 0, {"treatment_event"})
    await undelete(ada, "/treatments", plan["id"])
    everything = {"treatment", "treatment_event", "treatment_change"}
    assert await shown() == (plan["name"], [], 1, everything)


async def test_the_history_tells_of_the_deletion_and_of_the_return(ada: Phone, superuser: Connection) -> None:
    gone = await deleted(ada, "/entries", entry(mood=4))
    await undelete(ada, "/entries", gone)
    await ada.http.patch(f"{ada.diary}/entries/{gone}", json={"mood": 5}, headers={"If-Match": '"3"'})
    versions = (await ada.get(f"/entries/{gone}/versions")).json()["items"]
    assert [(one["version"], one["deleted"], one.get("record", {}).get("mood")) for one in versions] == [
        (4, False, 5),
        (3, False, 4),
        (2, True, None),
        (1, False, 4),
    ]
    actions = await superuser.fetch(
        "SELECT outcome FROM audit_events WHERE patient_id = $1 AND action = 'entries.undelete'", UUID(ada.patient_id)
    )
    assert [row["outcome"] for row in actions] == ["updated"]
    assert await sound(superuser, ada)


async def test_who_asks_again_after_a_lost_answer_is_told_what_is_there(ada: Phone) -> None:
    gone = await deleted(ada, "/entries", entry())
    answers = [await undelete(ada, "/entries", gone) for _ in range(2)]
    assert [(answer.status_code, answer.json()["version"]) for answer in answers] == [(200, 3), (200, 3)]
    assert (await ada.get()).json()["head"] == 3


async def test_what_was_never_deleted_or_never_there_stays_as_it_is(ada: Phone) -> None:
    record = entry()
    await ada.post("/entries", record)
    answer = await undelete(ada, "/entries", record["id"], '"1"')
    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    assert told(await undelete(ada, "/entries", str(uuid4()))) == (404, "not-found")
    assert told(await undelete(ada, "/treatments", record["id"])) == (404, "not-found")
    assert (await ada.http.post(f"{ada.diary}/entries/{record['id']}/undelete")).status_code == 428


async def test_a_later_deletion_stays_where_an_earlier_one_is_taken_back(ada: Phone) -> None:
    gone = await deleted(ada, "/entries", entry())
    await undelete(ada, "/entries", gone)
    assert (await ada.delete(f"/entries/{gone}", 3)).status_code == 204
    answer = await undelete(ada, "/entries", gone)
    assert (told(answer), answer.headers["ETag"]) == ((412, "stale"), '"4"')
    assert (await undelete(ada, "/entries", gone, '"4"')).json()["version"] == 5


async def test_a_phone_that_deleted_it_gets_it_back(ada: Phone) -> None:
    record = entry(note="canary")
    gone = await deleted(ada, "/entries", record)
    cursor = (await pull(ada))["cursor"]
    [result] = await pushed(ada, undeletion("entry", gone, 2))
    assert (result["status"], result["version"], result["record"]["note"]) == ("updated", 3, "canary")
    [change] = (await pull(ada, cursor))["changes"]
    assert (change["deleted"], change["version"], change["record"]) == (False, 3, result["record"])


async def test_what_was_made_deleted_and_brought_back_offline_is_one_push(ada: Phone, superuser: Connection) -> None:
    record = entry(mood=2, note="canary")
    mutations = [
        put("entry", record),
        delete("entry", record["id"], 1),
        undeletion("entry", record["id"], 2),
        put("entry", record | {"mood": 3}, 3),
    ]
    assert statuses(await pushed(ada, *mutations)) == ["created", "deleted", "updated", "updated"]
    again = await pushed(ada, *mutations)
    assert (statuses(again), again[2]["record"]["mood"]) == (["unchanged"] * 4, 3)
    assert (await pull(ada))["head"] == 4
    assert await sound(superuser, ada)


Late: TypeAlias = Callable[[Record], Record]


@pytest.mark.parametrize(
    "late",
    [
        lambda record: put("entry", record, 0),
        lambda record: put("entry", record, 1),
        lambda record: put("entry", record | {"mood": 9}, 1),
        lambda record: put("entry", record | {"mood": 9}, 2),
        lambda record: undeletion("entry", record["id"], 1),
        lambda record: undeletion("entry", record["id"], 3),
    ],
)
async def test_deleted_stays_deleted_for_whoever_does_not_name_the_deletion(late: Late, ada: Phone) -> None:
    record = entry()
    await deleted(ada, "/entries", record)
    [result] = await pushed(ada, late(record))
    assert (result["status"], result["deleted"]) == ("conflict", True)
    assert await pull_all(ada, 200) == {}


async def test_an_edit_from_before_the_deletion_does_not_win_over_what_came_back(ada: Phone) -> None:
    record = entry(mood=1)
    await deleted(ada, "/entries", record)
    await undelete(ada, "/entries", record["id"])
    late = [put("entry", record | {"mood": 9}, 1), put("entry", record | {"mood": 9}, 2), put("entry", record, 0)]
    results = [(await pushed(ada, one))[0] for one in late]
    assert statuses(results) == ["conflict", "conflict", "unchanged"]
    assert [one["version"] for one in results] == [3, 3, 3]


async def test_what_follows_a_refused_deletion_brings_nothing_back(ada: Phone) -> None:
    record = entry()
    await ada.post("/entries", record)
    await ada.http.patch(f"{ada.diary}/entries/{record['id']}", json={"mood": 5}, headers={"If-Match": '"1"'})
    results = await pushed(ada, delete("entry", record["id"], 1), undeletion("entry", record["id"], 2))
    assert [(one["status"], one["record"]["mood"]) for one in results] == [("conflict", 5), ("conflict", 5)]


async def test_a_mutation_id_of_something_else_brings_nothing_back(ada: Phone) -> None:
    record = entry()
    made = put("entry", record | {"mood": 1})
    await pushed(ada, made, put("entry", record | {"mood": 2}, 1), delete("entry", record["id"], 2))
    [result] = await pushed(ada, undeletion("entry", record["id"], 3) | {"mutation_id": made["mutation_id"]})
    assert (result["status"], result["errors"][0]["code"]) == ("invalid", "reused")


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"base_version": None}, "/mutations/0/base_version"),
        ({"base_version": 0}, "/mutations/0/base_version"),
        ({"data": without_id(entry())}, "/mutations/0/data"),
        ({"reoffer": str(uuid4()), "version": 3}, "/mutations/0/reoffer"),
    ],
)
async def test_an_undelete_says_which_deletion_and_nothing_else(more: Record, pointer: str, ada: Phone) -> None:
    gone = await deleted(ada, "/entries", entry())
    [result] = await pushed(ada, undeletion("entry", gone, 2) | more)
    assert (result["status"], [one["pointer"] for one in result["errors"]]) == ("invalid", [pointer])


async def test_the_profile_is_never_deleted_and_never_brought_back(ada: Phone) -> None:
    answer = await push(ada, undeletion("profile", ada.patient_id, 2))
    [result] = answer.json()["results"]
    assert (result["status"], result["errors"][0]["pointer"]) == ("invalid", "/mutations/0/op")


async def test_what_a_lost_version_was_nobody_knows(ada: Phone, superuser: Connection) -> None:
    """After a restore a deletion was offered of what the backup does not have."""
    epoch, lost = (await pull(ada))["epoch"], str(uuid4())
    await pushed(ada, delete("entry", lost, None) | {"reoffer": epoch, "version": 2})
    assert told(await undelete(ada, "/entries", lost, '"1"')) == (410, "gone")
    [result] = await pushed(ada, undeletion("entry", lost, 1))
    assert (result["status"], result["deleted"]) == ("conflict", True)


async def test_only_the_patient_and_who_deleted_it_bring_it_back(ada: Phone, bob: Phone, superuser: Connection) -> None:
    await grant(superuser, ada, bob, scopes=["entries:read", "entries:write"])
    helper = lent(bob, ada)
    theirs, own = entry(note="canary"), entry(note="canary")
    await deleted(ada, "/entries", theirs)
    await ada.post("/entries", own)
    assert (await helper.delete(f"/entries/{own['id']}")).status_code == 204
    assert told(await undelete(helper, "/entries", theirs["id"])) == (403, "insufficient-scope")
    [refused] = await pushed(helper, undeletion("entry", theirs["id"], 2))
    assert (refused["status"], refused["errors"][0]["pointer"]) == ("invalid", "/mutations/0/op")
    back = await undelete(helper, "/entries", own["id"])
    assert (back.status_code, "note" in back.json()) == (200, False)
    assert (await ada.get(f"/entries/{own['id']}")).json()["note"] == "canary"
    assert (await undelete(ada, "/entries", theirs["id"])).status_code == 200


async def test_the_plan_of_a_clinician_comes_back_as_the_clinicians(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    await make_clinician(superuser, bob)
    await grant(superuser, ada, bob)
    plan = treatment("08:00", authored_by="clinician")
    assert (await lent(bob, ada).post("/treatments", plan)).status_code == 201
    assert (await ada.delete(f"/treatments/{plan['id']}")).status_code == 204
    assert told(await undelete(lent(bob, ada), "/treatments", plan["id"])) == (403, "insufficient-scope")
    assert (await undelete(ada, "/treatments", plan["id"])).json()["authored_by"] == "clinician"


async def test_who_sees_a_window_learns_of_no_deletion_before_it(ada: Phone, bob: Phone, superuser: Connection) -> None:
    await grant(superuser, ada, bob, data_from=datetime(2025, 1, 1, tzinfo=UTC))
    old = entry(occurred_at="2024-05-01T08:00:00Z", time_zone="UTC")
    await deleted(ada, "/entries", old)
    await undelete(ada, "/entries", old["id"])
    moved = {"occurred_at": "2026-03-01T08:00:00Z"}
    await ada.http.patch(f"{ada.diary}/entries/{old['id']}", json=moved, headers={"If-Match": '"3"'})
    everything = (await ada.get(f"/entries/{old['id']}/versions")).json()["items"]
    seen = (await lent(bob, ada).get(f"/entries/{old['id']}/versions")).json()["items"]
    assert ([one["version"] for one in everything], [one["version"] for one in seen]) == ([4, 3, 2, 1], [4])
