-- A grant in the words that both sides see: who may see what of whose diary, why, from when on, how long.
CREATE OR REPLACE FUNCTION grant_words(g grants) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', g.id,
        'patient', jsonb_build_object('id', p.id, 'display_name', p.display_name),
        'grantee', jsonb_build_object(
            'kind', CASE WHEN g.organisation_id IS NOT NULL THEN 'organisation'
                         WHEN u.role = 'clinician' THEN 'clinician' ELSE 'caregiver' END,
            'display_name', coalesce(CASE WHEN g.organisation_id IS NULL THEN u.display_name END, o.name),
            'profession', c.profession, 'organisation', o.name, 'redeemed_by', u.display_name),
        'scopes', g.scopes, 'data_from', g.data_from, 'purpose', g.purpose, 'version', g.version,
        'status', CASE WHEN g.revoked_at IS NOT NULL THEN 'revoked' WHEN g.expires_at <= clock_timestamp() THEN 'expired'
                       ELSE g.status END,
        'created_at', g.created_at, 'confirmed_at', g.confirmed_at, 'expires_at', g.expires_at,
        'revoked_at', g.revoked_at)
    FROM patients p
    LEFT JOIN users u ON u.id = coalesce(g.redeemed_by, g.grantee_id)
    LEFT JOIN clinicians c ON c.user_id = u.id AND u.role = 'clinician'
    LEFT JOIN organisations o ON o.id = coalesce(g.organisation_id, c.organisation_id)
    WHERE p.id = g.patient_id
$$;
