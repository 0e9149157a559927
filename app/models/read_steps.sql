-- The steps of read_page_v1() and read_changes_v1(). Those that return rows are STABLE functions of SQL: PostgreSQL
-- expands them in place, so they belong to the plan of the function that calls them, under its settings. Their
-- arguments must be plain values there (ADR 8).

-- Which parts a page of these kinds has: what happened, what was agreed and the changes of plans. `labels` are those of
-- the treatments, where there may be events; `plan_bytes` is how much had to be read for them and the changes;
-- `planned_at` is when, after p_planned_to, the next of what was agreed begins or the next of the changes applies. A
-- diary without a plan has no part that follows from plans.
CREATE OR REPLACE FUNCTION page_parts(
    p_patient uuid, p_kinds text[], p_planned_to timestamptz, OUT happened boolean, OUT agreed boolean,
    OUT changes treatment_change[], OUT labels jsonb, OUT plan_bytes bigint, OUT planned_at timestamptz
)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    changed boolean := p_kinds IS NULL OR 'treatment_change' = ANY (p_kinds);
    found record;
BEGIN
    happened := p_kinds IS NULL OR p_kinds && kinds_that_hold('moment');
    agreed := p_kinds IS NULL OR p_kinds && (kinds_that_hold('interval') || kinds_that_hold('singleton'));
    IF p_kinds IS NULL OR 'treatment_event' = ANY (p_kinds) OR changed
       OR (agreed AND p_planned_to IS NOT NULL) THEN
        SELECT * INTO found FROM treatment_labels(p_patient, p_planned_to);
        labels := found.labels;
        plan_bytes := found.bytes;
        agreed := agreed AND found.any_agreed;
        changed := changed AND found.any_treatment;
        planned_at := found.planned_at;
    END IF;
    IF changed THEN  -- worked out once: for the page, and for what is due next
        SELECT array_agg(change),
               least(planned_at, min(change.occurred_at) FILTER (WHERE change.occurred_at > p_planned_to))
        INTO changes, planned_at
        FROM treatment_changes(p_patient) AS change;
    END IF;
END $$;

-- What identifies a consent as it is now: narrowing it makes another.
CREATE OR REPLACE FUNCTION tag_of_consent(p_grant uuid, p_grant_version integer) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(left(p_grant::text, 8), 'own') || '-' || p_grant_version
$$;

-- What identifies the state of a diary for one reader: it changes with the diary, with its epoch and with the consent.
CREATE OR REPLACE FUNCTION etag_of_diary(p_patient uuid, p_consent text) RETURNS TABLE (etag text)
LANGUAGE sql STABLE AS $$
    SELECT left(epoch::text, 8) || '-' || head || '-' || p_consent FROM patient_clocks WHERE patient_id = p_patient
$$;

-- The outcome of a page that needs no rows, with its audit row: consent_changed where the page before was of another
-- consent, unmodified where the reader knows the etag, drafted where a replica drafted the page at this etag: what the
-- draft shows is audited. Else ok, and nothing is audited yet. A replica has no audit table to write to.
CREATE OR REPLACE FUNCTION respond_without_rows(
    visit record, etag text, p_known_etags text[], consent text, p_consent text, p_draft text, p_drafted uuid[], p_session uuid, p_patient uuid,
    p_action text, p_request uuid, p_address inet
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_consent <> consent THEN
        IF NOT pg_is_in_recovery() THEN
            PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}',
                          'consent_changed', p_request, p_address);
        END IF;
        RETURN 'consent_changed';
    ELSIF p_known_etags && ARRAY[etag, '*'] THEN
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', 'unmodified',
                      p_request, p_address);
        RETURN 'unmodified';
    ELSIF etag = p_draft THEN
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, p_drafted, 'ok',
                      p_request, p_address);
        RETURN 'drafted';
    END IF;
    RETURN 'ok';
END $$;

-- Of a page, the records of a moment, newest first along the keyset, and one more than p_limit to tell whether a
-- further page follows; an event has the name of its treatment from p_labels. No row where they are not wanted.
CREATE OR REPLACE FUNCTION page_of_moments(
    p_wanted boolean, p_patient uuid, p_before_at timestamptz, p_before_id uuid, p_since timestamptz, p_first_day date,
    p_last_day date, p_kinds text[], p_region text, p_character text, p_scale text, p_min_score numeric,
    p_treatment uuid, p_limit integer, p_labels jsonb
) RETURNS TABLE (id uuid, record_id uuid, occurred_at timestamptz, note text, document json)
LANGUAGE sql STABLE AS $$
    SELECT id, id, occurred_at, note,
           CASE WHEN treatment_id IS NULL THEN document
                ELSE with_treatment(document, p_labels -> treatment_id::text) END
    FROM records
    WHERE p_wanted AND patient_id = p_patient AND NOT deleted AND valid_to IS NULL
      AND (occurred_at, id) < (p_before_at, p_before_id)
      AND occurred_at >= p_since
      AND (p_first_day IS NULL OR local_date >= p_first_day)
      AND (p_last_day IS NULL OR local_date <= p_last_day)
      AND (p_kinds IS NULL OR kind = ANY (p_kinds))
      AND (p_region IS NULL OR p_region = ANY (regions))
      AND (p_character IS NULL OR p_character = ANY (characters))
      AND (p_scale IS NULL OR scale = p_scale)
      AND (p_min_score IS NULL OR worst_score >= p_min_score)
      AND (p_treatment IS NULL OR treatment_id = p_treatment)
    ORDER BY occurred_at DESC, id DESC
    LIMIT p_limit + 1
$$;

-- The same of what holds for a time or always, along an index of its own, for it is rare.
CREATE OR REPLACE FUNCTION page_of_agreed(
    p_wanted boolean, p_patient uuid, p_before_at timestamptz, p_before_id uuid, p_since timestamptz, p_first_day date,
    p_last_day date, p_kinds text[], p_limit integer
) RETURNS TABLE (id uuid, record_id uuid, occurred_at timestamptz, note text, document json)
LANGUAGE sql STABLE AS $$
    SELECT id, id, occurred_at, note, document
    FROM records
    WHERE p_wanted AND patient_id = p_patient AND NOT deleted AND valid_to IS NOT NULL
      AND (occurred_at, id) < (p_before_at, p_before_id)
      AND occurred_at >= p_since
      AND (p_first_day IS NULL OR local_date >= p_first_day)
      AND (p_last_day IS NULL OR local_date <= p_last_day)
      AND (p_kinds IS NULL OR kind = ANY (p_kinds))
    ORDER BY occurred_at DESC, id DESC
    LIMIT p_limit + 1
$$;

-- Whether the sync cursor of a pull is still valid: ok; reload where the consent is another; reoffer where the database
-- was restored since, so that the epoch or the change at the cursor is another.
CREATE OR REPLACE FUNCTION check_cursor(
    p_patient uuid, current_epoch uuid, visit record, p_epoch uuid, p_seq bigint, p_nonce uuid, p_grant uuid,
    p_grant_version integer
) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN current_epoch <> p_epoch THEN 'reoffer'
        WHEN visit.grant_id IS DISTINCT FROM p_grant OR visit.grant_version <> p_grant_version THEN 'reload'
        WHEN p_seq > 0 AND NOT EXISTS (SELECT FROM record_versions v WHERE v.patient_id = p_patient
                                       AND v.change_seq = p_seq AND v.nonce = p_nonce) THEN 'reoffer'
        ELSE 'ok'
    END;
END $$;

-- When a plan ends: the latest end of its lines, each that of its last regimen; infinity where one has none.
CREATE OR REPLACE FUNCTION ends_of_plan(document json) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
    SELECT max(ends_at) FROM (
        SELECT DISTINCT ON (regimen ->> 'line')
               coalesce((regimen ->> 'valid_to')::timestamptz, 'infinity') AS ends_at
        FROM json_array_elements(document -> 'regimens') WITH ORDINALITY AS listed (regimen, place)
        ORDER BY regimen ->> 'line', place DESC
    ) lines
$$;

-- The records that changed after p_after, in the order of changes, and one more than p_limit. `visible` is false of
-- what the reader could see in an earlier version and no longer may; what was never visible is not among them.
CREATE OR REPLACE FUNCTION changes_after(p_patient uuid, p_after bigint, p_data_from timestamptz, p_limit integer)
RETURNS TABLE (id uuid, kind text, version integer, change_seq bigint, deleted boolean, document json, note text,
               visible boolean)
LANGUAGE sql STABLE AS $$
    SELECT id, kind, version, change_seq, deleted, document, note,
           greatest(occurred_at, valid_to) >= p_data_from AS visible
    FROM records
    WHERE patient_id = p_patient AND change_seq > p_after
      AND (greatest(occurred_at, valid_to) >= p_data_from
           OR EXISTS (SELECT FROM record_versions v
                      WHERE v.patient_id = p_patient AND v.record_id = records.id AND v.document IS NOT NULL
                        AND p_data_from <= greatest((v.document ->> 'occurred_at')::timestamptz,
                            CASE kind WHEN 'treatment' THEN ends_of_plan(v.document) END)))
    ORDER BY change_seq
    LIMIT p_limit + 1
$$;

-- One change as its reader gets it: with the record as it is now, or with the reason why there is none.
CREATE OR REPLACE FUNCTION wire_change(
    kind text, id uuid, version integer, change_seq bigint, visible boolean, deleted boolean, document json, note text
) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT convert_to('{"kind":"' || kind || '","id":"' || id || '","version":' || version || ',"change_seq":'
                      || change_seq, 'UTF8')
           || CASE
               WHEN NOT visible THEN ',"deleted":true,"reason":"withdrawn"'::bytea
               WHEN deleted THEN ',"deleted":true,"reason":"deleted"'::bytea
               ELSE ',"deleted":false,"record":'::bytea || wire(document, note)
           END || '}'::bytea
$$;
