-- Ends sessions of a user, for a reason that the person is told, or none. It locks the clocks of every diary the user may
-- write first, so that no write of an ended session commits after this has.
CREATE OR REPLACE FUNCTION revoke_sessions_v1(p_user uuid, p_sessions uuid[], p_reason text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    ended integer;
BEGIN
    PERFORM 1 FROM patient_clocks
    WHERE patient_id IN (SELECT id FROM patients WHERE user_id = p_user
                         UNION SELECT patient_id FROM grants WHERE grantee_id = p_user AND revoked_at IS NULL
                         UNION SELECT patient_id FROM grants JOIN clinicians USING (organisation_id)
                               WHERE user_id = p_user AND revoked_at IS NULL)
    ORDER BY patient_id FOR UPDATE;
    UPDATE sessions SET revoked_at = clock_timestamp(), ended_because = p_reason
    WHERE user_id = p_user AND id = ANY (p_sessions) AND revoked_at IS NULL;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END $$;
