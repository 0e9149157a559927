-- Turns a migrated database into one that Citus spreads over machines by patient: `pain-diary distribute --citus`.
-- Nothing here ran on a real cluster: docs/scale.md, step 4.
--
-- Before: the service is stopped and a backup is made. CREATE EXTENSION citus stands in this database on each node,
-- citus_set_coordinator_host() and citus_add_node() were called. diary_owner, diary_app and diary_eraser exist on each
-- node, and each node may sign in to each other one as them (pg_hba.conf, ~/.pgpass). Run it as a superuser:
--     pain-diary distribute --citus | psql --set ON_ERROR_STOP=1 diary

BEGIN;

-- 1. Keys. The patient is part of each of them, and never empty.

-- An event about nobody, which is a share code that fits no diary, lies with the nil UUID: one table, one trail.
-- It is no patient, so nobody's access log shows it. A number of one sequence would need a single node; the
-- microsecond with ten random bits keeps the order of time, for one patient and between nodes.
DROP TRIGGER append_only ON diary_seals;
DROP TRIGGER append_only ON audit_events;  -- Citus allows none; what is left are privileges and the seals
UPDATE audit_events SET patient_id = '00000000-0000-0000-0000-000000000000' WHERE patient_id IS NULL;
ALTER TABLE audit_events
    ALTER COLUMN patient_id SET NOT NULL,
    ALTER COLUMN id DROP IDENTITY,
    ALTER COLUMN id SET DEFAULT ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint << 10)
                                + floor(random() * 1024)::bigint,
    DROP CONSTRAINT pk_audit_events,
    ADD CONSTRAINT pk_audit_events PRIMARY KEY (patient_id, id);
DROP INDEX ix_audit_events_patient_id_id;  -- which the key is now

ALTER TABLE grants DROP CONSTRAINT pk_grants, ADD CONSTRAINT pk_grants PRIMARY KEY (patient_id, id);

-- What a device says with a write lies with the diary: in `sessions`, which each node has, every push would go to every
-- node, one after another. A device that writes several diaries says it for each of them apart.
CREATE TABLE sync_confirmations (
    patient_id uuid NOT NULL CONSTRAINT fk_sync_confirmations_patient_id REFERENCES patients,
    session_id uuid NOT NULL CONSTRAINT fk_sync_confirmations_session_id REFERENCES sessions ON DELETE CASCADE,
    outbox_empty_at timestamptz,  -- NULL while the device has never pushed
    CONSTRAINT pk_sync_confirmations PRIMARY KEY (patient_id, session_id)
);
ALTER TABLE sync_confirmations OWNER TO diary_owner;
GRANT SELECT, DELETE ON sync_confirmations TO diary_eraser;
INSERT INTO sync_confirmations
SELECT diary.id, s.id, s.outbox_empty_at
FROM sessions s
CROSS JOIN LATERAL (SELECT id FROM patients WHERE user_id = s.user_id
                    UNION SELECT patient_id FROM grants WHERE grantee_id = s.user_id) diary
WHERE s.has_sent;

-- 2. Policies may hold no sub-select. A visit is proved by the transaction that wrote its audit row, and each node has
-- transactions of its own: here the context alone is asked. Around current_setting() the brackets go.
DO $$
DECLARE
    found record;
    plain text := '\( SELECT (.*?) AS "?\w+"?\)';  -- as pg_policies shows them
    visited text := '\( SELECT visit\.%s\s+FROM visit\(\) visit\([^)]*\)\)';
    setting text := '(nullif(current_setting(''diary.%s'', true), '''')::%s)';
BEGIN
    FOR found IN
        SELECT *, regexp_replace(regexp_replace(regexp_replace(qual,
                    format(visited, 'patient'), format(setting, 'patient', 'uuid'), 'g'),
                    format(visited, 'data_from'), format(setting, 'data_from', 'timestamptz'), 'g'),
                    format(visited, 'kinds'), format(setting, 'kinds', 'text[]'), 'g') AS asked
        FROM pg_policies WHERE schemaname = 'public' AND (qual ~ 'SELECT' OR with_check ~ 'SELECT')
    LOOP
        EXECUTE format('ALTER POLICY %I ON %I', found.policyname, found.tablename)
            || coalesce(' USING (' || regexp_replace(found.asked, plain, '(\1)', 'g') || ')', '')
            || coalesce(' WITH CHECK (' || regexp_replace(found.with_check, plain, '(\1)', 'g') || ')', '');
    END LOOP;
END $$;

-- 3. Functions. Each change names what it replaces, and fails where that is not there any more.
CREATE FUNCTION pg_temp.amend(routine regproc, old text, new text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF position(old IN pg_get_functiondef(routine)) = 0 THEN
        RAISE EXCEPTION '%() does not hold: %', routine, old;
    END IF;
    EXECUTE replace(pg_get_functiondef(routine), old, new);
END $$;

SELECT pg_temp.amend('audit', 'grant_id, patient, action',
                     'grant_id, coalesce(patient, ''00000000-0000-0000-0000-000000000000''), action');
SELECT pg_temp.amend('begin_visit', $old$
    PERFORM set_config('diary.visit', lastval()::text, true);$old$, '');
-- What was sealed before keeps its digest.
SELECT pg_temp.amend('audit_digest', 'grant_id, patient_id, action',
                     'grant_id, nullif(patient_id, ''00000000-0000-0000-0000-000000000000''), action');
-- The nodes' clocks differ: what is younger than this may still get a predecessor.
SELECT pg_temp.amend('settle_audit_v1', 'FROM audit_events)', 'FROM audit_events'
    ' WHERE id < ((extract(epoch FROM clock_timestamp()) - 10) * 1000000)::bigint << 10)');

SELECT pg_temp.amend('seal_audit_v1',
    'PERFORM set_config(''diary.data_from'', ''-infinity'', true), set_config(''diary.kinds'', all_kinds()::text, true);',
    'SET LOCAL diary.data_from = ''-infinity''; EXECUTE format(''SET LOCAL diary.kinds = %L'', all_kinds());');
SELECT pg_temp.amend('seal_audit_v1', 'PERFORM set_config(''diary.patient'', diary.patient_id::text, true);',
                     'EXECUTE format(''SET LOCAL diary.patient = %L'', diary.patient_id);');

SELECT pg_temp.amend('conclude', 'UPDATE sessions s SET outbox_empty_at = clock_timestamp(), has_sent = true WHERE s.id = p_session',
    'INSERT INTO sync_confirmations VALUES (p_patient, p_session, clock_timestamp()) ON CONFLICT (patient_id, session_id)'
    ' DO UPDATE SET outbox_empty_at = excluded.outbox_empty_at');
SELECT pg_temp.amend('conclude', $old$UPDATE sessions s SET has_sent = true, outbox_empty_at = CASE p_action WHEN 'sync.push' THEN coalesce(
            s.outbox_empty_at, s.created_at) ELSE s.outbox_empty_at END WHERE s.id = p_session$old$,
$new$INSERT INTO sync_confirmations AS c
        SELECT p_patient, p_session, CASE p_action WHEN 'sync.push' THEN s.created_at END FROM sessions s WHERE s.id = p_session
        ON CONFLICT (patient_id, session_id)
        DO UPDATE SET outbox_empty_at = coalesce(c.outbox_empty_at, excluded.outbox_empty_at)$new$);
SELECT pg_temp.amend('authorize', 'CASE WHEN p_action = ''sync.push'' THEN s.outbox_empty_at IS NOT NULL ELSE s.has_sent END',
    'EXISTS (SELECT FROM sync_confirmations c WHERE c.patient_id = p_patient AND c.session_id = s.id'
    ' AND (p_action <> ''sync.push'' OR c.outbox_empty_at IS NOT NULL))');
SELECT pg_temp.amend('last_sync_confirmation', 'FROM sessions WHERE outbox_empty_at IS NOT NULL',
    'FROM (SELECT user_id, created_at, revoked_at, expires_at, c.outbox_empty_at FROM sync_confirmations c'
    ' JOIN sessions ON id = session_id WHERE patient_id = p_patient AND c.outbox_empty_at IS NOT NULL) AS told');

-- Row security is asked on the node of the diary. What is called within a longer transaction is not carried there, and
-- only SET LOCAL follows it (citus.propagate_set_commands).
SELECT pg_temp.amend('authorize', $old$PERFORM set_config('diary.patient', p_patient::text, true),
                set_config('diary.data_from', data_from::text, true),
                set_config('diary.kinds', kinds::text, true);$old$,
$new$EXECUTE format('SET LOCAL diary.patient = %L', p_patient);
        EXECUTE format('SET LOCAL diary.data_from = %L', data_from);
        EXECUTE format('SET LOCAL diary.kinds = %L', kinds);$new$);

-- Rows of several shards cannot be locked by one statement, and no UPDATE may call a volatile function.
CREATE OR REPLACE FUNCTION revoke_sessions_v1(p_user uuid, p_sessions uuid[], p_reason text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    ended integer;
    diary uuid;
    at timestamptz;
BEGIN
    FOR diary IN
        SELECT id FROM patients WHERE user_id = p_user
        UNION SELECT patient_id FROM grants WHERE grantee_id = p_user AND revoked_at IS NULL
        UNION SELECT patient_id FROM grants JOIN clinicians USING (organisation_id)
              WHERE user_id = p_user AND revoked_at IS NULL
        ORDER BY 1
    LOOP
        PERFORM FROM patient_clocks WHERE patient_id = diary FOR UPDATE;
    END LOOP;
    at := clock_timestamp();
    UPDATE sessions SET revoked_at = at, ended_because = p_reason
    WHERE user_id = p_user AND id = ANY (p_sessions) AND revoked_at IS NULL;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END $$;

-- Citus plans a statement by the values of its parameters. It does not see them in functions of language sql, so those
-- that read tables become plpgsql; and not in plans for all values, so what the service calls has none of those.
DO $$
DECLARE
    found record;
    tables text := (SELECT string_agg(tablename, '|') FROM pg_tables WHERE schemaname = 'public');
BEGIN
    FOR found IN
        SELECT *, pg_get_functiondef(oid) AS definition,
               -- `SELECT * INTO` for several OUT parameters, of which there is one row.
               CASE WHEN proretset THEN 'RETURN QUERY ' || prosrc
                    WHEN proargmodes && '{o}' THEN format('SELECT * INTO %s FROM (%s) AS only_row',
                        (SELECT string_agg(name, ', ') FROM unnest(proargnames, proargmodes) AS a (name, mode)
                         WHERE mode = 'o'), prosrc)
                    ELSE 'RETURN (' || prosrc || ')' END AS body
        FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND pronargs > 0
          AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql')
          AND prosrc ~ ('\m(FROM|JOIN)\s+(' || tables || ')\M')
    LOOP
        EXECUTE replace(replace(found.definition, 'LANGUAGE sql', 'LANGUAGE plpgsql'), found.prosrc,
                        E'\n#variable_conflict use_column\nBEGIN\n' || found.body || E'\n;\nEND ');
    END LOOP;
    FOR found IN
        SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                                      AND (prosecdef OR has_function_privilege('diary_app', oid, 'EXECUTE'))
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = auto', found.oid::regprocedure);
    END LOOP;
END $$;

COMMIT;

-- 4. Settings of this database on each node. access() asks tables from within a statement on a shard; all that it asks
-- lies on the same node.
SELECT run_command_on_all_nodes(format('ALTER DATABASE %I SET %s', current_database(), setting))
FROM (VALUES ('citus.propagate_set_commands = ''local'''),
             ('citus.allow_nested_distributed_execution = on')) AS settings (setting);

-- 5. Tables: those that each node has, then those by patient; what is not named stays on the coordinator.
SET citus.multi_shard_modify_mode = 'sequential';
{{tables}}
SELECT create_distributed_table('sync_confirmations', 'patient_id', colocate_with := 'records');

-- What lay here before has been copied to the shards.
SELECT truncate_local_data_after_distributing_table(name::regclass)
FROM unnest('{{by_patient}}'::text[] || ARRAY['sync_confirmations']) AS name;

-- 6. Views and functions on each node; what the service calls for a patient runs where the diary lies.
DO $$
DECLARE
    found regclass;
BEGIN
    FOR found IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' LOOP
        EXECUTE format('CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS %s', found, pg_get_viewdef(found));
    END LOOP;
END $$;

SELECT create_distributed_function(oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND prokind = 'f';

SELECT create_distributed_function(oid::regprocedure, 'p_patient', colocate_with := 'records')
FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND 'p_patient' = ANY (proargnames) AND prosecdef;
