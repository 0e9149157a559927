-- One page of what a diary holds, newest first, after the keyset (p_before_at, p_before_id). Dates are the
-- records' own local dates, both ends included. Without p_kinds everything that the consent opens is there.
-- `etag` names the state of the diary for this reader; where it is among p_known_etags the outcome is unmodified
-- and no row is read.
-- A replica, which can audit nothing, drafts a page (p_drafting) with the ids that it shows. The page is shown only when
-- the primary, asked with the ETag and the ids of the draft, answers drafted: then consent and diary are still the
-- same, and what is shown is in the trail. Else the primary answers with the page itself.
CREATE OR REPLACE FUNCTION read_page_v1(
    p_session uuid, p_patient uuid, p_scope text, p_action text, p_kinds text[], p_first_day date, p_last_day date,
    p_region text, p_character text, p_scale text, p_min_score numeric, p_treatment uuid,
    p_before_at timestamptz, p_before_id uuid, p_limit integer, p_known_etags text[], p_drafting boolean,
    p_draft text, p_drafted uuid[], p_request uuid, p_address inet
) RETURNS TABLE (outcome text, etag text, items bytea, last_at timestamptz, last_id uuid, ids uuid[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
-- One plan, whatever the statistics say or do not say yet: along the keyset index, and made once.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    visit record;
    page record;
    labels jsonb;
    happened boolean := p_kinds IS NULL OR p_kinds && kinds_that_hold('moment');
    agreed boolean := p_kinds IS NULL OR p_kinds && (kinds_that_hold('interval') || kinds_that_hold('singleton'));
    changed boolean := p_kinds IS NULL OR 'treatment_change' = ANY (p_kinds);
    -- Plain values: row security keeps an expression such as coalesce() out of the index condition, as it might leak.
    -- One place to start from: of two the scan would take the keyset, and walk from there down to p_last_day.
    earliest timestamptz := coalesce(p_first_day - interval '1 day', '-infinity');
    before_at timestamptz := coalesce(p_last_day + interval '2 days', 'infinity');
    before_id uuid := '00000000-0000-0000-0000-000000000000';
    since timestamptz;
BEGIN
    IF p_drafting AND NOT pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a primary drafts nothing: what it shows it writes down';
    END IF;
    IF p_before_at < before_at THEN
        before_at := p_before_at;
        before_id := p_before_id;
    END IF;
    visit := authorize(p_session, p_patient, p_scope, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome <> 'ok' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- The head is read before the rows: an ETag may be too old, never too new.
    SELECT left(epoch::text, 8) || '-' || head || '-' || coalesce(left(visit.grant_id::text, 8), 'own') || '-'
           || visit.grant_version INTO etag
    FROM patient_clocks WHERE patient_id = p_patient;
    IF p_known_etags && ARRAY[etag, '*'] THEN
        outcome := 'unmodified';
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', outcome,
                      p_request, p_address);
        RETURN NEXT;
        RETURN;
    ELSIF etag = p_draft THEN
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, p_drafted, outcome,
                      p_request, p_address);
        outcome := 'drafted';
        RETURN NEXT;
        RETURN;
    END IF;

    since := greatest(earliest, visit.data_from);
    IF p_kinds IS NULL OR 'treatment_event' = ANY (p_kinds) THEN
        -- Of few records; a diary without a plan skips what follows from plans.
        SELECT jsonb_object_agg(id, treatment_label(document)) FILTER (WHERE kind = 'treatment'),
               agreed AND count(*) > 0, changed AND bool_or(kind = 'treatment')
        INTO labels, agreed, changed
        FROM records WHERE patient_id = p_patient AND valid_to IS NOT NULL AND NOT deleted;
    END IF;
    -- The aggregates take the rows as they come, in the order of the places: nothing lies between that could change it.
    SELECT array_agg(r.record_id) FILTER (WHERE place <= p_limit) AS ids,
           string_agg(wire(r.document, CASE WHEN visit.notes THEN r.note END), ',') FILTER (WHERE place <= p_limit) AS items,
           max(r.occurred_at) FILTER (WHERE place = p_limit) AS last_at,
           min(r.id::text) FILTER (WHERE place = p_limit) AS last_id,
           count(*) > p_limit AS more
    INTO page
    FROM (
        SELECT id, record_id, occurred_at, document, note, row_number() OVER () AS place
        FROM (
            -- What happened, along the keyset; what was agreed, along an index of its own, for it is rare.
            (SELECT id, id AS record_id, occurred_at, note,
                    CASE WHEN treatment_id IS NULL THEN document
                         ELSE with_treatment(document, labels -> treatment_id::text) END AS document
             FROM records
             WHERE happened AND patient_id = p_patient AND NOT deleted AND valid_to IS NULL
               AND (occurred_at, id) < (before_at, before_id)
               AND occurred_at >= since
               AND (p_first_day IS NULL OR local_date >= p_first_day)
               AND (p_last_day IS NULL OR local_date <= p_last_day)
               AND (p_kinds IS NULL OR kind = ANY (p_kinds))
               AND (p_region IS NULL OR p_region = ANY (regions))
               AND (p_character IS NULL OR p_character = ANY (characters))
               AND (p_scale IS NULL OR scale = p_scale)
               AND (p_min_score IS NULL OR worst_score >= p_min_score)
               AND (p_treatment IS NULL OR treatment_id = p_treatment)
             ORDER BY occurred_at DESC, id DESC
             LIMIT p_limit + 1)
            UNION ALL
            (SELECT id, id, occurred_at, note, document
             FROM records
             WHERE agreed AND patient_id = p_patient AND NOT deleted AND valid_to IS NOT NULL
               AND (occurred_at, id) < (before_at, before_id)
               AND occurred_at >= earliest
               AND (p_first_day IS NULL OR local_date >= p_first_day)
               AND (p_last_day IS NULL OR local_date <= p_last_day)
               AND (p_kinds IS NULL OR kind = ANY (p_kinds))
             ORDER BY occurred_at DESC, id DESC
             LIMIT p_limit + 1)
            UNION ALL
            SELECT id, treatment_id, occurred_at, NULL, document
            FROM treatment_changes(p_patient)
            WHERE changed
              AND (occurred_at, id) < (before_at, before_id)
              AND occurred_at >= since
              AND (p_first_day IS NULL OR local_date >= p_first_day)
              AND (p_last_day IS NULL OR local_date <= p_last_day)
            ORDER BY occurred_at DESC, id DESC
            LIMIT p_limit + 1
        ) newest
    ) r;

    items := coalesce(page.items, '');
    IF page.more THEN
        last_at := page.last_at;
        last_id := page.last_id;
    END IF;
    IF p_drafting THEN
        ids := coalesce(page.ids, '{}');
    ELSE
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, coalesce(page.ids, '{}'),
                      outcome, p_request, p_address);
    END IF;
    RETURN NEXT;
END $$;
