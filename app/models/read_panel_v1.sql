-- The diaries that whoever holds the session may see now, by name: head, consent, and the last seven days at a
-- glance where the consent opens entries; after the patient p_after. Each is audited. One call, however many patients.
CREATE OR REPLACE FUNCTION read_panel_v1(
    p_session uuid, p_user uuid, p_action text, p_after uuid, p_limit integer, p_request uuid, p_address inet
) RETURNS TABLE (patient_id uuid, item bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
-- One plan, whatever the statistics say: a glance at each diary along its index.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    reader record;
    found record;
    glance json;
BEGIN
    SELECT * INTO reader FROM session_account_v1(p_session, p_user);
    FOR found IN
        SELECT p.id, p.display_name, p.birth_date, p.birth_date_precision, p.time_zone, clock.head, a.grant_id, a.grant_version, a.scopes,
               a.own, a.data_from, g.expires_at
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
            'birth_date_precision', found.birth_date_precision,
            'time_zone', found.time_zone, 'head', found.head, 'grant_id', found.grant_id,
            'scopes', CASE WHEN found.own THEN '{*}' ELSE found.scopes END,
            'data_from', nullif(found.data_from, '-infinity'), 'expires_at', found.expires_at,
            'last_seven_days', glance)::text, 'UTF8');
        PERFORM audit(reader.user_id, reader.role, p_session, found.grant_id, found.id, p_action, '{}', 'ok', p_request,
                      p_address);
        RETURN NEXT;
    END LOOP;
END $$;
