-- The audit table only grows, and its past is sealed: each segment's digest covers its events and the digest before.

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are never changed or removed';
END $$;

DROP TRIGGER IF EXISTS append_only ON audit_events;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS append_only ON audit_segments;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_segments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The newest event below which nothing can appear any more. It waits for the writers of this moment, who hold
-- the table only from their last statement to their commit, and holds up others just as long.
CREATE OR REPLACE FUNCTION settle_audit() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    LOCK TABLE audit_events IN SHARE MODE;
    RETURN (SELECT max(id) FROM audit_events);
END $$;

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

-- Seals the events up to one that settle_audit() named. Returns the new segment's number and digest, or no row
-- where nothing is new. The digest is worth keeping outside the database as well: it shows a cut-off end.
CREATE OR REPLACE FUNCTION seal_audit(p_settled bigint) RETURNS TABLE (segment bigint, segment_digest bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    last audit_segments;
    sealed record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('seal_audit'));
    SELECT * INTO last FROM audit_segments ORDER BY number DESC LIMIT 1;
    sealed := audit_digest(coalesce(last.digest, ''), coalesce(last.to_id, 0), p_settled);
    IF sealed.events = 0 THEN
        RETURN;
    END IF;
    INSERT INTO audit_segments (number, to_id, events, digest)
    VALUES (coalesce(last.number, 0) + 1, p_settled, sealed.events, sealed.digest)
    RETURNING number, digest INTO segment, segment_digest;
    RETURN NEXT;
END $$;

-- The segments whose events are no longer what was sealed.
CREATE OR REPLACE FUNCTION broken_audit_segments() RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT number
    FROM (SELECT *, lag(s.digest, 1, '') OVER (ORDER BY number) AS previous,
                 lag(s.to_id, 1, 0::bigint) OVER (ORDER BY number) AS previous_to,
                 row_number() OVER (ORDER BY number) AS place
          FROM audit_segments s) s
    CROSS JOIN LATERAL audit_digest(s.previous, s.previous_to, s.to_id) d
    WHERE d.digest <> s.digest OR d.events <> s.events OR s.number <> s.place
    ORDER BY number
$$;
