"""People in the tests: a patient registers and signs in over HTTP, and then holds a phone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
from pydantic import BaseModel

from app import vocabularies
from app.schemas.records import RecordKind

SCOPES = vocabularies.load("scopes").ordered_codes
PASSWORD = "a sentence that only I know"
# What a function of the database is told of who calls: the session $1, and whose it is.
SESSION = "$1, (SELECT user_id FROM sessions WHERE id = $1)"


@dataclass
class Phone:
    """A device of one patient: the HTTP client with its access token, and short ways to the own diary."""

    http: httpx.AsyncClient
    person: "Person"
    tokens: dict[str, Any]

    @property
    def patient_id(self) -> str:
        return str(self.tokens["user"]["patient_id"])

    @property
    def user_id(self) -> str:
        return str(self.tokens["user"]["id"])

    @property
    def session_id(self) -> str:
        return str(self.tokens["session_id"])

    @property
    def diary(self) -> str:
        return f"/v1/patients/{self.patient_id}"

    async def log(self, **fields: Any) -> httpx.Response:
        """Posts an entry: the smallest one unless the fields say more."""
        return await self.http.post(f"{self.diary}/entries", json=entry(**fields))

    async def post(self, path: str, body: dict[str, Any], **arguments: Any) -> httpx.Response:
        return await self.http.post(f"{self.diary}{path}", json=body, **arguments)

    async def put(self, path: str, body: dict[str, Any], version: int = 1) -> httpx.Response:
        return await self.http.put(f"{self.diary}{path}", json=body, headers={"If-Match": f'"{version}"'})

    async def patch(self, path: str, body: dict[str, Any], version: int = 1) -> httpx.Response:
        return await self.http.patch(f"{self.diary}{path}", json=body, headers={"If-Match": f'"{version}"'})

    async def delete(self, path: str, version: int = 1) -> httpx.Response:
        return await self.http.delete(f"{self.diary}{path}", headers={"If-Match": f'"{version}"'})

    async def get(self, path: str = "", **arguments: Any) -> httpx.Response:
        return await self.http.get(f"{self.diary}{path}", **arguments)


@dataclass
class Person:
    """Somebody with an address of their own."""

    email: str = field(default_factory=lambda: f"{uuid4().hex}@example.org")
    password: str = PASSWORD
    birth_date: str = "1980-05-17"

    async def register(self, http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
        return await http.post(
            "/v1/auth/register",
            json={
                "email": self.email,
                "password": self.password,
                "display_name": "Ada",
                "birth_date": self.birth_date,
                "time_zone": "Europe/Berlin",
                **fields,
            },
        )

    async def sign_in(self, http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
        return await http.post("/v1/auth/sessions", json={"email": self.email, "password": self.password, **fields})

    async def register_and_sign_in(self, http: httpx.AsyncClient) -> Phone:
        assert (await self.register(http)).status_code == 202
        answer = await self.sign_in(http, device_name="Ada's phone")
        assert answer.status_code == 201, answer.text
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return Phone(http, self, answer.json())


def lent(reader: Phone, patient: Phone) -> Phone:
    """The reader's phone, pointed at the patient's diary."""
    return Phone(reader.http, reader.person, reader.tokens | {"user": patient.tokens["user"] | {"id": reader.user_id}})


async def grant(superuser: "asyncpg.Connection[asyncpg.Record]", patient: Phone, reader: Phone, **fields: Any) -> UUID:
    """A consent behind the API's back: active, for every scope and all of the diary, unless the fields say less."""
    chosen = {
        "patient_id": UUID(patient.patient_id),
        "grantee_id": UUID(reader.user_id),
        "status": "active",
        "scopes": list(SCOPES),
        "purpose": "care",
        "expires_at": datetime.now(UTC) + timedelta(days=30),
        **fields,
    }
    places = ", ".join(f"${number}" for number in range(1, len(chosen) + 1))
    insert = f"INSERT INTO grants ({', '.join(chosen)}) VALUES ({places}) RETURNING id"
    grant_id: UUID = await superuser.fetchval(insert, *chosen.values())
    return grant_id


async def share(patient: Phone, key: str = "", **terms: Any) -> httpx.Response:
    """Asks for a share code: for entries and treatments, unless the terms say otherwise."""
    chosen = {"scopes": ["entries:read", "treatments:read"], "purpose": "Pain clinic", **terms}
    return await patient.post("/share-codes", chosen, headers={"Idempotency-Key": key or uuid4().hex})


async def redeem(phone: Phone, code: str, **fields: Any) -> httpx.Response:
    """Enters a share code."""
    return await phone.http.post("/v1/share-codes/redeem", json={"code": code, **fields})


async def consent(patient: Phone, phone: Phone, as_organisation: bool = False, **terms: Any) -> str:
    """The id of a grant that went the whole way."""
    code = (await share(patient, **terms)).json()["code"]
    pending = await redeem(phone, code, as_organisation=as_organisation)
    assert pending.status_code == 202, pending.text
    grant_id = str(pending.json()["id"])
    assert (await patient.post(f"/grants/{grant_id}/confirm", {})).status_code == 200
    return grant_id


async def make_organisation(superuser: "asyncpg.Connection[asyncpg.Record]") -> UUID:
    """An organisation as an operator would have made it."""
    name = f"Clinic {uuid4().hex[:8]}"
    made: UUID = await superuser.fetchval("INSERT INTO organisations (name) VALUES ($1) RETURNING id", name)
    return made


async def make_clinician(superuser: "asyncpg.Connection[asyncpg.Record]", phone: Phone, **fields: Any) -> Phone:
    """The account as an operator would have made it: a clinician, verified unless the fields say otherwise."""
    user_id = UUID(phone.user_id)
    await superuser.execute("DELETE FROM patient_clocks USING patients WHERE patient_id = id AND user_id = $1", user_id)
    await superuser.execute("DELETE FROM patients WHERE user_id = $1", user_id)
    await superuser.execute("UPDATE users SET role = 'clinician', display_name = 'Dr. Weber' WHERE id = $1", user_id)
    chosen = {"profession": "physician", "organisation_id": None, "verified_at": datetime.now(UTC), **fields}
    await superuser.execute(
        "INSERT INTO clinicians (user_id, profession, organisation_id, verified_at) VALUES ($1, $2, $3, $4)",
        user_id,
        *chosen.values(),
    )
    phone.tokens |= (await phone.person.sign_in(phone.http)).json()  # for a token that says so
    phone.http.headers["Authorization"] = f"Bearer {phone.tokens['access_token']}"
    return phone


def entry(**fields: Any) -> dict[str, Any]:
    """The smallest valid entry with a new id, and whatever the test adds."""
    return {
        "id": str(uuid4()),
        "occurred_at": "2026-03-28T08:00:00+01:00",
        "time_zone": "Europe/Berlin",
        "sites": [site()],
        **fields,
    }


def site(value: int = 6, region: str = "lower_back_left", **fields: Any) -> dict[str, Any]:
    """A site with one score on the numeric rating scale."""
    return {"region": region, "scores": [{"measure": "now", "scale": "nrs_0_10", "value": value}], **fields}


def treatment(*times: str, **fields: Any) -> dict[str, Any]:
    """A new medicine taken daily at these times (else as needed), saved on 1 March 2026 and from then on, in Berlin."""
    schedule = {"type": "scheduled", "times": list(times)} if times else {"type": "prn"}
    return {
        "id": str(uuid4()),
        "occurred_at": "2026-03-01T09:00:00+01:00",
        "recorded_at": "2026-03-01T09:00:00+01:00",
        "time_zone": "Europe/Berlin",
        "category": "prescription_medication",
        "name": "Amitriptyline 10 mg",
        "regimens": [
            {"valid_from": "2026-03-01T00:00:00+01:00", "time_zone": "Europe/Berlin", "schedule": schedule},
        ],
        **fields,
    }


def dose(treatment_id: str, occurred_at: str = "2026-03-28T08:00:00+01:00", **fields: Any) -> dict[str, Any]:
    """A new dose of this treatment, taken."""
    return {
        "id": str(uuid4()),
        "occurred_at": occurred_at,
        "time_zone": "Europe/Berlin",
        "treatment_id": treatment_id,
        "status": "taken",
        **fields,
    }


def profile(**fields: Any) -> dict[str, Any]:
    """The smallest valid profile."""
    return {
        "occurred_at": "2026-03-01T08:00:00+01:00",
        "time_zone": "Europe/Berlin",
        "birth_date": "1980-05-17",
        **fields,
    }


def record_of(kind: RecordKind[Any], canary: str = "", **fields: Any) -> dict[str, Any]:
    """A new record of any kind: its smallest example, with the canary wherever it has words."""
    record = kind.examples[0] | ({"id": str(uuid4())} if kind.holds != "singleton" else {})
    if canary:
        record |= {"source": {"app": canary}} | dict.fromkeys(_worded(kind.create), canary)
    return record | fields


def _worded(model: type[BaseModel]) -> Iterator[str]:
    """The members of a body that are text of somebody's own."""
    for name, member in model.model_fields.items():
        if "Words(" in repr((member.annotation, member.metadata)):
            yield name


def without_id(record: dict[str, Any]) -> dict[str, Any]:
    """The record as PUT takes it."""
    return {name: value for name, value in record.items() if name != "id"}
