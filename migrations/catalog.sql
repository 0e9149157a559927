-- What the schema holds, one row for each object: its name and its definition. Column order is left out, and
-- whether a CHECK was asked of older rows too: on the way down it is (migrations/__init__.py), on the way up it is not.
WITH relations AS (
    SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'c', 'S')
), columns AS (
    SELECT a.*, relkind FROM pg_attribute a JOIN relations ON relations.oid = attrelid
    WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'S'
), functions AS (
    SELECT * FROM pg_proc WHERE pronamespace = 'public'::regnamespace
), privileges (object, acl) AS (
    SELECT oid::regclass::text, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
    FROM relations
    UNION ALL
    SELECT format('%s.%s', attrelid::regclass, attname), attacl FROM columns
    UNION ALL
    SELECT oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) FROM functions
)
SELECT 'function ' || oid::regprocedure AS name,
       format(E'owner %s\n%s', proowner::regrole, pg_get_functiondef(oid)) AS definition
FROM functions
UNION ALL
SELECT CASE relkind WHEN 'v' THEN 'view ' WHEN 'c' THEN 'type ' ELSE 'table ' END || oid::regclass,
       format(E'owner %s\noptions %s\nrow security %s\nrow security forced %s\n%s',
              relowner::regrole, reloptions, relrowsecurity, relforcerowsecurity, pg_get_viewdef(oid))
FROM relations WHERE relkind <> 'S'
UNION ALL
SELECT format('column %s.%s', attrelid::regclass, attname),
       format('%s, not null %s, identity %s, default %s', format_type(atttypid, atttypmod), attnotnull, attidentity,
              pg_get_expr(adbin, adrelid))
FROM columns LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
UNION ALL
SELECT format('constraint %s on %s', conname, conrelid::regclass), replace(pg_get_constraintdef(oid), ' NOT VALID', '')
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'  -- NOT NULL is the column's
UNION ALL
SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT format('policy %s on %s', policyname, tablename),
       format(E'%s for %s to %s\nusing %s\nwith check %s', permissive, cmd, roles, qual, with_check)
FROM pg_policies WHERE schemaname = 'public'
UNION ALL
SELECT format('trigger %s on %s', tgname, tgrelid::regclass), format(E'enabled %s\n%s', tgenabled, pg_get_triggerdef(oid))
FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM relations) AND NOT tgisinternal
UNION ALL
SELECT 'privileges on ' || object,
       string_agg(format('%s: %s', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type),
                  E'\n' ORDER BY grantee::regrole::text, privilege_type)
FROM privileges, aclexplode(acl)
GROUP BY object
