"""What the dearest call of each operation costs, beside what the limits admit of it: docs/costs.md.

The diary is as large as one can become. Costs are processor time of the server and of PostgreSQL together, in units of
a reference that is measured in the same run: creating a small entry.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx

from app import vocabularies
from app.schemas.entries import ENTRY
from app.schemas.kinds import KINDS
from bench.seed import add_patients
from tests.access_rules import operations_of
from tests.people import (
    Person,
    Phone,
    dose,
    entry,
    grant,
    lent,
    profile,
    record_of,
    redeem,
    share,
    treatment,
    without_id,
)
from tests.routers.test_sync import push, put

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Send = Callable[[str], Awaitable[httpx.Response]]

ENTRIES, TREATMENTS, DOSES, CIRCLE, VERSIONS, TRAIL = 100_000, 5_000, 20_000, 1_000, 200, 100_000
# Of the patient $1, copies 1…$3 of the record $2 that came through the API, $4 apart.
COPIES = r"""
    INSERT INTO records
    SELECT r.patient_id, c.id, r.kind, 1, c.seq, c.at, 0, 'UTC', c.at::date, NULL, c.at, r.author_id, r.session_id,
           r.performer, false, r.content_hash,
           regexp_replace(replace(r.document::text, r.id::text, c.id::text), '"occurred_at":"[^"]*"',
                          '"occurred_at":"' || to_char(c.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                          || '"')::json,
           r.note, r.regions, r.characters, r.worst_score, r.scale, r.duration_minutes, r.treatment_id, r.valid_to
    FROM records r JOIN patient_clocks USING (patient_id),
         LATERAL (SELECT overlay(overlay(md5(r.id::text || n) PLACING '4' FROM 13) PLACING '8' FROM 17)::uuid AS id,
                         head + n AS seq,
                         date_trunc('second', clock_timestamp()) - n * $4::interval AS at
                  FROM generate_series(1, $3::integer) n) c
    WHERE r.patient_id = $1 AND r.id = $2
"""
VERSIONS_OF_COPIES = """
    INSERT INTO record_versions (patient_id, change_seq, record_id, version, author_id, session_id, received_at,
                                 deleted, content_hash)
    SELECT r.patient_id, change_seq, id, version, author_id, session_id, received_at, deleted, content_hash
    FROM records r JOIN patient_clocks USING (patient_id) WHERE r.patient_id = $1 AND change_seq > head
"""
HEAD = """
    UPDATE patient_clocks SET head = (SELECT max(change_seq) FROM records WHERE patient_id = $1) WHERE patient_id = $1
"""
GRANTS = """
    INSERT INTO grants (patient_id, grantee_id, status, scopes, purpose, expires_at)
    SELECT patient, $2, 'active', (SELECT all_scopes()), 'Pain clinic', now() + interval '1 day'
    FROM unnest($1::uuid[]) patient
"""
ENDED = """
    INSERT INTO grants (patient_id, grantee_id, status, scopes, purpose, expires_at, revoked_at)
    SELECT $1, $2, 'active', (SELECT all_scopes()), 'Pain clinic', now() + interval '1 day', now()
    FROM generate_series(1, $3::integer)
"""
AUDIT = """
    INSERT INTO audit_events (actor_id, role, session_id, patient_id, action, record_ids, outcome)
    SELECT $2, 'patient', $3, $1, 'entries.create', ARRAY[gen_random_uuid()], 'ok' FROM generate_series(1, $4::integer)
"""
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def _nothing() -> str:
    return ""


@dataclass(frozen=True)
class Call:
    """A dear call of an operation; `prepare` makes what each call needs, and is not measured."""

    send: Send
    prepare: Callable[[], Awaitable[str]] = _nothing
    status: int = 200


def largest_entry(**fields: Any) -> dict[str, Any]:
    """An entry that says as much as one can."""
    regions = vocabularies.load("body_regions").ordered_codes
    characters = vocabularies.load("pain_characters").ordered_codes[:32]
    full = ENTRY.examples[-1] | {"id": str(uuid4()), "note": "é" * 4000}
    scores = [{"measure": measure, "scale": "nrs_0_10", "value": 3} for measure in ("now", "worst", "average", "least")]
    full["sites"] = [
        {"region": one, "scores": scores, "characters": characters, "radiates_to": regions[:20]} for one in regions[:20]
    ]
    return full | fields


def busy_plan() -> dict[str, Any]:
    """A treatment that is due at 24 times a day, under a plan that changed a hundred times."""
    times = [f"{hour:02}:00" for hour in range(24)]
    made = treatment(*times, occurred_at="2025-01-01T09:00:00+01:00")
    [regimen] = made["regimens"]
    days = [f"20{15 + n // 12:02}-{n % 12 + 1:02}-01T00:00:00Z" for n in range(100)] + [None]
    made["regimens"] = [
        regimen | {"valid_from": first, "time_zone": "UTC"} | ({"valid_to": last} if last else {})
        for first, last in pairwise(days)
    ]
    return made


@dataclass
class Diary:
    """The large diary: its patient, a clinician who may see it and a thousand others, and records of note in it."""

    patient: Phone
    clinician: Phone
    plan: dict[str, Any]
    revised: str  # an entry of many versions
    refresh_token: str


async def fill(superuser: Connection, patient: Phone, clinician: Phone) -> Diary:
    """Makes a diary as large as one can become."""
    owner, other = UUID(patient.patient_id), UUID(clinician.user_id)
    plan, small = busy_plan(), treatment("08:00", occurred_at="2025-01-01T09:00:00+01:00")
    revised = entry()
    made = [
        ("/entries", record_of(ENTRY, note="Better after a walk."), ENTRIES, "5 minutes"),
        ("/treatments", plan, 0, ""),
        ("/treatments", small, TREATMENTS, "1 hour"),
        ("/treatment-events", dose(plan["id"]), DOSES, "25 minutes"),
        ("/entries", revised, 0, ""),
    ]
    assert (await patient.post("/profile", profile())).status_code == 201
    for path, record, copies, apart in made:
        answer = await patient.post(path, record)
        assert answer.status_code == 201, answer.text
        if copies:
            await superuser.execute(
                COPIES.replace("$4::interval", f"interval '{apart}'"), owner, UUID(record["id"]), copies
            )
            await superuser.execute(VERSIONS_OF_COPIES, owner)
            await superuser.execute(HEAD, owner)
    for version in range(1, VERSIONS + 1):
        assert (await patient.patch(f"/entries/{revised['id']}", {"mood": version % 10}, version)).status_code == 200
    await grant(superuser, patient, clinician)
    others = await add_patients(superuser, CIRCLE)
    await superuser.execute(GRANTS, others, other)
    await superuser.execute(ENDED, owner, other, CIRCLE)
    await superuser.execute(AUDIT, owner, UUID(patient.user_id), UUID(patient.session_id), TRAIL)
    await superuser.execute("VACUUM ANALYZE")
    return Diary(patient, clinician, plan, revised["id"], patient.tokens["refresh_token"])


def calls_of(diary: Diary) -> dict[str, dict[str, Call]]:
    """By operation its dearest calls, by what makes them dear."""
    phone, http = diary.patient, diary.patient.http
    calls = _records(phone) | _reads(diary) | _consent(diary) | _accounts(phone)
    compared = [{"id": str(uuid4()), "version": 1} for _ in range(1000)]
    calls |= {
        "push_changes": {
            "100 small": Call(lambda _: _push(phone, lambda: put("entry", entry()))),
            "100 that say much": Call(lambda _: _push(phone, lambda: put("entry", record_of(ENTRY)))),
            "100 of which none fits": Call(lambda _: _push(phone, lambda: put("entry", entry(mood=99)))),
        },
        "compare_diaries": {
            "nothing sent": Call(lambda _: phone.post("/sync/digest", {"records": []})),
            "1000 sent": Call(lambda _: phone.post("/sync/digest", {"records": compared})),
        },
    }
    edge = {
        "read_liveness": "/livez",
        "read_readiness": "/readyz",
        "read_metrics": "/metrics",
        "read_jwks": "/.well-known/jwks.json",
    }
    calls |= {name: {"": Call(lambda _, path=path: http.get(path))} for name, path in edge.items()}  # type: ignore[misc]
    return calls


def _records(phone: Phone) -> dict[str, dict[str, Call]]:
    """What is done with single records of each kind."""
    calls: dict[str, dict[str, Call]] = {}
    for kind in KINDS:
        names, path = operations_of(kind), f"/{kind.path}"
        largest = {"entry": largest_entry, "treatment": busy_plan}.get(kind.name, partial(record_of, kind))
        calls |= _of_kind(phone, names, path, largest, kind.holds == "singleton")
    calls["create_entry"]["small"] = Call(lambda _: phone.log(), status=201)
    return calls


def _of_kind(
    phone: Phone, names: dict[str, str], path: str, largest: Callable[[], dict[str, Any]], single: bool
) -> dict[str, dict[str, Call]]:
    async def made() -> str:
        if single:
            record = (await phone.get(path)).json()
            return f"{path} {record['version']}"
        answer = await phone.post(path, largest())
        assert answer.status_code == 201, answer.text
        return f"{path}/{answer.json()['id']} 1"

    def split(place: str) -> tuple[str, int]:
        where, version = place.split(" ")
        return where, int(version)

    async def replace(place: str) -> httpx.Response:
        where, version = split(place)
        return await phone.put(where, without_id(largest()), version)

    async def revise(place: str) -> httpx.Response:
        where, version = split(place)
        return await phone.patch(where, {"time_zone": "Europe/Paris"}, version)

    found = {
        names["create"]: Call(lambda _: phone.post(path, largest()), status=200 if single else 201),
        names["read"]: Call(lambda place: phone.get(split(place)[0]), made),
        names["replace"]: Call(replace, made),
        names["revise"]: Call(revise, made),
    }

    async def deleted() -> str:
        place = await made()
        assert (await phone.delete(*split(place))).status_code == 204
        return f"{split(place)[0]} 2"

    async def bring_back(place: str) -> httpx.Response:
        where, version = split(place)
        return await phone.http.post(f"{phone.diary}{where}/undelete", headers={"If-Match": f'"{version}"'})

    if "delete" in names:
        found[names["undelete"]] = Call(bring_back, deleted)
        found[names["delete"]] = Call(lambda place: phone.delete(*split(place)), made, 204)
    if single:  # it is there: the same again, or a conflict, costs as much
        found[names["create"]] = Call(lambda _: phone.post(path, profile()), status=200)
        found[names["list_versions"]] = Call(lambda _: phone.get(f"{path}/versions?limit=200"))
    elif names["list_versions"] != "list_entry_versions":
        found[names["list_versions"]] = Call(lambda place: phone.get(f"{split(place)[0]}/versions?limit=200"), made)
    return {name: {"as large as one can be": call} for name, call in found.items()}


def _reads(diary: Diary) -> dict[str, dict[str, Call]]:
    """What is read of the whole diary."""
    phone, reader = diary.patient, lent(diary.clinician, diary.patient)
    paths = {
        "list_entries": {
            "200": "/entries?limit=200",
            "a region that never hurt": "/entries?limit=200&region=head_front_right",
            "a score that never was": "/entries?scale=nrs_0_10&min_score=10",
            "days of long ago": "/entries?to=2025-12-31&limit=200",
        },
        "list_treatment_events": {
            "200": "/treatment-events?limit=200",
            "of a treatment without any": f"/treatment-events?treatment_id={uuid4()}&limit=200",
        },
        "list_treatments": {"200": "/treatments?limit=200"},
        "read_timeline": {
            "one": "/timeline?limit=1",
            "200": "/timeline?limit=200",
            "changes of plans": "/timeline?limit=200&kinds=treatment_change",
        },
        "list_entry_versions": {"200": f"/entries/{diary.revised}/versions?limit=200"},
        "read_slots": {"24 a day, a quarter": f"/treatments/{diary.plan['id']}/slots?from=2022-01-01&to=2022-04-01"},
        "read_adherence": {
            "a year": "/adherence?from=2025-11-01&to=2026-10-31",
            "a day": "/adherence?from=2026-10-31&to=2026-10-31",
        },
        "pull_changes": {"500": "/sync/pull?limit=500"},
        "read_patient": {"": ""},
        "list_grants": {"1000": "/grants"},
        "list_accesses": {
            "of others": "/access-log?limit=200",
            "of all": "/access-log?limit=200&include_own=true",
        },
    }
    calls = {
        name: {what: Call(lambda _, path=path: phone.get(path)) for what, path in ways.items()}  # type: ignore[misc]
        for name, ways in paths.items()
    }
    for what, call in calls["read_adherence"].items():  # refused, once all is read
        calls["read_adherence"][what] = Call(call.send, status=422)
    calls["pull_changes"]["500, by consent"] = Call(lambda _: reader.get("/sync/pull?limit=500"))
    return calls


def _consent(diary: Diary) -> dict[str, dict[str, Call]]:
    """What has to do with consent, and what a clinician with a thousand patients reads."""
    phone, clinician = diary.patient, diary.clinician

    async def code() -> str:
        return str((await share(phone)).json()["code"])

    async def pending() -> str:
        return f"/grants/{(await redeem(clinician, await code())).json()['id']}"

    async def confirmed() -> str:
        path = await pending()
        assert (await phone.post(f"{path}/confirm", {})).status_code == 200
        return path

    async def narrow(path: str) -> httpx.Response:
        return await phone.patch(path, {"scopes": ["entries:read"]})

    async def end(path: str) -> httpx.Response:
        return await phone.http.delete(f"{phone.diary}{path}")

    found = {
        "redeem_share_code": Call(lambda known: redeem(clinician, known), code, 202),
        "confirm_grant": Call(lambda path: phone.post(f"{path}/confirm", {}), pending),
        "narrow_grant": Call(narrow, confirmed),
        "revoke_grant": Call(end, confirmed, 204),
        "create_share_code": Call(lambda key: share(phone, key), _one_key, 201),  # of three that may wait one does now
        "read_heads": Call(lambda _: clinician.http.get("/v1/sync/heads")),
        "list_patients": Call(lambda _: clinician.http.get("/v1/me/patients?limit=200")),
        "list_held_grants": Call(lambda _: clinician.http.get("/v1/me/grants")),
    }
    return {name: {"": call} for name, call in found.items()}


async def _one_key() -> str:
    return "the-same-key-each-time"


def _accounts(phone: Phone) -> dict[str, dict[str, Call]]:
    """Signing in, and what an account is."""
    http, person = phone.http, phone.person

    async def signed_in(member: str) -> str:
        return str((await person.sign_in(http)).json()[member])

    def get(path: str) -> Call:
        return Call(lambda _: http.get(path))

    invented = {"token": "x" * 43, "password": person.password}
    found = {
        "register": Call(lambda _: Person().register(http), status=202),
        "activate": Call(lambda _: http.post("/v1/auth/activate", json=invented), status=404),
        "sign_in": Call(lambda _: person.sign_in(http), status=201),
        "refresh_tokens": Call(
            lambda token: http.post("/v1/auth/refresh", json={"refresh_token": token}),
            lambda: signed_in("refresh_token"),
        ),
        "read_me": get("/v1/me"),
        "list_sessions": get("/v1/me/sessions"),
        "revoke_session": Call(
            lambda session: http.delete(f"/v1/me/sessions/{session}"), lambda: signed_in("session_id"), 204
        ),
        "revoke_other_sessions": Call(lambda _: http.delete("/v1/me/sessions"), lambda: signed_in("session_id"), 204),
        "list_vocabularies": get("/v1/vocabularies"),
        "read_vocabulary": get("/v1/vocabularies/body_regions"),
    }
    return {name: {"": call} for name, call in found.items()}


async def _push(phone: Phone, make: Callable[[], dict[str, Any]]) -> httpx.Response:
    return await push(phone, *(make() for _ in range(100)))
