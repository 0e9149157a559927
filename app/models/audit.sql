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

-- The digest of the events of transactions from_xid <= xid < to_xid, after the digest before them.
CREATE OR REPLACE FUNCTION audit_digest(previous bytea, from_xid xid8, to_xid xid8, OUT digest bytea, OUT events bigint)
LANGUAGE sql STABLE AS $$
    SELECT sha256(previous || coalesce(
               string_agg(sha256(convert_to(to_jsonb(e)::text, 'UTF8')), '' ORDER BY e.xid, e.id), '')), count(*)
    FROM audit_events e
    WHERE e.xid >= from_xid AND e.xid < to_xid
$$;

-- Seals what no running transaction can add to any more. Returns the new segment's number and digest, or no row
-- where nothing is new. The digest is worth keeping outside the database as well: it shows a cut-off end.
CREATE OR REPLACE FUNCTION seal_audit() RETURNS TABLE (segment bigint, segment_digest bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    last audit_segments;
    settled xid8;
    sealed record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('seal_audit'));
    settled := pg_snapshot_xmin(pg_current_snapshot());
    SELECT * INTO last FROM audit_segments ORDER BY number DESC LIMIT 1;
    sealed := audit_digest(coalesce(last.digest, ''), coalesce(last.to_xid, '0'::xid8), settled);
    IF sealed.events = 0 THEN
        RETURN;
    END IF;
    INSERT INTO audit_segments (number, from_xid, to_xid, events, digest)
    VALUES (coalesce(last.number, 0) + 1, coalesce(last.to_xid, '0'::xid8), settled, sealed.events, sealed.digest)
    RETURNING number, digest INTO segment, segment_digest;
    RETURN NEXT;
END $$;

-- The segments whose events are no longer what was sealed.
CREATE OR REPLACE FUNCTION broken_audit_segments() RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT number
    FROM (SELECT *, lag(s.digest, 1, '') OVER (ORDER BY number) AS previous,
                 lag(s.to_xid, 1, '0') OVER (ORDER BY number) AS previous_to,
                 row_number() OVER (ORDER BY number) AS place
          FROM audit_segments s) s
    CROSS JOIN LATERAL audit_digest(s.previous, s.from_xid, s.to_xid) d
    WHERE d.digest <> s.digest OR d.events <> s.events OR s.number <> s.place OR s.from_xid <> s.previous_to
    ORDER BY number
$$;
