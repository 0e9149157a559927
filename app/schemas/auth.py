"""Registering, signing in, and the devices a person is signed in on."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, EmailStr, Field, WithJsonSchema, model_validator
from typing_extensions import TypeAliasType

from app.domain import languages, people
from app.schemas.base import Instant, LocalDate, ParsedBy, RecordId, Says, Strict, TimeZone, line, refuse
from app.schemas.births import BirthDatePrecision, birth_faults

Role = TypeAliasType("Role", people.Role)
Locale = Annotated[
    str,
    ParsedBy(languages.parse_tag),
    Says("language_tag", "Give a language tag of BCP 47, as de-DE."),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": languages.MOST,
            "description": "A language tag of BCP 47, kept as it is written; `_` is read as `-`.",
            "examples": ["de-DE"],
        }
    ),
]
Password = Annotated[str, Field(min_length=1, max_length=1024, description="Any characters; never truncated.")]
Email = Annotated[EmailStr, Field(max_length=254)]
Token = Annotated[str, Field(min_length=1, max_length=200)]

JWKS_EXAMPLE = {
    "keys": [
        {
            "alg": "ES256",
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            "kid": "20260301T080000000000Z-5f0c1a9e",
            "use": "sig",
        }
    ]
}


class RegistrationIn(Strict):
    """A new patient account."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "email": "ada@example.org",
                    "password": "a long sentence nobody else has",
                    "display_name": "Ada",
                    "birth_date": "1980-01-01",
                    "birth_date_precision": "year",
                    "time_zone": "Europe/Berlin",
                }
            ]
        }
    )

    email: Email
    password: Password
    display_name: Annotated[str, line(120)]
    birth_date: LocalDate
    birth_date_precision: BirthDatePrecision = "day"
    time_zone: TimeZone
    locale: Locale = "en"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(birth_faults(self.birth_date, self.birth_date_precision))
        return self


class ActivationIn(Strict):
    """The token of a one-time link, and the password its holder chooses."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"token": "Zm9yZXhhbXBsZW9ubHk", "password": "a long sentence nobody else has"}]
        }
    )

    token: Token
    password: Password


class RegistrationOut(Strict):
    """The same answer whether or not the address had an account before."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "accepted"}]})

    status: Literal["accepted"]


class ProofIn(Strict):
    """The `challenge` of a refused sign-in, and an answer to it; good once."""

    challenge: Annotated[str, Field(min_length=1, max_length=200)]
    answer: Annotated[str, Field(min_length=1, max_length=100)]


class SignInIn(Strict):
    """Address and password, and a name for the device list."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "email": "patient@example.org",
                    "password": "demo-demo-demo-demo",
                    "device_name": "Ada's phone",
                }
            ]
        }
    )

    email: Email
    password: Password
    device_name: Annotated[str, line(120)] | None = None
    proof: ProofIn | None = Field(default=None, description="Work that spares a wait which others have caused.")


class RefreshIn(Strict):
    """The refresh token that the device holds."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"refresh_token": "pdr_Zm9yZXhhbXBsZW9ubHk"}]})

    refresh_token: Token


class UserRef(Strict):
    """Who signed in."""

    id: RecordId
    role: Role
    patient_id: RecordId | None = Field(default=None, description="The user's own diary; absent without one.")


class EndedSessionOut(Strict):
    """A session that ended because a refresh token of it came back that the device itself had replaced."""

    id: RecordId
    device_name: str | None = None
    ended_at: Instant
    reason: Literal["token_reused"] = Field(description="Somebody else may hold what this device held.")


class TokensOut(Strict):
    """A short-lived access token, and the refresh token that gets the next one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "access_token": "eyJhbGciOiJFUzI1NiIsImtpZCI6IjIwMjYifQ.eyJzdWIiOiI.c2lnbmF0dXJl",
                    "token_type": "Bearer",
                    "expires_in": 600,
                    "refresh_token": "pdr_Zm9yZXhhbXBsZW9ubHk",
                    "session_id": "0195d3f4-1111-4222-8333-444455556666",
                    "user": {
                        "id": "0195d3f4-0c1d-4111-9222-333344445555",
                        "role": "patient",
                        "patient_id": "0195d3f4-0c1d-4b2e-8f3a-4d5e6f708192",
                    },
                }
            ]
        }
    )

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds.")
    refresh_token: str
    session_id: RecordId
    user: UserRef
    ended_sessions: list[EndedSessionOut] | None = Field(
        default=None, description="To be shown to the person: sessions that ended in the last 30 days, maybe by theft."
    )


class DeviceSessionOut(Strict):
    """A device on which the user is signed in."""

    id: RecordId
    device_name: str | None = None
    created_at: Instant
    last_seen_at: Instant = Field(description="When it last signed in or refreshed.")
    expires_at: Instant
    clock_skew_seconds: int | None = Field(
        default=None, description="The server's clock minus the device's, when last it was two minutes off or more."
    )
    current: bool = Field(description="Whether this request came from it.")


class DeviceSessionList(Strict):
    """Every live session, the most recently seen first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "id": "0195d3f4-1111-4222-8333-444455556666",
                            "device_name": "Ada's phone",
                            "created_at": "2026-03-01T08:00:00Z",
                            "last_seen_at": "2026-03-29T19:05:14Z",
                            "expires_at": "2026-06-27T19:05:14Z",
                            "current": True,
                        }
                    ],
                    "ended": [],
                }
            ]
        }
    )

    items: list[DeviceSessionOut]
    ended: list[EndedSessionOut] = Field(description="Those that ended in the last 30 days, maybe by theft.")


class MeOut(Strict):
    """The account that is signed in."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0195d3f4-0c1d-4111-9222-333344445555",
                    "role": "patient",
                    "email": "ada@example.org",
                    "display_name": "Ada",
                    "locale": "en",
                    "patient_id": "0195d3f4-0c1d-4b2e-8f3a-4d5e6f708192",
                }
            ]
        }
    )

    id: RecordId
    role: Role
    email: str
    display_name: str
    locale: str
    patient_id: RecordId | None = None
