"""Who uses the service in a measurement, and what they send: people sign up, sign in and share as everybody does."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx

from app.services import invitations
from bench import adherence

PASSWORD = "a sentence for the bench"
ZONE = "Africa/Lagos"  # an hour ahead of UTC all year


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in, with an own diary or (a clinician) without."""

    email: str
    session_id: UUID
    user_id: UUID
    token: str
    patient_id: UUID | None

    @property
    def caller(self) -> str:
        """Session and person, as the references take them."""
        return f"{self.session_id}:{self.user_id}"

    @property
    def diary(self) -> UUID:
        """The own diary."""
        assert self.patient_id is not None
        return self.patient_id


def entry(**fields: Any) -> dict[str, Any]:
    """The entry of every workload: 2 sites, 3 characters, 2 triggers, a note of 80 characters."""
    score = {"measure": "now", "scale": "nrs_0_10", "value": 6}
    return {
        "id": str(uuid4()),
        "occurred_at": "2026-03-28T08:00:00+01:00",
        "time_zone": ZONE,
        "sites": [
            {"region": "chest_left", "scores": [score], "characters": ["aching", "stabbing"]},
            {"region": "neck_front_right", "scores": [score], "characters": ["tight"]},
        ],
        "triggers": [{"code": "sitting"}, {"code": "poor_sleep"}],
        "note": "Long meeting without a break, better after the walk home and a warm shower, 6/10",
        **fields,
    }


def bearer(person: Person) -> dict[str, str]:
    """The header that lets a person in."""
    return {"Authorization": f"Bearer {person.token}"}


def entries(person: Person) -> str:
    """Where the entries of a person are."""
    return f"/v1/patients/{person.diary}/entries"


def changes(person: Person) -> str:
    """Where what changed in the diary of a person is."""
    return f"/v1/patients/{person.diary}/sync/pull"


async def register(http: httpx.AsyncClient) -> Person:
    """A new patient."""
    email = f"{uuid4().hex}@example.org"
    facts = {"display_name": "Patient", "birth_date": "1980-01-01", "time_zone": ZONE}
    answer = await http.post("/v1/auth/register", json={"email": email, "password": PASSWORD, **facts})
    assert answer.status_code == 202, answer.text
    return await sign_in(http, email)


async def sign_in(http: httpx.AsyncClient, email: str) -> Person:
    """Whoever has this address, on a new device."""
    answer = await http.post("/v1/auth/sessions", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    tokens = answer.json()
    user, patient = tokens["user"], tokens["user"].get("patient_id")
    return Person(
        email, UUID(tokens["session_id"]), UUID(user["id"]), tokens["access_token"], patient and UUID(patient)
    )


async def trust(http: httpx.AsyncClient, owner_url: str, patient: Person) -> Person:
    """A clinician whom the patient lets read everything, invited and trusted the way that everybody goes."""
    email = f"{uuid4().hex}@example.org"
    token = await invitations.invite_clinician(owner_url, email, "Dr. Weber", "physician", None, unverified=False)
    await http.post("/v1/auth/activate", json={"token": token, "password": PASSWORD})
    clinician = await sign_in(http, email)
    terms = {"scopes": ["entries:read", "treatments:read", "profile:read", "notes:read"], "purpose": "Pain clinic"}
    asked = bearer(patient) | {"Idempotency-Key": uuid4().hex}
    diary = f"/v1/patients/{patient.diary}"
    code = (await http.post(f"{diary}/share-codes", json=terms, headers=asked)).json()["code"]
    grant = (await http.post("/v1/share-codes/redeem", json={"code": code}, headers=bearer(clinician))).json()["id"]
    confirmed = await http.post(f"{diary}/grants/{grant}/confirm", json={}, headers=bearer(patient))
    assert confirmed.status_code == 200, confirmed.text
    return clinician


async def follow_year(http: httpx.AsyncClient, person: Person) -> None:
    """Gives the diary a treatment with three doses a day and the events of its year."""
    events = list(adherence.events(adherence.due()))[:1000]
    sent = [("treatment", adherence.TREATMENT), *(("treatment_event", event) for event in events)]
    for start in range(0, len(sent), 100):
        mutations = [mutation(kind, data, str(uuid4())) for kind, data in sent[start : start + 100]]
        await push(http, person, mutations)


async def push(http: httpx.AsyncClient, person: Person, mutations: list[dict[str, Any]]) -> None:
    """Sends mutations, all of which must be accepted."""
    answer = await http.post(
        f"/v1/patients/{person.diary}/sync/push", json=push_body(mutations), headers=bearer(person)
    )
    statuses = {result["status"] for result in answer.json()["results"]}
    assert statuses == {"created"}, answer.text


def mutation(kind: str, record: dict[str, Any], mutation_id: str) -> dict[str, Any]:
    """A record as a phone pushes it."""
    data = {name: value for name, value in record.items() if name != "id"}
    return {"mutation_id": mutation_id, "op": "put", "kind": kind, "id": record["id"], "base_version": 0, "data": data}


def push_body(mutations: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole of a push, by a phone whose clock is right."""
    return {"device_id": "bench", "client_now": datetime.now(UTC).isoformat(), "mutations": mutations}


def recently(minutes: int) -> str:
    """A moment of the last days, as a phone in Lagos says it."""
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    return f"{moment:%Y-%m-%dT%H:%M:00}+01:00"
