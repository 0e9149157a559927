-- Documents are text all the way: a page is concatenation.

-- A document as its reader gets it: with the note, or without any trace of one. In bytes, for of a text the characters
-- would be counted first. (STABLE, as to_json() is: PostgreSQL then expands it in place.)
CREATE OR REPLACE FUNCTION wire(document json, note text) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN note IS NULL THEN convert_to(document::text, 'UTF8')
                ELSE convert_to('{"note":' || to_json(note)::text || ',', 'UTF8')
                     || substr(convert_to(document::text, 'UTF8'), 2) END
$$;

-- The document of a new version: the server's fields, then the client's as they came.
-- `birth_dates` maps each scale used to the earliest and latest birth date it is validated for.
CREATE OR REPLACE FUNCTION compose(item records, document text, birth_dates json, birth_date date) RETURNS json
LANGUAGE plpgsql STABLE AS $$
DECLARE
    server text := '{"kind":"' || item.kind || '","id":"' || item.id || '","patient_id":"' || item.patient_id
        || '","version":' || item.version || ',"change_seq":' || item.change_seq
        || ',"deleted":' || item.deleted::text || ',"author_id":"' || item.author_id || '","received_at":"'
        || to_char(item.received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '"';
BEGIN
    IF item.deleted THEN
        RETURN server || '}';
    END IF;
    IF birth_dates IS NOT NULL THEN
        server := server || ',"outside_validated_age":' || coalesce(
            (SELECT json_agg(key) FROM json_each(birth_dates)
             WHERE birth_date NOT BETWEEN (value ->> 0)::date AND (value ->> 1)::date)::text, '[]');
    END IF;
    RETURN server || ',' || substr(document, 2);
END $$;
