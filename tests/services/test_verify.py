"""The verifier: silent on what the service wrote, and with a line for each way in which it can be damaged."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
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
from tests.damage import rolled_back
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
CAME_BACK = "a deleted record came back as what it never was"
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
        ("UPDATE record_versions SET change_seq = 999 WHERE change_seq = 1", {NO_GAP}),
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
    every = "SELECT p.id::text AS patient, v.* FROM patients p, verify_diary_v1(p.id) v"
    rows = await inside.fetch(every)
    await transaction.rollback()
    assert {row["violation"] for row in rows} >= violations
    assert {row["patient"] for row in rows} == {place.phone.patient_id}


async def test_a_mutation_that_was_applied_twice_has_its_line(place: Place, inside: Connection) -> None:
    transaction = inside.transaction()
    await transaction.start()
    await inside.execute("DROP INDEX uq_record_versions_mutation")
    await inside.execute("UPDATE record_versions SET mutation_id = $1", uuid4())
    rows = await inside.fetch("SELECT * FROM verify_diary_v1($1)", UUID(place.phone.patient_id))
    await transaction.rollback()
    assert [row["violation"] for row in rows] == [TWICE]


async def test_a_line_names_the_diary_or_the_audit_segment_and_no_health_data(place: Place, inside: Connection) -> None:
    await place.phone.get()
    while not await inside.fetch("SELECT * FROM audit_segments"):
        await inside.execute("SELECT seal_audit_v1((SELECT settle_audit_v1()))")
    sealed = await inside.fetchrow("SELECT number, digest FROM audit_segments ORDER BY number DESC LIMIT 1")
    assert sealed is not None
    change = "UPDATE audit_segments SET digest = $2 WHERE number = $1"
    await inside.execute("SET session_replication_role = replica")
    await inside.execute("UPDATE patient_clocks SET head = head + 1")
    await inside.execute(change, sealed["number"], sha256(sealed["digest"]).digest())
    lines = await found(place)
    await inside.execute(change, sealed["number"], sealed["digest"])
    await inside.execute("UPDATE patient_clocks SET head = head - 1")
    assert lines == [
        f"{NO_GAP}: 1",
        f"  diary {place.phone.patient_id}",
        "the events of an audit segment are not those that were sealed: 1",
        f"  audit segment {sealed['number']}",
    ]


async def test_equal_findings_are_counted_and_the_first_are_named(place: Place, inside: Connection) -> None:
    ids = sorted([(await place.phone.log()).json()["id"] for _ in range(12)])
    others = "UPDATE records SET content_hash = sha256(content_hash) WHERE id = ANY ($1::text[]::uuid[])"
    same = "UPDATE records r SET content_hash = v.content_hash FROM record_versions v WHERE v.record_id = r.id"
    await inside.execute(others, ids)
    lines = await found(place)
    await inside.execute(f"{same} AND v.version = r.version")
    assert lines == [f"{ODD}: 12", f"  diary {place.phone.patient_id}: record {', '.join(ids[:10])} and 2 more"]


def test_no_more_places_are_shown_than_one_can_read() -> None:
    places = [f"place {number}" for number in range(200_000)]
    lines = verify._group("it is so", places)
    assert lines == ["it is so: 200000", *(f"  {place}" for place in places[: verify.SHOWN]), "  and 199990 more"]


@pytest.mark.parametrize(
    ("damage", "lines"),
    [
        (
            "ALTER FUNCTION read_heads_v1 OWNER TO postgres",
            [
                "owners other than this release left: 1",
                "  function read_heads_v1(uuid,uuid): postgres, not diary_owner",
            ],
        ),
        (
            "ALTER TABLE sessions OWNER TO postgres",
            ["owners other than this release left: 1", "  table sessions: postgres, not diary_owner"],
        ),
        (
            "GRANT INSERT ON records TO diary_app",
            ["privileges other than this release left: 1", "  table records: diary_app INSERT, diary_eraser"],
        ),
        (
            "GRANT SELECT (note) ON records TO PUBLIC",
            ["privileges other than this release left: 1", "  table records, column note: PUBLIC SELECT, not nobody"],
        ),
        (
            "ALTER TABLE records NO FORCE ROW LEVEL SECURITY",
            ["row security other than this release left: 1", "  table records: on, not forced"],
        ),
        (
            "DROP POLICY in_visit ON grants",
            ["policies other than this release left: 1", "  table grants, policy in_visit is missing"],
        ),
        (
            "CREATE POLICY everybody ON records USING (true)",
            ["policies other than this release left: 1", "  table records, policy everybody is not of this release"],
        ),
        (
            "CREATE OR REPLACE FUNCTION write_scopes() RETURNS text[] LANGUAGE sql AS $$ SELECT all_scopes() $$",
            ["functions other than this release left: 1", "  function write_scopes() is not as this release left it"],
        ),
        (
            "ALTER TABLE audit_events DISABLE TRIGGER append_only",
            [
                "triggers other than this release left: 1",
                "  table audit_events, trigger append_only is not",
            ],
        ),
        ("UPDATE alembic_version SET version_num = 'r1923'", ["The database stands at the migration r1923, not at"]),
    ],
)
async def test_what_guards_the_data_is_named_before_any_record_is_blamed(
    place: Place, inside: Connection, damage: str, lines: list[str]
) -> None:
    async with rolled_back(inside, triggers=True):
        await inside.execute("UPDATE patient_clocks SET head = head + 1")
        await inside.execute(damage)
        guards = await verify._guards(inside, distributed=False)
    assert len(guards) == len(lines)
    assert all(guard.startswith(line) for guard, line in zip(guards, lines, strict=True))


async def test_records_are_not_looked_at_where_what_guards_them_is_not_as_it_was(
    place: Place, inside: Connection
) -> None:
    await inside.execute("CREATE POLICY everybody ON grants USING (true)")
    try:
        assert (await found(place))[-1] == verify.NOT_LOOKED_AT
    finally:
        await inside.execute("DROP POLICY everybody ON grants")


async def test_what_is_not_ours_may_be_as_it_is(place: Place, inside: Connection) -> None:
    async with rolled_back(inside, triggers=True):
        await inside.execute("CREATE TABLE reports (id integer); GRANT ALL ON reports TO PUBLIC")
        await inside.execute("CREATE FUNCTION report() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        assert await verify._guards(inside, distributed=False) == []
