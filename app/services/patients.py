"""Patients: what is known of the person whose diary it is."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.models import Patient, PatientClock


async def read(session: AsyncSession, patient_id: UUID) -> Row[*tuple[Any, ...]]:
    """The patient with the head of the diary; the session must have been let in to it."""
    found = await session.execute(
        select(
            Patient.id,
            Patient.display_name,
            Patient.birth_date,
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
    return patient
