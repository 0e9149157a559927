"""Patients: what is known of the person whose diary it is."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.people import BirthDatePrecision
from app.errors import NotFound
from app.models import Patient, PatientClock


@dataclass(frozen=True, slots=True)
class PatientSummary:
    """A patient, and how far the diary has come: `head` is the number of its last change."""

    id: UUID
    display_name: str
    birth_date: date
    birth_date_precision: BirthDatePrecision
    time_zone: str
    locale: str
    head: int


async def read(transaction: AsyncSession, patient_id: UUID) -> PatientSummary:
    """The patient whose row-security context the transaction has; raises NotFound for any other."""
    found = await transaction.execute(
        select(
            Patient.id,
            Patient.display_name,
            Patient.birth_date,
            Patient.birth_date_precision,
            Patient.time_zone,
            Patient.locale,
            PatientClock.head,
        )
        .join(PatientClock, PatientClock.patient_id == Patient.id)
        .where(Patient.id == patient_id)
    )
    patient = found.one_or_none()
    if patient is None:
        raise NotFound
    return PatientSummary(*patient)
