-- How far each diary has come that whoever holds the session may see: which of them to pull.
CREATE OR REPLACE FUNCTION read_heads_v1(p_session uuid, p_user uuid)
RETURNS TABLE (patient_id uuid, epoch uuid, head bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p.id, c.epoch, c.head
    FROM session_account_v1(p_session, p_user) reader
    CROSS JOIN LATERAL (
        SELECT reader.patient_id AS id
        UNION SELECT patient_id FROM grants WHERE grantee_id = reader.user_id
        UNION SELECT patient_id FROM grants JOIN clinicians USING (organisation_id) WHERE user_id = reader.user_id
    ) known
    JOIN patients p ON p.id = known.id AND p.erased_at IS NULL
    JOIN patient_clocks c ON c.patient_id = p.id
    CROSS JOIN LATERAL access(reader.user_id, p.id) a
    WHERE open_kinds(a.scopes) <> '{}'
    ORDER BY p.id
$$;
