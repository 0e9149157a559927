"""The verifier: silent on what the service wrote, and with a line for each way in which it can be damaged."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID, uuid4

import anyio.to_thread
import asyncpg
import pytest
from pydantic import SecretStr

from app.config import Settings
from app.main import create_app
from app.services import verify
from tests.conftest import connect, make_database, url_of
from tests.people import Person, Phone

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass
class Place:
    """A database of its own with one diary: an entry with two versions, then one that was deleted."""

    url: str
    phone: Phone
    kept: str
    removed: str


@pytest.fixture(scope="module")
async def place(server_url: str, settings: Settings) -> AsyncIterator[Place]:
    name = await make_database(server_url)
    url = url_of(server_url, "postgres", name)
    own = settings.model_copy(update={"database_url": SecretStr(url_of(server_url, "diary_app", name))})
    application = create_app(own)
    async with application.router.lifespan_context(application), connect(application) as http:
        phone = await Person().register_and_sign_in(http)
        kept, removed = [(await phone.log(mood=1)).json()["id"] for _ in range(2)]
        entries, match = f"{phone.diary}/entries", {"If-Match": '"1"'}
        assert (await http.patch(f"{entries}/{kept}", json={"mood": 2}, headers=match)).status_code == 200
        assert (await http.delete(f"{entries}/{removed}", headers=match)).status_code == 204
        yield Place(url, phone, kept, removed)


@pytest.fixture
async def inside(place: Place) -> AsyncIterator[Connection]:
    """A superuser's connection to that database."""
    connection = await asyncpg.connect(place.url)
    yield connection
    await connection.close()


async def found(place: Place) -> list[str]:
    return await anyio.to_thread.run_sync(verify.run, place.url)


async def test_nothing_is_found_where_nothing_is_damaged(place: Place) -> None:
    assert await found(place) == []


NO_GAP = "change_seq is not 1 to head without a gap"
NO_STEP = "versions of a record do not step by one"
NO_LAST = "a record does not stand at its last version"
CAME_BACK = "a deleted record came back"
NO_CLOCK = "the patient has no clock"
ODD = "a record differs from its last version or from its own document"
TWICE = "a mutation was applied twice"
REWRITE = "UPDATE records SET document = (document::jsonb"
NO_DOCUMENT = "a superseded version has lost its document"


@pytest.mark.parametrize(
    ("damage", "violations"),
    [
        ("UPDATE patient_clocks SET head = head + 1", {NO_GAP}),
        ("UPDATE patient_clocks SET head = head - 1", {NO_GAP}),
        ("UPDATE record_versions SET change_seq = 9 WHERE change_seq = 1", {NO_GAP}),
        ("DELETE FROM record_versions WHERE change_seq = 1", {NO_GAP, NO_STEP}),
        ("UPDATE record_versions SET version = 7 WHERE change_seq = 3", {NO_STEP, NO_LAST}),
        ("UPDATE records SET version = version + 1 WHERE id = '{kept}'", {NO_LAST, NO_DOCUMENT}),
        ("UPDATE records SET change_seq = 1 WHERE id = '{kept}'", {NO_LAST}),
        ("UPDATE records SET deleted = false WHERE id = '{removed}'", {NO_LAST}),
        ("DELETE FROM records WHERE id = '{kept}'", {NO_LAST}),
        ("UPDATE records SET id = gen_random_uuid() WHERE id = '{kept}'", {NO_LAST}),
        (
            "UPDATE record_versions SET deleted = true WHERE record_id = '{kept}' AND version = 1",
            {CAME_BACK},
        ),
        ("UPDATE record_versions SET document = NULL WHERE change_seq = 1", {NO_DOCUMENT}),
        ("DELETE FROM patient_clocks", {NO_CLOCK}),
        ("UPDATE records SET content_hash = sha256('x') WHERE id = '{kept}'", {ODD}),
        (f"{REWRITE} || jsonb_build_object('patient_id', 'somebody'))::json WHERE id = '{{kept}}'", {ODD}),
        (f"{REWRITE} || jsonb_build_object('kind', 'profile'))::json WHERE id = '{{kept}}'", {ODD}),
        (f"{REWRITE} || jsonb_build_object('version', 9))::json WHERE id = '{{kept}}'", {ODD}),
        (f"{REWRITE} || jsonb_build_object('note', 'in the open'))::json WHERE id = '{{kept}}'", {ODD}),
    ],
)
async def test_each_kind_of_damage_has_its_line(
    place: Place, inside: Connection, damage: str, violations: set[str]
) -> None:
    transaction = inside.transaction()
    await transaction.start()
    assert await inside.execute(damage.format(kept=place.kept, removed=place.removed)) in ("UPDATE 1", "DELETE 1")
    rows = await inside.fetch("SELECT id::text AS patient, verify_diary_v1(id) AS violation FROM patients")
    await transaction.rollback()
    assert {row["violation"] for row in rows} >= violations
    assert {row["patient"] for row in rows} == {place.phone.patient_id}


async def test_a_mutation_that_was_applied_twice_has_its_line(place: Place, inside: Connection) -> None:
    transaction = inside.transaction()
    await transaction.start()
    await inside.execute("DROP INDEX uq_record_versions_mutation")
    await inside.execute("UPDATE record_versions SET mutation_id = $1", uuid4())
    rows = await inside.fetch("SELECT verify_diary_v1($1) AS violation", UUID(place.phone.patient_id))
    await transaction.rollback()
    assert [row["violation"] for row in rows] == [TWICE]


async def test_a_line_names_the_diary_or_the_audit_segment_and_no_health_data(place: Place, inside: Connection) -> None:
    await place.phone.get()
    while not await inside.fetch("SELECT * FROM audit_segments"):
        await inside.execute("SELECT seal_audit_v1((SELECT settle_audit_v1()))")
    await inside.execute("UPDATE patient_clocks SET head = head + 1")
    async with inside.transaction():
        await inside.execute("SET LOCAL session_replication_role = replica")
        number = await inside.fetchval(
            "UPDATE audit_segments SET digest = sha256(digest)"
            " WHERE number = (SELECT max(number) FROM audit_segments) RETURNING number"
        )
    assert await found(place) == [
        f"diary {place.phone.patient_id}: {NO_GAP}",
        f"audit segment {number}: its events are not those that were sealed",
    ]
