"""People in the tests: a patient registers and signs in over HTTP, and then holds a phone."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

PASSWORD = "a sentence that only I know"


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

    async def get(self, path: str = "", **arguments: Any) -> httpx.Response:
        return await self.http.get(f"{self.diary}{path}", **arguments)


@dataclass
class Person:
    """Somebody with an address of their own."""

    email: str = field(default_factory=lambda: f"{uuid4().hex}@example.org")
    password: str = PASSWORD
    birth_date: str = "1980-05-17"

    async def register(self, http: httpx.AsyncClient) -> httpx.Response:
        return await http.post(
            "/v1/auth/register",
            json={
                "email": self.email,
                "password": self.password,
                "display_name": "Ada",
                "birth_date": self.birth_date,
                "time_zone": "Europe/Berlin",
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
