-- The audit table only grows, and its past is sealed: each segment's digest covers its events, the seals of the diaries
-- that changed meanwhile, and the digest before. Each seal of a diary covers its changes, and the seal before.

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are never changed or removed';
END $$;

CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_segments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON diary_seals
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

-- The other transactions that may be adding events. What is prepared has another name than before, so it has one with all
-- that are.
CREATE OR REPLACE FUNCTION audit_writers() RETURNS text[]
LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(array_agg(CASE WHEN pid IS NULL THEN 'prepared' ELSE virtualtransaction END), '{}') FROM pg_locks
    WHERE relation = 'public.audit_events'::regclass AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND pid IS DISTINCT FROM pg_backend_pid()
$$;

-- The digest of a segment: of the events after_id < id <= to_id and the seals of diaries with this number, after the
-- digest before them. It names its columns, and depends on no setting of whoever asks.
CREATE OR REPLACE FUNCTION audit_digest(
    previous bytea, after_id bigint, to_id bigint, number bigint, OUT digest bytea, OUT events bigint
)
LANGUAGE sql STABLE AS $$
    SELECT sha256(previous
        || coalesce(string_agg(sha256(convert_to(jsonb_build_array(
               id, extract(epoch FROM at), actor_id, role, session_id, grant_id, patient_id, action, record_ids, outcome,
               host(address), request_id)::text, 'UTF8')), '' ORDER BY id), '')
        || coalesce((SELECT string_agg(sha256(uuid_send(s.patient_id) || int8send(s.change_seq) || s.digest), ''
                                       ORDER BY s.patient_id)
                     FROM diary_seals s WHERE s.segment = number), '')), count(*)
    FROM audit_events
    WHERE id > after_id AND id <= to_id
$$;

-- The digest of a diary's changes after_seq < change_seq <= to_seq, whole: who, when, content and note; after the digest
-- before them. `last_seq` is the last that is there. It stays the same when a version is superseded, and tells nothing
-- of what it covers: each change has a nonce.
CREATE OR REPLACE FUNCTION changes_digest(
    previous bytea, patient uuid, after_seq bigint, to_seq bigint, OUT digest bytea, OUT last_seq bigint
)
LANGUAGE sql STABLE AS $$
    SELECT sha256(previous || string_agg(sha256(
               convert_to(jsonb_build_array(
                   v.change_seq, v.nonce, v.record_id, v.version, v.mutation_id, v.author_id, v.session_id,
                   extract(epoch FROM v.received_at), v.deleted, encode(v.content_hash, 'hex'), v.reoffered_version,
                   CASE WHEN r.id IS NULL THEN v.note ELSE r.note END)::text
               || CASE WHEN r.id IS NULL THEN v.document ELSE r.document END::text, 'UTF8')),
               '' ORDER BY v.change_seq)), max(v.change_seq)
    FROM record_versions v
    LEFT JOIN records r ON r.patient_id = v.patient_id AND r.change_seq = v.change_seq
    WHERE v.patient_id = patient AND v.change_seq > after_seq AND v.change_seq <= to_seq
$$;

-- Seals as many of the changes that follow the last seal of a diary, within its context.
CREATE OR REPLACE FUNCTION seal_diary(patient uuid, changes bigint, segment bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    last diary_seals;
    sealed record;
BEGIN
    SELECT * INTO last FROM diary_seals s WHERE s.patient_id = patient ORDER BY s.change_seq DESC LIMIT 1;
    last.change_seq := coalesce(last.change_seq, 0);
    sealed := changes_digest(coalesce(last.digest, ''), patient, last.change_seq, last.change_seq + changes);
    IF sealed.last_seq IS NOT NULL THEN
        INSERT INTO diary_seals (patient_id, change_seq, segment, digest)
        VALUES (patient, sealed.last_seq, segment, sealed.digest);
    END IF;
END $$;
