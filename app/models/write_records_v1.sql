-- Writes records of one patient, in order, in one transaction, under the patient's clock. Every writer comes
-- through here. An item is an object with the columns of `records` that the writer may choose, and `base_version`
-- (0 creates), `mutation_id`, `scale_birth_dates`, `was_version` with `reoffer`, the epoch of that version: see
-- decide(). Its document, the client's fields, comes beside it as text, since it is kept as it is.
-- Without p_scope each kind asks for its own; an item of a kind that may not be written is forbidden.
-- p_epoch: the epoch of which base versions speak; where it is over, nothing is done and the status is reoffer.
-- p_outbox_empty: the device has nothing left to send after these.
-- p_wait: whether to wait for a clock that somebody else holds; where not, the status is busy and nothing is done.
-- Returns one row for an item (a row `empty` without any; the last row has the head), or a single row with a refusal
-- of authorise() as its status. item_version and item_change_seq are what the item made, or found; where others
-- changed the record after that, the item is overtaken. An item that lies before the window of a grant is
-- outside_window. Without p_scope a record that was written is not shown: its writer has it.
-- However many items: the tables see a constant number of statements, unless a record or mutation comes twice.
CREATE OR REPLACE FUNCTION write_records_v1(
    p_session uuid, p_patient uuid, p_scope text, p_action text, p_items json, p_documents text[],
    p_outbox_empty boolean, p_epoch uuid, p_request uuid, p_address inet, p_wait boolean
) RETURNS TABLE (status text, item_id uuid, item_version integer, item_change_seq bigint, item_deleted boolean,
                 item_overtaken boolean, item_record bytea, head bigint, epoch uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    clock patient_clocks;
    old_head bigint;
    visit record;
    item records;
    all_items records[];
    all_ids uuid[];
    all_bases integer[];
    all_mutations uuid[];
    all_ages json[];
    all_were integer[];
    items_at_once integer := cardinality(p_documents);
    ids uuid[];
    mutations uuid[];
    helds records[];
    helds_were integer[];
    earliers record_versions[];
    held records;
    earlier record_versions;
    repeated uuid[];
    n integer;
    base integer;
    hidden boolean;
    written boolean;
    birth_date date;
    profiled boolean;
    stored records[];
    stored_mutations uuid[];
    stored_were integer[];
    replaced records[];
    refused uuid[] := '{}';
    outcomes text[] := '{}';
BEGIN
    -- 1. A statement of its own: what follows must see what the previous holder of the lock committed. Somebody
    -- without consent to write is not let near the lock: a stranger can neither hold it up nor wait for it.
    IF p_wait THEN
        SELECT * INTO clock FROM patient_clocks
        WHERE patient_id = p_patient AND EXISTS (SELECT FROM consent_to_write(p_session, p_patient, p_scope))
        FOR UPDATE;
    ELSE
        SELECT * INTO clock FROM patient_clocks
        WHERE patient_id = p_patient AND EXISTS (SELECT FROM consent_to_write(p_session, p_patient, p_scope))
        FOR UPDATE SKIP LOCKED;
        IF clock.patient_id IS NULL THEN
            status := 'busy';  -- or not allowed to: that is told, and audited, when the call comes alone
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    old_head := clock.head;
    epoch := clock.epoch;

    -- 2. Still signed in, still allowed?
    visit := authorise(p_session, p_patient, p_scope, p_action, p_request, p_address);
    IF visit.outcome = 'ok' AND (epoch IS NULL OR p_epoch <> epoch) THEN
        visit.outcome := CASE WHEN epoch IS NOT NULL THEN 'reoffer' WHEN p_scope IS NULL THEN 'insufficient_scope'
                              ELSE 'not_found' END;
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', visit.outcome,
                      p_request, p_address);
    END IF;
    IF visit.outcome <> 'ok' THEN
        status := visit.outcome;
        RETURN NEXT;
        RETURN;
    END IF;

    IF visit.grant_id IS NOT NULL THEN
        -- What the consent does not open is compared here, and shown to nobody: an id may be taken by it.
        PERFORM set_config('diary.data_from', '-infinity', true),
                set_config('diary.kinds', open_kinds('{*}')::text, true);
    END IF;

    -- 3. Read what was sent.
    item.deleted := false;
    SELECT array_agg(sent), array_agg(sent.id) INTO all_items, all_ids FROM json_populate_recordset(item, p_items) AS sent;
    SELECT array_agg(base_version), array_agg(mutation_id), array_agg(scale_birth_dates),
           -- Of an epoch longer ago nobody knows what came later; who does not see notes has no whole version.
           array_agg(CASE WHEN reoffer IS NULL THEN NULL
                          WHEN reoffer = clock.previous_epoch AND visit.notes THEN was_version ELSE 0 END)
    INTO all_bases, all_mutations, all_ages, all_were
    FROM json_to_recordset(p_items) AS sent (
        base_version integer, mutation_id uuid, scale_birth_dates json, was_version integer, reoffer uuid);
    IF items_at_once > 1 AND EXISTS (SELECT FROM unnest(all_ids || all_mutations) AS named
                                     WHERE named IS NOT NULL GROUP BY named HAVING count(*) > 1) THEN
        items_at_once := 1;
    END IF;

    FOR first_item IN 1..cardinality(p_documents) BY greatest(items_at_once, 1) LOOP
        -- 4. Look up what is there: the records, the changes that these mutations made, and of records that are created
        -- again their first version.
        ids := all_ids[first_item:first_item + items_at_once - 1];
        mutations := all_mutations[first_item:first_item + items_at_once - 1];
        helds := array_fill(NULL::records, ARRAY[items_at_once]);
        earliers := array_fill(NULL::record_versions, ARRAY[items_at_once]);
        helds_were := array_fill(NULL::integer, ARRAY[items_at_once]);
        repeated := '{}';
        FOR held IN SELECT * FROM records WHERE patient_id = p_patient AND id = ANY (ids) LOOP
            helds[array_position(ids, held.id)] := held;
            repeated := repeated || held.id;
        END LOOP;
        IF cardinality(array_remove(mutations, NULL)) > 0 THEN
            FOR earlier IN SELECT * FROM record_versions
                           WHERE patient_id = p_patient AND mutation_id = ANY (array_remove(mutations, NULL)) LOOP
                earliers[array_position(mutations, earlier.mutation_id)] := earlier;
            END LOOP;
        END IF;
        IF repeated <> '{}' THEN
            FOR earlier IN SELECT * FROM record_versions
                           WHERE patient_id = p_patient AND record_id = ANY (repeated) AND version = 1 LOOP
                n := array_position(ids, earlier.record_id);
                IF all_bases[first_item + n - 1] = 0 AND earliers[n] IS NULL THEN
                    earliers[n] := earlier;
                END IF;
            END LOOP;
            IF cardinality(array_remove(all_were, NULL)) > 0 THEN
                FOR earlier IN SELECT v.* FROM records r JOIN record_versions v USING (patient_id, change_seq)
                               WHERE r.patient_id = p_patient AND r.id = ANY (repeated) LOOP
                    helds_were[array_position(ids, earlier.record_id)] := CASE
                        WHEN earlier.change_seq > clock.restored_head THEN earlier.reoffered_version
                        ELSE earlier.version END;
                END LOOP;
            END IF;
        END IF;

        -- 5. Decide, and complete in memory what is to be written.
        stored := '{}';
        stored_mutations := '{}';
        stored_were := '{}';
        replaced := '{}';
        birth_date := visit.birth_date;
        profiled := false;
        FOR i IN first_item..first_item + items_at_once - 1 LOOP
            item := all_items[i];
            item.content_hash := sha256(convert_to(p_documents[i], 'UTF8'));
            n := i - first_item + 1;
            held := helds[n];
            earlier := earliers[n];
            -- The version that a refused mutation was to make may since be that of somebody else.
            base := CASE WHEN all_bases[i] > 0 AND item.id = ANY (refused) THEN -1 ELSE all_bases[i] END;
            hidden := coalesce(NOT held.kind = ANY (visit.kinds)
                               OR greatest(held.occurred_at, held.valid_to) < visit.data_from, false);
            status := CASE
                WHEN p_scope IS NULL AND NOT visit.scopes && ARRAY['*', write_scope(item.kind)] THEN 'forbidden'
                WHEN hidden THEN CASE WHEN base = 0 THEN 'conflict' ELSE 'missing' END
                WHEN NOT item.deleted AND greatest(item.occurred_at, item.valid_to) < visit.data_from THEN 'outside_window'
                ELSE decide(item, base, mutations[n], all_were[i], NOT visit.notes, held, helds_were[n], earlier) END;
            written := status IN ('created', 'updated', 'deleted');
            item_id := item.id;
            item_overtaken := status = 'unchanged' AND earlier.change_seq < held.change_seq
                AND (earlier.mutation_id = mutations[n] OR mutations[n] IS NOT NULL AND all_were[i] IS NULL
                     AND (held.content_hash <> item.content_hash OR visit.notes AND held.note IS DISTINCT FROM item.note));
            IF written THEN
                clock.head := clock.head + 1;
                item.patient_id := p_patient;
                item.version := coalesce(held.version, 0) + 1;
                item.change_seq := clock.head;
                item.received_at := clock_timestamp();
                item.author_id := visit.actor;
                item.session_id := p_session;
                IF status = 'deleted' THEN
                    -- Of what was lost with its times nobody but those who see everything is told.
                    item.occurred_at := coalesce(held.occurred_at, '-infinity');
                    item.utc_offset := coalesce(held.utc_offset, 0);
                    item.time_zone := coalesce(held.time_zone, 'UTC');
                    item.local_date := coalesce(held.local_date, '-infinity');
                    item.valid_to := CASE WHEN held.id IS NOT NULL THEN held.valid_to
                                          WHEN item.kind = ANY (kinds_that_hold('interval')) THEN '-infinity' END;
                    item.performer := coalesce(held.performer, 'self');
                ELSIF status = 'updated' AND NOT visit.notes THEN
                    item.note := held.note;
                END IF;
                IF item.kind = 'profile' AND NOT item.deleted THEN
                    profiled := true;
                    birth_date := (p_documents[i]::json ->> 'birth_date')::date;
                END IF;
                item.document := compose(item, p_documents[i], all_ages[i], birth_date);
                IF held.id IS NOT NULL THEN
                    replaced := replaced || held;
                END IF;
                stored := stored || item;
                stored_mutations := stored_mutations || mutations[n];
                stored_were := stored_were || nullif(all_were[i], 0);
                held := item;
            ELSIF status <> 'unchanged' THEN
                refused := refused || item.id;
            END IF;

            item_version := CASE WHEN item_overtaken THEN earlier.version WHEN NOT hidden THEN held.version END;
            item_change_seq := CASE WHEN item_overtaken THEN earlier.change_seq WHEN NOT hidden THEN held.change_seq END;
            item_deleted := held.deleted AND held.kind = item.kind AND NOT hidden;
            item_record := CASE
                WHEN held.kind = item.kind AND NOT held.deleted AND NOT hidden AND NOT (written AND p_scope IS NULL) THEN
                    wire(CASE WHEN held.treatment_id IS NULL OR p_scope IS NULL THEN held.document
                              ELSE beside_treatment(held.document, p_patient, visit.data_from) END,
                         CASE WHEN visit.notes THEN held.note END) END;
            IF NOT status = ANY (outcomes) THEN
                outcomes := outcomes || status;
            END IF;
            head := clock.head;
            RETURN NEXT;
        END LOOP;

        -- 6. Write it.
        IF cardinality(replaced) > 0 THEN
            -- As cheap as an update, since change_seq is indexed, and no column can be forgotten.
            UPDATE record_versions v SET document = old.document, note = old.note
            FROM unnest(replaced) AS old WHERE v.patient_id = p_patient AND v.change_seq = old.change_seq;
            DELETE FROM records r USING unnest(replaced) AS old WHERE r.patient_id = p_patient AND r.id = old.id;
        END IF;
        IF cardinality(stored) > 0 THEN
            INSERT INTO records SELECT * FROM unnest(stored);
            INSERT INTO record_versions (patient_id, change_seq, record_id, version, mutation_id, author_id, session_id,
                                         received_at, deleted, content_hash, reoffered_version)
            SELECT p_patient, new.change_seq, new.id, new.version, stored_mutations[new.ordinality], visit.actor,
                   p_session, new.received_at, new.deleted, new.content_hash, stored_were[new.ordinality]
            FROM unnest(stored) WITH ORDINALITY AS new;
        END IF;
        IF profiled THEN
            -- What sign-in and panels show of the patient, and by what scales are judged, follows the profile.
            UPDATE patients p SET birth_date = (new.document ->> 'birth_date')::date, time_zone = new.time_zone,
                                  locale = coalesce(new.document ->> 'locale', p.locale)
            FROM unnest(stored) AS new WHERE p.id = p_patient AND new.kind = 'profile' AND NOT new.deleted;
            visit.birth_date := birth_date;
        END IF;
    END LOOP;
    IF items_at_once = 0 THEN
        status := 'empty';
        head := clock.head;
        RETURN NEXT;
    END IF;

    IF clock.head > old_head THEN
        UPDATE patient_clocks SET head = clock.head WHERE patient_id = p_patient;
    END IF;
    IF p_outbox_empty AND refused = '{}' THEN
        UPDATE sessions SET outbox_empty_at = clock_timestamp() WHERE id = p_session;
    ELSIF NOT visit.sends THEN
        UPDATE sessions SET outbox_empty_at = '-infinity' WHERE id = p_session;
    END IF;
    PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, coalesce(all_ids, '{}'),
                  coalesce(nullif(array_to_string(outcomes, ','), ''), 'ok'), p_request, p_address);
END $$;
