-- write_records_v1() for items of which some were imported, each from one record of another system (`source`): an import
-- that is repeated comes with new ids, and is no second record. Whatever else is written does not come by here.
-- An item whose source record the diary holds, under an id that the first import chose, goes to that: a create is then the
-- repetition that it is, and a change by whoever believes to hold another record is a conflict. What follows it in the
-- same call under its own id goes there as well. The outcome has the id that it went to.
CREATE OR REPLACE FUNCTION write_imports_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_scope text, p_action text, p_items json, p_documents text[],
    p_outbox_empty boolean, p_epoch uuid, p_request uuid, p_address inet, p_wait boolean
) RETURNS SETOF write_outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    clock patient_clocks := lock_clock(p_session, p_patient, p_scope, p_wait);
    outcome write_outcome;
BEGIN
    IF clock.patient_id IS NULL AND NOT p_wait THEN
        outcome.status := 'busy';
        RETURN NEXT outcome;
        RETURN;
    END IF;
    IF clock.patient_id IS NOT NULL THEN
        PERFORM set_config('diary.patient', p_patient::text, true), set_config('diary.data_from', '-infinity', true),
                set_config('diary.kinds', all_kinds()::text, true);
        p_items := at_their_sources(p_patient, p_items::jsonb);
    END IF;
    RETURN QUERY SELECT * FROM write_records_v1(p_session, p_user, p_patient, p_scope, p_action, p_items, p_documents,
                                                p_outbox_empty, p_epoch, p_request, p_address, p_wait);
END $$;

-- The items with the ids of the records that the diary holds of their sources, or that an item before them makes of it.
CREATE OR REPLACE FUNCTION at_their_sources(p_patient uuid, items jsonb) RETURNS json
LANGUAGE plpgsql STABLE AS $$
DECLARE
    at_source jsonb := '{}';  -- the id of the record, by source
    stands_for jsonb := '{}';  -- the id of the record, by one that was sent
    item jsonb;
    source text;
    own text;
    found text;
    placed jsonb := '[]';
BEGIN
    FOR item IN SELECT * FROM jsonb_array_elements(items) LOOP
        own := item #>> '{sent,id}';
        source := jsonb_build_array(item #> '{sent,kind}', item #> '{sent,source_system}', item #> '{sent,source_record_id}');
        found := stands_for ->> own;
        IF found IS NULL AND item #>> '{sent,source_record_id}' IS NOT NULL THEN
            found := coalesce(at_source ->> source, (
                SELECT id::text FROM records
                WHERE patient_id = p_patient AND kind = item #>> '{sent,kind}'
                  AND source_system = item #>> '{sent,source_system}'
                  AND source_record_id = item #>> '{sent,source_record_id}'), own);
            at_source := at_source || jsonb_build_object(source, found);
            IF found <> own AND item ->> 'base_version' = '0' THEN
                stands_for := stands_for || jsonb_build_object(own, found);
            ELSIF found <> own THEN
                item := item || '{"after_refused": true}';
            END IF;
        END IF;
        placed := placed || jsonb_build_array(jsonb_set(item, '{sent,id}', to_jsonb(coalesce(found, own))));
    END LOOP;
    RETURN placed;
END $$;
