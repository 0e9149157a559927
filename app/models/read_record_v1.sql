-- One record: outcome ok, gone, missing, or a refusal of authorize().
CREATE OR REPLACE FUNCTION read_record_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_scope text, p_action text, p_kind text, p_id uuid,
    p_request uuid, p_address inet
) RETURNS TABLE (outcome text, item_version integer, item_record bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    visit record;
    held records;
BEGIN
    visit := authorize(p_session, p_user, p_patient, p_scope, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome = 'ok' THEN
        SELECT * INTO held FROM records WHERE patient_id = p_patient AND id = p_id AND kind = p_kind;
        outcome := CASE WHEN held.id IS NULL THEN 'missing' WHEN held.deleted THEN 'gone' ELSE 'ok' END;
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, ARRAY[p_id], outcome,
                      p_request, p_address);
        IF outcome = 'ok' THEN
            item_version := held.version;
            item_record := wire(CASE WHEN held.treatment_id IS NULL THEN held.document
                                     ELSE beside_treatment(held.document, p_patient, visit.data_from) END,
                                CASE WHEN visit.notes THEN held.note END);
        END IF;
    END IF;
    RETURN NEXT;
END $$;
