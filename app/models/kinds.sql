-- Written by `python -m migrations.kinds` from app/schemas/kinds.py: the kinds of record, how long each holds, and
-- which scopes open and write them. Declare a kind there and write this anew; nothing else names the kinds.

-- Every kind.
CREATE OR REPLACE FUNCTION all_kinds() RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{entry,treatment,treatment_event,profile}'::text[]
$$;

-- The kinds that hold so: moment, interval, singleton.
CREATE OR REPLACE FUNCTION kinds_that_hold(holds text) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE holds
        WHEN 'moment' THEN '{entry,treatment_event}'::text[]
        WHEN 'interval' THEN '{treatment}'::text[]
        WHEN 'singleton' THEN '{profile}'::text[]
    END
$$;

-- The kinds that scopes open.
CREATE OR REPLACE FUNCTION open_kinds(scopes text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN 'entries:read' = ANY (scopes) THEN '{entry}'::text[] ELSE '{}' END
        || CASE WHEN 'treatments:read' = ANY (scopes) THEN '{treatment,treatment_event}'::text[] ELSE '{}' END
        || CASE WHEN 'profile:read' = ANY (scopes) THEN '{profile}'::text[] ELSE '{}' END
$$;

-- The scope to write records of a kind; NULL, which nobody holds, of one that is not known.
CREATE OR REPLACE FUNCTION write_scope(kind text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'entry' THEN 'entries:write'
        WHEN 'treatment' THEN 'treatments:write'
        WHEN 'treatment_event' THEN 'treatments:write'
        WHEN 'profile' THEN 'profile:write'
    END
$$;

-- Every scope to write something.
CREATE OR REPLACE FUNCTION write_scopes() RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{entries:write,treatments:write,profile:write}'::text[]
$$;

-- Every scope: whose diary it is has them all.
CREATE OR REPLACE FUNCTION all_scopes() RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{entries:read,entries:write,notes:read,treatments:read,treatments:write,profile:read,profile:write,adherence:read}'::text[]
$$;

-- What keeps an event out of figures, as JSON: domain/treatments.py says which status fits which category.
CREATE OR REPLACE FUNCTION event_flags(category text, status text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN category IS NULL THEN '["treatment_missing"]'
        WHEN status = ANY ('{attended,cancelled_by_patient,cancelled_by_provider,not_attended}'::text[]) AND category = ANY ('{physical_therapy,interventional_procedure,psychological_counselling,complementary_therapy,lifestyle,self_management,education}'::text[])
            OR status = ANY ('{held,skipped,taken}'::text[]) AND category = ANY ('{otc_medication,prescription_medication,opioid_medication}'::text[])
            OR status = ANY ('{partial}'::text[]) AND category = ANY ('{otc_medication,prescription_medication,opioid_medication,physical_therapy,interventional_procedure,psychological_counselling,complementary_therapy,lifestyle,self_management,education}'::text[]) THEN '[]'
        ELSE '["status_does_not_fit"]'
    END
$$;

-- What no row may hold.
ALTER TABLE records DROP CONSTRAINT IF EXISTS ck_records_kind;
ALTER TABLE records ADD CONSTRAINT ck_records_kind CHECK (kind = ANY ('{entry,treatment,treatment_event,profile}'::text[])) NOT VALID;

ALTER TABLE records DROP CONSTRAINT IF EXISTS ck_records_singleton;
ALTER TABLE records ADD CONSTRAINT ck_records_singleton CHECK ((kind = ANY ('{profile}'::text[])) = (id = patient_id)) NOT VALID;

ALTER TABLE records DROP CONSTRAINT IF EXISTS ck_records_valid_to;
ALTER TABLE records ADD CONSTRAINT ck_records_valid_to CHECK ((kind = ANY ('{treatment,profile}'::text[])) = (valid_to IS NOT NULL)) NOT VALID;

ALTER TABLE grants DROP CONSTRAINT IF EXISTS ck_grants_scopes;
ALTER TABLE grants ADD CONSTRAINT ck_grants_scopes CHECK (scopes <@ '{entries:read,entries:write,notes:read,treatments:read,treatments:write,profile:read,profile:write,adherence:read}'::text[]) NOT VALID;

ALTER TABLE grants DROP CONSTRAINT IF EXISTS ck_grants_readable;
ALTER TABLE grants ADD CONSTRAINT ck_grants_readable CHECK ((NOT 'entries:write' = ANY (scopes) OR scopes && '{entries:read}'::text[])
    AND (NOT 'treatments:write' = ANY (scopes) OR scopes && '{treatments:read}'::text[])
    AND (NOT 'profile:write' = ANY (scopes) OR scopes && '{profile:read}'::text[])
    AND (NOT 'notes:read' = ANY (scopes) OR scopes && '{entries:read,treatments:read}'::text[])) NOT VALID;

ALTER TABLE share_codes DROP CONSTRAINT IF EXISTS ck_share_codes_scopes;
ALTER TABLE share_codes ADD CONSTRAINT ck_share_codes_scopes CHECK (scopes <@ '{entries:read,entries:write,notes:read,treatments:read,treatments:write,profile:read,profile:write,adherence:read}'::text[]) NOT VALID;

ALTER TABLE share_codes DROP CONSTRAINT IF EXISTS ck_share_codes_readable;
ALTER TABLE share_codes ADD CONSTRAINT ck_share_codes_readable CHECK ((NOT 'entries:write' = ANY (scopes) OR scopes && '{entries:read}'::text[])
    AND (NOT 'treatments:write' = ANY (scopes) OR scopes && '{treatments:read}'::text[])
    AND (NOT 'profile:write' = ANY (scopes) OR scopes && '{profile:read}'::text[])
    AND (NOT 'notes:read' = ANY (scopes) OR scopes && '{entries:read,treatments:read}'::text[])) NOT VALID;
