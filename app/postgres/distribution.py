"""How a migrated database is spread over machines: which tables lie by patient, which on each node, which on one."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Table

from app.models import Base

TEMPLATE = Path(__file__).with_name("citus.sql")
BY_PATIENT = "patient_id"
FIRST = "records"  # the others lie where it does
# Whole on each node: asked for within a patient's calls, or without knowing the patient, and seldom written.
COPIED = {
    "users": "who calls, in every call",
    "sessions": "whether the device is still signed in, in every call",
    "patients": "whose diary it is, in every call; one for a user, whatever the shard",
    "organisations": "consent to an organisation, in every call of a clinician",
    "clinicians": "whether a clinician is verified, in every call of one",
    "share_codes": "redeemed by the digest alone, which is unique by itself; few, and good for minutes",
}
# On the coordinator only: no call about a diary asks for it.
LOCAL = {
    "refresh_tokens": "signing in and refreshing, which know no patient",
    "sign_in_delays": "signing in, which knows no patient",
    "invitations": "an operator's links",
    "audit_segments": "one chain over the events of all nodes",
}


def citus_ddl() -> str:
    """The statements for Citus, to be run once on a migrated database; KeyError for a table without a place."""
    places = "\n".join(_placement(table) for table in _ordered())
    ours = ",".join(table.name for table in _ordered() if _lies_by_patient(table))
    return TEMPLATE.read_text().replace("{{tables}}", places).replace("{{by_patient}}", "{" + ours + "}")


def _ordered() -> Iterator[Table]:
    """Copies before what refers to them, and of those by patient the one first that the others lie with."""
    tables = Base.metadata.sorted_tables
    yield from (table for table in tables if not _lies_by_patient(table))
    yield from sorted(filter(_lies_by_patient, tables), key=lambda table: table.name != FIRST)


def _lies_by_patient(table: Table) -> bool:
    return BY_PATIENT in table.columns and table.name not in COPIED


def _placement(table: Table) -> str:
    if _lies_by_patient(table):
        beside = "none" if table.name == FIRST else FIRST
        return f"SELECT create_distributed_table('{table.name}', '{BY_PATIENT}', colocate_with := '{beside}');"
    if table.name in COPIED:
        return f"SELECT create_reference_table('{table.name}');  -- {COPIED[table.name]}"
    return f"-- {table.name}: {LOCAL[table.name]}"
