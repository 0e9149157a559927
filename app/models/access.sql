-- Who may see what: one function, asked by everything else, and the row security that holds even where a
-- service forgets its WHERE. The context of the policies is set locally, so it ends with the transaction.

-- The consent by which `actor` may see `patient`: no row where there is none. One's own diary needs no grant. A
-- clinician must be verified, and may also act on a grant to the organisation; a personal grant comes before it.
CREATE OR REPLACE FUNCTION access(actor uuid, patient uuid)
RETURNS TABLE (grant_id uuid, grant_version integer, scopes text[], data_from timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT NULL::uuid, 0, '{*}'::text[], '-infinity'::timestamptz
    FROM patients WHERE id = patient AND user_id = actor
    UNION ALL
    (SELECT g.id, g.version, g.scopes, coalesce(g.data_from, '-infinity')
     FROM grants g
     JOIN users u ON u.id = actor
     LEFT JOIN clinicians c ON c.user_id = actor AND c.verified_at IS NOT NULL
     WHERE g.patient_id = patient AND g.status = 'active' AND g.revoked_at IS NULL
       AND g.expires_at > clock_timestamp()
       AND CASE u.role WHEN 'clinician' THEN c.user_id IS NOT NULL
                                             AND (g.grantee_id = actor OR g.organisation_id = c.organisation_id)
                       WHEN 'admin' THEN false
                       ELSE g.grantee_id = actor END
     ORDER BY g.grantee_id IS NULL
     LIMIT 1)
$$;

-- The kinds of record that scopes open. A grant that lets somebody write also lets them read: see its CHECK.
CREATE OR REPLACE FUNCTION open_kinds(scopes text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN scopes && '{*,entries:read}' THEN '{entry}'::text[] ELSE '{}' END
        || CASE WHEN scopes && '{*,treatments:read}' THEN '{treatment,treatment_event}'::text[] ELSE '{}' END
        || CASE WHEN scopes && '{*,profile:read}' THEN '{profile}'::text[] ELSE '{}' END
$$;

-- The scope to write records of a kind.
CREATE OR REPLACE FUNCTION write_scope(kind text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind WHEN 'entry' THEN 'entries' WHEN 'profile' THEN 'profile' ELSE 'treatments' END || ':write'
$$;

-- The consent by which a session may write to a diary: records that `scope` names, or of any kind without.
CREATE OR REPLACE FUNCTION consent_to_write(session uuid, patient uuid, scope text)
RETURNS TABLE (grant_id uuid)
LANGUAGE sql STABLE AS $$
    SELECT a.grant_id
    FROM sessions s, access(s.user_id, patient) a
    WHERE s.id = session AND a.scopes && CASE WHEN scope IS NULL
        THEN '{*,entries:write,treatments:write,profile:write}' ELSE ARRAY['*', scope] END
$$;

-- Adds one row to the audit table. `action` is "module.verb"; a value of a record never comes here.
CREATE OR REPLACE FUNCTION audit(
    actor uuid, role text, session uuid, grant_id uuid, patient uuid,
    action text, record_ids uuid[], outcome text, request uuid, address inet
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO audit_events (actor_id, role, session_id, grant_id, patient_id, action, record_ids, outcome,
                              request_id, address)
    VALUES (actor, role, session, grant_id, patient, action, record_ids, outcome, request, address);
END $$;

-- Checks the session and the consent behind it and sets the row-security context of this transaction.
-- `outcome` is ok, unauthenticated, not_found, erased or insufficient_scope; a refusal is audited here.
-- Without a scope any consent that opens a kind of record will do.
-- Whoever needs the answer to hold until commit locks the patient's clock in a statement before.
CREATE OR REPLACE FUNCTION enter_diary(
    p_session uuid, p_patient uuid, p_scope text, p_action text, p_request uuid, p_address inet,
    OUT outcome text, OUT actor uuid, OUT role text, OUT grant_id uuid, OUT grant_version integer,
    OUT kinds text[], OUT notes boolean, OUT birth_date date, OUT data_from timestamptz, OUT sends boolean,
    OUT scopes text[]
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT u.id, u.role, a.grant_id, a.grant_version, open_kinds(a.scopes), a.scopes && '{*,notes:read}', p.birth_date,
           a.data_from, s.outbox_empty_at IS NOT NULL, a.scopes,
           CASE
               WHEN s.revoked_at IS NOT NULL OR s.expires_at <= clock_timestamp() OR u.disabled_at IS NOT NULL
                   THEN 'unauthenticated'
               WHEN a.scopes IS NULL THEN 'not_found'
               WHEN p.erased_at IS NOT NULL THEN 'erased'
               WHEN NOT a.scopes && ARRAY['*', p_scope] AND (p_scope IS NOT NULL OR open_kinds(a.scopes) = '{}')
                   THEN 'insufficient_scope'
               ELSE 'ok'
           END
    INTO actor, role, grant_id, grant_version, kinds, notes, birth_date, data_from, sends, scopes, outcome
    FROM sessions s
    JOIN users u ON u.id = s.user_id
    LEFT JOIN patients p ON p.id = p_patient
    LEFT JOIN LATERAL access(u.id, p_patient) a ON true
    WHERE s.id = p_session;
    IF outcome = 'ok' THEN
        PERFORM set_config('diary.patient', p_patient::text, true),
                set_config('diary.data_from', data_from::text, true),
                set_config('diary.kinds', kinds::text, true);
        RETURN;
    END IF;
    outcome := coalesce(outcome, 'unauthenticated');
    PERFORM audit(actor, role, p_session, grant_id, p_patient, p_action, '{}', outcome, p_request, p_address);
END $$;

-- enter_diary for services that go on with statements of their own; the visit itself is audited.
CREATE OR REPLACE FUNCTION open_diary(
    p_session uuid, p_patient uuid, p_scope text, p_action text, p_request uuid, p_address inet
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    visit record;
BEGIN
    visit := enter_diary(p_session, p_patient, p_scope, p_action, p_request, p_address);
    IF visit.outcome = 'ok' THEN
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', 'ok',
                      p_request, p_address);
    END IF;
    RETURN visit.outcome;
END $$;

-- The account behind a live session (no row otherwise), for calls that are about the account itself.
CREATE OR REPLACE FUNCTION session_account(p_session uuid)
RETURNS TABLE (user_id uuid, role text, display_name text, locale text, email text, patient_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT u.id, u.role, u.display_name, u.locale, u.email, p.id
    FROM sessions s
    JOIN users u ON u.id = s.user_id
    LEFT JOIN patients p ON p.user_id = u.id
    WHERE s.id = p_session AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp() AND u.disabled_at IS NULL
$$;

-- Ends sessions of a user. It locks the clocks of every diary the user may write first, so that no write
-- of an ended session commits after this has.
CREATE OR REPLACE FUNCTION revoke_sessions(p_user uuid, p_sessions uuid[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    ended integer;
BEGIN
    PERFORM 1 FROM patient_clocks
    WHERE patient_id IN (SELECT id FROM patients WHERE user_id = p_user
                         UNION SELECT patient_id FROM grants WHERE grantee_id = p_user AND revoked_at IS NULL
                         UNION SELECT patient_id FROM grants JOIN clinicians USING (organisation_id)
                               WHERE user_id = p_user AND revoked_at IS NULL)
    ORDER BY patient_id FOR UPDATE;
    UPDATE sessions SET revoked_at = clock_timestamp()
    WHERE user_id = p_user AND id = ANY (p_sessions) AND revoked_at IS NULL;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END $$;

-- Row security. Records and versions bind even their owner, so the functions in records.sql are held by it too.
-- What holds for a time is in the window of a grant as long as it does: a plan agreed earlier explains what follows.
ALTER TABLE records ENABLE ROW LEVEL SECURITY;
ALTER TABLE records FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON records;
CREATE POLICY in_context ON records USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
    AND greatest(occurred_at, valid_to) >= (SELECT nullif(current_setting('diary.data_from', true), '')::timestamptz)
    AND kind = ANY ((SELECT nullif(current_setting('diary.kinds', true), '')::text[])::text[])
);

ALTER TABLE record_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE record_versions FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON record_versions;
CREATE POLICY in_context ON record_versions USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);

ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON audit_events;
CREATE POLICY in_context ON audit_events FOR SELECT USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);

-- These three are read by access() before there is a context, so they bind everybody but their owner.
ALTER TABLE patients ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON patients;
CREATE POLICY in_context ON patients FOR SELECT USING (
    id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS erasing ON patients;
CREATE POLICY erasing ON patients FOR UPDATE TO diary_eraser USING (
    id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS registering ON patients;
CREATE POLICY registering ON patients FOR INSERT WITH CHECK (true);

ALTER TABLE patient_clocks ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON patient_clocks;
CREATE POLICY in_context ON patient_clocks FOR SELECT USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS erasing ON patient_clocks;
CREATE POLICY erasing ON patient_clocks FOR DELETE TO diary_eraser USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS registering ON patient_clocks;
CREATE POLICY registering ON patient_clocks FOR INSERT WITH CHECK (head = 0);

ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON grants;
CREATE POLICY in_context ON grants USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);

ALTER TABLE share_codes ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON share_codes;
CREATE POLICY in_context ON share_codes USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
