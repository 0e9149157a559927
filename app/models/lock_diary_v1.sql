-- Locks a diary for its owner, as a statement before open_diary_v1(): what changes consent queues with what writes under
-- it, so that revoking returns when nothing more can be written. Somebody else is not let near the lock.
CREATE OR REPLACE FUNCTION lock_diary_v1(p_session uuid, p_patient uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM FROM patient_clocks
    WHERE patient_id = p_patient
      AND EXISTS (SELECT FROM sessions s JOIN patients p ON p.user_id = s.user_id
                  WHERE s.id = p_session AND p.id = p_patient)
    FOR UPDATE;
END $$;
