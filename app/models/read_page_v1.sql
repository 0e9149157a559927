-- One page of a diary, newest first: of the kinds in p_kinds, or of all that the consent covers. It begins after the
-- keyset (p_before_at, p_before_id); dates are the records' own local dates, both ends included.
-- outcome: ok with the items of the page as JSON text, and the keyset of the last one where a further page follows;
-- unmodified, with no row read, where the `etag` of the diary for this reader is among p_known_etags; consent_changed
-- where the page before was of another consent than p_consent; drafted; or a refusal of authorize(). Every call writes
-- one audit row, except a draft.
-- A replica cannot write to the audit table: it drafts a page (p_drafting) and returns the ids of its records. The page
-- is sent only when the primary, called with the etag (p_draft) and the ids (p_drafted) of the draft, responds drafted:
-- then consent and diary are unchanged and the audit row is written. Else the primary responds with the page itself.
-- Of what was agreed and of changes of plans it has what begins until p_planned_to (NULL: all), and planned_at is when
-- the next of them is due: until then the page stays what it is while the diary does not move.
-- plan_bytes: how much of plans was read for their names and changes, which is what such a page costs.
-- The steps are in read_steps.sql; what is particular to treatments is in treatments.sql. Over 60 lines because one
-- query needs its values as plain ones here, and a further step in plpgsql would cost every page its call.
CREATE OR REPLACE FUNCTION read_page_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_scope text, p_action text, p_kinds text[],
    p_first_day date, p_last_day date, p_region text, p_character text, p_scale text, p_min_score numeric,
    p_treatment uuid, p_planned_to timestamptz, p_before_at timestamptz, p_before_id uuid, p_consent text,
    p_limit integer, p_known_etags text[], p_drafting boolean, p_draft text, p_drafted uuid[], p_request uuid,
    p_address inet
) RETURNS TABLE (outcome text, etag text, items bytea, last_at timestamptz, last_id uuid, consent text, ids uuid[],
                 plan_bytes bigint, planned_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
-- One plan, whatever the statistics say or do not say yet: along the keyset index, and made once.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    visit record;
    parts record;
    -- Plain values: row security keeps an expression such as coalesce() out of the index condition, as it might leak.
    earliest timestamptz := coalesce(p_first_day - interval '1 day', '-infinity');
    since timestamptz;
    -- One upper end: of two the scan would take the keyset, and walk from there down to p_last_day.
    before_at timestamptz := coalesce(p_last_day + interval '2 days', 'infinity');
    before_id uuid := '00000000-0000-0000-0000-000000000000';
    planned_before_at timestamptz;
    planned_before_id uuid;
BEGIN
    IF p_drafting AND NOT pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a primary drafts nothing: what it shows it writes down';
    END IF;
    IF p_before_at < before_at THEN
        before_at := p_before_at;
        before_id := p_before_id;
    END IF;
    planned_before_at := least(before_at, p_planned_to);
    planned_before_id := CASE WHEN p_planned_to < before_at THEN 'ffffffff-ffff-ffff-ffff-ffffffffffff' ELSE before_id END;
    visit := authorize(p_session, p_user, p_patient, p_scope, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome = 'ok' THEN
        -- The head is read before the rows: an ETag may be too old, never too new.
        consent := tag_of_consent(visit.grant_id, visit.grant_version);
        SELECT diary.etag INTO etag FROM etag_of_diary(p_patient, consent) AS diary;
        outcome := respond_without_rows(visit, etag, p_known_etags, consent, p_consent, p_draft, p_drafted, p_session,
                                        p_patient, p_action, p_request, p_address);
    END IF;
    IF outcome <> 'ok' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    since := greatest(earliest, visit.data_from);
    parts := page_parts(p_patient, p_kinds, p_planned_to);
    plan_bytes := parts.plan_bytes;
    planned_at := parts.planned_at;
    -- The aggregates take the rows as they come, in the order of their numbers: nothing between could change it.
    SELECT coalesce(array_agg(r.record_id) FILTER (WHERE number <= p_limit), '{}'),
           coalesce(string_agg(wire(r.document, CASE WHEN visit.notes THEN r.note END), ',')
                    FILTER (WHERE number <= p_limit), ''),
           CASE WHEN count(*) > p_limit THEN max(r.occurred_at) FILTER (WHERE number = p_limit) END,
           CASE WHEN count(*) > p_limit THEN min(r.id::text) FILTER (WHERE number = p_limit) END
    INTO ids, items, last_at, last_id
    FROM (
        SELECT id, record_id, occurred_at, document, note, row_number() OVER () AS number
        FROM (
            SELECT * FROM page_of_moments(
                parts.happened, p_patient, before_at, before_id, since, p_first_day, p_last_day, p_kinds,
                p_region, p_character, p_scale, p_min_score, p_treatment, p_limit, parts.labels)
            UNION ALL
            SELECT * FROM page_of_agreed(
                parts.agreed, p_patient, planned_before_at, planned_before_id, earliest, p_first_day, p_last_day, p_kinds,
                p_limit)
            UNION ALL
            SELECT * FROM page_of_treatment_changes(
                parts.changes, planned_before_at, planned_before_id, since, p_first_day, p_last_day)
            ORDER BY occurred_at DESC, id DESC
            LIMIT p_limit + 1
        ) newest
    ) r;
    IF p_drafting IS NOT TRUE THEN
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, ids, outcome, p_request,
                      p_address);
        ids := NULL;
    END IF;
    RETURN NEXT;
END $$;
