-- The steps of write_records_v1(), in their order.

-- Locks the patient's clock for somebody with consent to write; NULL where there is neither, or it is not waited for.
-- A statement of its own: what follows must see what the previous holder of the lock committed. A stranger is not let
-- near the lock, and can neither hold it up nor wait for it.
CREATE OR REPLACE FUNCTION lock_clock(p_session uuid, p_patient uuid, p_scope text, p_wait boolean) RETURNS patient_clocks
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    clock patient_clocks;
BEGIN
    IF p_wait THEN
        SELECT * INTO clock FROM patient_clocks
        WHERE patient_id = p_patient AND EXISTS (SELECT FROM consent_to_write(p_session, p_patient, p_scope))
        FOR UPDATE;
    ELSE
        SELECT * INTO clock FROM patient_clocks
        WHERE patient_id = p_patient AND EXISTS (SELECT FROM consent_to_write(p_session, p_patient, p_scope))
        FOR UPDATE SKIP LOCKED;
    END IF;
    RETURN clock;
END $$;

-- Whether the diary has seen as many changes today as the service lets it (diary.changes_per_day; 0 or none: any number).
-- (Of SQL and STABLE: PostgreSQL then expands it in place.)
CREATE OR REPLACE FUNCTION is_full(clock patient_clocks) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce(clock.head - clock.head_before_day
                    >= nullif(nullif(current_setting('diary.changes_per_day', true), ''), '0')::bigint
                    AND clock.day = current_date, false)
$$;

-- The refusal of an authorized writer for whom there is no clock, whose base versions speak of an epoch that is over, or
-- who comes when the day is full.
CREATE OR REPLACE FUNCTION refuse_by_clock(
    visit record, p_session uuid, p_patient uuid, p_scope text, p_action text, clock patient_clocks, p_request uuid,
    p_address inet
) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    outcome text := CASE WHEN is_full(clock) THEN 'quota_used' WHEN clock.epoch IS NOT NULL THEN 'reoffer'
                         WHEN p_scope IS NULL THEN 'insufficient_scope' ELSE 'not_found' END;
BEGIN
    PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', outcome, p_request,
                  p_address);
    RETURN outcome;
END $$;

-- The items that were sent, in their order. Of an epoch longer ago than the last nobody knows what came later; who does
-- not see notes has no whole version to offer.
-- (Of SQL and STABLE: PostgreSQL then expands it in place.)
CREATE OR REPLACE FUNCTION read_items(p_items json, p_documents text[], previous_epoch uuid, notes boolean)
RETURNS TABLE (items write_item[], ids uuid[], mutations uuid[])
LANGUAGE sql STABLE AS $$
    SELECT array_agg(ROW(sent, text, base_version, coalesce(after_refused, false), coalesce(undeletes, false), mutation_id,
                         scale_birth_dates, reoffer,
                         CASE WHEN reoffer IS NULL THEN NULL
                              WHEN reoffer = previous_epoch AND notes THEN was_version ELSE 0 END,
                         held, held_was, earlier, status, hidden, overtaken)::write_item),
           array_agg((sent).id), array_agg(mutation_id)
    FROM ROWS FROM (json_populate_recordset(NULL::write_item, p_items), unnest(p_documents)) AS one (
        sent, document, base_version, after_refused, undeletes, mutation_id, scale_birth_dates, reoffer, was_version,
        held, held_was, earlier, status, hidden, overtaken, text)
$$;

-- Whether a record or a mutation comes twice among the items: then each is decided on what the one before left.
CREATE OR REPLACE FUNCTION repeats(ids uuid[], mutations uuid[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM unnest(ids || mutations) AS named WHERE named IS NOT NULL GROUP BY named HAVING count(*) > 1);
END $$;

-- Of the items from `start` on, what the diary holds where they are to go: the records, the changes that their mutations made, and of records that
-- are created again their first version.
CREATE OR REPLACE FUNCTION look_up(
    p_patient uuid, items write_item[], ids uuid[], mutations uuid[], start integer, step integer, clock patient_clocks
) RETURNS write_item[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found uuid[] := '{}';
    held records;
    earlier record_versions;
    n integer;
BEGIN
    IF step < cardinality(items) THEN
        items := items[start:start + step - 1];
        ids := ids[start:start + step - 1];
        mutations := mutations[start:start + step - 1];
    END IF;
    FOR held IN SELECT * FROM records WHERE patient_id = p_patient AND id = ANY (ids) LOOP
        items[array_position(ids, held.id)].held := held;
        found := found || held.id;
    END LOOP;
    IF cardinality(array_remove(mutations, NULL)) > 0 THEN
        FOR earlier IN SELECT * FROM record_versions
                       WHERE patient_id = p_patient AND mutation_id = ANY (array_remove(mutations, NULL)) LOOP
            items[array_position(mutations, earlier.mutation_id)].earlier := earlier;
        END LOOP;
    END IF;
    IF found = '{}' THEN
        RETURN items;
    END IF;
    FOR earlier IN SELECT * FROM record_versions
                   WHERE patient_id = p_patient AND record_id = ANY (found) AND version = 1 LOOP
        n := array_position(ids, earlier.record_id);
        IF items[n].base_version = 0 AND items[n].earlier IS NULL THEN
            items[n].earlier := earlier;
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM unnest(items) AS one WHERE one.was_version IS NOT NULL) THEN
        FOR earlier IN SELECT v.* FROM records r JOIN record_versions v USING (patient_id, change_seq)
                       WHERE r.patient_id = p_patient AND r.id = ANY (found) LOOP
            items[array_position(ids, earlier.record_id)].held_was := CASE
                WHEN earlier.change_seq > clock.restored_head THEN earlier.reoffered_version
                ELSE earlier.version END;
        END LOOP;
    END IF;
    RETURN items;
END $$;

-- What is to become of an item: created, updated, deleted; unchanged where it is already so;
-- conflict, missing or reused where it is refused. What is offered again after a restore was `was_version` in the epoch
-- before; what is held was `held_was` there, NULL where it was written since: then somebody has to look. The later
-- version stays. What is deleted comes back by name only (`undeletes`), or where it had come back in the epoch before.
CREATE OR REPLACE FUNCTION decide(
    item records, base_version integer, after_refused boolean, undeletes boolean, mutation_id uuid, was_version integer,
    keep_note boolean, held records, held_was integer, earlier record_versions
) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    same boolean := held.content_hash = item.content_hash AND (keep_note OR held.note IS NOT DISTINCT FROM item.note);
    replay boolean := earlier.record_id = item.id AND earlier.deleted = item.deleted
        AND (item.deleted OR (earlier.content_hash = item.content_hash AND (keep_note OR item.note IS NOT DISTINCT FROM
             CASE WHEN earlier.change_seq = held.change_seq THEN held.note ELSE earlier.note END)));
BEGIN
    RETURN CASE
        WHEN mutation_id IS NOT NULL AND earlier.mutation_id = mutation_id
            THEN CASE WHEN replay THEN 'unchanged' ELSE 'reused' END
        WHEN held.id IS NULL AND was_version IS NOT NULL
            THEN CASE WHEN item.deleted THEN 'deleted' ELSE 'created' END  -- a tombstone, that nobody brings it back
        WHEN held.id IS NULL THEN CASE WHEN base_version = 0 AND NOT item.deleted THEN 'created' ELSE 'missing' END
        WHEN held.kind <> item.kind THEN 'conflict'
        WHEN held.deleted THEN CASE
            WHEN item.deleted THEN 'unchanged'
            WHEN was_version > held_was THEN 'updated'
            WHEN undeletes AND NOT after_refused AND held.version = base_version AND item.content_hash IS NOT NULL
                THEN 'updated'
            ELSE 'conflict' END
        WHEN undeletes THEN CASE WHEN after_refused THEN 'conflict' ELSE 'unchanged' END
        WHEN was_version IS NOT NULL THEN CASE
            WHEN held_was IS NULL OR was_version = 0 THEN CASE WHEN same THEN 'unchanged' ELSE 'conflict' END
            WHEN held_was >= was_version THEN 'unchanged'
            WHEN item.deleted THEN 'deleted'
            ELSE 'updated' END
        WHEN base_version = 0 AND replay THEN 'unchanged'
        WHEN NOT item.deleted AND (base_version > 0 AND NOT after_refused OR mutation_id IS NOT NULL) AND same
            THEN 'unchanged'
        WHEN after_refused OR held.version <> base_version THEN 'conflict'
        WHEN item.deleted THEN 'deleted'
        ELSE 'updated'
    END;
END $$;

-- The next version of what is held, with all that is held of it but the note.
CREATE OR REPLACE FUNCTION following(sent records, held records) RETURNS records
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    held.version := sent.version;
    held.change_seq := sent.change_seq;
    held.received_at := sent.received_at;
    held.author_id := sent.author_id;
    held.session_id := sent.session_id;
    held.deleted := sent.deleted;
    held.content_hash := sent.content_hash;
    held.note := NULL;
    RETURN held;
END $$;

-- The version of what is deleted: its times stay, and what else SQL knows of it, for it may come back; and an import that
-- is repeated does not bring it back. Where they were lost with it, it lies before every window: nobody but those who see
-- everything is told.
CREATE OR REPLACE FUNCTION tombstone(sent records, held records) RETURNS records
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF held.id IS NOT NULL THEN
        RETURN following(sent, held);
    END IF;
    sent.occurred_at := '-infinity';
    sent.utc_offset := 0;
    sent.time_zone := 'UTC';
    sent.local_date := '-infinity';
    sent.valid_to := CASE WHEN sent.kind = ANY (kinds_that_hold('interval')) THEN '-infinity' END;
    sent.performer := 'self';
    RETURN sent;
END $$;

-- The version in which a tombstone is what it was before, to the letter, flags included.
CREATE OR REPLACE FUNCTION brought_back(sent records, tombstone records, before record_versions) RETURNS records
LANGUAGE plpgsql STABLE AS $$
DECLARE
    told text := server_fields(tombstone.kind, before.record_id, before.patient_id, before.version, before.change_seq,
                               before.deleted, before.author_id, before.received_at);
BEGIN
    sent := following(sent, tombstone);
    sent.note := before.note;
    sent.document := server_fields(sent.kind, sent.id, sent.patient_id, sent.version, sent.change_seq, sent.deleted,
                                   sent.author_id, sent.received_at)
                     || substr(before.document::text, length(told) + 1);
    RETURN sent;
END $$;

-- Decides each item for this writer, as decide() says unless it is forbidden, lies before the window of the grant, or
-- would tell of what the writer may not see; and completes in memory what is to be written, from `head` on. What was
-- deleted is brought back by the patient, or by who deleted it. Over 60 lines because a further function would be called,
-- with a copy of the record, for each item of every push.
CREATE OR REPLACE FUNCTION settle(
    p_session uuid, p_patient uuid, p_scope text, visit record,
    INOUT items write_item[], INOUT head bigint, INOUT born daterange, INOUT refused uuid[], INOUT outcomes text[],
    OUT written records[]
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    item write_item;
    sent records;
    held records;
    earlier record_versions;
    before record_versions;  -- what is deleted
    scope text;
BEGIN
    FOR n IN 1..cardinality(items) LOOP
        item := items[n];
        sent := item.sent;
        held := item.held;
        earlier := item.earlier;
        scope := write_scope(sent.kind);
        sent.content_hash := sha256(convert_to(item.document, 'UTF8'));
        IF item.undeletes THEN
            SELECT * INTO before FROM record_versions v
            WHERE v.patient_id = p_patient AND v.record_id = sent.id AND v.version = item.base_version - 1;
            sent.content_hash := before.content_hash;
            sent.note := before.note;
        END IF;
        item.after_refused := item.after_refused OR item.base_version > 0 AND sent.id = ANY (refused);
        item.hidden := coalesce(NOT held.kind = ANY (visit.kinds)
                                OR greatest(held.occurred_at, held.valid_to) < visit.data_from, false);
        item.status := CASE
            WHEN scope IS NULL THEN 'forbidden'  -- a kind that nobody declared
            WHEN p_scope IS NULL AND NOT scope = ANY (visit.scopes) THEN 'forbidden'
            WHEN item.hidden THEN CASE WHEN item.base_version = 0 THEN 'conflict' ELSE 'missing' END
            WHEN NOT sent.deleted AND greatest(sent.occurred_at, sent.valid_to) < visit.data_from THEN 'outside_window'
            ELSE decide(sent, item.base_version, item.after_refused, item.undeletes, item.mutation_id, item.was_version,
                        NOT visit.notes, held, item.held_was, earlier) END;
        IF item.undeletes AND item.status = 'updated' AND NOT (visit.own OR held.author_id = visit.actor) THEN
            item.status := 'not_theirs';
        END IF;
        item.overtaken := item.status = 'unchanged' AND earlier.change_seq < held.change_seq
            AND (earlier.mutation_id = item.mutation_id OR item.mutation_id IS NOT NULL AND item.was_version IS NULL
                 AND (held.content_hash <> sent.content_hash OR visit.notes AND held.note IS DISTINCT FROM sent.note));
        IF item.status IN ('created', 'updated', 'deleted') THEN
            head := head + 1;
            sent.patient_id := p_patient;
            sent.version := coalesce(held.version, 0) + 1;
            sent.change_seq := head;
            sent.received_at := clock_timestamp();
            sent.author_id := visit.actor;
            sent.session_id := p_session;
            IF item.undeletes THEN
                sent := brought_back(sent, held, before);
            ELSE
                IF item.status = 'deleted' THEN
                    sent := tombstone(sent, held);
                ELSIF item.status = 'updated' AND NOT visit.notes THEN
                    sent.note := held.note;
                END IF;
                IF sent.id = p_patient THEN
                    born := follow_profile(p_patient, sent, item.document::json, born);
                END IF;
                sent.document := compose(sent, item.document, item.scale_birth_dates, born);
            END IF;
            item.sent := sent;
            written := written || sent;
        ELSIF item.status <> 'unchanged' THEN
            refused := refused || sent.id;
        END IF;
        IF NOT item.status = ANY (outcomes) THEN
            outcomes := outcomes || item.status;
        END IF;
        items[n] := item;
    END LOOP;
END $$;

-- Stores new versions in the place of what was held, which moves to the history. Deleting and inserting is as cheap as an
-- update, since change_seq is indexed, and no column can be forgotten.
CREATE OR REPLACE FUNCTION store(p_patient uuid, items write_item[], written records[], replaces boolean) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF replaces THEN
        UPDATE record_versions v SET document = (old.held).document, note = (old.held).note
        FROM unnest(items) AS old
        WHERE old.status IN ('updated', 'deleted') AND v.patient_id = p_patient AND v.change_seq = (old.held).change_seq;
        DELETE FROM records r USING unnest(items) AS old
        WHERE old.status IN ('updated', 'deleted') AND r.patient_id = p_patient AND r.id = (old.held).id;
    END IF;
    INSERT INTO records SELECT * FROM unnest(written);
    INSERT INTO record_versions (patient_id, change_seq, record_id, version, mutation_id, author_id, session_id,
                                 received_at, deleted, content_hash, reoffered_version)
    SELECT p_patient, (new.sent).change_seq, (new.sent).id, (new.sent).version, new.mutation_id, (new.sent).author_id,
           (new.sent).session_id, (new.sent).received_at, (new.sent).deleted, (new.sent).content_hash,
           nullif(new.was_version, 0)
    FROM unnest(items) AS new WHERE new.status IN ('created', 'updated', 'deleted');
END $$;

-- What sign-in and panels show of the patient, and by what scales are judged, follows the profile: the birth date.
CREATE OR REPLACE FUNCTION follow_profile(p_patient uuid, sent records, document json, known daterange) RETURNS daterange
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF sent.kind = 'profile' AND NOT sent.deleted THEN
        UPDATE patients p SET birth_date = (document ->> 'birth_date')::date,
                              birth_date_precision = coalesce(document ->> 'birth_date_precision', 'day'),
                              time_zone = sent.time_zone, locale = coalesce(document ->> 'locale', p.locale)
        WHERE p.id = p_patient
        RETURNING born(p.birth_date, p.birth_date_precision) INTO known;
    END IF;
    RETURN known;
END $$;

-- What the writer is told of an item, and the record as it is now where it may be shown. Without p_scope a record that was
-- written is not: its writer has it, unless it was brought back.
CREATE OR REPLACE FUNCTION respond(items write_item[], p_scope text, visit record, p_patient uuid, clock patient_clocks)
RETURNS write_outcome[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    item write_item;
    sent records;
    now records;
    written boolean;
    outcome write_outcome;
    outcomes write_outcome[];
BEGIN
    outcome.head := clock.head;
    outcome.epoch := clock.epoch;
    FOREACH item IN ARRAY items LOOP
        sent := item.sent;
        written := item.status IN ('created', 'updated', 'deleted');
        now := CASE WHEN written THEN sent ELSE item.held END;
        outcome.status := item.status;
        outcome.id := sent.id;
        outcome.overtaken := item.overtaken;
        outcome.version := CASE WHEN item.overtaken THEN (item.earlier).version WHEN NOT item.hidden THEN now.version END;
        outcome.change_seq :=
            CASE WHEN item.overtaken THEN (item.earlier).change_seq WHEN NOT item.hidden THEN now.change_seq END;
        outcome.deleted := now.deleted AND now.kind = sent.kind AND NOT item.hidden;
        outcome.record := CASE
            WHEN now.kind = sent.kind AND NOT now.deleted AND NOT item.hidden AND (item.undeletes OR NOT (written AND p_scope IS NULL)) THEN
                wire(CASE WHEN now.treatment_id IS NULL OR p_scope IS NULL THEN now.document
                          ELSE beside_treatment(now.document, p_patient, visit.data_from) END,
                     CASE WHEN visit.notes THEN now.note END) END;
        outcomes := outcomes || outcome;
    END LOOP;
    RETURN outcomes;
END $$;

-- The last of a write: the clock, what the device says of its outbox, and the trail.
CREATE OR REPLACE FUNCTION conclude(
    p_session uuid, p_patient uuid, p_action text, old_head bigint, head bigint, outbox_empty boolean, visit record,
    ids uuid[], outcomes text[], p_request uuid, p_address inet
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
BEGIN
    IF head > old_head THEN
        UPDATE patient_clocks SET head = conclude.head, day = current_date,
                                  head_before_day = CASE WHEN day = current_date THEN head_before_day ELSE old_head END
        WHERE patient_id = p_patient;
    END IF;
    IF outbox_empty THEN
        UPDATE sessions s SET outbox_empty_at = clock_timestamp(), has_sent = true WHERE s.id = p_session;
    ELSIF NOT visit.has_sent THEN
        -- A device that pushes has an outbox, but none from before it signed in. A plain write leaves nothing waiting.
        UPDATE sessions s SET has_sent = true, outbox_empty_at = CASE p_action WHEN 'sync.push' THEN coalesce(
            s.outbox_empty_at, s.created_at) ELSE s.outbox_empty_at END WHERE s.id = p_session;
    END IF;
    PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, ids,
                  coalesce(nullif(array_to_string(outcomes, ','), ''), 'ok'), p_request, p_address);
END $$;
