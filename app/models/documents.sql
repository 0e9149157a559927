-- Documents are text all the way: a page is concatenation.

-- A document as its reader gets it: with the note, or without any trace of one. In bytes, for of a text the characters
-- would be counted first. (STABLE, as to_json() is: PostgreSQL then expands it in place.)
CREATE OR REPLACE FUNCTION wire(document json, note text) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN note IS NULL THEN convert_to(document::text, 'UTF8')
                ELSE convert_to('{"note":' || to_json(note)::text || ',', 'UTF8')
                     || substr(convert_to(document::text, 'UTF8'), 2) END
$$;

-- What the server says of a version, with which its document begins.
-- (Of SQL and STABLE: PostgreSQL then expands it in place.)
CREATE OR REPLACE FUNCTION server_fields(
    kind text, id uuid, patient_id uuid, version integer, change_seq bigint, deleted boolean, author_id uuid,
    received_at timestamptz
) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT '{"kind":"' || kind || '","id":"' || id || '","patient_id":"' || patient_id
        || '","version":' || version || ',"change_seq":' || change_seq
        || ',"deleted":' || deleted::text || ',"author_id":"' || author_id || '","received_at":"'
        || to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '"'
$$;

-- The document of a new version: the server's fields, then the client's as they came.
-- `birth_dates` maps each scale used to the earliest and latest birth date it is validated for; whoever was `born` on one of
-- several days may be of its ages or not.
CREATE OR REPLACE FUNCTION compose(item records, document text, birth_dates json, born daterange) RETURNS json
LANGUAGE plpgsql STABLE AS $$
DECLARE
    server text := server_fields(item.kind, item.id, item.patient_id, item.version, item.change_seq, item.deleted,
                                 item.author_id, item.received_at);
    earliest date := lower(born);
    latest date := upper(born) - 1;
BEGIN
    IF item.deleted THEN
        RETURN server || '}';
    END IF;
    IF birth_dates IS NOT NULL THEN
        server := server || ',"outside_validated_age":' || coalesce(
            (SELECT json_agg(key) FROM json_each(birth_dates)
             WHERE earliest > (value ->> 1)::date OR latest < (value ->> 0)::date)::text, '[]');
        IF earliest < latest THEN
            server := server || ',"validated_age_unknown":' || coalesce(
                (SELECT json_agg(key) FROM json_each(birth_dates)
                 WHERE born && daterange((value ->> 0)::date, (value ->> 1)::date, '[]')
                   AND NOT born <@ daterange((value ->> 0)::date, (value ->> 1)::date, '[]'))::text, '[]');
        END IF;
    END IF;
    RETURN server || ',' || substr(document, 2);
END $$;

-- What the client sent of a document, which is what its content hash covers: the rest of it after the server's fields.
CREATE OR REPLACE FUNCTION sent_document(document text, server text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(substr(document, length(server) + 1),
                          '^(,"outside_validated_age":[^]]*])?(,"validated_age_unknown":[^]]*])?,', '{')
$$;
