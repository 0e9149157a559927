-- The account behind a live session of that user (no row otherwise), for calls that are about the account itself. Its
-- locale is that of the profile, where there is one.
CREATE OR REPLACE FUNCTION session_account_v1(p_session uuid, p_user uuid)
RETURNS TABLE (user_id uuid, role text, display_name text, locale text, email text, patient_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT u.id, u.role, u.display_name, coalesce(p.locale, u.locale), u.email, p.id
    FROM sessions s
    JOIN users u ON u.id = s.user_id
    LEFT JOIN patients p ON p.user_id = u.id
    WHERE s.id = p_session AND s.user_id = p_user
      AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp() AND u.disabled_at IS NULL
$$;
