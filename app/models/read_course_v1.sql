-- course() for whoever may read adherence, though the consent may not open the records themselves. What lies before
-- the window of a grant stays hidden; `data_from` is its start, NULL where there is none, and time_zone the patient's.
CREATE OR REPLACE FUNCTION read_course_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_scope text, p_action text, p_first_day date, p_last_day date,
    p_limit integer, p_request uuid, p_address inet
) RETURNS TABLE (outcome text, data_from timestamptz, time_zone text, outbox_empty_at timestamptz,
                 treatments bytea, events bytea, readings bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    visit record;
BEGIN
    visit := authorize(p_session, p_user, p_patient, p_scope, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome = 'ok' THEN
        PERFORM set_config('diary.kinds', all_kinds()::text, true);
        data_from := nullif(visit.data_from, '-infinity');
        outbox_empty_at := last_sync_confirmation(p_patient);
        SELECT patients.time_zone INTO time_zone FROM patients WHERE id = p_patient;
        SELECT found.* INTO treatments, events, readings FROM course(p_patient, p_first_day, p_last_day, p_limit) AS found;
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', outcome, p_request,
                      p_address);
    END IF;
    RETURN NEXT;
END $$;
