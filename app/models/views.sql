-- Documents as plain typed columns, for SQL and BI users. Row security applies to whoever asks.

CREATE OR REPLACE VIEW diary_entries WITH (security_invoker = true) AS
SELECT patient_id, id AS entry_id, version, change_seq, occurred_at, utc_offset, time_zone, local_date, recorded_at,
       received_at, author_id, performer, regions, characters, worst_score, scale, duration_minutes,
       document ->> 'entry_mode' AS entry_mode,
       (document ->> 'no_pain')::boolean AS no_pain,
       document ->> 'pattern' AS pattern,
       document ->> 'onset' AS onset,
       document ->> 'course' AS course,
       (document ->> 'mood')::smallint AS mood,
       (document #>> '{sleep,hours}')::numeric AS sleep_hours,
       (document #>> '{sleep,quality}')::smallint AS sleep_quality,
       document ->> 'clinical_course' AS clinical_course,
       (document ->> 'episode_id')::uuid AS episode_id,
       coalesce(document ->> 'occurred_precision', 'minute') AS occurred_precision
FROM records
WHERE kind = 'entry' AND NOT deleted;

-- One row for each score of each site.
CREATE OR REPLACE VIEW pain_scores WITH (security_invoker = true) AS
SELECT r.patient_id, r.id AS entry_id, r.occurred_at, r.local_date, r.performer,
       r.document ->> 'entry_mode' AS entry_mode,
       site ->> 'region' AS region,
       site ->> 'depth' AS depth,
       score ->> 'measure' AS measure,
       score ->> 'scale' AS scale,
       (score ->> 'value')::numeric AS value,
       (r.document -> 'outside_validated_age')::jsonb ? (score ->> 'scale') AS outside_validated_age,
       coalesce(r.document ->> 'occurred_precision', 'minute') AS occurred_precision,
       coalesce((r.document -> 'validated_age_unknown')::jsonb ? (score ->> 'scale'), false) AS validated_age_unknown
FROM records r
CROSS JOIN LATERAL json_array_elements(r.document -> 'sites') site
CROSS JOIN LATERAL json_array_elements(site -> 'scores') score
WHERE r.kind = 'entry' AND NOT r.deleted;

-- One row for each symptom that was asked for: what was not there is a fact too, and `present` tells the two apart.
CREATE OR REPLACE VIEW associated_symptoms WITH (security_invoker = true) AS
SELECT r.patient_id, r.id AS entry_id, r.occurred_at, r.local_date, r.performer,
       symptom ->> 'code' AS symptom,
       coalesce((symptom ->> 'present')::boolean, true) AS present,
       symptom ->> 'severity' AS severity
FROM records r
CROSS JOIN LATERAL json_array_elements(r.document -> 'associated_symptoms') symptom
WHERE r.kind = 'entry' AND NOT r.deleted;

-- Doses and sessions, done or not, with their treatment where it has arrived.
CREATE OR REPLACE VIEW treatment_events WITH (security_invoker = true) AS
SELECT e.patient_id, e.id AS treatment_event_id, e.version, e.occurred_at, e.utc_offset, e.time_zone, e.local_date,
       e.recorded_at, e.performer, e.treatment_id,
       t.document ->> 'name' AS treatment_name,
       t.document ->> 'category' AS category,
       (e.document ->> 'scheduled_for')::timestamptz AS scheduled_for,
       e.document ->> 'status' AS status,
       (e.document #>> '{amount,value}')::numeric AS amount,
       e.document #>> '{amount,unit}' AS unit,
       (e.document ->> 'minutes')::integer AS minutes,
       e.document ->> 'reason' AS reason,
       e.document ->> 'relief_rating' AS relief_rating,
       (e.document ->> 'pain_before')::smallint AS pain_before,
       (e.document ->> 'pain_after')::smallint AS pain_after,
       (e.document ->> 'entry_id')::uuid AS entry_id,
       coalesce(e.document ->> 'occurred_precision', 'minute') AS occurred_precision
FROM records e
LEFT JOIN records t
    ON t.patient_id = e.patient_id AND t.id = e.treatment_id AND t.kind = 'treatment' AND NOT t.deleted
WHERE e.kind = 'treatment_event' AND NOT e.deleted;
