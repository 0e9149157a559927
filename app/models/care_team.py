"""Who a patient trusts: clinicians and their organisations, share codes, and the grants that come of them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app import vocabularies
from app.models.base import Base, CreatedAt, NewId

PROFESSIONS = vocabularies.load("professions").ordered_codes


class Organisation(Base):
    """A practice, clinic or hospital. Its verified clinicians share the grants that it was given."""

    __tablename__ = "organisations"

    id: Mapped[NewId]
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]


class Clinician(Base):
    """What makes an account with that role a clinician's; without `verified_at` it sees nobody's health data."""

    __tablename__ = "clinicians"
    __table_args__ = (CheckConstraint(f"profession IN {PROFESSIONS}", name="profession"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    organisation_id: Mapped[UUID | None] = mapped_column(ForeignKey("organisations.id"))
    profession: Mapped[str]
    verified_at: Mapped[datetime | None]


class ShareCode(Base):
    """An offer of consent, good once and for minutes. The code itself is nowhere: only its keyed hash is stored."""

    __tablename__ = "share_codes"
    __table_args__ = (Index("uq_share_codes_key", "patient_id", "key_digest", unique=True),)

    patient_id: Mapped[UUID] = mapped_column(ForeignKey("patients.id"), primary_key=True)
    id: Mapped[NewId]
    code_digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    key_digest: Mapped[bytes]  # of the Idempotency-Key that made it
    terms_digest: Mapped[bytes]  # of what was asked for under that key
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    data_from: Mapped[datetime | None]
    purpose: Mapped[str]
    grant_expires_at: Mapped[datetime]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    redeemed_by: Mapped[UUID | None]
    grant_id: Mapped[UUID | None]


class Grant(Base):
    """Consent as `access()` reads it: to one person or one organisation. A change of its terms is a new `version`."""

    __tablename__ = "grants"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'active')", name="status"),
        CheckConstraint("(grantee_id IS NULL) <> (organisation_id IS NULL)", name="grantee"),
        CheckConstraint("expires_at <= created_at + interval '365 days'", name="expiry"),
        Index(
            "uq_grants_active",
            "patient_id",
            "grantee_id",
            unique=True,
            postgresql_where=text("status = 'active' AND revoked_at IS NULL"),
        ),
        Index(
            "uq_grants_active_organisation",
            "patient_id",
            "organisation_id",
            unique=True,
            postgresql_where=text("status = 'active' AND revoked_at IS NULL"),
        ),
        Index(None, "grantee_id"),
        Index(None, "organisation_id"),
    )

    id: Mapped[NewId]
    patient_id: Mapped[UUID] = mapped_column(ForeignKey("patients.id"))
    grantee_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    organisation_id: Mapped[UUID | None] = mapped_column(ForeignKey("organisations.id"))
    redeemed_by: Mapped[UUID | None]  # who entered the code, also on behalf of an organisation
    status: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    data_from: Mapped[datetime | None]
    purpose: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[CreatedAt]
    confirmed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
