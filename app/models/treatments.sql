-- What a plan adds to the diary that is read: its name beside each event, and its changes as events of their own.

-- The part of a treatment that is shown beside its events.
CREATE OR REPLACE FUNCTION treatment_label(document json) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object('name', document -> 'name', 'category', document -> 'category')
$$;

-- What keeps an event out of figures: domain/treatments.py has the rule, and a test compares the two.
CREATE OR REPLACE FUNCTION event_flags(category text, status text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN category IS NULL THEN '["treatment_missing"]'
        WHEN status = 'partial' OR (status IN ('taken', 'skipped', 'held'))
             = (category IN ('otc_medication', 'prescription_medication', 'opioid_medication')) THEN '[]'
        ELSE '["status_does_not_fit"]'
    END
$$;

-- An event's document with the name of its treatment; without a label that has not arrived or may not be seen.
CREATE OR REPLACE FUNCTION with_treatment(document json, label jsonb) RETURNS json
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN left(document::text, -1) || coalesce(',"treatment_name":' || (label -> 'name')::text, '')
           || ',"flags":' || event_flags(label ->> 'category', document ->> 'status') || '}';
END $$;

-- The same for one event, whose treatment is looked up.
CREATE OR REPLACE FUNCTION beside_treatment(event json, p_patient uuid, p_data_from timestamptz) RETURNS json
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN with_treatment(event, (
        SELECT treatment_label(document) FROM records
        WHERE patient_id = p_patient AND id = (event ->> 'treatment_id')::uuid AND kind = 'treatment' AND NOT deleted
          AND greatest(occurred_at, valid_to) >= p_data_from)::jsonb);
END $$;

-- Every change of a patient's plans as an item of the timeline, at the instant from which it applies: started,
-- regimen_changed, ended; paused, resumed. It follows from the plan as it is now, so it cannot disagree with figures.
CREATE OR REPLACE FUNCTION treatment_changes(p_patient uuid)
RETURNS TABLE (id uuid, treatment_id uuid, occurred_at timestamptz, local_date date, document json)
LANGUAGE plpgsql STABLE AS $$  -- not sql, which would be expanded into a page's plan and cost every page its many nodes
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH plans AS (
        SELECT id, document FROM records
        WHERE patient_id = p_patient AND kind = 'treatment' AND NOT deleted AND document ->> 'status' <> 'draft'
    ), regimens AS (
        SELECT plans.id, regimen, regimen ->> 'valid_from' AS valid_from, regimen ->> 'valid_to' AS valid_to,
               lag(regimen) OVER plan AS previous, lead(regimen) OVER plan AS next
        FROM plans, json_array_elements(document -> 'regimens') WITH ORDINALITY AS listed (regimen, place)
        WINDOW plan AS (PARTITION BY plans.id ORDER BY place)
    ), changes AS (
        SELECT id, valid_from AS at, regimen ->> 'time_zone' AS time_zone,
               CASE WHEN previous IS NULL OR (previous ->> 'valid_to')::timestamptz < valid_from::timestamptz
                    THEN 'started' ELSE 'regimen_changed' END AS change,
               regimen, previous
        FROM regimens
        UNION ALL
        SELECT id, valid_to, regimen ->> 'time_zone', 'ended', NULL, regimen
        FROM regimens
        WHERE valid_to IS NOT NULL
          AND (next IS NULL OR (next ->> 'valid_from')::timestamptz > valid_to::timestamptz)
        UNION ALL
        SELECT id, turn.at, document ->> 'time_zone', turn.change, NULL, NULL
        FROM plans, json_array_elements(document -> 'pauses') AS pause,
             LATERAL (VALUES ('paused', pause ->> 'from'), ('resumed', pause ->> 'to')) AS turn (change, at)
        WHERE turn.at IS NOT NULL
    ), identified AS (
        SELECT changes.*, md5(id || change || at) AS digest FROM changes
    )
    SELECT (overlay(overlay(digest PLACING '4' FROM 13) PLACING '8' FROM 17))::uuid,
           plans.id, at::timestamptz, left(at, 10)::date,
           json_strip_nulls(json_build_object(
               'kind', 'treatment_change',
               'id', overlay(overlay(digest PLACING '4' FROM 13) PLACING '8' FROM 17)::uuid,
               'patient_id', p_patient, 'treatment_id', plans.id, 'treatment_name', document -> 'name',
               'change', change, 'occurred_at', at, 'time_zone', time_zone, 'local_date', left(at, 10),
               'regimen', regimen, 'previous', CASE WHEN change <> 'started' THEN previous END))
    FROM identified JOIN plans ON plans.id = identified.id;
END $$;

-- When the devices that write this diary last had nothing left to send: the earliest of their last words, so that it
-- is true of all of them. NULL while one of them has never said so. A device that was signed out can send no more:
-- its word counts only when there is none of the others.
CREATE OR REPLACE FUNCTION last_word(p_patient uuid) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT nullif(coalesce(
        min(outbox_empty_at) FILTER (WHERE revoked_at IS NULL AND expires_at > clock_timestamp()), max(outbox_empty_at)
    ), '-infinity')
    FROM sessions
    WHERE user_id IN (
        SELECT user_id FROM patients WHERE id = p_patient
        UNION ALL
        SELECT u.id FROM grants g JOIN users u ON u.id = g.grantee_id
        WHERE g.patient_id = p_patient AND g.status = 'active' AND g.revoked_at IS NULL
          AND g.expires_at > clock_timestamp() AND 'treatments:write' = ANY (g.scopes) AND u.role = 'caregiver')
$$;

-- What adherence is computed from: all plans, the events around the local days p_from…p_to as far as the plans reach,
-- and the patient's own scores of the moment, for what was taken as needed. Of plans and events one more than p_limit
-- at most, so that the caller sees that there are more. STABLE: all of it from one snapshot.
CREATE OR REPLACE FUNCTION course(p_patient uuid, p_from date, p_to date, p_limit integer)
RETURNS TABLE (treatments bytea, events bytea, readings bytea)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    reach integer;
    earliest timestamptz;
    latest timestamptz;
    as_needed boolean;
BEGIN
    SELECT convert_to('[' || coalesce(string_agg(document::text, ','), '') || ']', 'UTF8'),
           greatest(8, max(every_n_days)), coalesce(bool_or(prn), false)
    INTO treatments, reach, as_needed
    FROM (
        SELECT document,
               (SELECT max((regimen #>> '{schedule,every_n_days}')::integer)
                FROM json_array_elements(document -> 'regimens') AS regimen) AS every_n_days,
               (SELECT bool_or(regimen #>> '{schedule,type}' = 'prn')
                FROM json_array_elements(document -> 'regimens') AS regimen) AS prn
        FROM records
        WHERE patient_id = p_patient AND kind = 'treatment' AND NOT deleted
        LIMIT p_limit + 1
    ) plans;
    -- A day more on both sides than regimens.margin() says, for an offset is at most 14 hours.
    earliest := p_from - make_interval(days => reach + 2);
    latest := p_to + make_interval(days => reach + 3);

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
        GROUP BY entry_id, occurred_at
    ) scores;
    RETURN NEXT;
END $$;

-- course() for whoever may read adherence, though the consent may not open the records themselves. What lies before
-- the window of a grant stays hidden; `data_from` is its start, NULL where there is none, and time_zone the patient's.
CREATE OR REPLACE FUNCTION read_course(
    p_session uuid, p_patient uuid, p_scope text, p_action text, p_from date, p_to date, p_limit integer,
    p_request uuid, p_address inet
) RETURNS TABLE (outcome text, data_from timestamptz, time_zone text, outbox_empty_at timestamptz,
                 treatments bytea, events bytea, readings bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    visit record;
BEGIN
    visit := enter_diary(p_session, p_patient, p_scope, p_action, p_request, p_address);
    outcome := visit.outcome;
    IF outcome = 'ok' THEN
        PERFORM set_config('diary.kinds', open_kinds('{*}')::text, true);
        data_from := nullif(visit.data_from, '-infinity');
        outbox_empty_at := last_word(p_patient);
        SELECT patients.time_zone INTO time_zone FROM patients WHERE id = p_patient;
        SELECT found.* INTO treatments, events, readings FROM course(p_patient, p_from, p_to, p_limit) AS found;
        PERFORM audit(visit.actor, visit.role, p_session, visit.grant_id, p_patient, p_action, '{}', outcome, p_request,
                      p_address);
    END IF;
    RETURN NEXT;
END $$;
