-- The newest event below which nothing can appear any more; NULL where somebody who may still add one takes longer than a
-- second. Whoever has been given a number holds the table from before that until it commits, so those who hold it after
-- the newest was read are waited for, and nobody else. It takes no lock that a writer or a reader would wait for.
CREATE OR REPLACE FUNCTION settle_audit_v1() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    newest bigint := (SELECT coalesce(max(id), 0) FROM audit_events);
    writers text[] := audit_writers() || 'prepared'::text;  -- whoever is now may have been a writer before
BEGIN
    FOR attempt IN 1..100 LOOP
        IF NOT writers && audit_writers() THEN
            RETURN newest;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN NULL;
END $$;
