-- Removes what is over, a thousand of each at a time: the chain of a session that has ended, and failed attempts
-- after a day, when they delay nobody; the session itself, share codes and one-time links after the days for which
-- somebody may be told of them. A device that wrote to a diary stays in its history, by name. True where a thousand of
-- something were removed, so that there may be more.
CREATE OR REPLACE FUNCTION purge_v1() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    over timestamptz := clock_timestamp() - interval '30 days';
    tokens integer;
    ended integer;
    codes integer;
    links integer;
    delays integer;
BEGIN
    DELETE FROM refresh_tokens WHERE digest IN (
        SELECT digest FROM refresh_tokens r JOIN sessions s ON s.id = r.session_id
        WHERE s.revoked_at IS NOT NULL OR s.expires_at < clock_timestamp()
        LIMIT 1000);
    GET DIAGNOSTICS tokens = ROW_COUNT;
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions
        WHERE NOT has_sent AND least(revoked_at, expires_at) < over
        LIMIT 1000 FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS ended = ROW_COUNT;
    DELETE FROM share_codes WHERE id IN (
        SELECT id FROM share_codes WHERE expires_at < over LIMIT 1000 FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS codes = ROW_COUNT;
    DELETE FROM invitations WHERE digest IN (
        SELECT digest FROM invitations WHERE least(used_at, expires_at) < over LIMIT 1000 FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS links = ROW_COUNT;
    DELETE FROM sign_in_delays WHERE key IN (
        SELECT key FROM sign_in_delays WHERE failed_at < clock_timestamp() - interval '1 day'
        LIMIT 1000 FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS delays = ROW_COUNT;
    RETURN 1000 IN (tokens, ended, codes, links, delays);
END $$;
