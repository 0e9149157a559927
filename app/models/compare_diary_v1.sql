-- What differs between the reader's copy (ids and versions, in the order of ids, of one stretch of ids) and the diary
-- as this reader may see it: records that one side has in another version, or not at all. Ids and versions only.
CREATE OR REPLACE FUNCTION compare_diary_v1(
    p_session uuid, p_patient uuid, p_action text, p_ids uuid[], p_versions integer[], p_after uuid, p_up_to uuid,
    p_limit integer, p_request uuid, p_address inet
) RETURNS TABLE (outcome text, id uuid, here integer, there integer, deleted boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    visit record;
BEGIN
    visit := authorize(p_session, p_patient, NULL, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome <> 'ok' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', outcome, p_request,
                  p_address);
    RETURN QUERY
    SELECT 'ok', coalesce(r.id, mine.id), r.version, mine.version, coalesce(r.deleted, false)
    FROM (SELECT records.id, records.version, records.deleted FROM records
          WHERE patient_id = p_patient AND (p_after IS NULL OR records.id > p_after)
            AND (p_up_to IS NULL OR records.id <= p_up_to)) r
    FULL JOIN unnest(p_ids, p_versions) AS mine (id, version) ON mine.id = r.id
    WHERE r.version IS DISTINCT FROM mine.version AND NOT (mine.id IS NULL AND r.deleted)
    ORDER BY 2
    LIMIT p_limit;
END $$;
