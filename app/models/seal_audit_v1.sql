-- Seals the events up to one that settle_audit_v1() named. Returns the new segment's number and digest, or no row
-- where nothing is new. The digest is worth keeping outside the database as well: it shows a cut-off end.
CREATE OR REPLACE FUNCTION seal_audit_v1(p_settled bigint) RETURNS TABLE (segment bigint, segment_digest bytea)
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
