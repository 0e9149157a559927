"""Tables, and beside them (`*.sql`) the functions, policies and views that guard them."""

from app.models.audit import AuditEvent, AuditSegment, DiarySeal
from app.models.auth import DeviceSession, Invitation, RefreshToken, SignInDelay, User
from app.models.base import Base
from app.models.care_team import Clinician, Grant, Organisation, ShareCode
from app.models.patients import Patient, PatientClock
from app.models.records import Record, RecordVersion

__all__ = [
    "AuditEvent",
    "AuditSegment",
    "Base",
    "Clinician",
    "DeviceSession",
    "DiarySeal",
    "Grant",
    "Invitation",
    "Organisation",
    "Patient",
    "PatientClock",
    "Record",
    "RecordVersion",
    "RefreshToken",
    "ShareCode",
    "SignInDelay",
    "User",
]
