-- The audit table only grows, and its past is sealed: each segment's digest covers its events and the digest before.

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are never changed or removed';
END $$;

CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_segments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Adds one row to the audit table. `action` is "module.verb"; a value of a record never comes here.
CREATE OR REPLACE FUNCTION audit(
    actor uuid, role text, session uuid, grant_id uuid, patient uuid,
    action text, record_ids uuid[], outcome text, request uuid, address inet
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO audit_events (actor_id, role, session_id, grant_id, patient_id, action, record_ids, outcome,
                              request_id, address)
    VALUES (actor, role, session, grant_id, patient, action, record_ids, outcome, request, address);
END $$;

-- The other transactions that may be adding events.
CREATE OR REPLACE FUNCTION audit_writers() RETURNS text[]
LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(array_agg(virtualtransaction), '{}') FROM pg_locks
    WHERE relation = 'public.audit_events'::regclass AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()
$$;

-- The digest of the events after_id < id <= to_id, after the digest before them. It names its columns, and
-- depends on no setting of whoever asks.
CREATE OR REPLACE FUNCTION audit_digest(previous bytea, after_id bigint, to_id bigint, OUT digest bytea, OUT events bigint)
LANGUAGE sql STABLE AS $$
    SELECT sha256(previous || coalesce(string_agg(sha256(convert_to(jsonb_build_array(
               id, extract(epoch FROM at), actor_id, role, session_id, grant_id, patient_id, action, record_ids, outcome,
               host(address), request_id)::text, 'UTF8')), '' ORDER BY id), '')), count(*)
    FROM audit_events
    WHERE id > after_id AND id <= to_id
$$;
