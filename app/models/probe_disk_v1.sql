-- Raises 53100 where the disk of the database has no megabyte left: it keeps so much outside its memory, for a moment.
-- Nothing is stored, so it may be asked as often as one likes, also where nothing can be written any more.
CREATE OR REPLACE FUNCTION probe_disk_v1() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET work_mem = '64kB' SET temp_tablespaces = '' AS $$
    SELECT count(*) FROM unnest(array_fill(repeat('x', 4000), ARRAY[250]))
$$;
