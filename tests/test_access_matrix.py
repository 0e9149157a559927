"""Who is answered what: every operation of the OpenAPI document, by every caller, on every resource.

The expected statuses stand in access_matrix.txt. Whatever the answer, nothing of the foreign diary is in it, and
nothing of anybody's when the call is refused; a refused call changes nothing.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app import deps
from app.models.care_team import SCOPES
from tests.conftest import connect
from tests.people import PASSWORD, Person, Phone, entry

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

PLACES = {  # what an operation can be pointed at, by the parameters of its path
    "": ["-"],
    "name": ["-", "missing"],
    "session_id": ["diary", "foreign", "missing"],
    "patient_id": ["diary", "foreign", "missing", "erased"],
    "patient_id entry_id": ["diary", "foreign", "missing", "erased", "deleted", "absent"],
}
GRANTS: dict[str, dict[str, Any]] = {
    "disabled": {},
    "granted": {},
    "narrowed": {"scopes": ["entries:read"]},
    "summary": {"scopes": ["summary:read"]},
    "pending": {"status": "pending"},
    "withdrawn": {"revoked_at": datetime.now(UTC)},
    "lapsed": {"expires_at": datetime.now(UTC) - timedelta(minutes=1)},
}
DIGESTS = """
    SELECT patient_id, md5(string_agg(line, '' ORDER BY line)) AS digest
    FROM (SELECT patient_id, records::text AS line FROM records
          UNION ALL SELECT patient_id, record_versions::text FROM record_versions
          UNION ALL SELECT patient_id, patient_clocks::text FROM patient_clocks
          UNION ALL SELECT patients.id, sessions::text FROM sessions JOIN patients USING (user_id)) AS lines
    WHERE patient_id = ANY ($1) GROUP BY patient_id
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: the status for each caller."""

    operation: str
    resource: str
    statuses: dict[str, int]


def read_table() -> list[Row]:
    """The lines of access_matrix.txt below its legend."""
    lines = Path(__file__).with_name("access_matrix.txt").read_text().splitlines()
    heading, *rows = [line.split() for line in lines if not line.startswith("#")]
    return [Row(row[0], row[1], dict(zip(heading[2:], map(int, row[2:]), strict=True))) for row in rows]


TABLE = read_table()
STRANGERS = ["other", "pending", "withdrawn", "lapsed", "stranger"]


@dataclass
class World:
    """Ada, whose diary the callers want to see; Cyd, whom none of them knows; Eve, who was erased."""

    superuser: Connection
    operations: dict[str, tuple[str, str]]  # method and path
    ada: Phone
    cyd: Phone
    eve: Phone
    ruth: Phone  # somebody for calls about signing in
    callers: dict[str, Phone]
    entries: dict[str, str]  # the ids of some entries, by resource

    async def request(self, operation: str, resource: str, caller: str) -> httpx.Request:
        """What the caller sends, and what must be there for it."""
        method, path = self.operations[operation]
        if method != "GET" and resource in ("diary", "absent"):
            self.entries["diary"], self.entries["absent"] = await log(self.ada), await log(self.cyd)
        phone = self.caller(caller, resource)
        values = await self._values(resource, phone)
        if (operation, resource) == ("create_entry", "diary"):
            values["entry_id"] = str(uuid4())
        return phone.http.build_request(
            method,
            path.format(**values),
            json=self._body(operation, values["entry_id"]),
            headers={"If-Match": '"1"'} if method in ("PUT", "PATCH", "DELETE") else {},
        )

    def caller(self, name: str, resource: str) -> Phone:
        """Who calls: the owner of an erased diary is Eve."""
        return self.eve if (name, resource) == ("own", "erased") else self.callers[name]

    async def digests(self) -> dict[str, str]:
        """For each of the three patients, what changes when anything of their diary or sessions does."""
        patients = [self.ada.patient_id, self.cyd.patient_id, self.eve.patient_id]
        return {str(row["patient_id"]): row["digest"] for row in await self.superuser.fetch(DIGESTS, patients)}

    async def _values(self, resource: str, phone: Phone) -> dict[str, str]:
        if resource == "missing":
            return {"patient_id": str(uuid4()), "entry_id": str(uuid4()), "session_id": str(uuid4()), "name": "none"}
        owner = {"foreign": self.cyd, "erased": self.eve}.get(resource, self.ada)
        return {
            "patient_id": owner.patient_id,
            "entry_id": self.entries.get(resource, ""),
            "session_id": self.cyd.session_id if resource == "foreign" else await self._spare_session(phone),
            "name": "pain_scales",
        }

    async def _spare_session(self, phone: Phone) -> str:
        insert = "INSERT INTO sessions (user_id, expires_at) VALUES ($1, now() + interval '1 hour') RETURNING id"
        return str(await self.superuser.fetchval(insert, UUID(phone.user_id)))

    def _body(self, operation: str, entry_id: str) -> dict[str, Any] | None:
        fields = entry(id=entry_id)
        bodies = {
            "create_entry": fields,
            "replace_entry": {name: value for name, value in fields.items() if name != "id"},
            "revise_entry": {"mood": 3},
            "register": {
                "email": f"{uuid4().hex}@example.org",
                "password": PASSWORD,
                "display_name": "Ruth",
                "birth_date": "1980-05-17",
                "time_zone": "Europe/Berlin",
            },
            "sign_in": {"email": self.ruth.person.email, "password": self.ruth.person.password},
            "refresh_tokens": {"refresh_token": self.ruth.tokens["refresh_token"]},
        }
        return bodies.get(operation)


async def log(phone: Phone) -> str:
    """The id of a new entry with a note that is the phone's canary."""
    answer = await phone.log(note=f"canary of {phone.patient_id}")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def join(stack: AsyncExitStack, app: FastAPI, superuser: Connection, person: Person | None = None) -> Phone:
    """Somebody new, or somebody on one more device, whose names are canaries."""
    phone = await (person or Person()).register_and_sign_in(await stack.enter_async_context(connect(app)))
    name = f"canary of {phone.patient_id}"
    for table, column in (("sessions", "device_name"), ("patients", "display_name")):
        await superuser.execute(f"UPDATE {table} SET {column} = $2 WHERE user_id = $1", UUID(phone.user_id), name)
    return phone


async def grant(superuser: Connection, patient: Phone, grantee: Phone, **fields: Any) -> None:
    """Consent behind the API's back: active, for every scope and all of the diary, unless the fields say less."""
    chosen = {
        "patient_id": UUID(patient.patient_id),
        "grantee_id": UUID(grantee.user_id),
        "status": "active",
        "scopes": list(SCOPES),
        "purpose": "care",
        "expires_at": datetime.now(UTC) + timedelta(days=30),
        **fields,
    }
    places = ", ".join(f"${number}" for number in range(1, len(chosen) + 1))
    await superuser.execute(f"INSERT INTO grants ({', '.join(chosen)}) VALUES ({places})", *chosen.values())


@pytest.fixture(scope="module")
async def connection(owner_url: str) -> AsyncIterator[Connection]:
    """A connection that may see and do everything."""
    superuser = await asyncpg.connect(owner_url)
    yield superuser
    await superuser.close()


@pytest.fixture(scope="module")
async def world(app: FastAPI, connection: Connection) -> AsyncIterator[World]:
    """Everybody, with what they hold."""
    async with AsyncExitStack() as stack:
        ada, cyd, eve, ruth = [await join(stack, app, connection) for _ in range(4)]
        entries = {
            "diary": await log(ada),
            "foreign": await log(cyd),
            "erased": await log(eve),
            "deleted": await log(ada),
        }
        entries["absent"] = entries["foreign"]
        deleted = await ada.http.delete(f"{ada.diary}/entries/{entries['deleted']}", headers={"If-Match": '"1"'})
        assert deleted.status_code == 204
        callers = await make_callers(stack, app, connection, ada)
        for name, fields in GRANTS.items():
            await grant(connection, ada, callers[name], **fields)
            await grant(connection, eve, callers[name], **fields)
        await connection.execute("UPDATE patients SET erased_at = now() WHERE id = $1", UUID(eve.patient_id))
        disabled = UUID(callers["disabled"].user_id)
        await connection.execute("UPDATE users SET disabled_at = now() WHERE id = $1", disabled)
        yield World(connection, operations_of(app), ada, cyd, eve, ruth, callers, entries)


async def make_callers(stack: AsyncExitStack, app: FastAPI, superuser: Connection, ada: Phone) -> dict[str, Phone]:
    """Everybody who calls, by the names of the table."""
    clinicians = {name: await join(stack, app, superuser) for name in [*GRANTS, "stranger"]}
    revoked = await join(stack, app, superuser, ada.person)
    await superuser.execute("UPDATE sessions SET revoked_at = now() WHERE id = $1", UUID(revoked.session_id))
    expired = await join(stack, app, superuser, ada.person)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    token = app.state.diary.tokens.issue(UUID(ada.user_id), UUID(expired.session_id), "patient", yesterday)
    expired.http.headers["Authorization"] = f"Bearer {token}"
    anonymous = Phone(await stack.enter_async_context(connect(app)), ada.person, ada.tokens)
    for clinician in clinicians.values():
        await superuser.execute("UPDATE users SET role = 'clinician' WHERE id = $1", UUID(clinician.user_id))
    return clinicians | {
        "anonymous": anonymous,
        "expired": expired,
        "revoked": revoked,
        "own": ada,
        "other": await join(stack, app, superuser),
    }


def operations_of(app: FastAPI) -> dict[str, tuple[str, str]]:
    """Method and path of every operation of the OpenAPI document."""
    paths = app.openapi()["paths"].items()
    return {one["operationId"]: (method.upper(), path) for path, methods in paths for method, one in methods.items()}


async def test_the_table_has_a_row_for_every_operation_and_resource(world: World) -> None:
    expected = set()
    for operation, (_, path) in world.operations.items():
        parameters = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
        if operation == "create_entry":
            parameters.append("entry_id")  # it stands in the body
        expected |= {(operation, resource) for resource in PLACES[" ".join(parameters)]}
    assert sorted((row.operation, row.resource) for row in TABLE) == sorted(expected)


async def test_the_table_has_a_column_for_every_caller(world: World) -> None:
    assert set(TABLE[0].statuses) == set(world.callers)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.operation}-{row.resource}")
async def test_each_caller_is_answered_as_the_table_says(world: World, row: Row) -> None:
    answered = {}
    for caller in row.statuses:
        request = await world.request(row.operation, row.resource, caller)
        before = await world.digests()
        answer = await world.caller(caller, row.resource).http.send(request)
        after = await world.digests()
        answered[caller] = answer.status_code
        assert f"canary of {world.cyd.patient_id}" not in answer.text, caller
        assert after[world.cyd.patient_id] == before[world.cyd.patient_id], caller
        if answer.status_code >= 400:
            assert "canary" not in answer.text, caller
            assert after == before, caller
    assert answered == row.statuses


@pytest.mark.parametrize("caller", STRANGERS)
async def test_a_foreign_patient_is_answered_like_a_missing_one(world: World, caller: str) -> None:
    for operation, (_, path) in world.operations.items():
        if "{patient_id}" in path:
            answers = [await told_alike(world, operation, place, caller) for place in ("diary", "foreign", "missing")]
            assert answers == [answers[0]] * 3, operation
            assert answers[0][0] == 404


async def test_the_id_of_a_foreign_record_is_answered_like_one_that_nobody_has(world: World) -> None:
    for operation, (method, path) in world.operations.items():
        if "{entry_id}" in path:
            foreign = await world.request(operation, "absent", "own")
            nobodys = str(foreign.url).replace(world.entries["absent"], str(uuid4()))
            foreign.headers["X-Request-Id"] = str(uuid4())
            missing = world.ada.http.build_request(method, nobodys, content=foreign.content, headers=foreign.headers)
            assert _told(await world.ada.http.send(foreign)) == _told(await world.ada.http.send(missing)), operation


async def told_alike(world: World, operation: str, resource: str, caller: str) -> tuple[int, list[Any], bytes]:
    """The whole answer to a request whose id is always the same."""
    request = await world.request(operation, resource, caller)
    request.headers["X-Request-Id"] = "01980c5e-7a10-7000-8000-000000000000"
    return _told(await world.callers[caller].http.send(request))


def _told(answer: httpx.Response) -> tuple[int, list[Any], bytes]:
    return answer.status_code, answer.headers.multi_items(), answer.content


async def test_who_may_not_read_notes_never_meets_one(
    app: FastAPI, ada: Phone, bob: Phone, superuser: Connection
) -> None:
    await grant(superuser, ada, bob, scopes=["entries:read", "entries:write"])
    sent = entry(note="canary")
    assert (await ada.log(**sent)).json()["note"] == "canary"
    place, fields = f"{ada.diary}/entries/{sent['id']}", {k: v for k, v in sent.items() if k != "id"}
    answers = [
        await bob.http.post(f"{ada.diary}/entries", json={**sent, "mood": 1}),
        await bob.http.post(f"{ada.diary}/entries", json={**sent, "note": "a guess"}),
        await bob.http.patch(place, json={"mood": 2}, headers={"If-Match": '"1"'}),
        await bob.http.patch(place, json={"mood": 3}, headers={"If-Match": '"1"'}),
        await bob.http.put(place, json={**fields, "mood": 4}, headers={"If-Match": '"2"'}),
        *[await bob.http.get(path) for path in (place, f"{ada.diary}/entries", f"{ada.diary}/timeline")],
        await bob.http.get(f"{place}/versions"),
    ]
    assert [answer.status_code for answer in answers] == [409, 200, 200, 412, 200, 200, 200, 200, 200]
    assert [answer.text for answer in answers if "note" in answer.text] == []
    kept = (await ada.get(f"/entries/{sent['id']}")).json()
    assert (kept["note"], kept["mood"], kept["version"]) == ("canary", 4, 3)


async def test_what_lies_before_the_window_of_a_grant_is_not_there(
    app: FastAPI, ada: Phone, bob: Phone, superuser: Connection
) -> None:
    await grant(superuser, ada, bob, data_from=datetime(2026, 3, 1, tzinfo=UTC))
    old = (await ada.log(occurred_at="2026-02-28T23:59:00Z")).json()["id"]
    new = (await ada.log(occurred_at="2026-03-01T00:00:00Z")).json()["id"]
    for page in ("entries", "timeline"):
        assert [item["id"] for item in (await bob.http.get(f"{ada.diary}/{page}")).json()["items"]] == [new]
    for path in (f"entries/{old}", f"entries/{old}/versions"):
        assert (await bob.http.get(f"{ada.diary}/{path}")).status_code == 404


def test_a_route_that_declares_no_permission_does_not_start() -> None:
    app = FastAPI()

    @app.get("/v1/forgotten")
    async def read_forgotten() -> None: ...

    with pytest.raises(RuntimeError, match="/v1/forgotten declares no permission"):
        deps.declare_routes(app)
