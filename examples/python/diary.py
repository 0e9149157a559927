"""A patient logs pain and the dose taken against it and shares the diary; a clinician reads it."""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from pain_diary_client import AuthenticatedClient, Client
from pain_diary_client.api.consent import confirm_grant, create_share_code, redeem_share_code
from pain_diary_client.api.entries import create_entry, revise_entry
from pain_diary_client.api.sign_in import sign_in
from pain_diary_client.api.timeline import read_timeline
from pain_diary_client.api.treatment_events import create_treatment_event
from pain_diary_client.api.treatments import create_treatment
from pain_diary_client.models import (
    EntryIn,
    EntryOut,
    EntryPatch,
    GrantOut,
    Prn,
    Problem,
    Quantity,
    RedeemIn,
    Regimen,
    Score,
    ShareCodeIn,
    ShareCodeOut,
    SignInIn,
    Site,
    TimelinePage,
    TokensOut,
    TreatmentEventIn,
    TreatmentEventOut,
    TreatmentIn,
    TreatmentOut,
    UnknownRecord,
)
from pain_diary_client.types import UNSET

API = os.environ.get("API", "http://127.0.0.1:8000")
PASSWORD = "demo-demo-demo-demo"
ZONE = "Europe/Berlin"  # where the patient is

Answer = TypeVar("Answer")


def main() -> None:
    patient, patient_id = signed_in("patient@example.org")
    clinician, _ = signed_in("clinician@example.org")
    assert patient_id is not None, "this account keeps no diary"
    log(patient, patient_id)
    print(*share(patient, patient_id, clinician).words, sep="\n")
    for line in read(clinician, patient_id):
        print(line)


def signed_in(email: str) -> tuple[AuthenticatedClient, UUID | None]:
    """A client that sends this person's access token, and whose diary that person keeps."""
    body = SignInIn(email=email, password=PASSWORD, device_name="diary.py")
    tokens = got(TokensOut, sign_in.sync(client=Client(API), body=body))
    return AuthenticatedClient(API, token=tokens.access_token), tokens.user.patient_id or None


def log(patient: AuthenticatedClient, patient_id: UUID) -> None:
    """Logs a plan, a pain and a dose, under ids chosen here: sending one again after a lost answer stores it once."""
    now = datetime.now(ZoneInfo(ZONE))  # its offset decides on which day of the diary it lies
    regimen = Regimen(valid_from=now, time_zone=ZONE, schedule=Prn(type_="prn", max_doses_24h=3))
    plan = TreatmentIn(
        id=uuid4(),
        occurred_at=now,
        time_zone=ZONE,
        category="otc_medication",
        name="Ibuprofen 400 mg",
        regimens=[regimen],
    )
    score = Score(measure="now", scale="nrs_0_10", value=6)
    site = Site(region="lower_back_left", scores=[score])
    entry = EntryIn(id=uuid4(), occurred_at=now, time_zone=ZONE, sites=[site])
    dose = TreatmentEventIn(
        id=uuid4(),
        occurred_at=now,
        time_zone=ZONE,
        treatment_id=plan.id,
        status="taken",
        amount=Quantity(value=400, unit="mg"),
        entry_id=entry.id,
    )
    got(TreatmentOut, create_treatment.sync(patient_id, client=patient, body=plan))
    got(EntryOut, create_entry.sync(patient_id, client=patient, body=entry))
    got(TreatmentEventOut, create_treatment_event.sync(patient_id, client=patient, body=dose))
    # Correcting needs the ETag of what was read, here that of the first version.
    corrected = revise_entry.sync(patient_id, entry.id, client=patient, body=EntryPatch(mood=4), if_match='"1"')
    assert got(EntryOut, corrected).version == 2


def share(patient: AuthenticatedClient, patient_id: UUID, clinician: AuthenticatedClient) -> GrantOut:
    """The patient tells a code, the clinician enters it, the patient sees by whom and confirms."""
    terms = ShareCodeIn(scopes=["entries:read", "treatments:read"], purpose="Appointment", days=90)
    shared = create_share_code.sync(patient_id, client=patient, body=terms, idempotency_key=str(uuid4()))
    code = got(ShareCodeOut, shared).code
    pending = got(GrantOut, redeem_share_code.sync(client=clinician, body=RedeemIn(code=code)))
    return got(GrantOut, confirm_grant.sync(patient_id, pending.id, client=patient))


def read(clinician: AuthenticatedClient, patient_id: UUID) -> Iterator[str]:
    """One line about each item of today's timeline, newest first."""
    today = datetime.now(ZoneInfo(ZONE)).date()
    cursor: str | None = None
    while True:
        found = read_timeline.sync(patient_id, client=clinician, from_=today, cursor=cursor or UNSET)
        page = got(TimelinePage, found)
        for item in page.items:
            if isinstance(item, EntryOut):
                regions = ", ".join(site.region for site in item.sites or [])
                yield f"{item.local_date} pain: {regions}"
            elif isinstance(item, TreatmentEventOut):
                amount = item.amount.value if item.amount else ""
                yield f"{item.local_date} {item.status}: {item.treatment_name} {amount}"
            elif not isinstance(item, UnknownRecord):  # kinds that are not known here are still to come
                yield f"{item.local_date} {item.kind}"
        cursor = page.next_cursor
        if cursor is None:
            return


def got(kind: type[Answer], answer: object) -> Answer:
    """The answer, where it is what was asked for; a problem ends the program."""
    if isinstance(answer, Problem):
        raise SystemExit(f"{answer.status} {answer.title}: {answer.detail}")
    assert isinstance(answer, kind), answer
    return answer


if __name__ == "__main__":
    main()
