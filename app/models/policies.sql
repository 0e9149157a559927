-- Row security: it holds even where a service forgets its WHERE.
-- A context is a setting, and anybody can set one. So it is enough only for the functions that write and read, which run as
-- their owner and check before they set it, and for whoever erases. What the serving role asks for by a statement of its
-- own is bound by the visit for which its transaction was opened: see visit().

-- Records and versions bind even their owner, so the functions are held by it too.
-- What holds for a time is in the window of a grant as long as it does: a plan agreed earlier explains what follows.
ALTER TABLE records ENABLE ROW LEVEL SECURITY;
ALTER TABLE records FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON records;
CREATE POLICY in_context ON records USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
    AND greatest(occurred_at, valid_to) >= (SELECT nullif(current_setting('diary.data_from', true), '')::timestamptz)
    AND kind = ANY ((SELECT nullif(current_setting('diary.kinds', true), '')::text[])::text[])
);
DROP POLICY IF EXISTS in_visit ON records;
CREATE POLICY in_visit ON records AS RESTRICTIVE TO diary_app USING (
    patient_id = (SELECT patient FROM visit())
    AND greatest(occurred_at, valid_to) >= (SELECT data_from FROM visit())
    AND kind = ANY ((SELECT kinds FROM visit())::text[])
);

ALTER TABLE record_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE record_versions FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON record_versions;
CREATE POLICY in_context ON record_versions USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS in_visit ON record_versions;
CREATE POLICY in_visit ON record_versions AS RESTRICTIVE TO diary_app USING (
    patient_id = (SELECT patient FROM visit())
);

-- The others are read by access() before there is a context, so they bind everybody but their owner.
ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_visit ON audit_events;
CREATE POLICY in_visit ON audit_events FOR SELECT TO diary_app USING (
    patient_id = (SELECT patient FROM visit())
);

ALTER TABLE diary_seals ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_visit ON diary_seals;
CREATE POLICY in_visit ON diary_seals FOR SELECT TO diary_app USING (
    patient_id = (SELECT patient FROM visit())
);

ALTER TABLE patients ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_visit ON patients;
CREATE POLICY in_visit ON patients FOR SELECT TO diary_app USING (
    id = (SELECT patient FROM visit())
);
DROP POLICY IF EXISTS erasing ON patients;
CREATE POLICY erasing ON patients TO diary_eraser USING (
    id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS registering ON patients;
CREATE POLICY registering ON patients FOR INSERT WITH CHECK (true);

ALTER TABLE patient_clocks ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_visit ON patient_clocks;
CREATE POLICY in_visit ON patient_clocks FOR SELECT TO diary_app USING (
    patient_id = (SELECT patient FROM visit())
);
DROP POLICY IF EXISTS erasing ON patient_clocks;
CREATE POLICY erasing ON patient_clocks TO diary_eraser USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS registering ON patient_clocks;
CREATE POLICY registering ON patient_clocks FOR INSERT WITH CHECK (head = 0);

ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_visit ON grants;
CREATE POLICY in_visit ON grants TO diary_app USING (
    patient_id = (SELECT patient FROM visit())
);
DROP POLICY IF EXISTS erasing ON grants;
CREATE POLICY erasing ON grants TO diary_eraser USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);

ALTER TABLE share_codes ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_visit ON share_codes;
CREATE POLICY in_visit ON share_codes TO diary_app USING (
    patient_id = (SELECT patient FROM visit())
);
DROP POLICY IF EXISTS erasing ON share_codes;
CREATE POLICY erasing ON share_codes TO diary_eraser USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
