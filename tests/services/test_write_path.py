"""The one write path under concurrency, against real PostgreSQL: nothing lost, nothing wrongly accepted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.postgres.connections import driver_url
from app.schemas.entries import ENTRY, EntryIn
from app.services import record_store, records, sessions
from app.services.access import Caller, Diary
from tests.people import SESSION, Phone, entry, site
from tests.waiting import until_locked_out

pytestmark = pytest.mark.anyio

Connection = "asyncpg.Connection[asyncpg.Record]"
WRITE = f"SELECT * FROM write_records_v1({SESSION}, $2, 'entries:write', 'test', $3, $4, false, NULL, $5, NULL, true)"


def diary_of(app: FastAPI, phone: Phone) -> Diary:
    parts = app.state.diary
    caller = Caller(UUID(phone.user_id), UUID(phone.session_id), uuid4(), None)
    return Diary(parts.database, parts.cursors, caller, UUID(phone.patient_id))


def body(**fields: Any) -> EntryIn:
    return EntryIn.model_validate(entry(**fields))


async def create(diary: Diary, sent: EntryIn) -> records.Stored:
    return await records.create(ENTRY, diary, sent.id, sent)


def item(**fields: Any) -> tuple[str, list[str]]:
    made = body(**fields)
    return record_store.sent([records.change_of(ENTRY, made, made.id, 0)])


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the serving role whose transactions the test controls."""
    assert settings.database_url is not None
    connection = await asyncpg.connect(driver_url(settings.database_url.get_secret_value()))
    try:
        yield connection
    finally:
        await connection.close()


async def test_two_devices_creating_one_id_store_it_once_and_one_is_told(app: FastAPI, ada: Phone) -> None:
    diary = diary_of(app, ada)
    shared = str(uuid4())
    changes = [records.change_of(ENTRY, body(id=shared, sites=[site(value)]), shared, 0) for value in (3, 7)]
    outcomes = await asyncio.gather(
        *(record_store.write(diary, "test", ENTRY.write_scope, [change]) for change in changes)
    )
    assert sorted(outcome.status for [outcome] in outcomes) == ["conflict", "created"]
    assert {outcome.record for [outcome] in outcomes} == {(await records.read(ENTRY, diary, UUID(shared))).record}


async def test_ten_devices_editing_one_version_make_one_new_version(app: FastAPI, ada: Phone) -> None:
    diary = diary_of(app, ada)
    first = body()
    await create(diary, first)
    edits = [records.change_of(ENTRY, first.model_copy(update={"mood": mood}), first.id, 1) for mood in range(10)]
    outcomes = await asyncio.gather(*(record_store.write(diary, "test", ENTRY.write_scope, [edit]) for edit in edits))
    statuses = sorted(outcome.status for [outcome] in outcomes)
    assert statuses == ["conflict"] * 9 + ["updated"]
    assert (await records.read(ENTRY, diary, UUID(first.id))).version == 2


async def test_a_writer_that_stalls_before_its_commit_leaves_no_gap_behind_it(
    app: FastAPI, ada: Phone, settings: Settings, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    diary = diary_of(app, ada)
    async with served(settings) as stalled:
        transaction = stalled.transaction()
        await transaction.start()
        await stalled.fetch(WRITE, diary.caller.session_id, diary.patient_id, *item(), uuid4())
        follower = asyncio.create_task(create(diary, body()))
        await until_locked_out(superuser)
        assert not follower.done()
        page = await records.read_page(ENTRY, diary, record_store.Filters(), 10, None, ())
        assert page.items == b""  # a puller sees neither of the two, never the later one alone
        await transaction.commit()
        await follower
    numbers = await superuser.fetch(
        "SELECT change_seq FROM record_versions WHERE patient_id = $1 ORDER BY 1", diary.patient_id
    )
    assert [row["change_seq"] for row in numbers] == [1, 2]


async def test_a_writer_that_rolls_back_gives_its_number_to_the_next(
    app: FastAPI, ada: Phone, settings: Settings
) -> None:
    diary = diary_of(app, ada)
    async with served(settings) as doomed:
        transaction = doomed.transaction()
        await transaction.start()
        await doomed.fetch(WRITE, diary.caller.session_id, diary.patient_id, *item(), uuid4())
        await transaction.rollback()
    created = json.loads((await create(diary, body())).record)
    assert created["change_seq"] == 1


async def test_a_revocation_that_commits_while_a_write_waits_refuses_the_write(
    app: FastAPI, ada: Phone, settings: Settings, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    diary = diary_of(app, ada)
    async with served(settings) as revoking:
        transaction = revoking.transaction()
        await transaction.start()
        caller = diary.caller
        await revoking.execute("SELECT revoke_sessions_v1($1, $2, NULL)", caller.user_id, [caller.session_id])
        write = asyncio.create_task(ada.log())
        await until_locked_out(superuser)
        await transaction.commit()
        assert (await write).status_code == 401
    assert not await superuser.fetchval("SELECT count(*) FROM records WHERE patient_id = $1", diary.patient_id)


async def test_a_revocation_waits_for_a_write_that_came_first(
    app: FastAPI, ada: Phone, settings: Settings, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    diary = diary_of(app, ada)
    async with served(settings) as writing:
        transaction = writing.transaction()
        await transaction.start()
        await writing.fetch(WRITE, diary.caller.session_id, diary.patient_id, *item(), uuid4())
        revocation = asyncio.create_task(
            sessions.revoke(diary.database, diary.caller.user_id, [diary.caller.session_id])
        )
        await until_locked_out(superuser)
        assert not revocation.done()
        await transaction.commit()
        assert await revocation == 1
    assert (await ada.log()).status_code == 401


async def test_sixteen_writers_and_a_hundred_items_leave_a_dense_order(
    app: FastAPI, ada: Phone, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    diary = diary_of(app, ada)

    async def push(size: int) -> None:
        bodies = [body() for _ in range(size)]
        changes = [records.change_of(ENTRY, one, one.id, 0) for one in bodies]
        outcomes = await record_store.write(diary, "test", ENTRY.write_scope, changes)
        assert [outcome.status for outcome in outcomes] == ["created"] * size

    await asyncio.gather(*(push(size) for size in [1, 3, 7, 14] * 4))
    numbers = await superuser.fetch("SELECT change_seq FROM records WHERE patient_id = $1 ORDER BY 1", diary.patient_id)
    assert [row["change_seq"] for row in numbers] == list(range(1, 101))
    assert await superuser.fetch("SELECT verify_diary_v1($1)", diary.patient_id) == []


async def test_a_refused_item_does_not_block_the_others(app: FastAPI, ada: Phone) -> None:
    diary = diary_of(app, ada)
    taken = body()
    await create(diary, taken)
    other = taken.model_copy(update={"mood": 1})
    new = body()
    outcomes = await record_store.write(
        diary,
        "test",
        ENTRY.write_scope,
        [records.change_of(ENTRY, other, other.id, 0), records.change_of(ENTRY, new, new.id, 0)],
    )
    assert [outcome.status for outcome in outcomes] == ["conflict", "created"]


async def test_a_mutation_is_applied_once_and_its_id_stands_for_its_content(app: FastAPI, ada: Phone) -> None:
    diary = diary_of(app, ada)
    first = body()
    mutation = str(uuid4())

    async def put(mood: int | None, base: int) -> str:
        change = records.change_of(ENTRY, first.model_copy(update={"mood": mood}), first.id, base)
        outcome = await record_store.write(
            diary, "test", ENTRY.write_scope, [record_store.RecordWrite(**{**_fields(change), "mutation_id": mutation})]
        )
        return outcome[0].status

    assert await put(None, 0) == "created"
    assert await put(None, 0) == "unchanged"
    assert await put(4, 1) == "reused"


def _fields(change: record_store.RecordWrite) -> dict[str, Any]:
    return {name: getattr(change, name) for name in change.__slots__}


async def test_a_diary_without_a_clock_takes_no_write(
    app: FastAPI, ada: Phone, superuser: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await superuser.execute("DELETE FROM patient_clocks WHERE patient_id = $1", UUID(ada.patient_id))
    refused = await ada.log()
    assert refused.status_code == 404
    written_down = await superuser.fetchval(
        "SELECT outcome FROM audit_events WHERE request_id = $1", UUID(refused.headers["X-Request-Id"])
    )
    assert written_down == "not_found"


async def test_a_stranger_neither_waits_for_the_clock_nor_holds_it(
    app: FastAPI, ada: Phone, bob: Phone, settings: Settings
) -> None:
    diary = diary_of(app, ada)
    async with served(settings) as writing, writing.transaction():
        await writing.fetch(WRITE, diary.caller.session_id, diary.patient_id, *item(), uuid4())
        refused = await bob.http.post(f"{ada.diary}/entries", json=entry())
        assert refused.status_code == 404


async def test_the_serving_role_has_no_way_around_the_function(settings: Settings, ada: Phone) -> None:
    assert (await ada.log(note="mine")).status_code == 201
    async with served(settings) as connection:
        for statement in (
            "INSERT INTO records SELECT * FROM records",
            "UPDATE records SET version = 9",
            "DELETE FROM records",
            "TRUNCATE record_versions",
            "SELECT note FROM records",
            "SELECT document FROM record_versions",
            "UPDATE patient_clocks SET head = 0",
            "DELETE FROM audit_events",
            "INSERT INTO audit_events (action, record_ids, outcome) VALUES ('x', '{}', 'ok')",
            "SELECT audit(NULL, NULL, NULL, NULL, NULL, 'x', '{}', 'ok', NULL, NULL)",
            "SELECT set_config('role', 'diary_owner', false)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_a_forgotten_where_shows_nobody_elses_records(settings: Settings, ada: Phone, bob: Phone) -> None:
    assert (await ada.log()).status_code == (await bob.log()).status_code == 201
    async with served(settings) as connection:
        assert await connection.fetchval("SELECT count(*) FROM records") == 0
        async with connection.transaction():
            outcome = await connection.fetchval(
                f"SELECT open_diary_v1({SESSION}, $2, 'entries:read', 'test.open', NULL, NULL)",
                UUID(ada.session_id),
                UUID(ada.patient_id),
            )
            assert outcome == "ok"
            owners = await connection.fetch("SELECT DISTINCT patient_id FROM records")
            scores = await connection.fetch("SELECT DISTINCT patient_id FROM pain_scores")
        assert [row["patient_id"] for row in owners] == [row["patient_id"] for row in scores] == [UUID(ada.patient_id)]
        assert await connection.fetchval("SELECT count(*) FROM records") == 0


@pytest.mark.parametrize("scope", [None, "entries:write"])
async def test_a_kind_that_nobody_declared_is_forbidden_to_everybody(
    ada: Phone, superuser: "asyncpg.Connection[asyncpg.Record]", scope: str | None
) -> None:
    made = body()
    change = record_store.RecordWrite(**{**_fields(records.change_of(ENTRY, made, made.id, 0)), "kind": "forgotten"})
    written = f"SELECT * FROM write_records_v1({SESSION}, $2, $3, 'test', $4, $5, false, NULL, NULL, NULL, true)"
    sent = (UUID(ada.session_id), UUID(ada.patient_id), scope, *record_store.sent([change]))
    assert [row["status"] for row in await superuser.fetch(written, *sent)] == ["forbidden"]
    assert not await superuser.fetchval("SELECT count(*) FROM records WHERE patient_id = $1", UUID(ada.patient_id))
