"""Patients, as those see them who may."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from app.http.deps import Transaction, patient_read
from app.schemas.patients import PatientOut
from app.services import patients

router = APIRouter(prefix="/v1/patients", tags=["patients"])
PatientRead = Annotated[UUID, Depends(patient_read("patients.read"))]


@router.get("/{patient_id}", summary="Read a patient")
async def read_patient(transaction: Transaction, patient_id: PatientRead) -> PatientOut:
    """Name, birth date, zone, and the head of the diary: it moves with every change."""
    patient = await patients.read(transaction, patient_id)
    return PatientOut(
        id=str(patient.id),
        display_name=patient.display_name,
        birth_date=patient.birth_date,
        birth_date_precision=patient.birth_date_precision,
        time_zone=patient.time_zone,
        locale=patient.locale,
        head=patient.head,
    )
