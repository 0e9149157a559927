-- Who may see what: one function, asked by everything else. The context of row security is set locally, so it ends with
-- the transaction.

-- The consent by which `actor` may see `patient`: no row where there is none. One's own diary needs no grant and opens
-- with every scope. A clinician must be verified, and may also act on a grant to the organisation; a personal grant comes
-- before it.
CREATE OR REPLACE FUNCTION access(actor uuid, patient uuid)
RETURNS TABLE (grant_id uuid, grant_version integer, scopes text[], data_from timestamptz, own boolean)
LANGUAGE sql STABLE AS $$
    SELECT NULL::uuid, 0, all_scopes(), '-infinity'::timestamptz, true
    FROM patients WHERE id = patient AND user_id = actor
    UNION ALL
    (SELECT g.id, g.version, g.scopes, coalesce(g.data_from, '-infinity'), false
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

-- The consent by which a session may write to a diary: records that `scope` names, or of any kind without.
CREATE OR REPLACE FUNCTION consent_to_write(session uuid, patient uuid, scope text)
RETURNS TABLE (grant_id uuid)
LANGUAGE sql STABLE AS $$
    SELECT a.grant_id
    FROM sessions s, access(s.user_id, patient) a
    WHERE s.id = session AND a.scopes && CASE WHEN scope IS NULL THEN write_scopes() ELSE ARRAY[scope] END
$$;

-- The days on which somebody may have been born of whom this is known.
-- (Of SQL and IMMUTABLE: PostgreSQL then expands it in place.)
CREATE OR REPLACE FUNCTION born(birth_date date, known text) RETURNS daterange
LANGUAGE sql IMMUTABLE AS $$
    SELECT daterange(birth_date, CASE known WHEN 'year' THEN (birth_date + interval '1 year')::date
                                            WHEN 'month' THEN (birth_date + interval '1 month')::date
                                            ELSE birth_date + 1 END)
$$;

-- Checks the session and the consent behind it and sets the row-security context of this transaction.
-- `outcome` is ok, unauthenticated, not_found, erased or insufficient_scope; a refusal is audited here.
-- Without a scope any consent that opens a kind of record will do. A session of somebody else than p_user is none.
-- `has_sent`: whether the session has done before what it is about to do: written, or pushed as one that has an outbox.
-- Whoever needs the answer to hold until commit locks the patient's clock in a statement before.
CREATE OR REPLACE FUNCTION authorize(
    p_session uuid, p_user uuid, p_patient uuid, p_scope text, p_action text, p_request uuid, p_address inet,
    OUT outcome text, OUT actor uuid, OUT role text, OUT grant_id uuid, OUT grant_version integer,
    OUT kinds text[], OUT notes boolean, OUT born daterange, OUT data_from timestamptz, OUT has_sent boolean,
    OUT scopes text[], OUT own boolean
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT u.id, u.role, a.grant_id, a.grant_version, open_kinds(a.scopes), 'notes:read' = ANY (a.scopes),
           born(p.birth_date, p.birth_date_precision), a.data_from,
           CASE WHEN p_action = 'sync.push' THEN s.outbox_empty_at IS NOT NULL ELSE s.has_sent END, a.scopes, a.own,
           CASE
               WHEN s.revoked_at IS NOT NULL OR s.expires_at <= clock_timestamp() OR u.disabled_at IS NOT NULL
                   THEN 'unauthenticated'
               WHEN a.scopes IS NULL THEN 'not_found'
               WHEN p.erased_at IS NOT NULL THEN 'erased'
               WHEN CASE WHEN p_scope IS NULL THEN open_kinds(a.scopes) = '{}' ELSE NOT p_scope = ANY (a.scopes) END
                   THEN 'insufficient_scope'
               ELSE 'ok'
           END
    INTO actor, role, grant_id, grant_version, kinds, notes, born, data_from, has_sent, scopes, own, outcome
    FROM sessions s
    JOIN users u ON u.id = s.user_id
    LEFT JOIN patients p ON p.id = p_patient
    LEFT JOIN LATERAL access(u.id, p_patient) a ON true
    WHERE s.id = p_session AND s.user_id = p_user;
    IF outcome = 'ok' THEN
        PERFORM set_config('diary.patient', p_patient::text, true),
                set_config('diary.data_from', data_from::text, true),
                set_config('diary.kinds', kinds::text, true);
        RETURN;
    END IF;
    outcome := coalesce(outcome, 'unauthenticated');
    PERFORM audit(actor, role, p_session, grant_id, p_patient, p_action, '{}', outcome, p_request, p_address);
END $$;

-- Writes an authorized visit down and opens this transaction for it: see visit().
CREATE OR REPLACE FUNCTION begin_visit(
    visitor record, p_session uuid, p_patient uuid, p_action text, p_request uuid, p_address inet
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM audit(visitor.actor, visitor.role, p_session, visitor.grant_id, p_patient, p_action, '{}', 'ok', p_request,
                  p_address);
    PERFORM set_config('diary.visit', lastval()::text, true);
END $$;

-- The visit for which this transaction was opened, and what the consent behind it opens now; no row where there is none.
-- Its proof is the audit row: nobody can write one but the functions that check, and of no other transaction it is good.
-- (The numbers of transactions come again after four thousand million.)
CREATE OR REPLACE FUNCTION visit() RETURNS TABLE (patient uuid, data_from timestamptz, kinds text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT e.patient_id, a.data_from, open_kinds(a.scopes)
    FROM audit_events e, access(e.actor_id, e.patient_id) a
    WHERE e.id = nullif(current_setting('diary.visit', true), '')::bigint AND e.outcome = 'ok'
      AND e.xmin = pg_current_xact_id_if_assigned()::xid AND e.at > transaction_timestamp() - interval '1 day'
$$;
