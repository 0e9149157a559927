-- Seals the next events up to one that settle_audit_v1() named, with the changes of diaries that they tell of: twenty
-- thousand of both or one event more, so that a call takes a second, whatever waits. Returns the new segment's number and
-- digest, or no row where nothing is left. Together they are an anchor: kept outside, it shows a cut-off or rewritten end.
CREATE OR REPLACE FUNCTION seal_audit_v1(p_settled bigint) RETURNS TABLE (segment bigint, segment_digest bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    last audit_segments;
    up_to bigint;
    diary record;
    sealed record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('seal_audit'));
    SELECT * INTO last FROM audit_segments ORDER BY number DESC LIMIT 1;
    SELECT max(id) INTO up_to
    FROM (SELECT id, sum(1 + cardinality(record_ids)) OVER (ORDER BY id) - cardinality(record_ids) AS place
          FROM (SELECT id, record_ids FROM audit_events
                WHERE id > coalesce(last.to_id, 0) AND id <= p_settled ORDER BY id LIMIT 20000) next) numbered
    WHERE place <= 20000;
    IF up_to IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('diary.data_from', '-infinity', true), set_config('diary.kinds', all_kinds()::text, true);
    segment := coalesce(last.number, 0) + 1;
    -- An event that tells of n records made n changes at most: so whatever these made is sealed with them.
    FOR diary IN
        SELECT patient_id, sum(cardinality(record_ids)) AS changes FROM audit_events
        WHERE id > coalesce(last.to_id, 0) AND id <= up_to AND patient_id IS NOT NULL AND record_ids <> '{}'
        GROUP BY patient_id
    LOOP
        PERFORM set_config('diary.patient', diary.patient_id::text, true);
        PERFORM seal_diary(diary.patient_id, diary.changes::bigint, segment);
    END LOOP;
    sealed := audit_digest(coalesce(last.digest, ''), coalesce(last.to_id, 0), up_to, segment);
    INSERT INTO audit_segments (number, to_id, events, digest) VALUES (segment, up_to, sealed.events, sealed.digest);
    segment_digest := sealed.digest;
    RETURN NEXT;
END $$;
