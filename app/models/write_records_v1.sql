-- Writes records of one patient, in order, in one transaction, under the patient's clock: there is no other way. The steps
-- are in write_steps.sql. An item is an object with the fields of write_item: `sent` has the columns of `records` that the
-- writer may choose. Its document, the client's fields, comes beside it as text, since it is kept as it is.
-- Without p_scope each kind asks for its own; an item of a kind that may not be written is forbidden.
-- p_epoch: the epoch of which base versions speak; where it is over, nothing is done and the status is reoffer.
-- p_outbox_empty: the device has nothing left to send after these.
-- p_wait: whether to wait for a clock that somebody else holds; where not, the status is busy and nothing is done.
-- Returns one row for an item (a row `empty` without any; the last row has the head), or a single row with a refusal
-- of authorize() as its status; quota_used where the day has seen as many changes as it may. version and change_seq are
-- what the item made, or found; where others changed the record after that, the item is overtaken. An item that lies
-- before the window of a grant is outside_window. Without p_scope a record that was written is not shown: its writer has
-- it, unless it was brought back.
-- What a consent does not open is compared all the same, and shown to nobody: an id may be taken by it.
-- However many items: the tables see a constant number of statements, unless a record or mutation comes twice.
CREATE OR REPLACE FUNCTION write_records_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_scope text, p_action text, p_items json, p_documents text[],
    p_outbox_empty boolean, p_epoch uuid, p_request uuid, p_address inet, p_wait boolean
) RETURNS SETOF write_outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    clock patient_clocks := lock_clock(p_session, p_patient, p_scope, p_wait);
    old_head bigint := clock.head;
    visit record;
    items write_item[];
    ids uuid[];
    mutations uuid[];
    step integer;
    settled record;
    refused uuid[] := '{}';
    outcomes text[] := '{}';
    outcome write_outcome;
BEGIN
    outcome.epoch := clock.epoch;
    IF clock.patient_id IS NULL AND NOT p_wait THEN
        outcome.status := 'busy';  -- or not allowed to: that is told, and audited, when the call comes alone
    ELSE
        visit := authorize(p_session, p_user, p_patient, p_scope, p_action, p_request, p_address);
        outcome.status := visit.outcome;
        IF visit.outcome = 'ok' AND (clock.epoch IS NULL OR p_epoch <> clock.epoch
                                     OR is_full(clock) AND cardinality(p_documents) > 0) THEN
            outcome.status := refuse_by_clock(visit, p_session, p_patient, p_scope, p_action, clock, p_request, p_address);
        END IF;
    END IF;
    IF outcome.status <> 'ok' THEN
        RETURN NEXT outcome;
        RETURN;
    END IF;
    IF visit.grant_id IS NOT NULL THEN
        PERFORM set_config('diary.data_from', '-infinity', true), set_config('diary.kinds', all_kinds()::text, true);
    END IF;
    SELECT * INTO items, ids, mutations FROM read_items(p_items, p_documents, clock.previous_epoch, visit.notes);
    step := CASE WHEN cardinality(ids) > 1 AND repeats(ids, mutations) THEN 1 ELSE cardinality(p_documents) END;
    FOR start IN 1..cardinality(p_documents) BY greatest(step, 1) LOOP
        settled := settle(p_session, p_patient, p_scope, visit, look_up(p_patient, items, ids, mutations, start, step, clock),
                          clock.head, visit.born, refused, outcomes);
        IF settled.head > clock.head THEN
            PERFORM store(p_patient, settled.items, settled.written, settled.outcomes && '{updated,deleted}');
        END IF;
        clock.head := settled.head;
        visit.born := settled.born;
        refused := settled.refused;
        outcomes := settled.outcomes;
        FOREACH outcome IN ARRAY respond(settled.items, p_scope, visit, p_patient, clock) LOOP
            RETURN NEXT outcome;
        END LOOP;
    END LOOP;
    IF step = 0 THEN
        outcome.status := 'empty';
        outcome.head := clock.head;
        RETURN NEXT outcome;
    END IF;
    PERFORM conclude(p_session, p_patient, p_action, old_head, clock.head, p_outbox_empty AND refused = '{}',
                     visit, coalesce(ids, '{}'), outcomes, p_request, p_address);
END $$;
