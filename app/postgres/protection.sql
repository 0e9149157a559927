-- What protects the data, one row for each fact: what kind it is of, of which object, and what it says. Objects of
-- extensions are left out, and what owners may do, which differs from one version of PostgreSQL to the next.
WITH of_extensions AS (
    SELECT objid FROM pg_depend WHERE deptype = 'e'
), relations AS (
    SELECT *, CASE relkind WHEN 'v' THEN 'view ' WHEN 'c' THEN 'type ' WHEN 'S' THEN 'sequence ' ELSE 'table ' END
              || oid::regclass AS name
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'c', 'S')
      AND oid NOT IN (SELECT objid FROM of_extensions)
), functions AS (
    SELECT *, 'function ' || oid::regprocedure AS name
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND oid NOT IN (SELECT objid FROM of_extensions)
), privileges (name, owner, acl) AS (
    SELECT name, relowner, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
    FROM relations
    UNION ALL
    SELECT format('%s, column %s', name, attname), relowner, attacl
    FROM relations JOIN pg_attribute ON attrelid = relations.oid WHERE attacl IS NOT NULL AND NOT attisdropped
    UNION ALL
    SELECT name, proowner, coalesce(proacl, acldefault('f', proowner)) FROM functions
)
SELECT 'role' AS kind, 'role ' || rolname AS object,
       concat_ws(', ', CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolbypassrls THEN 'bypasses row security' END,
                 'plain') AS value
FROM pg_roles WHERE rolname IN ('diary_owner', 'diary_app', 'diary_eraser')
UNION ALL
SELECT 'owner', name, relowner::regrole::text FROM relations WHERE relkind <> 'S'  -- a sequence is its table's
UNION ALL
SELECT 'owner', name, proowner::regrole::text FROM functions
UNION ALL
SELECT 'privilege', name,
       string_agg(format('%s %s', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type),
                  ', ' ORDER BY grantee::regrole::text, privilege_type)
FROM privileges, aclexplode(acl) WHERE grantee <> owner GROUP BY name
UNION ALL
SELECT 'row security', name, CASE WHEN relforcerowsecurity AND relrowsecurity THEN 'forced'
                                  WHEN relrowsecurity THEN 'on' ELSE 'off' END
FROM relations WHERE relkind IN ('r', 'p')
UNION ALL
SELECT 'policy', format('%s, policy %s', name, polname),
       format('%s for %s to %s, using %s, with check %s', CASE WHEN polpermissive THEN 'permissive' ELSE 'restrictive' END,
              polcmd, ARRAY(SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END FROM unnest(polroles) role),
              translate(pg_get_expr(polqual, polrelid), E'\n\t', '  '),
              translate(pg_get_expr(polwithcheck, polrelid), E'\n\t', '  '))
FROM pg_policy JOIN relations ON relations.oid = polrelid
UNION ALL
SELECT 'function', name, encode(sha256(convert_to(concat_ws('|', prosrc, prosecdef, provolatile, proconfig), 'UTF8')), 'hex')
FROM functions
UNION ALL
SELECT 'trigger', format('%s, trigger %s', name, tgname), format('%s %s', tgenabled, pg_get_triggerdef(pg_trigger.oid))
FROM pg_trigger JOIN relations ON relations.oid = tgrelid WHERE NOT tgisinternal
