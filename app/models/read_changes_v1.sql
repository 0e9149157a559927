-- The changes after p_seq, oldest first, each record once as it is now. A cursor is the place (p_seq) with what makes
-- sure that it is still the same place: the epoch, the nonce of the change there, and the grant with its version.
-- outcome: ok, a refusal of authorize(), reload where the consent is another, reoffer where this is a restored
-- database. What the reader could see and no longer may is withdrawn; what was never visible is not mentioned.
CREATE OR REPLACE FUNCTION read_changes_v1(
    p_session uuid, p_patient uuid, p_action text, p_epoch uuid, p_seq bigint, p_nonce uuid, p_grant uuid,
    p_grant_version integer, p_limit integer, p_request uuid, p_address inet
) RETURNS TABLE (outcome text, changes bytea, seq bigint, nonce uuid, epoch uuid, grant_id uuid, grant_version integer,
                 head bigint, more boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
-- One plan: along the order of changes.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
#variable_conflict use_column
DECLARE
    visit record;
    page record;
    after bigint := coalesce(p_seq, 0);
BEGIN
    visit := authorize(p_session, p_patient, NULL, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome <> 'ok' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    grant_id := visit.grant_id;
    grant_version := visit.grant_version;
    SELECT patient_clocks.epoch INTO epoch FROM patient_clocks WHERE patient_id = p_patient;
    IF p_seq IS NOT NULL THEN
        outcome := CASE
            WHEN epoch <> p_epoch THEN 'reoffer'
            WHEN grant_id IS DISTINCT FROM p_grant OR grant_version <> p_grant_version THEN 'reload'
            WHEN after > 0 AND NOT EXISTS (SELECT FROM record_versions v WHERE v.patient_id = p_patient
                                           AND v.change_seq = after AND v.nonce = p_nonce) THEN 'reoffer'
            ELSE 'ok'
        END;
    END IF;
    IF outcome <> 'ok' THEN
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', outcome,
                      p_request, p_address);
        RETURN NEXT;
        RETURN;
    END IF;
    -- What is hidden now is read as well: it may have to be withdrawn.
    PERFORM set_config('diary.data_from', '-infinity', true);

    -- The aggregates take the rows as they come, in the order of the places: see read_page_v1().
    SELECT array_agg(r.id) FILTER (WHERE place <= p_limit) AS ids,
           string_agg(r.change, ',') FILTER (WHERE place <= p_limit) AS items,
           max(r.change_seq) FILTER (WHERE place <= p_limit) AS last, count(*) > p_limit AS more,
           -- In the same statement, so of the same moment.
           (SELECT patient_clocks.head FROM patient_clocks WHERE patient_id = p_patient) AS head
    INTO page
    FROM (
        SELECT id, change_seq, row_number() OVER () AS place,
               convert_to('{"kind":"' || kind || '","id":"' || id || '","version":' || version || ',"change_seq":'
                          || change_seq, 'UTF8')
               || CASE
                   WHEN NOT visible THEN ',"deleted":true,"reason":"withdrawn"'::bytea
                   WHEN deleted THEN ',"deleted":true,"reason":"deleted"'::bytea
                   ELSE ',"deleted":false,"record":'::bytea || wire(document, CASE WHEN visit.notes THEN note END)
               END || '}'::bytea AS change
        FROM (
            SELECT id, kind, version, change_seq, deleted, document, note,
                   greatest(occurred_at, valid_to) >= visit.data_from AS visible
            FROM records
            WHERE patient_id = p_patient AND change_seq > after
              AND (greatest(occurred_at, valid_to) >= visit.data_from
                   OR EXISTS (SELECT FROM record_versions v
                              WHERE v.patient_id = p_patient AND v.record_id = records.id AND v.document IS NOT NULL
                                AND visit.data_from <= greatest((v.document ->> 'occurred_at')::timestamptz,
                                    CASE kind WHEN 'treatment' THEN coalesce(
                                        (v.document #>> '{regimens,-1,valid_to}')::timestamptz, 'infinity') END)))
            ORDER BY change_seq
            LIMIT p_limit + 1
        ) next
    ) r;

    changes := coalesce(page.items, '');
    seq := coalesce(page.last, after);
    SELECT v.nonce INTO nonce FROM record_versions v WHERE v.patient_id = p_patient AND v.change_seq = seq;
    head := page.head;
    more := page.more;
    PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, coalesce(page.ids, '{}'),
                  outcome, p_request, p_address);
    RETURN NEXT;
END $$;
