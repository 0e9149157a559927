"""A route that nobody sees in the document, asks for the caller only, and sets the context of row security itself.

Whatever it sets, the serving role finds nothing: its own statements are bound by the visit for which its transaction
was opened, and only the functions that check a session and a consent open one.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.http.deps import CallerOf, Transaction, patient_read
from app.main import create_app
from app.schemas.kinds import BY_NAME
from tests.conftest import connect
from tests.people import SESSION, Person, Phone, dose, entry, grant, share, treatment

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CANARY = "canary-2813"
EVERYTHING = f"{{{','.join(BY_NAME)}}}"
VISIT = f"SELECT open_diary_v1({SESSION}, $2, $3, 'patients.read', gen_random_uuid(), NULL)"
# What a route could ask for, with everything that the serving role may select of a diary.
READS = {
    "records": "SELECT count(*) FROM records",
    "documents": "SELECT count(*) FROM records WHERE document::text LIKE '%canary%'",
    "entries": "SELECT count(*) FROM diary_entries",
    "scores": "SELECT count(*) FROM pain_scores",
    "doses": "SELECT count(*) FROM treatment_events",
    "patients": "SELECT count(*) FROM patients",
    "clocks": "SELECT count(*) FROM patient_clocks",
    "grants": "SELECT count(*) FROM grants",
    "grants in words": "SELECT count(*) FROM grants_of_diary_v1(NULL)",
    "codes": "SELECT count(*) FROM share_codes",
    "audit": "SELECT count(*) FROM audit_events",
    "access log": "SELECT count(*) FROM access_log_v1(true, NULL, 50)",
}
NOTHING = dict.fromkeys(READS, 0)


async def forge(transaction: AsyncSession, patient_id: UUID) -> None:
    """Sets the context as authorize() does, for a diary that nobody asked about."""
    context = {"patient": str(patient_id), "data_from": "-infinity", "kinds": EVERYTHING}
    for name, value in context.items():
        await transaction.execute(
            text("SELECT set_config(:name, :value, true)"), {"name": f"diary.{name}", "value": value}
        )


async def read_hidden(transaction: Transaction, caller: CallerOf, whose: UUID) -> dict[str, int]:
    """The planted route: it knows who calls, and asks nobody."""
    assert caller.session_id
    await forge(transaction, whose)
    return {name: (await transaction.execute(text(read))).scalar_one() for name, read in READS.items()}


async def read_checked(
    transaction: Transaction,
    caller: CallerOf,
    patient_id: Annotated[UUID, Depends(patient_read("patients.read"))],
    whose: UUID,
) -> dict[str, int]:
    """The same behind a permission, on whatever diary."""
    return await read_hidden(transaction, caller, whose)


@dataclass
class World:
    """The application with the planted routes, Ada with a full diary, and connections behind it."""

    app: FastAPI
    stack: AsyncExitStack
    ada: Phone
    serving: Connection
    superuser: Connection

    async def join(self, person: Person | None = None) -> Phone:
        """Somebody new, or somebody on one more device."""
        return await (person or Person()).register_and_sign_in(await self.stack.enter_async_context(connect(self.app)))

    async def visit(self, phone: Phone, scope: str | None = None) -> str:
        """What the door says to a visit of Ada's diary, in the transaction that is open."""
        asked = (UUID(phone.session_id), UUID(self.ada.patient_id), scope)
        return str(await self.serving.fetchval(VISIT, *asked))

    async def forge(self, **settings: str) -> None:
        """Sets the context of Ada's whole diary, and whatever else, in the transaction that is open."""
        everything = {"patient": self.ada.patient_id, "data_from": "-infinity", "kinds": EVERYTHING}
        for name, value in (everything | settings).items():
            await self.serving.execute("SELECT set_config($1, $2, true)", f"diary.{name}", value)

    async def seen(self) -> dict[str, int]:
        """How many rows each read finds in the transaction that is open."""
        return {name: await self.serving.fetchval(read) for name, read in READS.items()}

    async def last_visit(self) -> str:
        """The number of the audit row that was written last."""
        return str(await self.superuser.fetchval("SELECT max(id) FROM audit_events"))


@pytest.fixture(scope="module")
async def world(settings: Settings, owner_url: str) -> AsyncIterator[World]:
    """The routes are planted where the check of the start does not look any more."""
    app = create_app(settings)
    app.add_api_route("/v1/hidden/{whose}", read_hidden, include_in_schema=False)
    app.add_api_route("/v1/checked/{patient_id}/{whose}", read_checked, include_in_schema=False)
    assert settings.database_url is not None
    serving = await asyncpg.connect(settings.database_url.get_secret_value())
    superuser = await asyncpg.connect(owner_url)
    async with app.router.lifespan_context(app), AsyncExitStack() as stack:
        ada = await Person().register_and_sign_in(await stack.enter_async_context(connect(app)))
        plan = treatment("08:00", name=CANARY, note=CANARY)
        for path, record in (
            ("entries", entry(note=CANARY)),
            ("treatments", plan),
            ("treatment-events", dose(plan["id"])),
        ):
            assert (await ada.post(f"/{path}", record)).status_code == 201
        assert (await share(ada)).status_code == 201
        there = World(app, stack, ada, serving, superuser)
        await grant(superuser, ada, await there.join())
        yield there
    await serving.close()
    await superuser.close()


async def hidden(phone: Phone, patient: Phone) -> dict[str, int]:
    """What the planted route tells somebody of a patient's diary."""
    answer = await phone.http.get(f"/v1/hidden/{patient.patient_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, int] = answer.json()
    return found


async def test_a_stranger_finds_nothing_by_a_route_that_sets_the_context_itself(world: World) -> None:
    assert await hidden(await world.join(), world.ada) == NOTHING


async def test_a_session_that_was_ended_finds_nothing_of_its_own_diary(world: World) -> None:
    phone = Phone(world.ada.http, world.ada.person, (await world.ada.person.sign_in(world.ada.http)).json())
    async with connect(world.app) as http:
        http.headers["Authorization"] = f"Bearer {phone.tokens['access_token']}"
        assert (await world.ada.http.delete(f"/v1/me/sessions/{phone.session_id}")).status_code == 204
        ended = Phone(http, phone.person, phone.tokens)
        assert (await http.get("/v1/me")).status_code == 401
        assert await hidden(ended, world.ada) == NOTHING


async def test_not_even_the_patient_is_shown_what_nobody_asked_for_and_wrote_down(world: World) -> None:
    assert await hidden(world.ada, world.ada) == NOTHING


async def test_behind_a_permission_the_same_reads_find_the_whole_diary(world: World) -> None:
    answer = await world.ada.http.get(f"/v1/checked/{world.ada.patient_id}/{world.ada.patient_id}")
    assert answer.status_code == 200
    assert {name for name, rows in answer.json().items() if rows == 0} == set()


async def test_a_permission_on_the_own_diary_opens_no_other(world: World) -> None:
    bob = await world.join()
    answer = await bob.http.get(f"/v1/checked/{bob.patient_id}/{world.ada.patient_id}")
    of_himself = {"patients": 1, "clocks": 1, "audit": 1}
    assert (answer.status_code, answer.json()) == (200, NOTHING | of_himself)


async def test_a_visit_shows_no_more_than_its_consent_whatever_is_set_after_it(world: World) -> None:
    reader = await world.join()
    await grant(world.superuser, world.ada, reader, scopes=["treatments:read"])
    async with world.serving.transaction():
        assert await world.visit(reader) == "ok"
        await world.forge()
        kinds = await world.serving.fetch("SELECT kind FROM records ORDER BY kind")
    assert [row["kind"] for row in kinds] == ["treatment", "treatment_event"]
    late = await world.join()
    await grant(world.superuser, world.ada, late, data_from=datetime(2199, 1, 1, tzinfo=UTC))
    async with world.serving.transaction():
        assert await world.visit(late) == "ok"
        await world.forge()
        kinds = await world.serving.fetch("SELECT kind FROM records ORDER BY kind")
    assert [row["kind"] for row in kinds] == ["treatment"]  # it still holds


async def test_the_visit_of_another_transaction_is_worth_nothing(world: World) -> None:
    async with world.serving.transaction():
        assert await world.visit(world.ada) == "ok"
        await world.forge()
        assert (await world.seen())["records"] == 3
    visited = await world.last_visit()
    async with world.serving.transaction():
        await world.forge(visit=visited)
        assert await world.seen() == NOTHING


async def test_a_visit_under_way_beside_it_is_worth_nothing(world: World) -> None:
    """Its audit row is of a transaction that is no older, and nobody knows how it ends."""
    async with world.serving.transaction():
        await world.serving.execute("SELECT pg_current_xact_id()")
        assert (await world.ada.get()).status_code == 200
        await world.forge(visit=await world.last_visit())
        assert await world.seen() == NOTHING


async def test_a_refused_visit_is_worth_nothing(world: World) -> None:
    reader = await world.join()
    await grant(world.superuser, world.ada, reader, scopes=["treatments:read"])
    before = int(await world.last_visit())
    async with world.serving.transaction():
        assert await world.visit(reader, "entries:read") == "insufficient_scope"
        for number in range(before, before + 3):  # its own is among them
            await world.forge(visit=str(number))
            assert await world.seen() == NOTHING
    assert before < int(await world.last_visit()) < before + 3


async def test_a_consent_that_ends_meanwhile_ends_the_visit(world: World) -> None:
    reader = await world.join()
    given = await grant(world.superuser, world.ada, reader)
    async with world.serving.transaction():
        assert await world.visit(reader) == "ok"
        assert (await world.seen())["records"] == 3
        await world.superuser.execute("UPDATE grants SET revoked_at = now() WHERE id = $1", given)
        assert await world.seen() == NOTHING


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT authorize($1, $1, $2, NULL, 'x.y', NULL, NULL)",
        "SELECT begin_visit(ROW(), $1, $2, 'x.y', NULL, NULL)",
        "SELECT audit($1, 'patient', $1, NULL, $2, 'x.y', '{}', 'ok', NULL, NULL)",
        "SELECT access($1, $2)",
        "SELECT verify_diary_v1($2) WHERE $1::uuid IS NOT NULL",
        "INSERT INTO audit_events (actor_id, patient_id, action, record_ids, outcome)"
        " VALUES ($1, $2, 'x.y', '{}', 'ok')",
        "SET ROLE diary_owner",
        "CREATE OR REPLACE FUNCTION visit() RETURNS void LANGUAGE sql AS ''",
        "ALTER TABLE records DISABLE ROW LEVEL SECURITY",
        "DROP POLICY in_visit ON records",
        "SET row_security = off; SELECT FROM records",
    ],
)
async def test_the_serving_role_can_open_nothing_for_itself(world: World, statement: str) -> None:
    ids = (UUID(world.ada.user_id), UUID(world.ada.patient_id)) if "$1" in statement else ()
    transaction = world.serving.transaction()
    await transaction.start()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.serving.execute(statement, *ids)
    await transaction.rollback()


async def test_no_function_that_the_serving_role_may_call_reads_by_a_context_that_it_did_not_set(world: World) -> None:
    """Each of them is called on behalf of a stranger, in the context of Ada's diary."""
    bob = await world.join()
    functions = await world.superuser.fetch(
        "SELECT proname::text AS name, proargnames AS names, pronargs FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace AND has_function_privilege('diary_app', oid, 'EXECUTE')"
        " AND proname <> 'grant_words'"  # it is given a row
    )
    assert len(functions) >= 20
    for function in functions:
        given = {
            "p_session": UUID(bob.session_id),
            "p_patient": UUID(world.ada.patient_id),
            "p_user": UUID(bob.user_id),
            "p_action": "x.y",
            "p_limit": 50,
            "p_items": "[]",
            "p_documents": [],
            "p_wait": True,
            "p_settled": 0,
        }
        names = (function["names"] or [])[: function["pronargs"]]
        arguments = [given.get(name) for name in names]
        places = ", ".join(f"${place}" for place in range(1, len(names) + 1))
        transaction = world.serving.transaction()
        await transaction.start()
        await world.forge()
        rows = await world.serving.fetch(f"SELECT t::text FROM {function['name']}({places}) t", *arguments)
        assert CANARY not in str(rows), function["name"]
        assert world.ada.patient_id not in str(rows), function["name"]
        assert await world.seen() == NOTHING, function["name"]
        await transaction.rollback()
