"""Everything a diary holds, whatever its kind: the current state, and one row for each change."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    CheckConstraint,
    Index,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.people import PERFORMERS
from app.models.base import Base


class Record(Base):
    """The current state of a record. Only `write_records_v1()` changes it.

    `document` is the JSON object as it is answered, envelope included, `note` apart;
    the columns after it repeat facts of the document that SQL filters or aggregates by.
    """

    __tablename__ = "records"
    __table_args__ = (
        UniqueConstraint("patient_id", "change_seq"),
        # What depends on which kinds there are is in kinds.sql.
        CheckConstraint("deleted OR (kind = 'treatment_event') = (treatment_id IS NOT NULL)", name="treatment_id"),
        CheckConstraint(f"performer IN {PERFORMERS}", name="performer"),
        CheckConstraint("version >= 1 AND change_seq >= 1", name="version"),
        CheckConstraint("utc_offset BETWEEN -840 AND 840", name="utc_offset"),
        CheckConstraint("length(note) <= 4000 AND NOT (deleted AND note IS NOT NULL)", name="note"),
        CheckConstraint("duration_minutes BETWEEN 0 AND 525600", name="duration_minutes"),
        CheckConstraint(
            "(worst_score IS NULL) = (scale IS NULL) AND worst_score BETWEEN 0 AND 100", name="worst_score"
        ),
        CheckConstraint("octet_length(content_hash) = 32", name="content_hash"),
        CheckConstraint("source_record_id IS NULL OR source_system IS NOT NULL", name="source"),
        Index(
            "uq_records_source",
            "patient_id",
            "kind",
            "source_system",
            "source_record_id",
            unique=True,
            postgresql_where=text("source_record_id IS NOT NULL"),
        ),
        Index(
            "ix_records_timeline",
            "patient_id",
            text("occurred_at DESC"),
            text("id DESC"),
            postgresql_where=text("NOT deleted"),
        ),
        Index(
            "ix_records_agreed",
            "patient_id",
            text("occurred_at DESC"),
            text("id DESC"),
            postgresql_where=text("NOT deleted AND valid_to IS NOT NULL"),
        ),
    )

    patient_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    version: Mapped[int]
    change_seq: Mapped[int] = mapped_column(BigInteger)
    occurred_at: Mapped[datetime]
    utc_offset: Mapped[int] = mapped_column(SmallInteger)  # minutes east of UTC
    time_zone: Mapped[str]
    local_date: Mapped[date]
    recorded_at: Mapped[datetime | None]
    received_at: Mapped[datetime]
    author_id: Mapped[UUID]
    session_id: Mapped[UUID]
    performer: Mapped[str]
    deleted: Mapped[bool]
    content_hash: Mapped[bytes]
    document: Mapped[dict[str, object]] = mapped_column(JSON)
    note: Mapped[str | None]
    regions: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    characters: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    worst_score: Mapped[Decimal | None] = mapped_column(Numeric(5, 2))
    scale: Mapped[str | None]
    duration_minutes: Mapped[int | None]
    treatment_id: Mapped[UUID | None]
    valid_to: Mapped[datetime | None]  # of what holds for a time: a plan until it ends, the profile to infinity
    source_system: Mapped[str | None]  # of what was imported from a record of another system, also once it is deleted
    source_record_id: Mapped[str | None]


class RecordVersion(Base):
    """One change: who, on which device, when. `document` and `note` move here once a later version supersedes them.

    `reoffered_version`: what a phone offered again after a restore was this version in the epoch before.
    """

    __tablename__ = "record_versions"
    __table_args__ = (
        UniqueConstraint("patient_id", "record_id", "version"),
        Index(
            "uq_record_versions_mutation",
            "patient_id",
            "mutation_id",
            unique=True,
            postgresql_where=text("mutation_id IS NOT NULL"),
        ),
    )

    patient_id: Mapped[UUID] = mapped_column(primary_key=True)
    change_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    nonce: Mapped[UUID] = mapped_column(
        server_default=text("gen_random_uuid()")
    )  # tells this change from a restored one
    record_id: Mapped[UUID]
    version: Mapped[int]
    mutation_id: Mapped[UUID | None]
    author_id: Mapped[UUID]
    session_id: Mapped[UUID]
    received_at: Mapped[datetime]
    deleted: Mapped[bool]
    content_hash: Mapped[bytes]
    document: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True))
    note: Mapped[str | None]
    reoffered_version: Mapped[int | None]
