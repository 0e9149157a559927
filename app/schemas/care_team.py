"""Consent on the wire: share codes, grants in the words that both sides see, the panel and the access log."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, computed_field
from typing_extensions import TypeAliasType

from app import vocabularies
from app.schemas.base import CodeOf, Distinct, Instant, Json, LocalDate, RecordId, Strict, line
from app.schemas.births import BirthDatePrecision
from app.schemas.envelope import EXAMPLE_CURSOR

Scope = TypeAliasType("Scope", Annotated[str, CodeOf("scopes")])
Profession = TypeAliasType("Profession", Annotated[str, CodeOf("professions")])
Scopes = Annotated[list[Scope], Distinct()]
Purpose = Annotated[str, line(200)]

SENTENCES = {row["code"]: row["display_en"] for row in vocabularies.load("scopes").rows}
EXAMPLE_SHARE: Json = {
    "scopes": ["entries:read", "treatments:read", "adherence:read"],
    "data_from": "2026-01-01T00:00:00+01:00",
    "purpose": "Appointment at the pain clinic",
    "days": 90,
}
EXAMPLE_GRANT: Json = {
    "id": "6a0f3c1e-8b2d-4f57-9c60-1e7d5a4b3c29",
    "patient": {"id": "0195d3f4-0c1d-4b2e-8f3a-4d5e6f708192", "display_name": "Ada"},
    "grantee": {
        "kind": "clinician",
        "display_name": "Dr. Weber",
        "profession": "physician",
        "organisation": "Pain clinic Mitte",
        "redeemed_by": "Dr. Weber",
    },
    "scopes": EXAMPLE_SHARE["scopes"],
    "data_from": "2025-12-31T23:00:00Z",
    "purpose": EXAMPLE_SHARE["purpose"],
    "status": "active",
    "version": 1,
    "created_at": "2026-03-29T10:02:11Z",
    "confirmed_at": "2026-03-29T10:03:40Z",
    "expires_at": "2026-06-27T10:00:00Z",
    "words": [
        "Dr. Weber, physician, Pain clinic Mitte may, in the diary of Ada:",
        *(SENTENCES[scope] for scope in EXAMPLE_SHARE["scopes"]),
        "What happened before 2025-12-31 stays hidden.",
        "Purpose: Appointment at the pain clinic",
        "Until 2026-06-27, or until Ada ends it.",
    ],
}


class ShareCodeIn(Strict):
    """What the patient offers. Whoever writes must also read, and notes belong to something that may be read."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_SHARE]})

    scopes: Scopes = Field(min_length=1)
    data_from: Instant | None = Field(default=None, description="Nothing before it is seen; absent: the whole diary.")
    purpose: Purpose = Field(description="Why, as both sides will read it.")
    days: int = Field(default=90, ge=1, le=365, description="How long the consent lasts.")


class ShareCodeOut(Strict):
    """The code to tell the clinician or caregiver; it is shown here only."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "2f9c7b10-4e5d-4a68-b3c1-8d0e6f7a9b52",
                    "code": "K7QM-2XWD",
                    "expires_at": "2026-03-29T10:10:00Z",
                    "grant_expires_at": "2026-06-27T10:00:00Z",
                }
            ]
        }
    )

    id: RecordId
    code: str = Field(pattern=r"^[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}$", description="Good once.")
    expires_at: Instant = Field(description="Ten minutes from when it was made.")
    grant_expires_at: Instant


class RedeemIn(Strict):
    """A share code as it was told; case, spaces and hyphens do not matter."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "K7QM-2XWD"}]})

    code: Annotated[str, line(20)]
    as_organisation: bool = Field(default=False, description="For all verified clinicians of one's organisation.")


class NarrowIn(Strict):
    """Less than was granted: fewer scopes, a later start, an earlier end. More needs a new code."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"scopes": ["entries:read"]}]})

    scopes: Scopes | None = Field(default=None, min_length=1)
    data_from: Instant | None = None
    expires_at: Instant | None = None


class PatientRef(Strict):
    """Whose diary."""

    id: RecordId
    display_name: str


class Grantee(Strict):
    """Who may see it."""

    kind: Literal["clinician", "caregiver", "organisation"]
    display_name: str
    profession: Profession | None = None
    organisation: str | None = None
    redeemed_by: str | None = Field(default=None, description="Who entered the code, for an organisation too.")


class GrantOut(Strict):
    """A consent, in the same words for the patient and for whom it was given to."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_GRANT]})

    id: RecordId
    patient: PatientRef
    grantee: Grantee
    scopes: list[Scope]
    data_from: Instant | None = Field(default=None, description="Nothing before it is seen; absent: the whole diary.")
    purpose: str
    status: Literal["pending", "active", "expired", "revoked"]
    version: int = Field(description="One more with each narrowing.")
    created_at: Instant
    confirmed_at: Instant | None = None
    expires_at: Instant
    revoked_at: Instant | None = None

    @computed_field(description="All of it as sentences.")  # type: ignore[prop-decorator]  # pydantic's documented use
    @property
    def words(self) -> list[str]:
        """What the consent says, in plain words."""
        who = ", ".join(filter(None, (self.grantee.display_name, self.grantee.profession, self.grantee.organisation)))
        since = f"What happened before {self.data_from.date()} stays hidden." if self.data_from else "The whole diary."
        return [
            f"{who} may, in the diary of {self.patient.display_name}:",
            *(f"{SENTENCES[scope]}" for scope in self.scopes),
            since,
            f"Purpose: {self.purpose}",
            f"Until {self.expires_at.date()}, or until {self.patient.display_name} ends it.",
        ]


class GrantList(Strict):
    """Grants, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [EXAMPLE_GRANT]}]})

    items: list[GrantOut] = Field(max_length=1000)


class Glance(Strict):
    """The last seven days of a diary's entries."""

    entries: int = Field(ge=0)
    days_with_entries: int = Field(ge=0, le=8)
    last_entry_at: Instant | None
    worst_nrs: int | None = Field(ge=0, le=10, description="The highest score on the numeric rating scale.")


class PanelPatient(Strict):
    """A diary that one may see: how far it has come, by which consent, and how the last week was."""

    id: RecordId
    display_name: str
    birth_date: LocalDate
    birth_date_precision: BirthDatePrecision = "day"
    time_zone: str
    head: int = Field(ge=0, description="It moves with every change.")
    grant_id: RecordId | None = Field(description="Null for one's own diary.")
    scopes: list[str] = Field(description="What the consent opens; `*` for one's own diary.")
    data_from: Instant | None
    expires_at: Instant | None
    last_seven_days: Glance | None = Field(description="Null where the consent does not open entries.")


EXAMPLE_PANEL: Json = {
    "items": [
        {
            "id": EXAMPLE_GRANT["patient"]["id"],
            "display_name": "Ada",
            "birth_date": "1980-05-17",
            "birth_date_precision": "day",
            "time_zone": "Europe/Berlin",
            "head": 412,
            "grant_id": EXAMPLE_GRANT["id"],
            "scopes": EXAMPLE_GRANT["scopes"],
            "data_from": EXAMPLE_GRANT["data_from"],
            "expires_at": EXAMPLE_GRANT["expires_at"],
            "last_seven_days": {
                "entries": 9,
                "days_with_entries": 6,
                "last_entry_at": "2026-03-29T16:30:00Z",
                "worst_nrs": 7,
            },
        }
    ],
    "next_cursor": EXAMPLE_CURSOR,
}


class Panel(Strict):
    """The diaries that one may see, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_PANEL]})

    items: list[PanelPatient] = Field(max_length=200)
    next_cursor: str | None


class Actor(Strict):
    """Who did it."""

    id: RecordId
    display_name: str
    profession: Profession | None
    organisation: str | None


class AccessEvent(Strict):
    """One look, one change or one refusal."""

    at: Instant
    actor: Actor | None = Field(description="Null where the account no longer exists.")
    role: str | None
    action: str = Field(description="What was done, as module.verb.", examples=["timeline.read"])
    outcome: str = Field(description="ok, created, …; not_found and insufficient_scope are refusals.")
    records: int = Field(ge=0, description="How many records it concerned.")
    grant_id: RecordId | None = Field(description="By which consent; null for oneself.")


class AccessLogPage(Strict):
    """Who did what, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "at": "2026-03-29T17:20:05Z",
                            "actor": {
                                "id": "0195d3f4-0c1d-4111-9222-333344445555",
                                "display_name": "Dr. Weber",
                                "profession": "physician",
                                "organisation": "Pain clinic Mitte",
                            },
                            "role": "clinician",
                            "action": "timeline.read",
                            "outcome": "ok",
                            "records": 50,
                            "grant_id": EXAMPLE_GRANT["id"],
                        }
                    ],
                    "next_cursor": EXAMPLE_CURSOR,
                }
            ]
        }
    )

    items: list[AccessEvent] = Field(max_length=200)
    next_cursor: str | None
