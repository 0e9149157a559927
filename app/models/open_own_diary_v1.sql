-- open_diary_v1() for what nobody but the patient decides: somebody else's consent is an insufficient_scope.
CREATE OR REPLACE FUNCTION open_own_diary_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_action text, p_request uuid, p_address inet
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    visit record;
BEGIN
    visit := authorize(p_session, p_user, p_patient, NULL, p_action, p_request, p_address);
    IF visit.outcome = 'ok' AND visit.own THEN
        PERFORM begin_visit(visit, p_session, p_patient, p_action, p_request, p_address);
    ELSIF visit.outcome = 'ok' THEN
        visit.outcome := 'insufficient_scope';
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', visit.outcome,
                      p_request, p_address);
    END IF;
    RETURN visit.outcome;
END $$;
