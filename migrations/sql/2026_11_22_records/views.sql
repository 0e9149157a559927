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
       (document #>> '{sleep,quality}')::smallint AS sleep_quality
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
       (r.document -> 'outside_validated_age')::jsonb ? (score ->> 'scale') AS outside_validated_age
FROM records r
CROSS JOIN LATERAL json_array_elements(r.document -> 'sites') site
CROSS JOIN LATERAL json_array_elements(site -> 'scores') score
WHERE r.kind = 'entry' AND NOT r.deleted;
