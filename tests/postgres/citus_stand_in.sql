-- Functions of Citus' names that move nothing, and refuse what Citus refuses (after its documentation and its source).
CREATE SCHEMA citus;

-- kind: distributed, by this column and beside these others; or reference, whole on each node.
CREATE TABLE citus.tables (name regclass PRIMARY KEY, kind text NOT NULL, by name, beside regclass);
CREATE TABLE citus.functions (name regprocedure PRIMARY KEY, by text, beside regclass);

CREATE FUNCTION citus.check_table(what regclass, column_name name) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    number smallint := (SELECT attnum FROM pg_attribute WHERE attrelid = what AND attname = column_name);
    broken text;
    nulls bigint;
BEGIN
    IF EXISTS (SELECT FROM citus.tables WHERE name = what) THEN
        RAISE EXCEPTION '% is distributed already', what;
    END IF;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = what AND NOT tgisinternal) THEN
        RAISE EXCEPTION 'cannot distribute % because it has triggers', what;
    END IF;
    IF EXISTS (SELECT FROM pg_policy WHERE polrelid = what AND concat(polqual, polwithcheck) ~ 'SUBLINK') THEN
        RAISE EXCEPTION 'cannot distribute %: no subqueries in policies', what;
    END IF;
    -- To a table on each node from anywhere; to one by patient only along the patient, beside it.
    SELECT string_agg(conname, ', ') INTO broken
    FROM pg_constraint f LEFT JOIN citus.tables target ON target.name = f.confrelid
    WHERE f.conrelid = what AND f.contype = 'f' AND target.kind IS DISTINCT FROM 'reference'
      AND NOT (coalesce(target.kind, '') = 'distributed' AND EXISTS (
          SELECT FROM unnest(conkey, confkey) AS pair (own, other)
          JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = pair.other
          WHERE pair.own = number AND a.attname = target.by));
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'cannot distribute %: foreign key %', what, broken;
    END IF;
    IF column_name IS NULL THEN
        RETURN;
    END IF;
    IF number IS NULL OR NOT (SELECT attnotnull FROM pg_attribute WHERE attrelid = what AND attnum = number) THEN
        RAISE EXCEPTION 'cannot distribute %: % may be null, or is no column', what, column_name;
    END IF;
    SELECT string_agg(indexrelid::regclass::text, ', ') INTO broken
    FROM pg_index WHERE indrelid = what AND indisunique AND NOT number = ANY (indkey);
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'cannot distribute %: unique index % without %', what, broken, column_name;
    END IF;
    SELECT string_agg(conname, ', ') INTO broken FROM pg_constraint WHERE confrelid = what AND contype = 'f';
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'cannot distribute %: % refers to it from a table that is not', what, broken;
    END IF;
END $$;

CREATE FUNCTION citus.create_reference_table(what regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus.check_table(what, NULL);
    INSERT INTO citus.tables VALUES (what, 'reference');
END $$;

CREATE FUNCTION citus.create_distributed_table(what regclass, column_name text, colocate_with text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus.check_table(what, column_name);
    IF colocate_with <> 'none' AND NOT EXISTS (SELECT FROM citus.tables WHERE name = colocate_with::regclass
                                               AND kind = 'distributed') THEN
        RAISE EXCEPTION '% is not distributed', colocate_with;
    END IF;
    INSERT INTO citus.tables
    VALUES (what, 'distributed', column_name, CASE colocate_with WHEN 'none' THEN what ELSE colocate_with::regclass END);
END $$;

CREATE FUNCTION citus.truncate_local_data_after_distributing_table(what regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM citus.tables WHERE name = what) THEN
        RAISE EXCEPTION '% is not distributed', what;
    END IF;
END $$;

CREATE FUNCTION citus.create_distributed_function(
    what regprocedure, argument text DEFAULT NULL, colocate_with text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    routine pg_proc := (SELECT p FROM pg_proc p WHERE oid = what);
    place integer := array_position(routine.proargnames, argument);
BEGIN
    IF argument IS NOT NULL AND (place IS NULL OR place > routine.pronargs) THEN
        RAISE EXCEPTION '% has no argument %', what, argument;
    END IF;
    IF argument IS NOT NULL AND NOT EXISTS (
        SELECT FROM citus.tables t JOIN pg_attribute a ON a.attrelid = t.name AND a.attname = t.by
        WHERE t.name = colocate_with::regclass AND a.atttypid = routine.proargtypes[place - 1]
    ) THEN
        RAISE EXCEPTION '% is of another type than the column that % is distributed by', argument, colocate_with;
    END IF;
    INSERT INTO citus.functions VALUES (what, argument, colocate_with::regclass)
    ON CONFLICT (name) DO UPDATE SET by = excluded.by, beside = excluded.beside;
END $$;

CREATE FUNCTION citus.run_command_on_all_nodes(command text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
END $$;
