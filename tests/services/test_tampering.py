"""Somebody with the database's own rights forges the past: `pain-diary verify` finds it, at the latest by an anchor."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg
import pytest
from pydantic import SecretStr

from app.config import Settings
from app.main import create_app
from app.services import audit, verify
from tests.conftest import connect, make_database, url_of
from tests.damage import rolled_back
from tests.people import Person, Phone, dose, treatment

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NOTE = "canary of the note"
CONTENT = "the content of a version is not what its hash says"
ODD_VERSION = "a version differs from its own document"
ODD_RECORD = "a record differs from its last version or from its own document"
SEALED = "changes are not those that were sealed: the record is one of them"
# What a forger does who knows how seals are made, from the first to the last.
MAKE_ANEW = """
DO $$
DECLARE
    sealed record;
BEGIN
    PERFORM set_config('diary.data_from', '-infinity', true), set_config('diary.kinds', all_kinds()::text, true);
    FOR sealed IN SELECT patient_id, change_seq, lag(change_seq, 1, 0::bigint) OVER one AS after_seq FROM diary_seals
                  WINDOW one AS (PARTITION BY patient_id ORDER BY change_seq) ORDER BY patient_id, change_seq LOOP
        PERFORM set_config('diary.patient', sealed.patient_id::text, true);
        UPDATE diary_seals s SET digest = (changes_digest(
            coalesce((SELECT before.digest FROM diary_seals before
                      WHERE before.patient_id = s.patient_id AND before.change_seq = sealed.after_seq), ''),
            s.patient_id, sealed.after_seq, s.change_seq)).digest
        WHERE s.patient_id = sealed.patient_id AND s.change_seq = sealed.change_seq;
    END LOOP;
    FOR sealed IN SELECT number, lag(to_id, 1, 0::bigint) OVER (ORDER BY number) AS after_id FROM audit_segments
                  ORDER BY number LOOP
        UPDATE audit_segments s SET (digest, events) = (SELECT d.digest, d.events FROM audit_digest(
            coalesce((SELECT digest FROM audit_segments WHERE number = s.number - 1), ''), sealed.after_id, s.to_id,
            s.number) d)
        WHERE s.number = sealed.number;
    END LOOP;
END $$
"""


@dataclass
class Place:
    """A database of its own with one diary, sealed thrice: with two entries, after one was changed and one deleted, and
    with a read alone. A plan and a dose besides."""

    url: str
    phone: Phone
    anchor: str
    ids: dict[str, str]


@pytest.fixture(scope="module")
async def place(server_url: str, settings: Settings) -> AsyncIterator[Place]:
    name = await make_database(server_url)
    own = settings.model_copy(update={"database_url": SecretStr(url_of(server_url, "diary_app", name))})
    application = create_app(own)
    async with application.router.lifespan_context(application), connect(application) as http:
        phone, database = await Person().register_and_sign_in(http), application.state.diary.database
        kept, removed = [(await phone.log(note=NOTE)).json()["id"] for _ in range(2)]
        plan = treatment("08:00")
        taken = dose(plan["id"])
        for path, body in (("/treatments", plan), ("/treatment-events", taken)):
            assert (await phone.post(path, body)).status_code == 201
        assert await audit.seal(database) is not None
        assert (await phone.patch(f"/entries/{kept}", {"mood": 2})).status_code == 200
        assert (await phone.delete(f"/entries/{removed}")).status_code == 204
        assert await audit.seal(database) is not None
        await phone.get("/timeline")
        anchor = await audit.seal(database)
        assert anchor is not None
        ids = {"kept": kept, "removed": removed, "plan": plan["id"], "taken": taken["id"]}
        yield Place(url_of(server_url, "postgres", name), phone, anchor, ids)


@pytest.fixture
async def inside(place: Place) -> AsyncIterator[Connection]:
    """A superuser's connection to that database."""
    connection = await asyncpg.connect(place.url)
    yield connection
    await connection.close()


async def found(inside: Connection, anchor: str | None = None) -> set[str]:
    """The kinds that the verifier names; no line of it holds the note."""
    lines = await verify._data(inside, None, anchor)
    assert NOTE not in " ".join(lines)
    return {line.rpartition(":")[0] for line in lines if not line.startswith(" ")}


async def forge(inside: Connection, place: Place, *statements: str) -> None:
    for statement in statements:
        done = await inside.execute(statement.format(**place.ids))
        assert done not in ("UPDATE 0", "DELETE 0"), statement


async def test_what_the_service_wrote_is_sound_also_where_it_was_superseded_after_it_was_sealed(
    place: Place, inside: Connection
) -> None:
    async with rolled_back(inside, isolation="repeatable_read"):
        assert await inside.fetchval("SELECT count(*) FROM diary_seals") == 2
        assert await found(inside, place.anchor) == set()


SCORE = "UPDATE {table} SET document = replace(document::text, '\"value\":6', '\"value\":2')::json WHERE {where}"
CURRENT = SCORE.format(table="records", where="id = '{kept}'")
SUPERSEDED = SCORE.format(table="record_versions", where="record_id = '{kept}' AND version = 1")
NEW_HASHES = (
    "UPDATE records SET worst_score = 2, content_hash = sha256(convert_to(sent_document(document::text, server_fields("
    "kind, id, patient_id, version, change_seq, deleted, author_id, received_at)), 'UTF8')) WHERE id = '{kept}'",
    "UPDATE record_versions v SET content_hash = r.content_hash FROM records r"
    " WHERE r.id = '{kept}' AND v.record_id = r.id AND v.version = r.version",
)
FIRST = "WHERE record_id = '{kept}' AND version = 1"
SAYS_SO_TOO = "UPDATE record_versions SET document = replace(document::text, {old}, {new})::json " + FIRST
OLD_AUTHOR = "(document ->> 'author_id')"
TIME = "to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"


@pytest.mark.parametrize(
    ("statements", "kinds"),
    [
        pytest.param((CURRENT,), {CONTENT, SEALED, verify.MISFIT}, id="a score"),
        pytest.param((SUPERSEDED,), {CONTENT, SEALED}, id="a score of a version before"),
        pytest.param((CURRENT, *NEW_HASHES), {SEALED}, id="a score, with hash and column"),
        pytest.param(("UPDATE records SET note = 'fine' WHERE id = '{kept}'",), {SEALED}, id="the note"),
        pytest.param(("UPDATE records SET note = NULL WHERE id = '{kept}'",), {SEALED}, id="the note removed"),
        pytest.param((f"UPDATE record_versions SET note = 'fine' {FIRST}",), {SEALED}, id="the note before"),
        pytest.param(
            (
                "UPDATE record_versions SET note = 'fine', document ="
                " (SELECT document FROM records WHERE id = '{kept}') WHERE record_id = '{kept}' AND version = 2",
            ),
            {ODD_RECORD},
            id="a second document beside the one that stands",
        ),
        pytest.param(
            (f"UPDATE record_versions SET author_id = gen_random_uuid() {FIRST}",),
            {ODD_VERSION, SEALED},
            id="the author",
        ),
        pytest.param(
            (
                SAYS_SO_TOO.replace("{old}", "author_id::text").replace("{new}", "session_id::text"),
                f"UPDATE record_versions SET author_id = session_id {FIRST}",
            ),
            {SEALED},
            id="the author, in the document too",
        ),
        pytest.param(
            (f"UPDATE record_versions SET session_id = gen_random_uuid() {FIRST}",), {SEALED}, id="the device"
        ),
        pytest.param(
            (f"UPDATE record_versions SET received_at = received_at - interval '1 day' {FIRST}",),
            {ODD_VERSION, SEALED},
            id="the time",
        ),
        pytest.param(
            (
                SAYS_SO_TOO.replace("{old}", TIME).replace("{new}", "'2001-01-01T00:00:00Z'"),
                f"UPDATE record_versions SET received_at = '2001-01-01T00:00:00Z' {FIRST}",
            ),
            {SEALED},
            id="the time, in the document too",
        ),
        pytest.param(
            ("UPDATE records SET received_at = received_at - interval '1 day' WHERE id = '{kept}'",),
            {ODD_RECORD},
            id="the time of the record",
        ),
        pytest.param(
            ("UPDATE record_versions SET nonce = gen_random_uuid() WHERE record_id = '{removed}' AND version = 2",),
            {SEALED},
            id="a deletion",
        ),
        pytest.param(
            ("DELETE FROM diary_seals WHERE change_seq < (SELECT max(change_seq) FROM diary_seals)",),
            {SEALED, verify.BROKEN_SEGMENT},
            id="a seal of the diary",
        ),
        pytest.param(("DELETE FROM diary_seals",), {verify.BROKEN_SEGMENT}, id="all seals of the diary"),
        pytest.param(
            ("UPDATE audit_events SET actor_id = gen_random_uuid() WHERE action = 'entries.delete'",),
            {verify.BROKEN_SEGMENT},
            id="an audit row changed",
        ),
        pytest.param(
            ("DELETE FROM audit_events WHERE action = 'entries.delete'",),
            {verify.BROKEN_SEGMENT},
            id="an audit row removed",
        ),
    ],
)
async def test_what_is_forged_is_found(
    place: Place, inside: Connection, statements: tuple[str, ...], kinds: set[str]
) -> None:
    async with rolled_back(inside, isolation="repeatable_read"):
        await forge(inside, place, *statements)
        assert await found(inside) == kinds


CUT_OFF = (
    "DELETE FROM audit_events WHERE id > (SELECT to_id FROM audit_segments ORDER BY number DESC OFFSET 1 LIMIT 1)",
    "DELETE FROM audit_segments WHERE number = (SELECT max(number) FROM audit_segments)",
)


@pytest.mark.parametrize(
    ("statements", "kind"),
    [
        pytest.param(CUT_OFF[1:], audit.ENDS_BEFORE, id="the last segment removed"),
        pytest.param(CUT_OFF, audit.ENDS_BEFORE, id="the last segment removed with its events"),
        pytest.param(
            ("UPDATE audit_events SET actor_id = gen_random_uuid() WHERE action = 'entries.delete'", MAKE_ANEW),
            audit.ANOTHER,
            id="an event changed and all seals made anew",
        ),
        pytest.param(
            ("UPDATE records SET note = 'fine' WHERE id = '{kept}'", MAKE_ANEW),
            audit.ANOTHER,
            id="a note changed and all seals made anew",
        ),
    ],
)
async def test_an_anchor_finds_what_nothing_inside_can_show(
    place: Place, inside: Connection, statements: tuple[str, ...], kind: str
) -> None:
    async with rolled_back(inside, isolation="repeatable_read"):
        await forge(inside, place, *(one for one in statements if one is not MAKE_ANEW))
        if MAKE_ANEW in statements:
            await inside.execute(MAKE_ANEW)
        assert await found(inside) == set()
        assert await found(inside, place.anchor) == {kind}


async def test_a_removed_segment_in_which_a_diary_was_sealed_is_found_without_an_anchor(
    place: Place, inside: Connection
) -> None:
    async with rolled_back(inside, isolation="repeatable_read"):
        await forge(inside, place, "DELETE FROM audit_segments WHERE number > 1")
        assert await found(inside) == {verify.BROKEN_SEGMENT}


OTHERS = {
    "occurred_at": ("kept", "occurred_at - interval '1 hour'"),
    "utc_offset": ("kept", "utc_offset + 60"),
    "time_zone": ("kept", "'Asia/Tokyo'"),
    "local_date": ("removed", "local_date - 1"),
    "recorded_at": ("kept", "'2020-01-01'"),
    "performer": ("removed", "'caregiver'"),
    "regions": ("removed", "'{{}}'"),
    "characters": ("kept", "characters || '{{burning}}'"),
    "worst_score": ("removed", "worst_score - 1"),
    "scale": ("kept", "'vas_0_100'"),
    "duration_minutes": ("kept", "7"),
    "treatment_id": ("taken", "gen_random_uuid()"),
    "valid_to": ("plan", "'2020-01-01'"),
    "source_system": ("kept", "'another'"),
    "source_record_id": ("kept", "'7', source_system = 'another'"),
}


@pytest.mark.parametrize("column", verify.PROMOTED)
async def test_every_column_that_repeats_the_document_is_compared_with_it(
    place: Place, inside: Connection, column: str
) -> None:
    which, value = OTHERS[column]
    async with rolled_back(inside, isolation="repeatable_read"):
        await forge(inside, place, f"UPDATE records SET {column} = {value} WHERE id = '{{{which}}}'")
        assert await found(inside) == {verify.MISFIT}


async def test_a_document_that_is_none_of_its_kind_is_named(place: Place, inside: Connection) -> None:
    async with rolled_back(inside, isolation="repeatable_read"):
        await forge(inside, place, CURRENT.replace('"value":2', '"value":99'))
        assert await found(inside) == {CONTENT, SEALED, verify.NO_RECORD}


@pytest.mark.parametrize("text", ["", "7", "0:" + "a" * 64, "7:" + "A" * 64, "7:" + "a" * 63])
async def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(audit.NoAnchor):
        verify.run("postgresql://", anchor=text)
