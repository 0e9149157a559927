-- Row security: it holds even where a service forgets its WHERE.
-- Records and versions bind even their owner, so the functions that write and read are held by it too.
-- What holds for a time is in the window of a grant as long as it does: a plan agreed earlier explains what follows.
ALTER TABLE records ENABLE ROW LEVEL SECURITY;
ALTER TABLE records FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON records;
CREATE POLICY in_context ON records USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
    AND greatest(occurred_at, valid_to) >= (SELECT nullif(current_setting('diary.data_from', true), '')::timestamptz)
    AND kind = ANY ((SELECT nullif(current_setting('diary.kinds', true), '')::text[])::text[])
);

ALTER TABLE record_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE record_versions FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON record_versions;
CREATE POLICY in_context ON record_versions USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);

ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON audit_events;
CREATE POLICY in_context ON audit_events FOR SELECT USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);

-- These three are read by access() before there is a context, so they bind everybody but their owner.
ALTER TABLE patients ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON patients;
CREATE POLICY in_context ON patients FOR SELECT USING (
    id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS erasing ON patients;
CREATE POLICY erasing ON patients FOR UPDATE TO diary_eraser USING (
    id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS registering ON patients;
CREATE POLICY registering ON patients FOR INSERT WITH CHECK (true);

ALTER TABLE patient_clocks ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON patient_clocks;
CREATE POLICY in_context ON patient_clocks FOR SELECT USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS erasing ON patient_clocks;
CREATE POLICY erasing ON patient_clocks FOR DELETE TO diary_eraser USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
DROP POLICY IF EXISTS registering ON patient_clocks;
CREATE POLICY registering ON patient_clocks FOR INSERT WITH CHECK (head = 0);

ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON grants;
CREATE POLICY in_context ON grants USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);

ALTER TABLE share_codes ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS in_context ON share_codes;
CREATE POLICY in_context ON share_codes USING (
    patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)
);
