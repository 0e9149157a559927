-- The history of one record, newest version first, before p_before_version: who, on which device, when, what.
CREATE OR REPLACE FUNCTION read_versions_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_scope text, p_action text, p_kind text, p_id uuid,
    p_before_version integer, p_consent text, p_limit integer, p_request uuid, p_address inet
) RETURNS TABLE (outcome text, items bytea, last_version integer, consent text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    visit record;
    held records;
    page record;
BEGIN
    visit := authorize(p_session, p_user, p_patient, p_scope, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome <> 'ok' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT * INTO held FROM records WHERE patient_id = p_patient AND id = p_id AND kind = p_kind;
    consent := tag_of_consent(visit.grant_id, visit.grant_version);
    outcome := CASE WHEN held.id IS NULL THEN 'missing' WHEN p_consent <> consent THEN 'consent_changed' ELSE 'ok' END;
    PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, ARRAY[p_id], outcome,
                  p_request, p_address);
    IF outcome = 'ok' THEN
        -- As they come, in the order of the places: see read_page_v1().
        SELECT string_agg(version_json, ',') FILTER (WHERE place <= p_limit) AS items,
               max(version) FILTER (WHERE place = p_limit) AS last, count(*) > p_limit AS more
        INTO page
        FROM (
            SELECT v.version, row_number() OVER (ORDER BY v.version DESC) AS place,
                   convert_to('{"version":' || v.version || ',"change_seq":' || v.change_seq || ',"deleted":' || v.deleted::text
                   || ',"author_id":"' || v.author_id || '"'
                   || coalesce(',"device_name":' || to_json(s.device_name)::text, '')
                   || ',"received_at":"' || to_char(v.received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                   || '"', 'UTF8') || CASE WHEN v.deleted THEN ''::bytea ELSE ',"record":'::bytea || wire(
                        CASE WHEN p_kind = 'treatment_event'
                             THEN beside_treatment(coalesce(v.document, held.document), p_patient, visit.data_from)
                             ELSE coalesce(v.document, held.document) END,
                        CASE WHEN visit.notes THEN CASE WHEN v.document IS NULL THEN held.note ELSE v.note END END) END
                   || '}'::bytea AS version_json
            FROM record_versions v
            LEFT JOIN sessions s ON s.id = v.session_id
            WHERE v.patient_id = p_patient AND v.record_id = p_id
              AND v.version < coalesce(p_before_version, 2147483647)
              -- A version is in the window of a grant by its own time, a deletion by that of what it deleted; one of what
              -- holds for a time, until the next came.
              AND (v.document IS NULL OR visit.data_from <= CASE
                  WHEN held.valid_to IS NULL AND v.deleted THEN coalesce(
                      (SELECT (before.document ->> 'occurred_at')::timestamptz FROM record_versions before
                       WHERE before.patient_id = p_patient AND before.record_id = p_id AND before.version = v.version - 1),
                      '-infinity')
                  WHEN held.valid_to IS NULL THEN (v.document ->> 'occurred_at')::timestamptz
                  ELSE (SELECT next.received_at FROM record_versions next
                        WHERE next.patient_id = p_patient AND next.record_id = p_id AND next.version = v.version + 1) END)
            ORDER BY v.version DESC
            LIMIT p_limit + 1
        ) newest;
        items := page.items;
        last_version := CASE WHEN page.more THEN page.last END;
    END IF;
    RETURN NEXT;
END $$;
