"""Who did what to whose data, and whether it was allowed; never a value of that data."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Identity, Index, Uuid, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class AuditEvent(Base):
    """One read, write or denial, in the transaction that did it. Append-only by role and by trigger."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index(None, "patient_id", "id"),
        # What others did, or were refused: the part of it that a patient looks for.
        Index(
            "ix_audit_events_others",
            "patient_id",
            "id",
            postgresql_where=text("grant_id IS NOT NULL OR outcome IN ('not_found', 'insufficient_scope')"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    actor_id: Mapped[UUID | None]
    role: Mapped[str | None]
    session_id: Mapped[UUID | None]
    grant_id: Mapped[UUID | None]  # set when the actor acts on somebody else's consent
    patient_id: Mapped[UUID | None]
    action: Mapped[str]  # module.verb, as in the services
    record_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    outcome: Mapped[str]
    address: Mapped[str | None] = mapped_column(INET)
    request_id: Mapped[UUID | None]


class AuditSegment(Base):
    """A sealed run of audit events, from the segment before up to `to_id`, with the seals of diaries of its number.

    Chained by digest: `number:digest` is an anchor. Whoever keeps it elsewhere can tell that nothing before it changed.
    """

    __tablename__ = "audit_segments"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    to_id: Mapped[int] = mapped_column(BigInteger)
    events: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[bytes]  # sha256(previous digest, the events in order, the seals of diaries)
    sealed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class DiarySeal(Base):
    """The changes of a diary, from the seal before up to `change_seq`, chained by digest; a part of the segment."""

    __tablename__ = "diary_seals"

    patient_id: Mapped[UUID] = mapped_column(primary_key=True)
    change_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    segment: Mapped[int] = mapped_column(BigInteger, index=True)
    digest: Mapped[bytes]  # sha256(previous digest, the changes in order)
