"""What people may be here: the roles of accounts, how exactly a birth date is known, who gives a record's answers.

Each list stands once: the wire's schemas take the types, the tables' CHECKs and the access tokens the tuples.
"""

from typing import Literal, get_args

Role = Literal["patient", "caregiver", "clinician", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

BirthDatePrecision = Literal["day", "month", "year"]
BIRTH_DATE_PRECISIONS: tuple[BirthDatePrecision, ...] = get_args(BirthDatePrecision)

# Who gave the answers: the patient, a caregiver, or a clinician who watched.
Performer = Literal["self", "caregiver", "clinician_observer"]
PERFORMERS: tuple[Performer, ...] = get_args(Performer)
