"""Patients, and the clock that orders everything written to one patient's diary."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.people import BIRTH_DATE_PRECISIONS, BirthDatePrecision
from app.models.base import Base, CreatedAt, NewId


class Patient(Base):
    """A person whose diary this is; `user_id` is empty for one who does not sign in (a small child)."""

    __tablename__ = "patients"
    __table_args__ = (CheckConstraint(f"birth_date_precision IN {BIRTH_DATE_PRECISIONS}", name="birth_date_precision"),)

    id: Mapped[NewId]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), unique=True)
    display_name: Mapped[str]
    birth_date: Mapped[date]
    birth_date_precision: Mapped[BirthDatePrecision] = mapped_column(Text, server_default=text("'day'"))
    time_zone: Mapped[str]
    locale: Mapped[str]
    created_at: Mapped[CreatedAt]
    erased_at: Mapped[datetime | None]


class PatientClock(Base):
    """`head` is the `change_seq` of the newest change; whoever writes, revokes or erases locks this row first.

    `epoch` changes when the database was restored from a backup, because the same numbers then mean other changes:
    what was written in `previous_epoch` after the backup is lost until phones offer it again, and what the backup had
    ends with `restored_head`. `head_before_day` was the head when `day` began: it tells how many changes that day saw.
    """

    __tablename__ = "patient_clocks"
    __table_args__ = (
        CheckConstraint("head >= 0", name="head"),
        {"postgresql_with": {"fillfactor": 50}},  # room for in-page updates: every write touches this row
    )

    patient_id: Mapped[UUID] = mapped_column(ForeignKey("patients.id"), primary_key=True)
    head: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    epoch: Mapped[UUID] = mapped_column(Uuid, server_default=text("gen_random_uuid()"))
    previous_epoch: Mapped[UUID | None] = mapped_column(Uuid)
    restored_head: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    day: Mapped[date | None]  # the last with a change, by UTC
    head_before_day: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
