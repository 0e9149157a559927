-- What differs between the reader's copy and the diary as this reader may see it, in one stretch of its changes:
-- p_limit of them after p_after. Each record that was sent (p_ids, p_versions) is looked up, wherever its last change
-- is; each record that last changed in the stretch and was not sent is named as one that the reader lacks, unless it is
-- deleted. Ids and versions only, as JSON text. compared_to is where the stretch ends, head where the diary does.
-- The work is that of what was sent and of the stretch, however long the diary is and however little of it may be seen:
-- the stretch is one of numbers, of which none is left out, so where it ends tells nothing of what is hidden.
CREATE OR REPLACE FUNCTION compare_diary_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_action text, p_ids uuid[], p_versions integer[], p_after bigint,
    p_limit integer, p_request uuid, p_address inet
) RETURNS TABLE (outcome text, differences bytea, compared_to bigint, epoch uuid, head bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
-- One plan, whatever the statistics say: along the order of changes, and by the key for what was sent.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    visit record;
    up_to bigint := p_after + p_limit;  -- a plain value: see read_page_v1()
BEGIN
    visit := authorize(p_session, p_user, p_patient, NULL, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome <> 'ok' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', outcome, p_request,
                  p_address);
    WITH mine AS MATERIALIZED (
        SELECT * FROM unnest(p_ids, p_versions) AS sent (id, version)
    ), held AS (
        SELECT id, version, deleted FROM records
        WHERE patient_id = p_patient AND change_seq > p_after AND change_seq <= up_to
        UNION
        SELECT r.id, r.version, r.deleted
        FROM mine CROSS JOIN LATERAL (SELECT id, version, deleted FROM records
                                      WHERE patient_id = p_patient AND id = mine.id OFFSET 0) r
    )
    SELECT coalesce(string_agg(
               convert_to(json_build_object('id', coalesce(held.id, mine.id), 'here', held.version, 'there', mine.version,
                                            'deleted', coalesce(held.deleted, false))::text, 'UTF8'),
               ',' ORDER BY coalesce(held.id, mine.id)), ''),
           -- In the same statement, so of the same moment.
           (SELECT clock.epoch FROM patient_clocks clock WHERE clock.patient_id = p_patient),
           (SELECT clock.head FROM patient_clocks clock WHERE clock.patient_id = p_patient)
    INTO differences, epoch, head
    FROM held FULL JOIN mine ON mine.id = held.id
    WHERE held.version IS DISTINCT FROM mine.version AND NOT (mine.id IS NULL AND held.deleted);
    compared_to := least(up_to, head);
    RETURN NEXT;
END $$;
