"""The whole API against its own description: schemathesis sends what it can think of to a server that runs.

`make test` runs a short form of every phase, `make verify` more of it, each time from another seed. A failure prints
it: SCHEMATHESIS_SEED=… makes the same examples again. SCHEMATHESIS_EXAMPLES=200 (`make fuzz`): so many examples for an
operation, and the coverage phase over every operation.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from random import randrange
from typing import Any, TypeAlias
from zoneinfo import available_timezones

import anyio.to_thread
import asyncpg
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.engine import events, from_schema

from app.schemas.kinds import BY_NAME
from tests.forms import LONG, size
from tests.people import Person, Phone, dose, entry, grant, make_organisation, profile, share, treatment
from tests.serving import Served, events_of
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

WHOLE = "SCHEMATHESIS_EXAMPLES" in os.environ
EXAMPLES = size("SCHEMATHESIS_EXAMPLES", short=3, long=20)
SEED = int(os.environ.get("SCHEMATHESIS_SEED") or randrange(1_000_000))
PHASES: dict[str, dict[str, Any]] = {
    "examples": {},
    # A GET with a body is refused before anybody asks whether its address knows GET.
    "coverage": {"unexpected-methods": ["PUT", "POST", "PATCH", "DELETE"]},
    "fuzzing": {},
    "stateful": {},
}
KINDS = tuple(BY_NAME)
# The coverage phase finds thousands of faults to put into a record, so it leaves these to `make fuzz`.
# One of each sort for the short form of that phase.
SAMPLE = [
    "create_share_code",
    "delete_entry",
    "list_entries",
    "list_entry_versions",
    "narrow_grant",
    "read_entry",
    "read_timeline",
    "sign_in",
]
LARGE_BODIES = [f"{verb}_{kind}" for verb in ("create", "replace", "revise") for kind in KINDS]
# The history of what was deleted can still be read.
HISTORIES = [f"list_{kind}_versions" for kind in KINDS]
# What chance alone must get into; the other operations ask for more luck than twenty examples have.
REACHED = {
    "read_me",
    "read_patient",
    "list_entries",
    "read_entry",
    "list_entry_versions",
    "list_treatments",
    "read_treatment",
    "list_treatment_versions",
    "read_slots",
    "list_treatment_events",
    "read_treatment_event",
    "list_treatment_event_versions",
    "read_profile",
    "list_profile_versions",
    "read_adherence",
    "read_timeline",
    "create_share_code",
    "list_grants",
    "confirm_grant",
    "narrow_grant",
    "revoke_grant",
    "list_accesses",
    "list_patients",
    "list_held_grants",
    "read_vocabulary",
    "sign_in",
    "refresh_tokens",
}


@dataclass
class Report:
    """How often an operation answered with a status, and one failure of each sort."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, scenario: events.ScenarioFinished) -> None:
        """Takes in what was sent and found in one scenario."""
        recorder = scenario.recorder
        for case_id, interaction in recorder.interactions.items():
            operation = recorder.cases[case_id].value.operation.definition.raw["operationId"]
            self.answers[operation, interaction.response.status_code if interaction.response else 0] += 1
        for failed in (check.failure_info for checks in recorder.checks.values() for check in checks):
            if failed is not None:
                sort = f"{failed.failure.operation}: {failed.failure.title}"
                self.failures[sort] = f"{failed.failure.message}\n{failed.code_sample}"


@pytest.mark.scaled
@pytest.mark.parametrize("phase", PHASES)
async def test_the_api_keeps_to_its_description(phase: str, served: Served, superuser: Connection) -> None:
    await superuser.execute("TRUNCATE sign_in_delays")  # the phase before failed often, from the same address
    async with served.client() as http:
        ada = await Person().register_and_sign_in(http)
        config = await configuration(ada, phase, superuser)
        print(f"The same again: SCHEMATHESIS_SEED={SEED}")  # noqa: T201 - shown with a failure, or with -s
        report = await anyio.to_thread.run_sync(run, f"{served.url}/openapi.json", config)
        still = await http.get("/v1/me")
    print(phase, *sorted(report.answers.items()), sep="\n")  # noqa: T201 - shown with a failure, or with -s
    assert not report.failures, "\n\n".join(report.failures.values())
    assert [answer for answer in report.answers if answer[1] == 0 or answer[1] >= 500] == []
    assert [line for line in events_of(served.log) if line["level"] == "error"] == []
    assert still.status_code == 200, "signed out on the way: the rest met closed doors only"
    if phase == "fuzzing" and EXAMPLES >= 20:
        assert {operation for operation, status in report.answers if status < 300} >= REACHED


@schemathesis.hook
def before_load_schema(_context: schemathesis.HookContext, document: dict[str, Any]) -> None:
    """Closes the lists of codes: what the server takes today are those, and nothing else is worth trying often."""
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and isinstance(value.get("x-extensible-enum"), list):
            value["enum"] = value["x-extensible-enum"]
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value


def run(address: str, config: schemathesis.Config) -> Report:
    """Everything that schemathesis found at the document's address."""
    register_formats()
    report = Report()
    for event in from_schema(schemathesis.openapi.from_url(address, config=config, timeout=PATIENCE)).execute():
        assert not isinstance(event, events.FatalError | events.NonFatalError), event
        if isinstance(event, events.ScenarioFinished):
            report.add(event)
    return report


async def configuration(ada: Phone, phase: str, superuser: Connection) -> schemathesis.Config:
    """One phase, signed in as Ada, with what she holds often in the place of what would be made up."""
    clinics = [await make_organisation(superuser) for _ in range(20)]
    waiting: dict[str, Any] = {"grantee_id": None, "status": "pending"}
    plans = [await add(ada, "/treatments", treatment("08:00", "20:00", note="with water")) for _ in range(20)]
    await add(ada, "/profile", profile())
    known = {
        "path.patient_id": [ada.patient_id],
        "path.entry_id": [await add(ada, "/entries", entry(note="before the storm")) for _ in range(20)],
        "path.treatment_id": plans,
        "path.event_id": [await add(ada, "/treatment-events", dose(plan, note="with milk")) for plan in plans],
        "path.grant_id": [str(await grant(superuser, ada, ada, organisation_id=one, **waiting)) for one in clinics],
        "header.idempotency-key": ["of-the-one-code", "of-another-code"],
        "body.code": [(await share(ada)).json()["code"]],
        "body.treatment_id": plans,
        "query.treatment_id": plans,
        "query.from": ["2026-03-01"],
        "query.to": ["2026-03-31"],
        "header.if-match": ['"1"', '"2"'],
        "body.email": [ada.person.email],
        "body.password": [ada.person.password],
        "body.refresh_token": [ada.tokens["refresh_token"]],
        # Not her own session, whose end would be the test's.
        "path.session_id": [(await ada.person.sign_in(ada.http)).json()["session_id"]],
    }
    often = {name: {"dictionary": name, "probability": 1 if name == "path.session_id" else 0.7} for name in known}
    always = {name: values[0] for name, values in known.items() if name.startswith("path.")}
    return schemathesis.Config.from_dict(
        {
            "seed": SEED,
            "request-timeout": PATIENCE,
            "headers": {"Authorization": ada.http.headers["Authorization"]},
            "generation": {"max-examples": EXAMPLES, "database": "none"},
            # JSON Schema cannot say what must hold between fields, nor which cursor, version or password is right.
            "checks": {
                "positive_data_acceptance": {"enabled": False},
                "missing_required_header": {"expected-statuses": ["422", "428"]},
            },
            "dictionaries": {name: {"values": values} for name, values in known.items()},
            "parameters": always if phase == "coverage" else often,  # the coverage phase looks into no dictionary
            "phases": {name: {"enabled": name == phase, **PHASES[name]} for name in PHASES},
            "operations": [
                {"include-operation-id": "revoke_session", "enabled": phase != "stateful"},  # it would find hers
                {"include-operation-id": HISTORIES, "checks": {"use_after_free": {"enabled": False}}},
                # A mutation that does not fit is `invalid` in the answer, and refuses no other.
                {"include-operation-id": "push_changes", "checks": {"negative_data_rejection": {"enabled": False}}},
                {"include-operation-id": LARGE_BODIES, "enabled": WHOLE or phase != "coverage"},
                {"exclude-operation-id": SAMPLE, "enabled": LONG or WHOLE or phase != "coverage"},
            ],
        }
    )


async def add(ada: Phone, path: str, record: dict[str, Any]) -> str:
    """The id of a new record of hers."""
    return str((await ada.post(path, record)).json()["id"])


def register_formats() -> None:
    """Values that fit what the formats mean here, so that much of what is generated gets past the first gate."""
    zones = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    instants = st.datetimes(datetime(2000, 1, 1), datetime(2199, 1, 1), timezones=zones)  # noqa: DTZ001 - has zones
    schemathesis.openapi.format("date-time", instants.map(lambda at: at.isoformat(timespec="milliseconds")))
    schemathesis.openapi.format("date", instants.map(lambda at: at.date().isoformat()))
    schemathesis.openapi.format("time-zone", st.sampled_from(sorted(available_timezones())))
    schemathesis.openapi.format("uuid", st.uuids(version=4).map(str))
