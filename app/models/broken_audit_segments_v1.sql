-- The segments whose events, or seals of diaries, are no longer what was sealed, and those of which only such seals are left.
CREATE OR REPLACE FUNCTION broken_audit_segments_v1() RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT number
    FROM (SELECT *, lag(s.digest, 1, '') OVER (ORDER BY number) AS previous,
                 lag(s.to_id, 1, 0::bigint) OVER (ORDER BY number) AS previous_to,
                 row_number() OVER (ORDER BY number) AS place
          FROM audit_segments s) s
    CROSS JOIN LATERAL audit_digest(s.previous, s.previous_to, s.to_id, s.number) d
    WHERE d.digest <> s.digest OR d.events <> s.events OR s.number <> s.place
    UNION
    SELECT segment FROM diary_seals WHERE NOT EXISTS (SELECT FROM audit_segments WHERE number = segment)
    ORDER BY number
$$;
