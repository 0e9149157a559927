-- The grants of the diary that this transaction was let in to, newest first; of one of them where p_grant names it.
-- With the rights of whoever asks, as access_log_v1() below: row security holds also without the WHERE.
CREATE OR REPLACE FUNCTION grants_of_diary_v1(p_grant uuid) RETURNS SETOF jsonb
LANGUAGE sql STABLE AS $$
    SELECT grant_words(g) FROM grants g
    WHERE patient_id = nullif(current_setting('diary.patient', true), '')::uuid AND (p_grant IS NULL OR g.id = p_grant)
    ORDER BY created_at DESC, id DESC
    LIMIT 1000
$$;
