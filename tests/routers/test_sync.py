"""Push, pull and compare: what a phone that is mostly offline lives on."""

from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from app.services import sync
from app.services.restores import NEW_EPOCHS
from tests.answers import told
from tests.people import Phone, dose, entry, grant, lent, profile, treatment, without_id

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def put(kind: str, record: dict[str, Any], base_version: int | None = 0, **fields: Any) -> dict[str, Any]:
    return {
        "mutation_id": str(uuid4()),
        "op": "put",
        "kind": kind,
        "id": record["id"],
        "base_version": base_version,
        "data": without_id(record),
        **fields,
    }


def delete(kind: str, record_id: str, base_version: int | None) -> dict[str, Any]:
    return {
        "mutation_id": str(uuid4()),
        "op": "delete",
        "kind": kind,
        "id": record_id,
        "base_version": base_version,
    }


async def push(phone: Phone, *mutations: dict[str, Any], **fields: Any) -> httpx.Response:
    body = {"device_id": "phone", "client_now": "2026-03-29T08:00:00Z", "mutations": list(mutations), **fields}
    return await phone.post("/sync/push", body)


async def pushed(phone: Phone, *mutations: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    answer = await push(phone, *mutations, **fields)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [one["mutation_id"] for one in results] == [one["mutation_id"] for one in mutations]
    return results


async def pull(phone: Phone, cursor: str | None = None, limit: int = 200) -> dict[str, Any]:
    params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
    answer = await phone.get("/sync/pull", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def pull_all(phone: Phone, limit: int) -> dict[str, dict[str, Any]]:
    """The reader's copy, folded from empty."""
    copy: dict[str, dict[str, Any]] = {}
    page = await pull(phone, limit=limit)
    while True:
        for change in page["changes"]:
            if change["deleted"]:
                copy.pop(change["id"], None)
            else:
                copy[change["id"]] = change["record"]
        if not page["has_more"]:
            return copy
        page = await pull(phone, page["cursor"], limit)


def statuses(results: list[dict[str, Any]]) -> list[str]:
    return [one["status"] for one in results]


async def test_a_push_of_every_kind_is_decided_in_order_and_pulled_back(ada: Phone) -> None:
    plan, hurt = treatment("08:00"), entry(note="canary")
    who = profile() | {"id": ada.patient_id}
    mutations = [
        put("profile", who),
        put("treatment", plan),
        put("treatment_event", dose(plan["id"])),
        put("entry", hurt),
    ]
    results = await pushed(ada, *mutations)
    assert statuses(results) == ["created"] * 4
    assert [one["change_seq"] for one in results] == [1, 2, 3, 4]
    page = await pull(ada)
    assert [change["kind"] for change in page["changes"]] == ["profile", "treatment", "treatment_event", "entry"]
    assert (page["head"], page["has_more"]) == (4, False)
    assert page["changes"][3]["record"]["note"] == "canary"
    assert (await pull(ada, page["cursor"]))["changes"] == []


async def test_a_push_that_is_repeated_is_applied_once(ada: Phone) -> None:
    first = put("entry", entry())
    mutations = [first, put("entry", entry(id=first["id"], mood=3), 1), delete("entry", first["id"], 2)]
    assert statuses(await pushed(ada, *mutations)) == ["created", "updated", "deleted"]
    assert statuses(await pushed(ada, *mutations)) == ["unchanged"] * 3
    assert statuses(await pushed(ada, mutations[2], mutations[0])) == ["unchanged"] * 2
    assert (await pull(ada))["head"] == 3


async def test_a_repeated_mutation_that_was_overtaken_is_answered_with_what_came_after(ada: Phone) -> None:
    first = put("entry", entry())
    await pushed(ada, first, put("entry", entry(id=first["id"], mood=3), 1))
    [again] = await pushed(ada, first)
    assert (again["status"], again["version"], again["change_seq"]) == ("unchanged", 1, 1)
    assert (again["record"]["version"], again["record"]["mood"]) == (2, 3)
    await pushed(ada, delete("entry", first["id"], 2))
    [again] = await pushed(ada, first)
    assert (again["status"], again["version"], again["deleted"], "record" in again) == ("unchanged", 1, True, False)


async def test_a_record_made_anew_that_has_moved_on_is_answered_with_how_it_is_now(ada: Phone) -> None:
    for change in ({"mood": 3}, {"note": "later"}):
        first = put("entry", entry(note="first"))
        await pushed(ada, first, put("entry", entry(id=first["id"], note="first") | change, 1))
        [again] = await pushed(ada, first | {"mutation_id": str(uuid4())})
        assert (again["status"], again["version"], again["record"]["version"]) == ("unchanged", 1, 2)


async def test_only_a_delete_may_come_without_the_version_that_it_changes(ada: Phone) -> None:
    first, gone = put("entry", entry()), delete("entry", str(uuid4()), None)
    removal = delete("entry", first["id"], None)
    results = await pushed(ada, first, put("entry", entry(id=first["id"], mood=3), 1), removal, removal, gone)
    assert statuses(results) == ["created", "updated", "deleted", "unchanged", "conflict"]
    [refused] = await pushed(ada, put("entry", entry(), base_version=None))
    assert (refused["status"], refused["errors"][0]["pointer"]) == ("invalid", "/mutations/0/base_version")


async def test_what_is_refused_blocks_nothing_else(ada: Phone) -> None:
    good, other = put("entry", entry()), put("entry", entry())
    bad = put("entry", entry(mood=11))
    early = put("entry", entry(occurred_at="1999-12-31T23:59:59Z"))
    late = put("entry", entry(occurred_at="2099-01-01T00:00:00Z"))
    results = await pushed(ada, good, bad, early, late, other)
    assert statuses(results) == ["created", "invalid", "invalid", "invalid", "created"]
    assert [one["errors"][0]["pointer"] for one in results[1:4]] == [
        "/mutations/1/data/mood",
        "/mutations/2/data/occurred_at",
        "/mutations/3/data/occurred_at",
    ]
    assert results[4]["change_seq"] == 2


@pytest.mark.parametrize("refused", [{"mood": 4}, {"mood": 11}])
async def test_what_was_made_on_a_refused_mutation_takes_no_others_place(ada: Phone, refused: dict[str, Any]) -> None:
    record = entry()
    await pushed(ada, put("entry", record), put("entry", record | {"mood": 9}, 1))  # the second by another phone
    first, second = put("entry", record | refused, 1), put("entry", record | {"mood": 5}, 2)
    assert statuses(await pushed(ada, first, second))[1] == "conflict"
    assert statuses(await pushed(ada, first, delete("entry", record["id"], 2)))[1] == "conflict"
    assert statuses(await pushed(ada, second)) == ["updated"]


async def test_a_conflict_shows_the_servers_copy(ada: Phone) -> None:
    record = entry()
    await pushed(ada, put("entry", record))
    await pushed(ada, put("entry", record | {"mood": 4}, 1))
    [stale] = await pushed(ada, put("entry", record | {"mood": 9}, 1))
    assert (stale["status"], stale["version"], stale["record"]["mood"]) == ("conflict", 2, 4)
    await pushed(ada, delete("entry", record["id"], 2))
    [gone] = await pushed(ada, put("entry", record | {"mood": 9}, 2))
    assert (gone["status"], gone["deleted"], "record" in gone) == ("conflict", True, False)


async def test_an_id_that_consent_does_not_open_is_taken_and_that_is_all_one_learns(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    plan = treatment("08:00")
    await pushed(ada, put("treatment", plan), put("treatment", plan | {"name": "canary"}, 1))
    await grant(superuser, ada, bob, scopes=["entries:read", "entries:write"])
    [taken] = await pushed(lent(bob, ada), put("entry", entry(id=plan["id"])))
    assert (taken["status"], set(taken)) == ("conflict", {"mutation_id", "id", "status", "deleted"})
    [missing] = await pushed(lent(bob, ada), put("entry", entry(id=plan["id"]), 2))
    assert (missing["status"], set(missing)) == ("conflict", {"mutation_id", "id", "status", "deleted"})


async def test_a_mutation_id_is_good_for_one_change_only(ada: Phone) -> None:
    first = put("entry", entry())
    second = put("entry", entry(), mutation_id=first["mutation_id"])
    assert statuses(await pushed(ada, first, second)) == ["created", "invalid"]
    [again] = await pushed(ada, second)
    assert (again["status"], again["errors"][0]["code"]) == ("invalid", "reused")


async def test_an_empty_push_says_that_nothing_is_left(ada: Phone, superuser: Connection) -> None:
    answer = await push(ada, outbox_empty=True)
    assert (answer.status_code, answer.json()["results"], answer.json()["head"]) == (200, [], 0)
    told_at = "SELECT outbox_empty_at > now() - interval '1 minute' FROM sessions WHERE id = $1"
    assert await superuser.fetchval(told_at, UUID(ada.session_id))


async def test_an_item_that_consent_does_not_cover_is_forbidden_and_the_rest_is_written(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    await grant(superuser, ada, bob, scopes=["entries:read", "entries:write"])
    helper = lent(bob, ada)
    assert statuses(await pushed(helper, put("treatment", treatment()), put("entry", entry()))) == [
        "forbidden", "created",
    ]  # fmt: skip
    await superuser.execute("UPDATE grants SET scopes = '{entries:read}' WHERE grantee_id = $1", UUID(bob.user_id))
    assert told(await push(helper, put("entry", entry()))) == (403, "insufficient-scope")


@pytest.mark.parametrize("limit", [1, 2, 7, 500])
async def test_folding_the_pages_gives_the_diary(ada: Phone, limit: int) -> None:
    plans = [treatment() for _ in range(3)]
    entries = [entry() for _ in range(9)]
    await pushed(ada, *(put("treatment", one) for one in plans), *(put("entry", one) for one in entries))
    await pushed(
        ada, *(put("entry", one | {"mood": 5}, 1) for one in entries[:4]), delete("entry", entries[8]["id"], 1)
    )
    copy = await pull_all(ada, limit)
    assert copy.keys() == {one["id"] for one in plans + entries[:8]}
    assert {key for key, record in copy.items() if record.get("mood") == 5} == {one["id"] for one in entries[:4]}


async def test_what_leaves_the_window_is_withdrawn_and_what_was_never_in_it_is_not_mentioned(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    await grant(superuser, ada, bob, scopes=["entries:read"], data_from=datetime(2026, 1, 1, tzinfo=UTC))
    old, moved, new = entry(occurred_at="2025-06-01T08:00:00Z"), entry(), entry(note="canary")
    await pushed(ada, put("entry", old), put("entry", moved), put("entry", new), put("treatment", treatment()))
    reader = lent(bob, ada)
    page = await pull(reader)
    assert [change["id"] for change in page["changes"]] == [moved["id"], new["id"]]
    assert "canary" not in str(page)
    await pushed(ada, put("entry", moved | {"occurred_at": "2025-06-02T08:00:00Z"}, 1))
    [withdrawn] = (await pull(reader, page["cursor"]))["changes"]
    assert (withdrawn["id"], withdrawn["reason"], "record" in withdrawn) == (moved["id"], "withdrawn", False)


async def test_another_consent_means_to_load_anew(ada: Phone, bob: Phone, superuser: Connection) -> None:
    grant_id = await grant(superuser, ada, bob)
    reader = lent(bob, ada)
    await ada.log()
    page = await pull(reader)
    await superuser.execute("UPDATE grants SET version = 2 WHERE id = $1", grant_id)
    answer = await reader.get("/sync/pull", params={"cursor": page["cursor"]})
    assert (told(answer), answer.json()["action"]) == ((410, "resync-required"), "reload")


async def test_a_consent_that_was_given_anew_is_another(ada: Phone, bob: Phone, superuser: Connection) -> None:
    reader = lent(bob, ada)
    ended = await grant(superuser, ada, bob)
    page = await pull(reader)
    await superuser.execute("UPDATE grants SET revoked_at = now() WHERE id = $1", ended)
    await grant(superuser, ada, bob)
    answer = await reader.get("/sync/pull", params={"cursor": page["cursor"]})
    assert (told(answer), answer.json()["action"]) == ((410, "resync-required"), "reload")


async def test_a_restored_server_asks_for_what_it_lost(ada: Phone, superuser: Connection) -> None:
    await ada.log()
    page = await pull(ada)
    await superuser.execute(
        "UPDATE record_versions SET nonce = gen_random_uuid() WHERE patient_id = $1", UUID(ada.patient_id)
    )
    answer = await ada.get("/sync/pull", params={"cursor": page["cursor"]})
    assert (told(answer), answer.json()["action"]) == ((410, "resync-required"), "reoffer")
    page = await pull(ada)
    await superuser.execute(f"{NEW_EPOCHS} WHERE patient_id = $1", UUID(ada.patient_id))
    answer = await ada.get("/sync/pull", params={"cursor": page["cursor"]})
    assert (told(answer), answer.json()["action"]) == ((410, "resync-required"), "reoffer")


async def test_a_push_that_speaks_of_an_epoch_that_is_over_does_nothing(ada: Phone, superuser: Connection) -> None:
    record = entry()
    await pushed(ada, put("entry", record))
    epoch = (await pull(ada))["epoch"]
    assert (await push(ada, epoch=epoch)).json()["epoch"] == epoch
    await superuser.execute(f"{NEW_EPOCHS} WHERE patient_id = $1", UUID(ada.patient_id))
    answer = await push(ada, put("entry", record | {"mood": 5}, 1), epoch=epoch)
    assert (told(answer), answer.json()["action"]) == ((410, "resync-required"), "reoffer")
    page = await pull(ada)
    assert (page["head"], page["epoch"] == epoch) == (1, False)


class Restored:
    """A diary in its second epoch: what the tests offer again was written in the first, after the backup."""

    def __init__(self, phone: Phone, epoch: str) -> None:
        self.phone, self.epoch = phone, epoch

    async def offer(self, mutation: dict[str, Any], version: int) -> str:
        """What became of something that was this version before."""
        [result] = await pushed(self.phone, mutation | {"reoffer": self.epoch, "version": version})
        return str(result["status"])


@pytest.fixture
async def restored(ada: Phone) -> Restored:
    return Restored(ada, (await pull(ada))["epoch"])


@pytest.fixture
async def old(ada: Phone, superuser: Connection, restored: Restored) -> dict[str, Any]:
    """A record that the backup has in version 1."""
    record = entry(note="of the backup")
    await pushed(ada, put("entry", record))
    await superuser.execute(f"{NEW_EPOCHS} WHERE patient_id = $1", UUID(ada.patient_id))
    return record


async def mood(phone: Phone, record_id: str) -> int | None:
    record = (await pull_all(phone, 200)).get(record_id)
    return None if record is None else record.get("mood", 0)


@pytest.mark.parametrize("order", [(2, 3, 4), (4, 3, 2), (3, 4, 2)])
async def test_the_latest_of_what_is_offered_again_stays_whoever_comes_first(
    order: tuple[int, ...], restored: Restored, old: dict[str, Any]
) -> None:
    for version in order:
        await restored.offer(put("entry", old | {"mood": version}), version)
    assert await mood(restored.phone, old["id"]) == 4


async def test_what_is_offered_after_a_later_version_is_answered_with_that(
    restored: Restored, old: dict[str, Any]
) -> None:
    await restored.offer(put("entry", old | {"mood": 4}), 4)
    earlier = put("entry", old | {"mood": 3}, reoffer=restored.epoch, version=3)
    for mutation in (earlier, earlier):
        [result] = await pushed(restored.phone, mutation)
        assert (result["status"], result["version"], result["record"]["mood"]) == ("unchanged", 2, 4)
    latest = put("entry", old | {"mood": 4}, reoffer=restored.epoch, version=4)
    [result] = await pushed(restored.phone, latest)
    assert (result["status"], result["version"], result["record"]["mood"]) == ("unchanged", 2, 4)


async def test_what_is_offered_again_is_told_from_what_the_backup_had(restored: Restored, old: dict[str, Any]) -> None:
    assert await restored.offer(put("entry", old | {"mood": 1}), 1) == "unchanged"
    assert await mood(restored.phone, old["id"]) == 0


async def test_what_was_written_since_the_restore_is_not_overwritten(restored: Restored, old: dict[str, Any]) -> None:
    await pushed(restored.phone, put("entry", old | {"mood": 7}, 1))
    assert await restored.offer(put("entry", old | {"mood": 5}), 5) == "conflict"
    assert await restored.offer(delete("entry", old["id"], None), 6) == "conflict"
    assert await restored.offer(put("entry", old | {"mood": 7}), 5) == "unchanged"
    assert await mood(restored.phone, old["id"]) == 7


async def test_the_same_content_again_counts_as_the_later_version(restored: Restored, old: dict[str, Any]) -> None:
    assert await restored.offer(put("entry", old | {"mood": 2}), 2) == "updated"
    assert await restored.offer(put("entry", old | {"mood": 2}), 4) == "updated"
    assert await restored.offer(put("entry", old | {"mood": 3}), 3) == "unchanged"
    assert await mood(restored.phone, old["id"]) == 2


async def test_a_restore_on_which_nobody_wrote_is_no_epoch_to_offer_from(
    restored: Restored, old: dict[str, Any], superuser: Connection
) -> None:
    await superuser.execute(f"{NEW_EPOCHS} WHERE patient_id = $1", UUID(restored.phone.patient_id))
    assert await restored.offer(put("entry", old | {"mood": 2}), 2) == "updated"


async def test_a_record_that_was_lost_comes_back_once(restored: Restored, old: dict[str, Any]) -> None:
    lost = put("entry", entry(mood=3))
    assert [await restored.offer(lost, 2) for _ in range(2)] == ["created", "unchanged"]
    assert await restored.offer(put("entry", {"id": lost["id"], **lost["data"], "mood": 1}), 1) == "unchanged"
    assert await mood(restored.phone, lost["id"]) == 3


@pytest.mark.parametrize("kind", ["entry", "treatment", "treatment_event"])
async def test_a_delete_that_was_lost_leaves_a_tombstone(
    kind: str, restored: Restored, old: dict[str, Any], superuser: Connection
) -> None:
    record = {"entry": entry, "treatment": treatment, "treatment_event": lambda: dose(str(uuid4()))}[kind]()
    assert await restored.offer(delete(kind, record["id"], None), 3) == "deleted"
    assert await restored.offer(delete(kind, record["id"], None), 3) == "unchanged"
    assert await restored.offer(put(kind, record), 2) == "conflict"
    [change] = [one for one in (await pull(restored.phone))["changes"] if one["id"] == record["id"]]
    assert (change["deleted"], change["reason"], change["version"]) == (True, "deleted", 1)
    assert await superuser.fetch("SELECT * FROM verify_diary_v1($1)", UUID(restored.phone.patient_id)) == []


async def test_a_delete_is_later_than_any_edit_that_is_offered_again(restored: Restored, old: dict[str, Any]) -> None:
    assert await restored.offer(put("entry", old | {"mood": 2}), 2) == "updated"
    assert await restored.offer(delete("entry", old["id"], None), 3) == "deleted"
    assert await restored.offer(put("entry", old | {"mood": 2}), 2) == "conflict"
    assert await mood(restored.phone, old["id"]) is None


async def test_what_came_back_before_the_restore_is_later_than_its_deletion(
    restored: Restored, old: dict[str, Any], superuser: Connection
) -> None:
    other = entry()
    for record, first, second in (
        (old, delete("entry", old["id"], None), put("entry", old | {"mood": 3})),
        (other, delete("entry", other["id"], None), put("entry", other | {"mood": 3})),
    ):
        assert await restored.offer(first, 2) == "deleted"
        assert await restored.offer(put("entry", record), 1) == "conflict"
        assert await restored.offer(second, 3) == "updated"
        assert await restored.offer(delete("entry", record["id"], None), 2) == "unchanged"
        assert await mood(restored.phone, record["id"]) == 3
        assert await restored.offer(delete("entry", record["id"], None), 4) == "deleted"
        assert await restored.offer(put("entry", record | {"mood": 3}), 3) == "conflict"
    assert await superuser.fetch("SELECT * FROM verify_diary_v1($1)", UUID(restored.phone.patient_id)) == []


async def test_what_came_back_in_an_epoch_longer_ago_stays_deleted(restored: Restored, old: dict[str, Any]) -> None:
    await restored.offer(delete("entry", old["id"], None), 2)
    restored.epoch = str(uuid4())
    assert await restored.offer(put("entry", old), 3) == "conflict"


async def test_what_is_of_an_epoch_longer_ago_takes_no_others_place(restored: Restored, old: dict[str, Any]) -> None:
    restored.epoch, lost = str(uuid4()), entry()
    assert await restored.offer(put("entry", old | {"mood": 2}, 1), 5) == "conflict"
    assert await restored.offer(delete("entry", old["id"], 1), 5) == "conflict"
    assert await restored.offer(put("entry", old), 5) == "unchanged"
    assert await restored.offer(put("entry", lost), 5) == "created"
    assert await restored.offer(put("entry", lost | {"mood": 1}), 6) == "conflict"
    assert await restored.offer(delete("entry", str(uuid4()), None), 5) == "deleted"


async def test_whoever_offers_what_is_older_is_told_what_is_there(restored: Restored, old: dict[str, Any]) -> None:
    later, earlier = (put("entry", old | {"mood": mood}) for mood in (4, 2))
    await restored.offer(later, 4)
    [result] = await pushed(restored.phone, earlier | {"reoffer": restored.epoch, "version": 2})
    assert (result["status"], result["version"], result["record"]["mood"]) == ("unchanged", 2, 4)


async def test_whoever_cannot_see_notes_cannot_offer_a_whole_version(
    ada: Phone, bob: Phone, restored: Restored, old: dict[str, Any], superuser: Connection
) -> None:
    await grant(superuser, ada, bob, scopes=["entries:read", "entries:write"])
    restored.phone = lent(bob, ada)
    lost = entry(mood=3)
    assert await restored.offer(put("entry", lost), 2) == "created"
    assert await restored.offer(put("entry", old | {"mood": 2}, 0), 2) == "conflict"
    restored.phone = ada
    assert await restored.offer(put("entry", lost | {"note": "canary"}), 2) == "conflict"


async def test_a_version_without_its_epoch_is_refused(ada: Phone) -> None:
    [refused] = await pushed(ada, put("entry", entry()) | {"version": 2})
    assert (refused["status"], refused["errors"][0]["pointer"]) == ("invalid", "/mutations/0/reoffer")


@pytest.mark.parametrize("cursor", ["", "x", "A" * 60])
async def test_a_cursor_that_is_not_ours_is_refused(ada: Phone, cursor: str) -> None:
    assert told(await ada.get("/sync/pull", params={"cursor": cursor})) == (400, "cursor-invalid")


async def test_a_cursor_of_somebody_else_is_refused(ada: Phone, bob: Phone) -> None:
    page = await pull(bob)
    assert told(await ada.get("/sync/pull", params={"cursor": page["cursor"]})) == (400, "cursor-invalid")


async def test_a_digest_names_what_differs(ada: Phone) -> None:
    here, both, older = entry(), entry(), entry()
    await pushed(ada, *(put("entry", one) for one in (here, both, older)))
    await pushed(ada, put("entry", older | {"mood": 2}, 1))
    there = str(uuid4())
    held = [{"id": one, "version": 1} for one in (both["id"], older["id"], there)]
    answer = await ada.post("/sync/digest", {"records": held})
    differences = {one["id"]: (one["here"], one["there"]) for one in answer.json()["differences"]}
    assert differences == {here["id"]: (1, None), older["id"]: (2, 1), there: (None, 1)}


@pytest.mark.parametrize("version", [2_000_000_001, 2**31 - 1, 2**31, 2**32, 2**53])
async def test_a_version_that_no_record_reaches_is_invalid(ada: Phone, version: int) -> None:
    record = (await ada.log()).json()
    place = {"id": record["id"], "version": version}
    assert told(await ada.post("/sync/digest", {"records": [place]})) == (422, "invalid")
    [refused] = await pushed(ada, put("entry", record, version))
    assert (refused["status"], refused["errors"][0]["pointer"]) == ("invalid", "/mutations/0/base_version")


async def test_a_digest_names_what_is_deleted_to_those_only_who_still_have_it(ada: Phone) -> None:
    record = entry()
    await pushed(ada, put("entry", record), delete("entry", record["id"], 1))
    [difference] = (await digest(ada, record["id"]))["differences"]
    assert difference == {"id": record["id"], "here": 2, "there": 1, "deleted": True}
    assert (await digest(ada))["differences"] == []


async def test_a_digest_compares_a_thousand_changes_and_says_how_far_it_came(ada: Phone) -> None:
    records = [entry() for _ in range(1050)]
    for start in range(0, len(records), 100):
        await pushed(ada, *(put("entry", one) for one in records[start : start + 100]))
    await pushed(ada, put("entry", records[3] | {"mood": 2}, 1))
    ids = [one["id"] for one in records]
    epoch = (await pull(ada, limit=1))["epoch"]

    first = await digest(ada, *ids[:1000])
    assert (first["compared_to"], first["epoch"], first["head"]) == (1000, epoch, 1051)
    assert first["differences"] == [{"id": ids[3], "here": 2, "there": 1, "deleted": False}]
    rest = await digest(ada, *ids[1000:1049], after=1000)
    assert rest["compared_to"] == rest["head"] == 1051
    assert {one["id"]: one["there"] for one in rest["differences"]} == {ids[3]: None, ids[1049]: None}

    nothing = [await digest(ada, after=after) for after in (0, 1000, 1051, 2_000_000_000)]
    named = [{one["id"] for one in answer["differences"]} for answer in nothing]
    assert named == [set(ids[:1000]) - {ids[3]}, {*ids[1000:], ids[3]}, set(), set()]
    assert [answer["compared_to"] for answer in nothing] == [1000, 1051, 1051, 1051]


async def test_a_digest_looks_up_what_is_sent_wherever_it_changed_last(ada: Phone) -> None:
    record = entry()
    await pushed(ada, put("entry", record))
    assert (await digest(ada, record["id"], after=40))["differences"] == []
    assert (await digest(ada, record["id"], version=2, after=40))["differences"][0]["here"] == 1


async def test_a_digest_tells_nothing_of_what_is_hidden(ada: Phone, bob: Phone, superuser: Connection) -> None:
    since = datetime(2026, 3, 20, tzinfo=UTC)
    await grant(superuser, ada, bob, scopes=["entries:read"], data_from=since)
    hidden = entry(occurred_at="2026-03-01T08:00:00+01:00")
    seen = entry()
    await pushed(ada, put("entry", hidden), put("treatment", treatment("08:00")), put("entry", seen))
    answer = await digest(lent(bob, ada))
    assert answer["compared_to"] == answer["head"] == 3
    assert answer["differences"] == [{"id": seen["id"], "here": 1, "there": None, "deleted": False}]
    guessed = await digest(lent(bob, ada), hidden["id"], seen["id"])  # like any id that there is not
    assert guessed["differences"] == [{"id": hidden["id"], "here": None, "there": 1, "deleted": False}]


async def digest(phone: Phone, *ids: str, version: int = 1, after: int = 0) -> dict[str, Any]:
    """How a copy with these records compares."""
    records = [{"id": one, "version": version} for one in ids]
    answer = await phone.post("/sync/digest", {"records": records, "after": after})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_heads_tell_which_diaries_moved(ada: Phone, bob: Phone, superuser: Connection) -> None:
    await grant(superuser, ada, bob)
    before = {one["patient_id"]: one["head"] for one in (await bob.http.get("/v1/sync/heads")).json()["items"]}
    await ada.log()
    after = {one["patient_id"]: one["head"] for one in (await bob.http.get("/v1/sync/heads")).json()["items"]}
    assert (before, after) == ({ada.patient_id: 0, bob.patient_id: 0}, {ada.patient_id: 1, bob.patient_id: 0})


async def test_a_push_takes_a_hundred_and_no_more(ada: Phone) -> None:
    assert statuses(await pushed(ada, *(put("entry", entry()) for _ in range(100)))) == ["created"] * 100
    assert (await push(ada, *(put("entry", entry()) for _ in range(101)))).status_code == 422


async def test_a_clock_that_is_off_is_told_and_noted_and_nothing_is_rewritten(ada: Phone) -> None:
    record = entry()
    answer = await push(ada, put("entry", record), client_now="2026-03-29T08:00:00Z")
    assert answer.json()["clock_skew_seconds"] > 86_400
    assert (await ada.get(f"/entries/{record['id']}")).json()["occurred_at"] == record["occurred_at"]
    [device] = (await ada.http.get("/v1/me/sessions")).json()["items"]
    assert device["clock_skew_seconds"] == answer.json()["clock_skew_seconds"]


async def test_nobody_pushes_a_clinicians_plan_but_a_clinician(ada: Phone) -> None:
    own, claimed = treatment(), treatment(authored_by="clinician")
    first, second = await pushed(ada, put("treatment", own), put("treatment", claimed))
    assert (first["status"], second["status"]) == ("created", "invalid")
    assert second["errors"][0]["pointer"] == "/mutations/1/data/authored_by"
    [changed] = await pushed(ada, put("treatment", own | {"authored_by": "clinician"}, 1))
    assert changed["status"] == "invalid"


@pytest.mark.parametrize("base_version", [0, 1, 999])
async def test_nobody_offers_a_clinicians_plan_but_a_clinician(
    ada: Phone, superuser: Connection, base_version: int
) -> None:
    epoch, own = (await pull(ada))["epoch"], treatment()
    await pushed(ada, put("treatment", own))
    await superuser.execute(f"{NEW_EPOCHS} WHERE patient_id = $1", UUID(ada.patient_id))
    offered = {"reoffer": epoch, "version": 5}
    claims = [own | {"authored_by": "clinician"}, treatment(authored_by="clinician")]
    results = await pushed(ada, *(put("treatment", one, base_version) | offered for one in claims))
    assert statuses(results) == ["invalid", "invalid"]
    assert statuses(await pushed(ada, put("treatment", own | {"name": "Other"}, 0) | offered)) == ["updated"]


async def test_a_client_that_knows_more_than_at_its_cursor_begins_anew(
    ada: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pulled(cursor: str, schema: int) -> httpx.Response:
        return await ada.get("/sync/pull", params={"cursor": cursor, "schema_version": schema})

    await ada.log()
    old = (await ada.get("/sync/pull", params={"schema_version": 2})).json()["cursor"]  # the server knows 1 only
    monkeypatch.setattr(sync, "SCHEMA", 2)
    for schema in (1, 1):
        answer = await pulled(old, schema)
        assert answer.status_code == 200
        old = answer.json()["cursor"]
    updated = await pulled(old, 2)
    assert (told(updated), updated.json()["action"]) == ((410, "resync-required"), "reload")
    cursor = (await ada.get("/sync/pull", params={"schema_version": 2})).json()["cursor"]
    assert [(await pulled(cursor, schema)).status_code for schema in (2, 3, 1)] == [200, 200, 200]
