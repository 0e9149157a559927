-- Removes what is over, a thousand of each at a time: the chain of a session that has ended, at once; the session itself
-- and share codes after the days for which somebody may be told of them. A device that wrote to a diary stays in its
-- history, by name. True where a thousand of something were removed, so that there may be more.
CREATE OR REPLACE FUNCTION purge_sessions_v1() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tokens integer;
    ended integer;
    codes integer;
BEGIN
    DELETE FROM refresh_tokens WHERE digest IN (
        SELECT digest FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id
        WHERE s.revoked_at IS NOT NULL OR s.expires_at < clock_timestamp()
        LIMIT 1000);
    GET DIAGNOSTICS tokens = ROW_COUNT;
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions
        WHERE NOT has_sent AND least(revoked_at, expires_at) < clock_timestamp() - interval '30 days'
        LIMIT 1000 FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS ended = ROW_COUNT;
    DELETE FROM share_codes WHERE id IN (
        SELECT id FROM share_codes WHERE expires_at < clock_timestamp() - interval '30 days'
        LIMIT 1000 FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS codes = ROW_COUNT;
    RETURN 1000 IN (tokens, ended, codes);
END $$;
