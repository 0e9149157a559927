-- Turns a share code into a pending grant to whoever holds the session, or to the organisation of a clinician.
-- Whoever redeemed it before gets the same grant again. outcome: ok, unauthenticated, not_found, unverified.
CREATE OR REPLACE FUNCTION redeem_share_code_v1(
    p_session uuid, p_user uuid, p_digest bytea, p_as_organisation boolean, p_request uuid, p_address inet
) RETURNS TABLE (outcome text, grant_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    redeemer record;
    code share_codes;
    organisation uuid;
BEGIN
    SELECT u.id, u.role, c.verified_at, c.organisation_id INTO redeemer
    FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN clinicians c ON c.user_id = u.id
    WHERE s.id = p_session AND s.user_id = p_user
      AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp() AND u.disabled_at IS NULL;
    SELECT * INTO code FROM share_codes WHERE code_digest = p_digest FOR UPDATE;
    outcome := CASE
        WHEN redeemer.id IS NULL THEN 'unauthenticated'
        WHEN redeemer.role = 'admin' OR redeemer.role = 'clinician' AND redeemer.verified_at IS NULL THEN 'unverified'
        WHEN p_as_organisation AND redeemer.organisation_id IS NULL THEN 'unverified'
        WHEN code.id IS NULL OR code.expires_at <= clock_timestamp()
             OR coalesce(code.redeemed_by, redeemer.id) <> redeemer.id
             OR EXISTS (SELECT FROM patients WHERE id = code.patient_id
                        AND (user_id = redeemer.id OR erased_at IS NOT NULL)) THEN 'not_found'
        ELSE 'ok'
    END;
    IF outcome = 'ok' THEN
        grant_id := code.grant_id;
        IF grant_id IS NULL THEN
            organisation := CASE WHEN p_as_organisation THEN redeemer.organisation_id END;
            INSERT INTO grants (patient_id, grantee_id, organisation_id, redeemed_by, status, scopes, data_from, purpose,
                                expires_at)
            VALUES (code.patient_id, CASE WHEN organisation IS NULL THEN redeemer.id END, organisation, redeemer.id,
                    'pending', code.scopes, code.data_from, code.purpose, code.grant_expires_at)
            RETURNING id INTO grant_id;
            UPDATE share_codes SET redeemed_by = redeemer.id, grant_id = redeem_share_code_v1.grant_id
            WHERE patient_id = code.patient_id AND id = code.id;
        END IF;
    END IF;
    PERFORM audit(redeemer.id, redeemer.role, p_session, grant_id,
                  CASE WHEN outcome = 'ok' THEN code.patient_id END, 'grants.redeem', '{}', outcome, p_request, p_address);
    RETURN NEXT;
END $$;
