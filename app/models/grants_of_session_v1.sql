-- The grants to whoever holds the session, or to their organisation, newest first; none while a clinician is not
-- verified, for whose diary it is tells something already.
CREATE OR REPLACE FUNCTION grants_of_session_v1(p_session uuid, p_user uuid, p_grant uuid) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT grant_words(g)
    FROM session_account_v1(p_session, p_user) a
    LEFT JOIN clinicians c ON c.user_id = a.user_id AND c.verified_at IS NOT NULL
    JOIN grants g ON g.grantee_id = a.user_id OR g.organisation_id = c.organisation_id
    WHERE (p_grant IS NULL OR g.id = p_grant)
      AND CASE a.role WHEN 'clinician' THEN c.user_id IS NOT NULL WHEN 'admin' THEN false ELSE true END
    ORDER BY g.created_at DESC, g.id DESC
    LIMIT 1000
$$;
