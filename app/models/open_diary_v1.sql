-- authorize() for services that go on with statements of their own; the visit itself is audited.
CREATE OR REPLACE FUNCTION open_diary_v1(
    p_session uuid, p_user uuid, p_patient uuid, p_scope text, p_action text, p_request uuid, p_address inet
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    visit record;
BEGIN
    visit := authorize(p_session, p_user, p_patient, p_scope, p_action, p_request, p_address);
    IF visit.outcome = 'ok' THEN
        PERFORM begin_visit(visit, p_session, p_patient, p_action, p_request, p_address);
    END IF;
    RETURN visit.outcome;
END $$;
