-- What a plan adds to the diary that is read: its name beside each event, and its changes as events of their own.

-- The part of a treatment that is shown beside its events.
CREATE OR REPLACE FUNCTION treatment_label(document json) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object('name', document -> 'name', 'category', document -> 'category')
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

-- What a page needs to know of a diary's plans: the label of each treatment by its id, whether anything is agreed and
-- whether that is a treatment (NULL where nothing is), how much was read, and when the first begins after p_planned_to.
-- It reads few records, along an index of their own. (Of SQL and STABLE: PostgreSQL then expands it in place.)
CREATE OR REPLACE FUNCTION treatment_labels(p_patient uuid, p_planned_to timestamptz)
RETURNS TABLE (labels jsonb, any_agreed boolean, any_treatment boolean, bytes bigint, planned_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT jsonb_object_agg(id, treatment_label(document)) FILTER (WHERE kind = 'treatment'), count(*) > 0,
           bool_or(kind = 'treatment'), sum(octet_length(document::text)),
           min(occurred_at) FILTER (WHERE occurred_at > p_planned_to)
    FROM records WHERE patient_id = p_patient AND valid_to IS NOT NULL AND NOT deleted
$$;

-- The day of an instant for the patient, as records have it: by its own offset, or where that is `Z` by the zone. Of a zone
-- that only the application knows, by `Z`. (Of a fixed offset PostgreSQL has the sign the other way round, of an interval
-- not.)
CREATE OR REPLACE FUNCTION local_day(at text, time_zone text) RETURNS date
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE WHEN right(at, 1) <> 'Z' THEN left(at, 10)::date
                WHEN time_zone ~ '^[+-]' THEN (at::timestamptz AT TIME ZONE time_zone::interval)::date
                ELSE (at::timestamptz AT TIME ZONE time_zone)::date END;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN left(at, 10);
END $$;

-- Every change of a patient's plans as an item of the timeline, at the instant from which it applies: started,
-- regimen_changed, ended, of each line; paused, resumed. It follows from the plan as it is now, so it cannot disagree with figures.
CREATE OR REPLACE FUNCTION treatment_changes(p_patient uuid)
RETURNS SETOF treatment_change
LANGUAGE plpgsql STABLE AS $$  -- not sql, which would be expanded into a page's plan and cost every page its many nodes
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH plans AS (
        SELECT id, document FROM records
        WHERE patient_id = p_patient AND kind = 'treatment' AND valid_to IS NOT NULL AND NOT deleted
          AND document ->> 'status' <> 'draft'
    ), regimens AS (
        SELECT plans.id, regimen, regimen ->> 'valid_from' AS valid_from, regimen ->> 'valid_to' AS valid_to,
               lag(regimen) OVER plan AS previous, lead(regimen) OVER plan AS next
        FROM plans, json_array_elements(document -> 'regimens') WITH ORDINALITY AS listed (regimen, place)
        WINDOW plan AS (PARTITION BY plans.id, regimen ->> 'line' ORDER BY place)
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
        SELECT changes.*, local_day(at, time_zone) AS day,
               md5(id || change || at || coalesce(coalesce(regimen, previous) ->> 'line', '')) AS digest
        FROM changes
    )
    SELECT (overlay(overlay(digest PLACING '4' FROM 13) PLACING '8' FROM 17))::uuid,
           plans.id, at::timestamptz, day,
           json_strip_nulls(json_build_object(
               'kind', 'treatment_change',
               'id', overlay(overlay(digest PLACING '4' FROM 13) PLACING '8' FROM 17)::uuid,
               'patient_id', p_patient, 'treatment_id', plans.id, 'treatment_name', document -> 'name',
               'change', change, 'occurred_at', at, 'time_zone', time_zone, 'local_date', day,
               'regimen', regimen, 'previous', CASE WHEN change <> 'started' THEN previous END))
    FROM identified JOIN plans ON plans.id = identified.id;
END $$;

-- Of a page, the changes of plans: all that are in its range, since a plan has few; see page_of_moments().
CREATE OR REPLACE FUNCTION page_of_treatment_changes(
    p_changes treatment_change[], p_before_at timestamptz, p_before_id uuid, p_since timestamptz, p_first_day date,
    p_last_day date
) RETURNS TABLE (id uuid, record_id uuid, occurred_at timestamptz, note text, document json)
LANGUAGE sql STABLE AS $$
    SELECT id, treatment_id, occurred_at, NULL::text, document
    FROM unnest(p_changes)
    WHERE (occurred_at, id) < (p_before_at, p_before_id)
      AND occurred_at >= p_since
      AND (p_first_day IS NULL OR local_date >= p_first_day)
      AND (p_last_day IS NULL OR local_date <= p_last_day)
$$;
