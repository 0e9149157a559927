-- The newest event below which nothing can appear any more. It waits for the writers of this moment, who hold
-- the table only from their last statement to their commit, and holds up others just as long.
CREATE OR REPLACE FUNCTION settle_audit_v1() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    LOCK TABLE audit_events IN SHARE MODE;
    RETURN (SELECT max(id) FROM audit_events);
END $$;
