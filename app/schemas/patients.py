"""A patient as the API shows one."""

from pydantic import ConfigDict, Field

from app.schemas.base import LocalDate, RecordId, Strict
from app.schemas.births import BirthDatePrecision


class PatientOut(Strict):
    """Whose diary it is, and how far it has come."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0195d3f4-0c1d-4b2e-8f3a-4d5e6f708192",
                    "display_name": "Ada",
                    "birth_date": "1980-05-17",
                    "birth_date_precision": "day",
                    "time_zone": "Europe/Berlin",
                    "locale": "en",
                    "head": 412,
                }
            ]
        }
    )

    id: RecordId
    display_name: str
    birth_date: LocalDate
    birth_date_precision: BirthDatePrecision = "day"
    time_zone: str
    locale: str
    head: int = Field(ge=0, description="The `change_seq` of the newest change.")
