"""The second line: what PostgreSQL itself shows the serving role, whatever a service asks and a function forgets.

Which tables there are is asked of the catalog, so that a new one cannot be left out.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from app.config import Settings
from app.main import create_app
from app.services import audit
from tests.conftest import connect, make_database, url_of
from tests.people import (
    SESSION,
    Person,
    Phone,
    consent,
    dose,
    entry,
    make_clinician,
    profile,
    share,
    treatment,
    without_id,
)

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# Tables and views that hold what belongs to one patient, with the column that says whose it is.
OF_PATIENTS = """
    SELECT c.relname::text AS name, c.relkind::text AS kind, min(a.attname) AS owner
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
      AND (a.attname = 'patient_id' OR c.relname = 'patients' AND a.attname = 'id')
    GROUP BY 1, 2 ORDER BY 1
"""
# The rest, about accounts and what they sign in with.
OF_NOBODY = {
    "alembic_version",
    "audit_segments",
    "clinicians",
    "invitations",
    "organisations",
    "refresh_tokens",
    "sessions",
    "sign_in_delays",
    "users",
}
NEVER_READ = {"diary_seals", "record_versions"}  # only through functions
# What keeps a function of the database to one patient. Clocks and grants are read to find out whose turn it is and who
# may see what, so no context can guard them; what they hold is numbers and names of scopes.
FILTER = re.compile(
    r"(?<!patient_clocks WHERE )(?<!patient_clocks\n    WHERE )(?<!patient_clocks\n        WHERE )"
    r"(?<!old_head END\n        WHERE )(?<!g\.)"
    r"\b(\w+\.)?patient_id = (p_patient|found\.id|nullif\(current_setting\('diary\.patient', true\), ''\)::uuid)"
)
DAYS = {"from": "2026-03-01", "to": "2026-03-31"}


@dataclass
class Pair:
    """Ada and Bob, whose diaries have the same ids; Weber, whom Ada let in, and Osei, whom Bob did."""

    superuser: Connection
    serving: Connection
    ada: Phone
    bob: Phone
    weber: Phone
    ids: dict[str, str]

    async def answers(self) -> dict[str, str]:
        """What Ada and Weber are told, by what they ask."""
        told = {path: (await self.ada.http.get(path)).text for path in self.paths()}
        for path in (f"{self.ada.diary}/timeline", "/v1/me/patients", "/v1/me/grants"):
            told[f"weber {path}"] = (await self.weber.http.get(path)).text
        return {path: re.sub(r'"as_of":"[^"]+"', "", answer) for path, answer in told.items()}

    def paths(self) -> list[str]:
        """Every way to read something of a diary."""
        days = f"?from={DAYS['from']}&to={DAYS['to']}"
        records = [f"/{collection}/{record_id}" for collection, record_id in self.ids.items()]
        plan = f"/treatments/{self.ids['treatments']}"
        parts = ["", "/timeline", "/profile", "/profile/versions", f"/adherence{days}", f"{plan}/slots{days}"]
        parts += [f"/{collection}" for collection in self.ids] + records + [f"{record}/versions" for record in records]
        shared = ["/grants", "/access-log?include_own=false"]
        return [f"{self.ada.diary}{part}" for part in parts + shared] + ["/v1/me/patients"]


@pytest.fixture(scope="module")
async def pair(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Both on a database of their own."""
    async with living(server_url, tmp_path_factory.mktemp("state")) as both:
        yield both


@pytest.fixture
async def doomed(server_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    """The same on a database that one test may damage."""
    async with living(server_url, tmp_path) as both:
        yield both


@asynccontextmanager
async def living(server_url: str, state: Path) -> AsyncIterator[Pair]:
    """Both, with what they wrote, on a new database."""
    name = await make_database(server_url)
    serving_url = url_of(server_url, "diary_app", name)
    app = create_app(
        Settings(
            environment="development",
            database_url=SecretStr(serving_url),
            state_directory=state,
            audit_seal_seconds=3600,
        )
    )
    superuser = await asyncpg.connect(url_of(server_url, "postgres", name))
    serving = await asyncpg.connect(serving_url)
    async with app.router.lifespan_context(app), AsyncExitStack() as stack:
        phones = [await Person().register_and_sign_in(await stack.enter_async_context(connect(app))) for _ in range(4)]
        ada, bob, weber, osei = phones
        ids = {collection: str(uuid4()) for collection in ("entries", "treatments", "treatment-events")}
        for doctor in (weber, osei):
            await make_clinician(superuser, doctor)
        await superuser.execute("UPDATE users SET display_name = 'Dr. canary' WHERE id = $1", UUID(osei.user_id))
        await superuser.execute("UPDATE patients SET display_name = 'canary' WHERE id = $1", UUID(bob.patient_id))
        await fill(ada, weber, ids, "of Ada")
        await fill(bob, osei, ids, "canary")
        await audit.seal(app.state.diary.database)
        yield Pair(superuser, serving, ada, bob, weber, ids)
    await superuser.close()
    await serving.close()


async def fill(phone: Phone, doctor: Phone, ids: dict[str, str], words: str) -> None:
    """A diary with two versions of each record, and somebody who looked at it."""
    written = {
        "entries": entry(id=ids["entries"], note=words, associated_symptoms=[{"code": "nausea"}]),
        "treatments": treatment("08:00", id=ids["treatments"], name=words, prescriber=words, note=words),
        "treatment-events": dose(ids["treatments"], id=ids["treatment-events"], note=words),
    }
    for collection, body in written.items():
        assert (await phone.post(f"/{collection}", body)).status_code == 201
        changed = without_id(body) | {"time_zone": "Europe/Paris"}
        assert (await phone.put(f"/{collection}/{body['id']}", changed)).status_code == 200
    assert (await phone.post("/profile", profile(source={"app": words}))).status_code == 201
    await consent(phone, doctor, purpose=words)
    assert (await share(phone, purpose=words)).status_code == 201
    assert (await doctor.http.get(f"{phone.diary}/timeline")).status_code == 200


async def enter(serving: Connection, patient: Phone, **context: str) -> None:
    """Opens the transaction for a patient's own visit, with a context that is narrower."""
    visit = f"SELECT open_diary_v1({SESSION}, $2, NULL, 'patients.read', $3, NULL)"
    assert await serving.fetchval(visit, UUID(patient.session_id), UUID(patient.patient_id), uuid4()) == "ok"
    for name, value in context.items():
        await serving.execute("SELECT set_config($1, $2, true)", f"diary.{name}", value)


async def owners(serving: Connection, table: asyncpg.Record) -> list[str]:
    """Whose rows the serving role finds."""
    rows = await serving.fetch(f"SELECT {table['owner']} AS owner FROM {table['name']}")
    return [str(row["owner"]) for row in rows]


async def test_every_table_is_known_to_be_of_a_patient_or_not(pair: Pair) -> None:
    tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    names = {row["relname"] for row in await pair.superuser.fetch(tables)}
    assert names == OF_NOBODY | {row["name"] for row in await pair.superuser.fetch(OF_PATIENTS) if row["kind"] == "r"}


async def test_every_table_of_patients_has_row_security_and_every_view_asks_for_whoever_asks(pair: Pair) -> None:
    for table in await pair.superuser.fetch(OF_PATIENTS):
        secured = (
            "SELECT relrowsecurity OR reloptions @> '{security_invoker=true}' FROM pg_class WHERE oid = $1::regclass"
        )
        assert await pair.superuser.fetchval(secured, table["name"]), table["name"]


async def test_without_a_context_the_serving_role_finds_nothing_of_anybody(pair: Pair) -> None:
    unreadable = set()
    for table in await pair.superuser.fetch(OF_PATIENTS):
        assert await pair.superuser.fetchval(f"SELECT count(*) > 0 FROM {table['name']}"), table["name"]
        try:
            assert await owners(pair.serving, table) == [], table["name"]
        except asyncpg.InsufficientPrivilegeError:
            unreadable.add(table["name"])
    assert unreadable == NEVER_READ


async def test_in_the_context_of_a_patient_nobody_elses_rows_are_found(pair: Pair) -> None:
    for table in await pair.superuser.fetch(OF_PATIENTS):
        if table["name"] not in NEVER_READ:
            async with pair.serving.transaction():
                await enter(pair.serving, pair.ada)
                assert set(await owners(pair.serving, table)) == {pair.ada.patient_id}, table["name"]
            assert await owners(pair.serving, table) == [], "a context outlived its transaction"


@pytest.mark.parametrize(
    ("context", "kinds"),
    [
        ({"kinds": "{entry}"}, ["entry"]),
        ({"kinds": "{}"}, []),
        ({"data_from": "2026-04-01"}, ["profile", "treatment"]),  # they still hold
        ({"data_from": "2026-04-01", "kinds": "{entry,treatment_event}"}, []),
    ],
)
async def test_scopes_and_window_hold_for_every_statement(
    pair: Pair, context: dict[str, str], kinds: list[str]
) -> None:
    async with pair.serving.transaction():
        await enter(pair.serving, pair.ada, **context)
        assert [row["kind"] for row in await pair.serving.fetch("SELECT kind FROM records ORDER BY kind")] == kinds


async def test_a_note_cannot_be_selected_at_all(pair: Pair) -> None:
    for table in ("records", "record_versions"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pair.serving.fetch(f"SELECT note FROM {table}")


@pytest.mark.parametrize(
    "table", ["records", "record_versions", "patient_clocks", "audit_events", "grants", "patients"]
)
async def test_the_serving_role_removes_and_rewrites_nothing(pair: Pair, table: str) -> None:
    column = "created_at" if table in ("grants", "patients") else "head" if table == "patient_clocks" else "id"
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column.replace('id', 'patient_id')} = NULL"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pair.serving.execute(statement)


async def test_consent_is_changed_in_the_context_of_its_patient_only(pair: Pair) -> None:
    end = "UPDATE grants SET revoked_at = now()"
    assert await pair.serving.execute(end) == "UPDATE 0"
    transaction = pair.serving.transaction()
    await transaction.start()
    await enter(pair.serving, pair.ada)
    assert await pair.serving.execute(end) == "UPDATE 1"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await pair.serving.execute(
            "INSERT INTO share_codes (patient_id, code_digest, key_digest, terms_digest, scopes, purpose,"
            " grant_expires_at, expires_at) VALUES ($1, 'x', 'x', 'x', '{entries:read}', 'x', now(), now())",
            UUID(pair.bob.patient_id),
        )
    await transaction.rollback()


async def test_functions_that_forget_whose_diary_it_is_still_show_and_change_nobody_elses(doomed: Pair) -> None:
    before = await doomed.answers()
    bobs = await contents(doomed.superuser, doomed.bob)
    damaged = await damage(doomed.superuser)
    assert damaged >= {
        "access_log_v1",
        "beside_treatment",
        "changes_after",
        "course",
        "grants_of_diary_v1",
        "page_of_agreed",
        "page_of_moments",
        "read_panel_v1",
        "read_record_v1",
        "read_versions_v1",
        "treatment_changes",
        "look_up",
        "store",
    }
    after = await doomed.answers()
    for path, told in before.items():
        assert "canary" not in after[path], path
        assert "access-log" in path or after[path] == told, path
    entry_path = f"/entries/{doomed.ids['entries']}"
    assert (await doomed.ada.patch(entry_path, {"mood": 3}, version=2)).json()["note"] == "of Ada"
    assert (await doomed.ada.delete(entry_path, version=3)).status_code == 204
    assert await contents(doomed.superuser, doomed.bob) == bobs

    # And it is row security that holds them: without it all of this would show.
    for table in await doomed.superuser.fetch(OF_PATIENTS):
        if table["kind"] == "r":
            await doomed.superuser.execute(f"ALTER TABLE {table['name']} DISABLE ROW LEVEL SECURITY")
    leaking = {
        path.replace(doomed.ada.diary, "") for path, told in (await doomed.answers()).items() if "canary" in told
    }
    assert leaking >= {"/timeline", "/treatments", "/treatment-events", "/grants", "/access-log?include_own=false"}


async def damage(superuser: Connection) -> set[str]:
    """Takes the patient out of every WHERE of every function; which functions had one."""
    functions = await superuser.fetch(
        "SELECT proname::text AS name, pg_get_functiondef(oid) AS text FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'"
    )
    changed: dict[str, str] = {row["name"]: FILTER.sub("true", row["text"]) for row in functions}
    for row in functions:
        if changed[row["name"]] != row["text"]:
            await superuser.execute(changed[row["name"]])
    return {row["name"] for row in functions if changed[row["name"]] != row["text"]}


async def contents(superuser: Connection, patient: Phone) -> list[Any]:
    """Everything that is stored of a diary."""
    tables = ("records", "record_versions", "patient_clocks")
    rows = [
        await superuser.fetch(
            f"SELECT t::text FROM {table} t WHERE patient_id = $1 ORDER BY 1", UUID(patient.patient_id)
        )
        for table in tables
    ]
    return [row["t"] for table in rows for row in table]
