-- What adherence is computed from.

-- How many days may lie between two doses of a schedule, at most: as due.margin() has it, a day less.
CREATE OR REPLACE FUNCTION days_between_doses(schedule json) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE schedule ->> 'type'
        WHEN 'scheduled' THEN coalesce((schedule ->> 'every_n_days')::integer, 7)
        WHEN 'elapsed' THEN ((schedule ->> 'every_minutes')::integer + 1439) / 1440
        WHEN 'target' THEN CASE schedule ->> 'per' WHEN 'month' THEN 31 ELSE 7 END
        WHEN 'calendar' THEN CASE coalesce(schedule #>> '{days,type}', 'daily')
            WHEN 'daily' THEN coalesce((schedule #>> '{days,every_n_days}')::integer, 1)
            WHEN 'weekly' THEN 7 * (schedule #>> '{days,every_n_weeks}')::integer
            WHEN 'monthly' THEN least(62 * (schedule #>> '{days,every_n_months}')::integer, 366)
            WHEN 'cycle' THEN (schedule #>> '{days,days_off}')::integer + 1
            ELSE 366
        END
        ELSE 7
    END
$$;

-- What adherence is computed from: all plans, the events around the local days p_first_day…p_last_day as far as the plans reach,
-- and the patient's own scores of a moment that is known, for what was taken as needed. Of plans and events one more than p_limit
-- at most, so that the caller sees that there are more. STABLE: all of it from one snapshot.
CREATE OR REPLACE FUNCTION course(p_patient uuid, p_first_day date, p_last_day date, p_limit integer)
RETURNS TABLE (treatments bytea, events bytea, readings bytea)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    reach integer;
    earliest timestamptz;
    latest timestamptz;
    as_needed boolean;
BEGIN
    SELECT convert_to('[' || coalesce(string_agg(document::text, ','), '') || ']', 'UTF8'),
           greatest(8, max(apart)), coalesce(bool_or(prn), false)
    INTO treatments, reach, as_needed
    FROM (
        SELECT document,
               (SELECT max(days_between_doses(regimen -> 'schedule'))
                FROM json_array_elements(document -> 'regimens') AS regimen) AS apart,
               (SELECT bool_or(regimen #>> '{schedule,type}' = 'prn')
                FROM json_array_elements(document -> 'regimens') AS regimen) AS prn
        FROM records
        WHERE patient_id = p_patient AND kind = 'treatment' AND valid_to IS NOT NULL AND NOT deleted
        LIMIT p_limit + 1
    ) plans;
    -- A day more on both sides than due.margin() says, for an offset is at most 14 hours.
    earliest := p_first_day - make_interval(days => reach + 2);
    latest := p_last_day + make_interval(days => reach + 3);

    SELECT convert_to('[' || coalesce(string_agg(document::text, ','), '') || ']', 'UTF8') INTO events
    FROM (
        SELECT document FROM records
        WHERE patient_id = p_patient AND kind = 'treatment_event' AND NOT deleted
          AND occurred_at >= earliest AND occurred_at < latest
        ORDER BY occurred_at DESC, id DESC
        LIMIT p_limit + 1
    ) near;

    SELECT convert_to(coalesce(json_agg(json_build_array(occurred_at, value) ORDER BY occurred_at), '[]')::text, 'UTF8')
    INTO readings
    FROM (
        SELECT occurred_at, max(value)::integer AS value FROM pain_scores
        WHERE as_needed AND patient_id = p_patient AND occurred_at >= earliest AND occurred_at < latest
          AND performer = 'self' AND scale = 'nrs_0_10' AND measure = 'now'
          AND coalesce(entry_mode, 'momentary') = 'momentary' AND NOT outside_validated_age
          AND NOT validated_age_unknown AND occurred_precision = 'minute'
        GROUP BY entry_id, occurred_at
    ) scores;
    RETURN NEXT;
END $$;

-- When the devices that write this diary last confirmed that they had nothing left to send: the earliest of those that
-- push, so that it is true of all. Of one that has not said so since it signed in, nothing is known after that. NULL while
-- none has ever said so. A device that was signed out can send no more: what it said counts only when there is none of the
-- others.
CREATE OR REPLACE FUNCTION last_sync_confirmation(p_patient uuid) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN bool_or(said)
                THEN coalesce(min(outbox_empty_at) FILTER (WHERE alive), max(outbox_empty_at) FILTER (WHERE said)) END
    FROM (SELECT *, revoked_at IS NULL AND expires_at > clock_timestamp() AS alive, outbox_empty_at <> created_at AS said
          FROM sessions WHERE outbox_empty_at IS NOT NULL) AS devices
    WHERE user_id IN (
        SELECT user_id FROM patients WHERE id = p_patient
        UNION ALL
        SELECT u.id FROM grants g JOIN users u ON u.id = g.grantee_id
        WHERE g.patient_id = p_patient AND g.status = 'active' AND g.revoked_at IS NULL
          AND g.expires_at > clock_timestamp() AND 'treatments:write' = ANY (g.scopes) AND u.role = 'caregiver')
$$;
