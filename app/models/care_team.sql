-- How consent comes about and ends, where it crosses from one person's rows to another's; the rest is plain
-- SQLAlchemy in services/care_team.py, within the row-security context of the patient.

-- Locks a diary for its owner, as a statement before open_diary(): what changes consent queues with what writes under
-- it, so that revoking returns when nothing more can be written. Somebody else is not let near the lock.
CREATE OR REPLACE FUNCTION lock_diary(p_session uuid, p_patient uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM FROM patient_clocks
    WHERE patient_id = p_patient
      AND EXISTS (SELECT FROM sessions s JOIN patients p ON p.user_id = s.user_id
                  WHERE s.id = p_session AND p.id = p_patient)
    FOR UPDATE;
END $$;

-- Turns a share code into a pending grant to whoever holds the session, or to the organisation of a clinician.
-- Whoever redeemed it before gets the same grant again. outcome: ok, unauthenticated, not_found, unverified.
CREATE OR REPLACE FUNCTION redeem_share_code(
    p_session uuid, p_digest bytea, p_as_organisation boolean, p_request uuid, p_address inet
) RETURNS TABLE (outcome text, grant_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    redeemer record;
    code share_codes;
    organisation uuid;
BEGIN
    SELECT u.id, u.role, c.verified_at, c.organisation_id INTO redeemer
    FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN clinicians c ON c.user_id = u.id
    WHERE s.id = p_session AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp() AND u.disabled_at IS NULL;
    SELECT * INTO code FROM share_codes WHERE code_digest = p_digest FOR UPDATE;
    outcome := CASE
        WHEN redeemer.id IS NULL THEN 'unauthenticated'
        WHEN redeemer.role = 'admin' OR redeemer.role = 'clinician' AND redeemer.verified_at IS NULL THEN 'unverified'
        WHEN p_as_organisation AND redeemer.organisation_id IS NULL THEN 'unverified'
        WHEN code.id IS NULL OR code.expires_at <= clock_timestamp()
             OR coalesce(code.redeemed_by, redeemer.id) <> redeemer.id
             OR EXISTS (SELECT FROM patients WHERE id = code.patient_id
                        AND (user_id = redeemer.id OR erased_at IS NOT NULL)) THEN 'not_found'
        ELSE 'ok'
    END;
    IF outcome = 'ok' THEN
        grant_id := code.grant_id;
        IF grant_id IS NULL THEN
            organisation := CASE WHEN p_as_organisation THEN redeemer.organisation_id END;
            INSERT INTO grants (patient_id, grantee_id, organisation_id, redeemed_by, status, scopes, data_from, purpose,
                                expires_at)
            VALUES (code.patient_id, CASE WHEN organisation IS NULL THEN redeemer.id END, organisation, redeemer.id,
                    'pending', code.scopes, code.data_from, code.purpose, code.grant_expires_at)
            RETURNING id INTO grant_id;
            UPDATE share_codes SET redeemed_by = redeemer.id, grant_id = redeem_share_code.grant_id
            WHERE patient_id = code.patient_id AND id = code.id;
        END IF;
    END IF;
    PERFORM audit(redeemer.id, redeemer.role, p_session, grant_id,
                  CASE WHEN outcome = 'ok' THEN code.patient_id END, 'grants.redeem', '{}', outcome, p_request, p_address);
    RETURN NEXT;
END $$;

-- A grant in the words that both sides see: who may see what of whose diary, why, from when on, how long.
CREATE OR REPLACE FUNCTION grant_words(g grants) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', g.id,
        'patient', jsonb_build_object('id', p.id, 'display_name', p.display_name),
        'grantee', jsonb_build_object(
            'kind', CASE WHEN g.organisation_id IS NOT NULL THEN 'organisation'
                         WHEN u.role = 'clinician' THEN 'clinician' ELSE 'caregiver' END,
            'display_name', coalesce(CASE WHEN g.organisation_id IS NULL THEN u.display_name END, o.name),
            'profession', c.profession, 'organisation', o.name, 'redeemed_by', u.display_name),
        'scopes', g.scopes, 'data_from', g.data_from, 'purpose', g.purpose, 'version', g.version,
        'status', CASE WHEN g.revoked_at IS NOT NULL THEN 'revoked' WHEN g.expires_at <= clock_timestamp() THEN 'expired'
                       ELSE g.status END,
        'created_at', g.created_at, 'confirmed_at', g.confirmed_at, 'expires_at', g.expires_at,
        'revoked_at', g.revoked_at)
    FROM patients p
    LEFT JOIN users u ON u.id = coalesce(g.redeemed_by, g.grantee_id)
    LEFT JOIN clinicians c ON c.user_id = u.id AND u.role = 'clinician'
    LEFT JOIN organisations o ON o.id = coalesce(g.organisation_id, c.organisation_id)
    WHERE p.id = g.patient_id
$$;

-- The grants of the diary that this transaction was let in to, newest first; of one of them where p_grant names it.
-- With the rights of whoever asks, as access_log() below: row security holds also without the WHERE.
CREATE OR REPLACE FUNCTION grants_of_diary(p_grant uuid) RETURNS SETOF jsonb
LANGUAGE sql STABLE AS $$
    SELECT grant_words(g) FROM grants g
    WHERE patient_id = nullif(current_setting('diary.patient', true), '')::uuid AND (p_grant IS NULL OR g.id = p_grant)
    ORDER BY created_at DESC, id DESC
    LIMIT 1000
$$;

-- The grants to whoever holds the session, or to their organisation, newest first; none while a clinician is not
-- verified, for whose diary it is tells something already.
CREATE OR REPLACE FUNCTION grants_of_session(p_session uuid, p_grant uuid) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT grant_words(g)
    FROM session_account(p_session) a
    LEFT JOIN clinicians c ON c.user_id = a.user_id AND c.verified_at IS NOT NULL
    JOIN grants g ON g.grantee_id = a.user_id OR g.organisation_id = c.organisation_id
    WHERE (p_grant IS NULL OR g.id = p_grant)
      AND CASE a.role WHEN 'clinician' THEN c.user_id IS NOT NULL WHEN 'admin' THEN false ELSE true END
    ORDER BY g.created_at DESC, g.id DESC
    LIMIT 1000
$$;

-- The diaries that whoever holds the session may see now, by name: head, consent, and the last seven days at a
-- glance where the consent opens entries; after the patient p_after. Each is audited. One call, however many patients.
CREATE OR REPLACE FUNCTION read_panel(
    p_session uuid, p_action text, p_after uuid, p_limit integer, p_request uuid, p_address inet
) RETURNS TABLE (patient_id uuid, item bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    reader record;
    found record;
    glance json;
BEGIN
    SELECT * INTO reader FROM session_account(p_session);
    FOR found IN
        SELECT p.id, p.display_name, p.birth_date, p.time_zone, clock.head, a.grant_id, a.grant_version, a.scopes,
               a.data_from, g.expires_at
        FROM (SELECT reader.patient_id AS id
              UNION SELECT grants.patient_id FROM grants WHERE grantee_id = reader.user_id
              UNION SELECT grants.patient_id FROM grants JOIN clinicians c USING (organisation_id)
                    WHERE c.user_id = reader.user_id) known
        JOIN patients p ON p.id = known.id AND p.erased_at IS NULL
        JOIN patient_clocks clock ON clock.patient_id = p.id
        CROSS JOIN LATERAL access(reader.user_id, p.id) a
        LEFT JOIN grants g ON g.id = a.grant_id
        WHERE p_after IS NULL
           OR (p.display_name, p.id) > (SELECT last.display_name, last.id FROM patients last WHERE last.id = p_after)
        ORDER BY p.display_name, p.id
        LIMIT p_limit + 1
    LOOP
        PERFORM set_config('diary.patient', found.id::text, true),
                set_config('diary.data_from', found.data_from::text, true),
                set_config('diary.kinds', open_kinds(found.scopes)::text, true);
        glance := NULL;
        IF 'entry' = ANY (open_kinds(found.scopes)) THEN
            SELECT json_build_object(
                'entries', count(*), 'days_with_entries', count(DISTINCT local_date), 'last_entry_at', max(occurred_at),
                'worst_nrs', max(worst_score) FILTER (WHERE scale = 'nrs_0_10')::integer)
            INTO glance
            FROM records
            WHERE records.patient_id = found.id AND NOT deleted AND kind = 'entry'
              AND occurred_at > clock_timestamp() - interval '7 days' AND occurred_at <= clock_timestamp();
        END IF;
        patient_id := found.id;
        item := convert_to(json_build_object(
            'id', found.id, 'display_name', found.display_name, 'birth_date', found.birth_date,
            'time_zone', found.time_zone, 'head', found.head, 'grant_id', found.grant_id, 'scopes', found.scopes,
            'data_from', nullif(found.data_from, '-infinity'), 'expires_at', found.expires_at,
            'last_seven_days', glance)::text, 'UTF8');
        PERFORM audit(reader.user_id, reader.role, p_session, found.grant_id, found.id, p_action, '{}', 'ok', p_request,
                      p_address);
        RETURN NEXT;
    END LOOP;
END $$;

-- Who did what to the diary that this transaction was let in to, newest first, before p_before: others, by grants or
-- refused, or with p_own everybody.
CREATE OR REPLACE FUNCTION access_log(p_own boolean, p_before bigint, p_limit integer)
RETURNS TABLE (id bigint, item jsonb)
LANGUAGE sql STABLE AS $$
    SELECT e.id, jsonb_build_object(
        'at', e.at, 'action', e.action, 'outcome', e.outcome, 'records', cardinality(e.record_ids),
        'grant_id', e.grant_id, 'role', e.role,
        'actor', CASE WHEN u.id IS NOT NULL THEN jsonb_build_object(
            'id', u.id, 'display_name', u.display_name, 'profession', c.profession, 'organisation', o.name) END)
    FROM audit_events e
    LEFT JOIN users u ON u.id = e.actor_id
    LEFT JOIN clinicians c ON c.user_id = u.id
    LEFT JOIN organisations o ON o.id = c.organisation_id
    WHERE e.patient_id = nullif(current_setting('diary.patient', true), '')::uuid
      AND (p_before IS NULL OR e.id < p_before)
      AND (p_own OR e.grant_id IS NOT NULL OR e.outcome IN ('not_found', 'insufficient_scope'))
    ORDER BY e.id DESC
    LIMIT p_limit + 1
$$;
