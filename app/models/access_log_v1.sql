-- Who did what to the diary that this transaction was let in to, newest first, before p_before: others, by grants or
-- refused, or with p_own everybody.
CREATE OR REPLACE FUNCTION access_log_v1(p_own boolean, p_before bigint, p_limit integer)
RETURNS TABLE (id bigint, item jsonb)
LANGUAGE sql STABLE AS $$
    SELECT e.id, jsonb_build_object(
        'at', e.at, 'action', e.action, 'outcome', e.outcome, 'records', cardinality(e.record_ids),
        'grant_id', e.grant_id, 'role', e.role,
        'actor', CASE WHEN u.id IS NOT NULL THEN jsonb_build_object(
            'id', u.id, 'display_name', u.display_name, 'profession', c.profession, 'organisation', o.name) END)
    FROM (
        -- Two ways, each along an index of its own: what others did is little among what the patient did.
        (SELECT * FROM audit_events
         WHERE p_own AND patient_id = nullif(current_setting('diary.patient', true), '')::uuid
           AND (p_before IS NULL OR id < p_before)
         ORDER BY id DESC
         LIMIT p_limit + 1)
        UNION ALL
        (SELECT * FROM audit_events
         WHERE NOT p_own AND patient_id = nullif(current_setting('diary.patient', true), '')::uuid
           AND (p_before IS NULL OR id < p_before)
           AND (grant_id IS NOT NULL OR outcome IN ('not_found', 'insufficient_scope'))
         ORDER BY id DESC
         LIMIT p_limit + 1)
    ) e
    LEFT JOIN users u ON u.id = e.actor_id
    LEFT JOIN clinicians c ON c.user_id = u.id
    LEFT JOIN organisations o ON o.id = c.organisation_id
    ORDER BY e.id DESC
    LIMIT p_limit + 1
$$;
