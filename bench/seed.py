"""A full database at once: the entries of many patients, in exactly the shape in which write_records_v1() stores them.

One entry that came through the API is the template. Entries come in the order of time, so those of a patient are
scattered over the table as in real life. The first patient gets every k-th of them, 10 000 at most.
"""

import json
import sys
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from bench.references import TABLE

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

AT_ONCE = 50_000
LONGEST = 10_000  # entries of the first patient
SPAN = timedelta(days=3 * 365)

FACTORY = """
CREATE FUNCTION pg_temp.seeded(template records, patient uuid, seq bigint, at timestamptz) RETURNS records
LANGUAGE plpgsql AS $$
DECLARE
    item records := template;
    sent text := '{' || substr(template.document::text, strpos(template.document::text, '"local_date"'));
    day date := (at AT TIME ZONE template.time_zone)::date;
BEGIN
    ASSERT sha256(convert_to(sent, 'UTF8')) = template.content_hash, 'these are not the fields that the phone sent';
    item.patient_id := patient;
    item.id := gen_random_uuid();
    item.change_seq := seq;
    item.occurred_at := at;
    item.local_date := day;
    item.received_at := at + interval '1 minute';
    sent := replace(sent, '"local_date":"' || template.local_date || '"', '"local_date":"' || day || '"');
    item.document := regexp_replace(sent, '"occurred_at":"[^"]*"', '"occurred_at":"'
        || to_char(at AT TIME ZONE template.time_zone, 'YYYY-MM-DD"T"HH24:MI:SS') || '+01:00"');
    item.content_hash := sha256(convert_to(item.document::text, 'UTF8'));
    item.document := compose(item, item.document::text, '{}', NULL);
    RETURN item;
END $$
"""
# $1…$2 of $3 entries, of the patients $4, the first of whom gets every $5th; the last one just now, $6 apart.
PLACES = """
    SELECT ($4::uuid[])[CASE WHEN n % $5 = 0 THEN 1 ELSE 2 + (n - n / $5 - 1) % (cardinality($4) - 1) END] AS patient,
           CASE WHEN n % $5 = 0 THEN n / $5 ELSE 1 + (n - n / $5 - 1) / (cardinality($4) - 1) END AS seq,
           date_trunc('second', now() - ($3 - n) * $6::interval) AS at
    FROM generate_series($1::bigint, $2::bigint) AS n
"""
RECORDS = f"""
    INSERT INTO records
    SELECT made.* FROM ({PLACES}) places, records template, LATERAL pg_temp.seeded(template, patient, seq, at) made
    WHERE template.patient_id = $7
"""
VERSIONS = """
    INSERT INTO record_versions (patient_id, change_seq, record_id, version, author_id, session_id, received_at,
                                 deleted, content_hash)
    SELECT patient_id, change_seq, id, version, author_id, session_id, received_at, deleted, content_hash
    FROM records WHERE patient_id = ANY ($1)
"""
HEADS = """
    UPDATE patient_clocks SET head = written.head
    FROM (SELECT patient_id, max(change_seq) AS head FROM records GROUP BY patient_id) written
    WHERE patient_clocks.patient_id = written.patient_id AND written.patient_id = ANY ($1)
"""
PATIENTS = """
    WITH made AS (INSERT INTO patients (id, display_name, birth_date, time_zone, locale)
                  SELECT gen_random_uuid(), 'Patient', '1980-01-01', 'Africa/Lagos', 'en' FROM generate_series(1, $1)
                  RETURNING id)
    INSERT INTO patient_clocks (patient_id) SELECT id FROM made RETURNING patient_id
"""
BARE = f"""
    INSERT INTO entries (id, patient_id, occurred_at, time_zone, local_date, sites, triggers, note)
    SELECT gen_random_uuid(), patient, at, 'Africa/Lagos', at::date, $7::jsonb, $8::text[], $9 FROM ({PLACES}) places
"""


def step_of(size: int) -> int:
    """Every how many entries one is the first patient's."""
    return max(2, -(-size // LONGEST))


async def add_patients(connection: Connection, count: int) -> list[UUID]:
    """Patients without an account."""
    return [row[0] for row in await connection.fetch(PATIENTS, count)]


async def fill_diaries(connection: Connection, size: int, patients: list[UUID], template: UUID) -> None:
    """The diaries of these patients, after the only entry of the patient `template`."""
    await connection.execute(FACTORY)
    await _in_steps(connection, RECORDS, size, patients, template)
    for start in range(0, len(patients), 50):
        await connection.execute(VERSIONS, patients[start : start + 50])
    await connection.execute(HEADS, patients)
    await connection.execute("VACUUM ANALYZE")


async def fill_bare(connection: Connection, size: int, patients: list[UUID], entry: dict[str, Any]) -> None:
    """The reference's table with as many entries like this one, of the same patients."""
    await connection.execute(TABLE)
    facts = (json.dumps(entry["sites"]), [trigger["code"] for trigger in entry["triggers"]], entry["note"])
    await _in_steps(connection, BARE, size, patients, *facts)
    await connection.execute("VACUUM ANALYZE entries")


async def _in_steps(connection: Connection, statement: str, size: int, patients: list[UUID], *more: object) -> None:
    for first in range(1, size + 1, AT_ONCE):
        last = min(first + AT_ONCE - 1, size)
        await connection.execute(statement, first, last, size, patients, step_of(size), SPAN / size, *more)
        if sys.stderr.isatty():
            print(f"\r{last} of {size} rows", end="\n" if last == size else "", file=sys.stderr)
