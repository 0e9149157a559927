-- One page of a pull: the records that changed after p_seq, oldest change first, each once and as it is now. The sync
-- cursor is p_seq with what shows that it is still valid: the epoch, the nonce of that change, the grant and its
-- version. outcome: ok with the page, the cursor after it, the head and whether more follows; reload where the consent
-- is another; reoffer where the database was restored; or a refusal of authorize(). What the reader could see and no
-- longer may is withdrawn; what was never visible is not mentioned. Every call writes one audit row.
-- The steps are in read_steps.sql.
CREATE OR REPLACE FUNCTION read_changes_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_action text, p_epoch uuid, p_seq bigint, p_nonce uuid, p_grant uuid,
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
    visit := authorize(p_session, p_user, p_patient, NULL, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome <> 'ok' THEN
        RETURN NEXT;
        RETURN;
    END IF;
    grant_id := visit.grant_id;
    grant_version := visit.grant_version;
    SELECT patient_clocks.epoch INTO epoch FROM patient_clocks WHERE patient_id = p_patient;
    IF p_seq IS NOT NULL THEN
        outcome := check_cursor(p_patient, epoch, visit, p_epoch, p_seq, p_nonce, p_grant, p_grant_version);
    END IF;
    IF outcome <> 'ok' THEN
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', outcome,
                      p_request, p_address);
        RETURN NEXT;
        RETURN;
    END IF;
    -- What is hidden now is read as well: it may have to be withdrawn.
    PERFORM set_config('diary.data_from', '-infinity', true);

    -- The aggregates take the rows as they come, in the order of their numbers: see read_page_v1().
    SELECT array_agg(r.id) FILTER (WHERE number <= p_limit) AS ids,
           string_agg(r.change, ',') FILTER (WHERE number <= p_limit) AS items,
           max(r.change_seq) FILTER (WHERE number <= p_limit) AS last, count(*) > p_limit AS more,
           -- In the same statement, so of the same moment.
           (SELECT patient_clocks.head FROM patient_clocks WHERE patient_id = p_patient) AS head
    INTO page
    FROM (
        SELECT id, change_seq, row_number() OVER () AS number,
               wire_change(kind, id, version, change_seq, visible, deleted, document,
                           CASE WHEN visit.notes THEN note END) AS change
        FROM changes_after(p_patient, after, visit.data_from, p_limit)
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
