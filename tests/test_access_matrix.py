"""Who is answered what: every route of the application, hidden or not, by every caller, on every resource.

The expected statuses follow from access_rules.py. Whatever the answer, nothing of the foreign diary is in it, and
nothing of anybody's when the call is refused; a refused call changes nothing.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from app.schemas.kinds import KINDS, OF_MANY, SINGLETONS
from app.schemas.records import RecordKind
from tests.access_rules import CALLERS, OF_A_PATIENT, READERS, SIGNED_OUT, STRANGERS, Row, table
from tests.answers import ids
from tests.conftest import connect
from tests.people import (
    PASSWORD,
    Person,
    Phone,
    dose,
    entry,
    grant,
    lent,
    make_clinician,
    make_organisation,
    record_of,
    redeem,
    share,
    treatment,
    without_id,
)

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BY_PATH = {kind.path: kind for kind in KINDS}
DAYS = {"from": "2026-03-01", "to": "2026-03-31"}
NAMES = {"read_static": "style.css", "read_guide": "sync"}
QUERIES = {"read_adherence": DAYS, "read_slots": DAYS}
GRANTS: dict[str, dict[str, Any]] = {
    "disabled": {},
    "caregiver": {},
    "unverified": {},
    "admin": {},
    "granted": {},
    "member": {"grantee_id": None},
    **{caller: {"scopes": [caller]} for caller in READERS if ":" in caller},
    "pending": {"status": "pending"},
    "withdrawn": {"revoked_at": datetime.now(UTC)},
    "lapsed": {"expires_at": datetime.now(UTC) - timedelta(minutes=1)},
}
# Every change of every table as a line, until it is asked for; the audit and the counting of attempts are meant to go
# on for who is refused.
WATCH = """
    CREATE TABLE watched (line text);
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO public.watched VALUES (concat_ws(' ', TG_TABLE_NAME, to_jsonb(OLD), to_jsonb(NEW)));
        RETURN NULL;
    END $$;
    GRANT EXECUTE ON FUNCTION watch TO PUBLIC;
    DO $$ BEGIN
        EXECUTE (SELECT string_agg(format('CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON %I'
                                          ' FOR EACH ROW EXECUTE FUNCTION watch()', relname), ';')
                 FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                 AND relname NOT IN ('audit_events', 'audit_segments', 'sign_in_delays', 'watched'));
    END $$;
    SET session_replication_role = replica;  -- what is arranged here is not watched
"""


class Operation(NamedTuple):
    """Where a call goes."""

    method: str
    path: str

    @property
    def collection(self) -> str:
        """What of a diary it is about: the step of its path after the patient's."""
        found = re.match(r"/v1/patients/{patient_id}/([a-z-]+)", self.path)
        return found[1] if found else ""

    @property
    def kind(self) -> RecordKind[Any] | None:
        """The kind of record that it is about."""
        return BY_PATH.get(self.collection)


TABLE = table()
PATIENTS = {"anonymous", "expired", "revoked", "borrowed", "own", "other", "caregiver"}  # by their account


@dataclass
class World:
    """Ada, whose diary the callers want; Cyd, whom none of them knows; Eve, who was erased; Fay, without a singleton.

    `records` are the ids of some records, by collection and resource; so are codes and grants to `keeper`.
    """

    superuser: Connection
    operations: dict[str, Operation]
    ada: Phone
    cyd: Phone
    eve: Phone
    fay: Phone
    ruth: Phone  # somebody for calls about signing in
    ivy: Phone  # somebody with a one-time link
    keeper: Phone
    callers: dict[str, Phone]
    records: dict[tuple[str, str], str]
    unused: tuple[str, str] | None = None  # what was made for the call before, which left it as it was

    async def request(self, name: str, resource: str, caller: str) -> httpx.Request:
        """What the caller sends, and what must be there for it."""
        operation, phone = self.operations[name], self.caller(caller, resource)
        if operation.method != "GET" and self.unused != (name, resource):
            await self._renew(operation, resource)
            self.unused = (name, resource)
        record = self.records.get((operation.collection, resource), str(uuid4()))
        if name.startswith("create_") and resource == "diary" and operation.kind in OF_MANY:
            record = str(uuid4())
        request = phone.http.build_request(
            operation.method,
            operation.path.format(**await self._values(name, resource, phone, record)),
            params=QUERIES.get(name),
            json=self._body(name, resource, record, "patient" if caller in PATIENTS else "clinician"),
            headers={"If-Match": '"2"' if name.startswith("undelete_") else '"1"', "Idempotency-Key": uuid4().hex},
        )
        await self.superuser.execute("DELETE FROM watched")
        return request

    def caller(self, name: str, resource: str) -> Phone:
        """Who calls: an erased diary, and one without a profile, have owners of their own."""
        owners = {"erased": self.eve, "without": self.fay}
        return owners.get(resource, self.ada) if name == "own" else self.callers[name]

    async def changes(self) -> list[str]:
        """Every row that the call changed."""
        changed = [row["line"] for row in await self.superuser.fetch("SELECT line FROM watched")]
        self.unused = None if changed else self.unused
        return changed

    async def _renew(self, operation: Operation, resource: str) -> None:
        """Puts back what the call before may have changed or taken."""
        kind, key = operation.kind, (operation.collection, resource)
        if kind in SINGLETONS:
            for table in ("records", "record_versions"):
                patients = [self.ada.patient_id, self.fay.patient_id]
                column = "id" if table == "records" else "record_id"
                await self.superuser.execute(f"DELETE FROM {table} WHERE {column} = ANY ($1)", patients)
            await add(self.ada, kind)
        elif kind is not None and resource in ("diary", "absent"):
            self.records[key] = await add(self.ada if resource == "diary" else self.cyd, kind)
        elif operation.path.endswith("/undelete") and kind is not None and resource == "deleted":
            self.records[key] = await add(self.ada, kind)
            assert (await self.ada.delete(f"/{kind.path}/{self.records[key]}")).status_code == 204
        elif key == ("grants", "diary"):
            self.records[key] = str(await grant(self.superuser, self.ada, self.keeper, status="pending"))
        elif key == ("grants", "deleted"):
            ended = await grant(self.superuser, self.ada, self.keeper, status="pending", revoked_at=datetime.now(UTC))
            self.records[key] = str(ended)
        elif operation.collection == "share-codes":
            await self._end_codes()
        elif operation.path == "/v1/share-codes/redeem":
            await self._end_codes()
            await self.superuser.execute("TRUNCATE sign_in_delays")
            if resource == "diary":
                self.records["", "diary"] = (await share(self.ada)).json()["code"]
        elif operation.path == "/v1/auth/activate" and resource == "-":
            self.records["", "-"] = await invite(self.superuser, self.ivy)

    async def _end_codes(self) -> None:
        """Of those that wait there may be three."""
        end = "UPDATE share_codes SET expires_at = now() WHERE patient_id = $1 AND redeemed_by IS NULL"
        await self.superuser.execute(end, UUID(self.ada.patient_id))

    async def _values(self, name: str, resource: str, phone: Phone, record: str) -> dict[str, str]:
        operation = self.operations[name]
        owners = {"foreign": self.cyd, "erased": self.eve, "without": self.fay}
        missing = resource == "missing"
        values = {
            **dict.fromkeys(re.findall(r"{(\w+)}", operation.path), record),
            "patient_id": str(uuid4()) if missing else owners.get(resource, self.ada).patient_id,
            "session_id": str(uuid4()) if missing else self.cyd.session_id,
            "name": "none" if missing else NAMES.get(name, "pain_scales"),
            "slug": "none" if missing else "not-found",
        }
        if "{session_id}" in operation.path and resource == "diary":
            values["session_id"] = await self._spare_session(phone)
        return values

    async def _spare_session(self, phone: Phone) -> str:
        insert = "INSERT INTO sessions (user_id, expires_at) VALUES ($1, now() + interval '1 hour') RETURNING id"
        return str(await self.superuser.fetchval(insert, UUID(phone.user_id)))

    def _body(self, name: str, resource: str, record: str, author: str) -> dict[str, Any] | None:
        kind, verb = self.operations[name].kind, name.partition("_")[0]
        if kind is not None:
            written = {"authored_by": author} if "authored_by" in kind.fields.model_fields else {}
            content = without_id(record_of(kind, canary_of(self.ada))) | written
            key, change = ({"id": record} if kind in OF_MANY else {}), {"time_zone": "Europe/Paris"} | written
            return {"create": content | key, "replace": content, "revise": change}.get(verb)
        bodies = {
            "register": {
                "email": f"{uuid4().hex}@example.org",
                "password": PASSWORD,
                "display_name": "Ruth",
                "birth_date": "1980-05-17",
                "time_zone": "Europe/Berlin",
            },
            "sign_in": {"email": self.ruth.person.email, "password": self.ruth.person.password},
            "refresh_tokens": {"refresh_token": self.ruth.tokens["refresh_token"]},
            "activate": {"token": "no such token" if resource == "missing" else record, "password": PASSWORD},
            "create_share_code": {"scopes": ["entries:read"], "purpose": canary_of(self.ada)},
            "redeem_share_code": {"code": "ZZZZ-ZZZZ" if resource == "missing" else record},
            "narrow_grant": {"scopes": ["entries:read"]},
            "push_changes": {
                "device_id": "phone",
                "client_now": "2026-03-29T08:00:00Z",
                "mutations": [put(without_id(entry(note=canary_of(self.ada))))],
            },
            "compare_diaries": {"records": []},
        }
        return bodies.get(name)


def put(data: dict[str, Any]) -> dict[str, Any]:
    """A new entry as a phone pushes it."""
    ids = {"mutation_id": str(uuid4()), "id": str(uuid4())}
    return ids | {"op": "put", "kind": "entry", "base_version": 0, "data": data}


def canary_of(phone: Phone) -> str:
    return f"canary of {phone.patient_id}"


async def add(phone: Phone, kind: RecordKind[Any]) -> str:
    """The id of a new record with the canary of its owner."""
    answer = await phone.post(f"/{kind.path}", record_of(kind, canary_of(phone)))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def invite(superuser: Connection, phone: Phone) -> str:
    """The token of a one-time link."""
    token = uuid4().hex
    await superuser.execute(
        "INSERT INTO invitations (digest, user_id, expires_at) VALUES ($1, $2, now() + interval '1 hour')",
        sha256(token.encode()).digest(),
        UUID(phone.user_id),
    )
    return token


async def join(stack: AsyncExitStack, app: FastAPI, superuser: Connection, person: Person | None = None) -> Phone:
    """Somebody new, or somebody on one more device, whose names are canaries."""
    phone = await (person or Person()).register_and_sign_in(await stack.enter_async_context(connect(app)))
    for name, column in (("sessions", "device_name"), ("patients", "display_name")):
        rename = f"UPDATE {name} SET {column} = $2 WHERE user_id = $1"
        await superuser.execute(rename, UUID(phone.user_id), canary_of(phone))
    return phone


@pytest.fixture(scope="module")
async def connection(owner_url: str) -> AsyncIterator[Connection]:
    """A connection that may see and do everything."""
    superuser = await asyncpg.connect(owner_url)
    await superuser.execute(WATCH)
    yield superuser
    await superuser.execute("DROP FUNCTION watch CASCADE; DROP TABLE watched")
    await superuser.close()


@pytest.fixture(scope="module")
async def world(app: FastAPI, connection: Connection) -> AsyncIterator[World]:
    """Everybody, with what they hold."""
    async with AsyncExitStack() as stack:
        ada, cyd, eve, fay, ruth, ivy, keeper = [await join(stack, app, connection) for _ in range(7)]
        await make_clinician(connection, keeper)
        await add(fay, OF_MANY[0])
        records = await make_records(ada, cyd, eve) | await make_consents(connection, ada, cyd, eve, keeper, ruth)
        callers = await make_callers(stack, app, connection, ada)
        clinic = await make_organisation(connection)
        await change(connection, "clinicians", "user_id", callers["member"], organisation_id=clinic)
        GRANTS["member"]["organisation_id"] = clinic
        for name, fields in GRANTS.items():
            for patient in (ada, eve, fay):
                await grant(connection, patient, callers[name], **fields)
        await connection.execute("UPDATE patients SET erased_at = now() WHERE id = $1", UUID(eve.patient_id))
        await change(connection, "users", "id", callers["disabled"], disabled_at=datetime.now(UTC))
        # The first call that writes is noted in its session, also where it is refused; and no sign-in grows old.
        await connection.execute("UPDATE sessions SET has_sent = true, created_at = 'tomorrow'")
        yield World(connection, operations_of(app), ada, cyd, eve, fay, ruth, ivy, keeper, callers, records)


async def change(superuser: Connection, table: str, key: str, phone: Phone, **fields: Any) -> None:
    """Sets fields of somebody's row."""
    for column, value in fields.items():
        await superuser.execute(f"UPDATE {table} SET {column} = $2 WHERE {key} = $1", UUID(phone.user_id), value)


async def make_records(ada: Phone, cyd: Phone, eve: Phone) -> dict[tuple[str, str], str]:
    """One of each kind for each resource; `kind` is the one of the collection after."""
    records = {}
    owners = {"diary": ada, "foreign": cyd, "erased": eve, "deleted": ada, "absent": cyd, "kind": ada}
    for resource, phone in owners.items():
        for kind, after in zip(OF_MANY, [*OF_MANY[1:], OF_MANY[0]], strict=True):
            records[kind.path, resource] = await add(phone, after if resource == "kind" else kind)
    for phone in (ada, cyd, eve):
        for kind in SINGLETONS:
            await add(phone, kind)
    for kind in OF_MANY:
        deleted = await ada.delete(f"/{kind.path}/{records[kind.path, 'deleted']}")
        assert deleted.status_code == 204
    return records


async def make_consents(
    superuser: Connection, ada: Phone, cyd: Phone, eve: Phone, keeper: Phone, ruth: Phone
) -> dict[tuple[str, str], str]:
    """Grants and codes for each resource; of those of the diary itself there is one for each call."""
    foreign, erased = [str(await grant(superuser, patient, keeper, status="pending")) for patient in (cyd, eve)]
    owners = (("deleted", ada), ("foreign", cyd), ("erased", eve))
    codes = {("", name): (await share(phone)).json()["code"] for name, phone in owners}
    assert (await redeem(ruth, codes["", "foreign"])).status_code == 202
    await superuser.execute("UPDATE share_codes SET expires_at = now() WHERE patient_id = $1", UUID(ada.patient_id))
    return codes | {("grants", "foreign"): foreign, ("grants", "absent"): foreign, ("grants", "erased"): erased}


async def make_callers(stack: AsyncExitStack, app: FastAPI, superuser: Connection, ada: Phone) -> dict[str, Phone]:
    """Everybody who calls, by the names of the table."""
    others = {name: await join(stack, app, superuser) for name in [*GRANTS, "stranger", "other"]}
    revoked = await join(stack, app, superuser, ada.person)
    await superuser.execute("UPDATE sessions SET revoked_at = now() WHERE id = $1", UUID(revoked.session_id))
    expired = await join(stack, app, superuser, ada.person)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    token = app.state.diary.tokens.issue(UUID(ada.user_id), UUID(expired.session_id), "patient", yesterday)
    expired.http.headers["Authorization"] = f"Bearer {token}"
    borrowed = await join(stack, app, superuser)
    token = app.state.diary.tokens.issue(UUID(borrowed.user_id), UUID(ada.session_id), "patient", datetime.now(UTC))
    borrowed.http.headers["Authorization"] = f"Bearer {token}"
    anonymous = Phone(await stack.enter_async_context(connect(app)), ada.person, ada.tokens)
    for clinician in set(others) - {"caregiver", "other"}:
        await make_clinician(superuser, others[clinician])
    await change(superuser, "clinicians", "user_id", others["unverified"], verified_at=None)
    await change(superuser, "users", "id", others["admin"], role="admin")
    signed_out = {"anonymous": anonymous, "expired": expired, "revoked": revoked, "borrowed": borrowed}
    return others | signed_out | {"own": ada}


def operations_of(app: FastAPI) -> dict[str, Operation]:
    """Every route by the name of its function, which is its operationId, whether or not the document shows it."""
    return {
        context.original_route.name: Operation(method, str(context.path))
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.methods or ()
    }


async def test_every_route_has_a_rule_and_every_rule_a_route(world: World) -> None:
    assert {row.operation for row in TABLE} == set(world.operations)


async def test_every_operation_of_the_document_is_among_the_routes(world: World, app: FastAPI) -> None:
    shown = [one["operationId"] for methods in app.openapi()["paths"].values() for one in methods.values()]
    assert len(shown) == len(set(shown))
    assert set(shown) < set(world.operations)


async def test_what_an_operation_can_be_pointed_at_follows_from_its_path(world: World) -> None:
    """A rule that forgets a resource would leave it untried."""
    pointed: dict[str, set[str]] = {}
    for row in TABLE:
        pointed.setdefault(row.operation, set()).add(row.resource)
    for name, operation in world.operations.items():
        if "{patient_id}" not in operation.path:
            continue
        expected, of_one_record = set(OF_A_PATIENT), operation.path.count("{") == 2
        if operation.kind in SINGLETONS:
            expected |= {"without"}
        elif operation.kind is not None and (of_one_record or operation.method == "POST"):
            expected |= {"deleted", "absent", "kind"}
        elif of_one_record:
            expected |= {"deleted", "absent"}
        assert pointed[name] == expected, name


async def test_every_caller_of_the_rules_calls(world: World) -> None:
    assert set(CALLERS) == set(world.callers)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.operation}-{row.resource}")
async def test_each_caller_is_answered_as_the_table_says(world: World, row: Row) -> None:
    answered = {}
    for caller in row.statuses:
        request = await world.request(row.operation, row.resource, caller)
        answer = await world.caller(caller, row.resource).http.send(request)
        changed = "\n".join(await world.changes())
        answered[caller] = answer.status_code
        assert canary_of(world.cyd) not in answer.text, caller
        assert not re.search(f"{world.cyd.patient_id}|{world.cyd.user_id}", changed), caller
        if answer.status_code >= 400:
            assert "canary" not in answer.text, caller
            assert not changed, caller
    assert answered == row.statuses


async def test_the_panel_shows_the_diaries_that_a_consent_opens_and_no_other(world: World) -> None:
    people = {"ada": world.ada, "cyd": world.cyd, "eve": world.eve, "fay": world.fay}
    names = {phone.patient_id: name for name, phone in people.items()}
    seen = {}
    for caller in set(world.callers) - set(SIGNED_OUT):
        panel = (await world.callers[caller].http.get("/v1/me/patients")).json()["items"]
        seen[caller] = " ".join(sorted(names[one["id"]] for one in panel if one["id"] in names))
    assert seen == dict.fromkeys(STRANGERS, "") | dict.fromkeys(READERS, "ada fay") | {"own": "ada"}


@pytest.mark.parametrize("caller", ["unverified", "admin"])
async def test_who_is_no_verified_clinician_is_not_even_told_who_consented(world: World, caller: str) -> None:
    held = await world.callers[caller].http.get("/v1/me/grants")
    assert held.json() == {"items": []}


@pytest.mark.parametrize("caller", ["stranger", "other", "granted"])
async def test_nobody_is_told_of_a_consent_to_somebody_else(world: World, caller: str) -> None:
    held = await world.callers[caller].http.get("/v1/me/grants")
    assert held.status_code == 200
    assert world.records["grants", "foreign"] not in held.text


@pytest.mark.parametrize("caller", STRANGERS)
async def test_a_foreign_patient_is_answered_like_a_missing_one(world: World, caller: str) -> None:
    for name, operation in world.operations.items():
        if "{patient_id}" in operation.path:
            answers = [await told_alike(world, name, place, caller) for place in ("diary", "foreign", "missing")]
            assert answers == [answers[0]] * 3, name
            assert answers[0][0] == 404


async def test_the_id_of_a_foreign_record_is_answered_like_one_that_nobody_has(world: World) -> None:
    rows = {(row.operation, row.resource) for row in TABLE}
    for name, (method, path) in world.operations.items():
        if (name, "absent") in rows and path.count("{") == 2:
            foreign = await world.request(name, "absent", "own")
            record = world.records[world.operations[name].collection, "absent"]
            assert record in str(foreign.url), path
            nobodys = str(foreign.url).replace(record, str(uuid4()))
            foreign.headers["X-Request-Id"] = str(uuid4())
            missing = world.ada.http.build_request(method, nobodys, content=foreign.content, headers=foreign.headers)
            assert _told(await world.ada.http.send(foreign)) == _told(await world.ada.http.send(missing)), name


async def told_alike(world: World, operation: str, resource: str, caller: str) -> tuple[int, list[Any], bytes]:
    """The whole answer to a request whose id is always the same."""
    request = await world.request(operation, resource, caller)
    request.headers["X-Request-Id"] = "01980c5e-7a10-7000-8000-000000000000"
    return _told(await world.callers[caller].http.send(request))


def _told(answer: httpx.Response) -> tuple[int, list[Any], bytes]:
    # The one counts down, the other names whichever limit is nearest.
    varying = {"ratelimit", "ratelimit-policy"}
    headers = [(name, value) for name, value in answer.headers.multi_items() if name not in varying]
    return answer.status_code, headers, answer.content


@pytest.mark.parametrize("kind", [kind for kind in OF_MANY if kind.has_note], ids=lambda kind: kind.name)
async def test_who_may_not_read_notes_never_meets_one(
    ada: Phone, bob: Phone, superuser: Connection, kind: RecordKind[Any]
) -> None:
    await grant(superuser, ada, bob, scopes=[kind.read_scope, kind.write_scope])
    helper, sent = lent(bob, ada), record_of(kind, note="canary", time_zone="Europe/Paris")
    assert (await ada.post(f"/{kind.path}", sent)).json()["note"] == "canary"
    record = f"/{kind.path}/{sent['id']}"
    answers = [
        await helper.post(f"/{kind.path}", sent | {"time_zone": "Europe/Rome"}),
        await helper.post(f"/{kind.path}", sent | {"note": "a guess"}),
        await helper.patch(record, {"time_zone": "Europe/Rome"}),
        await helper.patch(record, {"time_zone": "Europe/Oslo"}),
        await helper.put(record, without_id(sent | {"note": "a guess", "time_zone": "Europe/Oslo"}), version=2),
        *[await helper.get(path) for path in (record, f"/{kind.path}", "/timeline", f"{record}/versions")],
    ]
    assert [answer.status_code for answer in answers] == [409, 200, 200, 412, 200, 200, 200, 200, 200]
    assert [answer.text for answer in answers if '"note"' in answer.text or "a guess" in answer.text] == []
    kept = (await ada.get(record)).json()
    assert (kept["note"], kept["time_zone"], kept["version"]) == ("canary", "Europe/Oslo", 3)


async def test_an_event_shows_nothing_of_a_plan_in_another_diary(ada: Phone, bob: Phone) -> None:
    plan = treatment("08:00", name="canary")
    assert (await bob.post("/treatments", plan)).status_code == 201
    sent = dose(plan["id"], entry_id=str((await bob.log()).json()["id"]))
    record = f"/treatment-events/{sent['id']}"
    answers = [
        await ada.post("/treatment-events", sent),
        await ada.patch(record, {"pain_after": 2}),
        *[await ada.get(path) for path in (record, "/treatment-events", "/timeline", f"{record}/versions")],
        await ada.get("/treatment-events", params={"treatment_id": plan["id"]}),
        await ada.get("/adherence", params=DAYS),
    ]
    assert [answer.status_code for answer in answers] == [201, *[200] * 7]
    assert all('"treatment_missing"' in answer.text for answer in answers)
    assert [answer.text for answer in answers if "canary" in answer.text or "treatment_name" in answer.text] == []
    assert ids(await bob.get("/treatment-events")) == []
