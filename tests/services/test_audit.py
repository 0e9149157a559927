"""The audit trail: whoever touches a diary is written down before the answer leaves, and the past cannot be changed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from app.schemas.entries import ENTRY, EntryIn
from app.services import record_store, records
from tests.answers import told
from tests.conftest import connect
from tests.damage import rolled_back
from tests.people import (
    SESSION,
    Person,
    Phone,
    consent,
    dose,
    entry,
    grant,
    lent,
    make_clinician,
    make_organisation,
    profile,
    redeem,
    share,
    treatment,
    without_id,
)

pytestmark = [pytest.mark.anyio, pytest.mark.no_cover]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Call: TypeAlias = Callable[[Phone, str], Awaitable[httpx.Response]]

CANARY = "canary in the coal mine"
DAYS = {"from": "2026-03-01", "to": "2026-03-31"}


@dataclass(frozen=True)
class Kind:
    """Where its records are, and a new one by its id; the profile has the patient's."""

    path: str
    new: Callable[[str], dict[str, Any]]

    def at(self, record_id: str) -> str:
        return self.path if self.path == "/profile" else f"{self.path}/{record_id}"


KINDS = {
    "entries": Kind("/entries", lambda i: entry(id=i, note=CANARY)),
    "treatments": Kind("/treatments", lambda i: treatment("08:00", id=i, name=CANARY, prescriber=CANARY, note=CANARY)),
    "treatment_events": Kind("/treatment-events", lambda i: dose(str(uuid4()), id=i, note=CANARY)),
    "profile": Kind("/profile", lambda _: profile(source={"app": CANARY})),
}
VERBS: dict[str, Callable[[Kind, Phone, str], Awaitable[httpx.Response]]] = {
    "create": lambda kind, phone, i: phone.post(kind.path, kind.new(i)),
    "list": lambda kind, phone, _: phone.get(kind.path),
    "read": lambda kind, phone, i: phone.get(kind.at(i)),
    "history": lambda kind, phone, i: phone.get(f"{kind.at(i)}/versions"),
    "replace": lambda kind, phone, i: phone.put(kind.at(i), without_id(kind.new(i) | {"time_zone": "Europe/Paris"})),
    "merge": lambda kind, phone, i: phone.patch(kind.at(i), {"time_zone": "Europe/Rome"}),
    "delete": lambda kind, phone, i: phone.delete(kind.at(i)),
}
CALLS: dict[str, Call] = {
    **{f"{name}.{verb}": partial(VERBS[verb], kind) for name, kind in KINDS.items() for verb in VERBS},
    "patients.read": lambda phone, _: phone.get(),
    "timeline.read": lambda phone, _: phone.get("/timeline"),
    "adherence.read": lambda phone, _: phone.get("/adherence", params=DAYS),
    "treatments.expand": lambda phone, i: phone.get(f"/treatments/{i}/slots", params=DAYS),
}
CONSENTING: dict[str, Call] = {
    "share_code.create": lambda phone, _: share(phone),
    "grants.list": lambda phone, _: phone.get("/grants"),
    "grant.confirm": lambda phone, i: phone.post(f"/grants/{i}/confirm", {}),
    "grant.narrow": lambda phone, i: phone.patch(f"/grants/{i}", {"scopes": ["entries:read"]}),
    "grant.revoke": lambda phone, i: phone.delete(f"/grants/{i}"),
    "accesses.list": lambda phone, _: phone.get("/access-log"),
}
CALLS |= CONSENTING
for nothing in ("profile.list", "profile.delete"):
    del CALLS[nothing]
ABOUT_NO_RECORD = {"patients.read", "adherence.read", *CONSENTING}


async def prepared(superuser: Connection, phone: Phone, action: str) -> str:
    """The id of a record or consent that is there for the call; the call that adds one only gets an id."""
    name, _, verb = action.partition(".")
    if name == "grant":
        clinic = await make_organisation(superuser)
        return str(await grant(superuser, phone, phone, grantee_id=None, organisation_id=clinic, status="pending"))
    record_id = phone.patient_id if name == "profile" else str(uuid4())
    if verb != "create":
        kind = KINDS.get(name, KINDS["entries"])
        assert (await VERBS["create"](kind, phone, record_id)).status_code in (200, 201)
    return record_id


def steps(action: str) -> list[str]:
    """What a call does, in order: whether something may be put in its place can depend on what is there."""
    merge, replace = action.replace("replace", "merge"), action.replace("merge", "replace")
    return [merge, replace] if "merge" in action or action == "treatments.replace" else [action]


async def head_of(phone: Phone) -> int:
    return int((await phone.get()).json()["head"])


@pytest.fixture(scope="module")
async def phone(app: FastAPI) -> AsyncIterator[Phone]:
    """A patient for the tests that look at single requests only."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


@pytest.fixture(scope="module")
async def stranger(app: FastAPI, phone: Phone) -> AsyncIterator[Phone]:
    """Somebody who points his phone at that patient's diary."""
    async with connect(app) as http:
        yield lent(await Person().register_and_sign_in(http), phone)


async def trail(superuser: Connection, answer: httpx.Response) -> list[asyncpg.Record]:
    """What was written down of the request behind an answer, in order."""
    return await superuser.fetch(
        "SELECT *, host(address) AS host FROM audit_events WHERE request_id = $1 ORDER BY id",
        UUID(answer.headers["X-Request-Id"]),
    )


WRITE = f"SELECT * FROM write_records_v1({SESSION}, $2, 'entries:write', 'test', $3, $4, false, NULL, NULL, NULL, true)"
SEAL = "SELECT * FROM seal_audit_v1((SELECT settle_audit_v1()))"


async def seal(superuser: Connection, answer: httpx.Response) -> int:
    """Seals, and returns the number of the segment that holds the request behind an answer."""
    await superuser.execute(SEAL)
    number: int = await superuser.fetchval(
        "SELECT min(number) FROM audit_segments s JOIN audit_events e ON e.id <= s.to_id WHERE e.request_id = $1",
        UUID(answer.headers["X-Request-Id"]),
    )
    return number


async def broken(superuser: Connection) -> list[int]:
    return [row[0] for row in await superuser.fetch("SELECT broken_audit_segments_v1()")]


@pytest.mark.parametrize("action", CALLS)
async def test_every_call_writes_down_who_did_what_to_which_records_from_where(
    ada: Phone, superuser: Connection, action: str
) -> None:
    record_id = await prepared(superuser, ada, action)
    answer = await CALLS[action](ada, record_id)
    assert answer.status_code < 300
    events = await trail(superuser, answer)
    assert [event["action"] for event in events] == steps(action)
    for event in events:
        assert (event["actor_id"], event["role"]) == (UUID(ada.user_id), "patient")
        assert (event["session_id"], event["patient_id"]) == (UUID(ada.session_id), UUID(ada.patient_id))
        assert event["record_ids"] == ([] if action in ABOUT_NO_RECORD else [UUID(record_id)])
        assert event["host"] == ada.http._transport.client[0]  # type: ignore[attr-defined]  # httpx keeps it to itself
        assert event["grant_id"] is None


@pytest.mark.parametrize("action", CALLS)
async def test_every_call_is_written_down_before_its_answer_leaves(
    app: FastAPI, ada: Phone, superuser: Connection, action: str
) -> None:
    seen: list[int] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                request_id = dict(message["headers"])[b"x-request-id"].decode()
                events = "SELECT count(*) FROM audit_events WHERE request_id = $1"
                seen.append(await superuser.fetchval(events, UUID(request_id)))
            await send(message)

        await app(scope, receive, count)

    record_id = await prepared(superuser, ada, action)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(watched), base_url="http://testserver") as http:
        http.headers["Authorization"] = ada.http.headers["Authorization"]
        await CALLS[action](Phone(http, ada.person, ada.tokens), record_id)
    assert seen == [len(steps(action))]


@pytest.mark.parametrize("action", CALLS)
async def test_a_stranger_who_is_refused_is_written_down(
    phone: Phone, stranger: Phone, superuser: Connection, action: str
) -> None:
    answer = await CALLS[action](stranger, await prepared(superuser, phone, action))
    assert told(answer) == (404, "not-found")
    [event] = await trail(superuser, answer)
    assert (event["action"], event["outcome"]) == (steps(action)[0], "not_found")
    assert (event["actor_id"], event["patient_id"]) == (UUID(stranger.user_id), UUID(phone.patient_id))


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
async def test_a_request_of_a_session_that_has_ended_is_written_down(
    ada: Phone, superuser: Connection, column: str
) -> None:
    await superuser.execute(f"UPDATE sessions SET {column} = now() WHERE id = $1", UUID(ada.session_id))
    assert (await ada.http.get("/v1/me")).status_code == 401
    for answer in (await ada.get("/entries"), await ada.log(), await ada.get()):
        assert told(answer) == (401, "unauthenticated")
        [event] = await trail(superuser, answer)
        assert (event["outcome"], event["session_id"]) == ("unauthenticated", UUID(ada.session_id))


async def test_who_acts_on_a_consent_is_written_down_with_it_also_where_it_does_not_reach(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    grant_id = await grant(superuser, ada, bob, scopes=["adherence:read"])
    for action, call in CALLS.items():
        [event] = await trail(superuser, await call(lent(bob, ada), await prepared(superuser, ada, action)))
        outcome = "ok" if action == "adherence.read" else "insufficient_scope"
        assert (event["action"], event["outcome"], event["grant_id"]) == (steps(action)[0], outcome, grant_id)


async def test_redeeming_a_code_is_written_down_whatever_comes_of_it(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    code = (await share(ada)).json()["code"]
    wrong, right = await redeem(bob, "ZZZZ-ZZZZ"), await redeem(bob, code)
    [[failed], [made]] = [await trail(superuser, answer) for answer in (wrong, right)]
    assert (failed["action"], failed["outcome"], failed["patient_id"]) == ("grants.redeem", "not_found", None)
    assert (made["action"], made["outcome"], made["patient_id"]) == ("grants.redeem", "ok", UUID(ada.patient_id))
    assert (made["actor_id"], made["grant_id"]) == (UUID(bob.user_id), UUID(right.json()["id"]))
    await make_clinician(superuser, bob, verified_at=None)
    [refused] = await trail(superuser, await redeem(bob, code))
    assert (refused["outcome"], refused["patient_id"]) == ("unverified", None)


async def test_a_panel_is_written_down_in_each_diary_that_it_shows(
    ada: Phone, bob: Phone, app: FastAPI, superuser: Connection
) -> None:
    async with connect(app) as http:
        weber = await make_clinician(superuser, await Person().register_and_sign_in(http))
        grants = {ada.patient_id: await consent(ada, weber), bob.patient_id: await consent(bob, weber)}
        events = await trail(superuser, await weber.http.get("/v1/me/patients"))
    assert {str(event["patient_id"]): str(event["grant_id"]) for event in events} == grants
    assert {(event["action"], event["outcome"], event["role"]) for event in events} == {
        ("panel.read", "ok", "clinician")
    }


async def test_what_became_of_a_call_is_written_down(ada: Phone, superuser: Connection) -> None:
    sent = entry(mood=1)
    path = f"/entries/{sent['id']}"
    outcomes = []
    for answer in (
        await ada.log(**sent),
        await ada.log(**sent),
        await ada.log(**sent | {"mood": 2}),
        await ada.delete(path, version=7),
        await ada.delete(path),
        await ada.get(path),
        await ada.get(f"/entries/{uuid4()}"),
        await ada.get("/entries", headers={"If-None-Match": (await ada.get("/entries")).headers["ETag"]}),
    ):
        outcomes += [event["outcome"] for event in await trail(superuser, answer)]
    assert outcomes == ["created", "unchanged", "conflict", "conflict", "deleted", "gone", "missing", "unmodified"]


async def test_a_page_is_written_down_with_the_records_that_were_on_it(ada: Phone, superuser: Connection) -> None:
    for _ in range(3):
        await ada.log()
    page = await ada.get("/timeline", params={"limit": 2})
    [event] = await trail(superuser, page)
    assert [str(one) for one in event["record_ids"]] == [item["id"] for item in page.json()["items"]]


async def test_a_change_of_a_plan_is_written_down_as_the_plan(ada: Phone, superuser: Connection) -> None:
    plan = treatment("08:00")
    for path, body in (("/treatments", plan), ("/treatment-events", dose(plan["id"]))):
        assert (await ada.post(path, body)).status_code == 201
    page = await ada.get("/timeline")
    [event] = await trail(superuser, page)
    kinds_of = {item["id"]: item["kind"] for item in page.json()["items"]}
    changes = [record_id for record_id, kind in kinds_of.items() if kind == "treatment_change"]
    assert len(changes) == 1
    assert [str(one) for one in event["record_ids"]] == [plan["id"] if one in changes else one for one in kinds_of]


async def test_no_value_of_a_record_is_written_down(ada: Phone, superuser: Connection) -> None:
    record_ids = {name: ada.patient_id if name == "profile" else str(uuid4()) for name in KINDS}
    record_ids["grant"] = await prepared(superuser, ada, "grant.confirm")
    for _ in range(2):
        for action, call in CALLS.items():
            await call(ada, record_ids.get(action.partition(".")[0], ""))
    text = await superuser.fetchval(
        "SELECT string_agg(to_jsonb(e)::text, ' ') FROM audit_events e WHERE patient_id = $1", UUID(ada.patient_id)
    )
    assert all(action in text for action in CALLS)
    places = ("lower_back_left", "nrs_0_10", "prescription_medication", "scheduled", "taken", "Europe", "2026-03-28")
    for value in (CANARY, *places, ada.person.birth_date, ada.person.email, "Ada"):
        assert value not in text


async def test_a_write_that_is_rolled_back_leaves_no_trace(ada: Phone, superuser: Connection) -> None:
    sent = EntryIn.model_validate(entry())
    change = records.change_of(ENTRY, sent, sent.id, 0)
    events = "SELECT count(*) FROM audit_events WHERE patient_id = $1 AND action = 'test'"
    async with rolled_back(superuser):
        await superuser.fetch(WRITE, UUID(ada.session_id), UUID(ada.patient_id), *record_store.sent([change]))
        assert await superuser.fetchval(events, UUID(ada.patient_id)) == 1
    assert await superuser.fetchval(events, UUID(ada.patient_id)) == 0


@pytest.mark.parametrize("table", ["audit_events", "audit_segments"])
async def test_not_even_a_superuser_changes_or_removes_a_row(ada: Phone, superuser: Connection, table: str) -> None:
    await seal(superuser, await ada.get())
    for statement in (
        f"DELETE FROM {table}",
        f"TRUNCATE {table}",
        "UPDATE audit_events SET outcome = 'ok'" if table == "audit_events" else "UPDATE audit_segments SET events = 0",
    ):
        with pytest.raises(asyncpg.RaiseError, match="never changed or removed"):
            await superuser.execute(statement)


# An open transaction, and one that is prepared: it belongs to nobody, and may stay for as long as it likes.
@pytest.mark.parametrize(
    ("leaves", "commits"),
    [("SELECT", "COMMIT"), ("PREPARE TRANSACTION 'it'", "COMMIT PREPARED 'it'")],
    ids=["open", "prepared"],
)
async def test_nobody_waits_while_sealing_waits_for_somebody_who_has_written(
    ada: Phone, superuser: Connection, owner_url: str, leaves: str, commits: str
) -> None:
    slow, sealing = await asyncpg.connect(owner_url), await asyncpg.connect(owner_url)
    request_id, name = uuid4(), f"'{uuid4()}'"
    await slow.execute("BEGIN")
    opened = f"SELECT open_diary_v1({SESSION}, $2, NULL, 'test.slow', $3, NULL)"
    await slow.execute(opened, UUID(ada.session_id), UUID(ada.patient_id), request_id)
    await slow.execute(leaves.replace("'it'", name))
    newer = await ada.get("/timeline")
    sealed = asyncio.create_task(sealing.fetch(SEAL))
    # A lock that these waited for would be held until the commit below.
    assert [answer.status_code for answer in (await ada.log(), await ada.get("/timeline"))] == [201, 200]
    assert await sealed == []  # what is newer may not be sealed before what has the smaller number
    await slow.execute(commits.replace("'it'", name))
    number = await seal(superuser, newer)
    held = "SELECT to_id >= (SELECT id FROM audit_events WHERE request_id = $1) FROM audit_segments WHERE number = $2"
    assert await superuser.fetchval(held, request_id, number)
    assert await broken(superuser) == []
    await slow.close()
    await sealing.close()


async def test_a_seal_does_not_depend_on_the_time_zone_of_whoever_checks(ada: Phone, superuser: Connection) -> None:
    await seal(superuser, await ada.get())
    await superuser.execute("SET timezone = 'Asia/Kathmandu'")
    assert await broken(superuser) == []


async def test_sealing_when_nothing_is_new_makes_no_segment(ada: Phone, superuser: Connection) -> None:
    await seal(superuser, await ada.get())
    assert await superuser.fetch(SEAL) == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit_events SET outcome = 'not_found' WHERE request_id = $1 AND $2 > 0",
        "UPDATE audit_events SET at = at - interval '1 second' WHERE request_id = $1 AND $2 > 0",
        "UPDATE audit_events SET actor_id = gen_random_uuid() WHERE request_id = $1 AND $2 > 0",
        "DELETE FROM audit_events WHERE request_id = $1 AND $2 > 0",
        "UPDATE audit_events SET id = DEFAULT WHERE request_id = $1 AND $2 > 0",
        "UPDATE audit_segments SET digest = sha256(digest) WHERE number = $2 AND $1 IS NOT NULL",
        "UPDATE audit_segments SET events = events - 1 WHERE number = $2 AND $1 IS NOT NULL",
    ],
)
async def test_a_past_that_was_changed_is_found(ada: Phone, superuser: Connection, damage: str) -> None:
    answer = await ada.get()
    number = await seal(superuser, answer)
    await seal(superuser, await ada.get())
    async with rolled_back(superuser):
        typed = damage.replace("$1", "$1::uuid").replace("$2", "$2::bigint")
        assert await superuser.execute(typed, UUID(answer.headers["X-Request-Id"]), number) in (
            "UPDATE 1",
            "DELETE 1",
        )
        assert number in await broken(superuser)
    assert await broken(superuser) == []


async def test_a_past_whose_seal_was_made_anew_is_found_by_the_seal_after_it(ada: Phone, superuser: Connection) -> None:
    answer = await ada.get()
    number = await seal(superuser, answer)
    next_number = await seal(superuser, await ada.get())
    async with rolled_back(superuser):
        await superuser.execute("DELETE FROM audit_events WHERE request_id = $1", UUID(answer.headers["X-Request-Id"]))
        await superuser.execute(
            "UPDATE audit_segments s SET (digest, events) = (SELECT d.digest, d.events FROM audit_digest("
            "coalesce((SELECT digest FROM audit_segments WHERE number = $1 - 1), ''),"
            " coalesce((SELECT to_id FROM audit_segments WHERE number = $1 - 1), 0), s.to_id, s.number) d)"
            " WHERE number = $1",
            number,
        )
        assert await broken(superuser) == [next_number]


async def test_a_segment_that_was_removed_is_found(ada: Phone, superuser: Connection) -> None:
    await seal(superuser, await ada.get())  # and with it what was written before: a diary's seal would show it too
    number = await seal(superuser, await ada.get())
    next_number = await seal(superuser, await ada.get())
    async with rolled_back(superuser):
        await superuser.execute("DELETE FROM audit_segments WHERE number = $1", number)
        assert await broken(superuser) == [next_number]


@asynccontextmanager
async def unwritable(superuser: Connection, sqlstate: str) -> AsyncIterator[None]:
    """An audit table that answers every row with this error."""
    await superuser.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'audit_events is closed' USING ERRCODE = '{sqlstate}'; END $$"
    )
    await superuser.execute("CREATE TRIGGER fail BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION fail()")
    try:
        yield
    finally:
        await superuser.execute("DROP FUNCTION fail CASCADE")


@pytest.mark.parametrize("sqlstate", ["53100", "42501"], ids=["disk full", "no permission"])
@pytest.mark.parametrize("action", CALLS)
async def test_what_cannot_be_written_down_is_not_done(
    phone: Phone, superuser: Connection, action: str, sqlstate: str
) -> None:
    record_id, head = await prepared(superuser, phone, action), await head_of(phone)
    async with unwritable(superuser, sqlstate):
        answer = await CALLS[action](phone, record_id)
    assert told(answer) == (503, "unavailable")
    assert CANARY not in answer.text
    assert "Retry-After" in answer.headers
    assert await head_of(phone) == head
