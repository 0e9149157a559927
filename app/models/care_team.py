"""Grants: a patient's consent to one person, for named scopes, from a date on, until it ends."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, CreatedAt, NewId

SCOPES = (
    "entries:read",
    "entries:write",
    "notes:read",
    "treatments:read",
    "treatments:write",
    "profile:read",
    "profile:write",
    "adherence:read",
    "summary:read",
    "export:create",
)


class Grant(Base):
    """Consent as `access()` reads it. A change of scopes or window is a new `version`."""

    __tablename__ = "grants"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'active')", name="status"),
        CheckConstraint("scopes <@ ARRAY[" + ", ".join(f"'{scope}'" for scope in SCOPES) + "]", name="scopes"),
        # Whoever writes sees what is there, and a note is a part of something.
        CheckConstraint(
            "(NOT 'entries:write' = ANY (scopes) OR 'entries:read' = ANY (scopes))"
            " AND (NOT 'treatments:write' = ANY (scopes) OR 'treatments:read' = ANY (scopes))"
            " AND (NOT 'profile:write' = ANY (scopes) OR 'profile:read' = ANY (scopes))"
            " AND (NOT 'notes:read' = ANY (scopes) OR scopes && '{entries:read,treatments:read}')",
            name="readable",
        ),
        CheckConstraint("expires_at <= created_at + interval '365 days'", name="expiry"),
        Index(
            "uq_grants_active",
            "patient_id",
            "grantee_id",
            unique=True,
            postgresql_where=text("status = 'active' AND revoked_at IS NULL"),
        ),
    )

    id: Mapped[NewId]
    patient_id: Mapped[UUID] = mapped_column(ForeignKey("patients.id"))
    grantee_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    data_from: Mapped[datetime | None]
    purpose: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
