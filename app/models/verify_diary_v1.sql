-- Where what is stored of a diary, of which row security has to show everything, contradicts itself or what was sealed:
-- columns, documents, hashes and versions.
CREATE OR REPLACE FUNCTION differing_records(p_patient uuid) RETURNS TABLE (kind text, id uuid)
LANGUAGE sql STABLE AS $$
    SELECT 'a record does not stand at its last version', coalesce(r.id, last.record_id)
    FROM records r
    FULL JOIN (SELECT DISTINCT ON (record_id) record_id, version, change_seq, deleted FROM record_versions
               WHERE patient_id = p_patient ORDER BY record_id, version DESC) last
        ON last.record_id = r.id
    WHERE (r.version, r.change_seq, r.deleted) IS DISTINCT FROM (last.version, last.change_seq, last.deleted)
    UNION ALL
    SELECT 'a record differs from its last version or from its own document', r.id
    FROM records r JOIN record_versions v
        ON v.patient_id = r.patient_id AND v.record_id = r.id AND v.version = r.version
    WHERE r.patient_id = p_patient
      AND ((v.content_hash, v.author_id, v.session_id, v.received_at)
           IS DISTINCT FROM (r.content_hash, r.author_id, r.session_id, r.received_at)
           OR v.document IS NOT NULL OR v.note IS NOT NULL
           OR (r.document ->> 'patient_id', r.document ->> 'kind', r.document ->> 'id', r.document ->> 'version',
               r.document ->> 'change_seq', r.document ->> 'deleted')
              IS DISTINCT FROM (r.patient_id::text, r.kind, r.id::text, r.version::text, r.change_seq::text,
                                r.deleted::text)
           OR r.document::jsonb ? 'note')
    UNION ALL
    SELECT CASE WHEN starts_with(v.document, v.server) THEN 'the content of a version is not what its hash says'
                ELSE 'a version differs from its own document' END, v.record_id
    FROM (SELECT v.record_id, v.deleted, v.content_hash,
                 CASE WHEN v.version = r.version THEN r.document ELSE v.document END::text AS document,
                 server_fields(r.kind, v.record_id, p_patient, v.version, v.change_seq, v.deleted, v.author_id,
                               v.received_at) AS server
          FROM record_versions v JOIN records r ON r.patient_id = v.patient_id AND r.id = v.record_id
          WHERE v.patient_id = p_patient) v
    WHERE CASE WHEN NOT starts_with(v.document, v.server) THEN true
               WHEN v.deleted THEN v.document <> v.server || '}' OR v.content_hash <> sha256('{}')
               ELSE v.content_hash <> sha256(convert_to(sent_document(v.document, v.server), 'UTF8')) END
    UNION ALL
    SELECT DISTINCT 'changes are not those that were sealed: the record is one of them', v.record_id
    FROM (SELECT *, lag(s.change_seq, 1, 0::bigint) OVER (ORDER BY s.change_seq) AS after_seq,
                 lag(s.digest, 1, '') OVER (ORDER BY s.change_seq) AS previous
          FROM diary_seals s WHERE s.patient_id = p_patient) s
    CROSS JOIN LATERAL changes_digest(s.previous, p_patient, s.after_seq, s.change_seq) d
    LEFT JOIN record_versions v
        ON v.patient_id = p_patient AND v.change_seq > s.after_seq AND v.change_seq <= s.change_seq
    WHERE (d.digest, d.last_seq) IS DISTINCT FROM (s.digest, s.change_seq)
$$;

-- What must hold in one diary, whatever crashed: `pain-diary verify` asks it of each. One row for each kind of violation:
-- how often it is there, and the ids of the first ten records that it concerns. No row means that all is well.
CREATE OR REPLACE FUNCTION verify_diary_v1(p_patient uuid)
RETURNS TABLE (violation text, times bigint, ids uuid[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    clock patient_clocks;
BEGIN
    SELECT * INTO clock FROM patient_clocks WHERE patient_id = p_patient;
    IF clock.patient_id IS NULL THEN
        RETURN QUERY SELECT 'the patient has no clock', 1::bigint, '{}'::uuid[]
                     FROM patients WHERE id = p_patient AND erased_at IS NULL;
        RETURN;
    END IF;
    PERFORM set_config('diary.patient', p_patient::text, true), set_config('diary.data_from', '-infinity', true),
            set_config('diary.kinds', all_kinds()::text, true);
    RETURN QUERY
    WITH found (kind, id) AS (
        SELECT 'change_seq is not 1 to head without a gap', NULL::uuid
        FROM record_versions v WHERE v.patient_id = p_patient
        HAVING count(*) <> clock.head OR coalesce(min(change_seq), 1) <> 1
            OR coalesce(max(change_seq), 0) <> clock.head
        UNION ALL
        SELECT 'versions of a record do not step by one', record_id
        FROM record_versions v WHERE v.patient_id = p_patient GROUP BY record_id
        HAVING min(version) <> 1 OR max(version) <> count(*)
        UNION ALL
        SELECT * FROM differing_records(p_patient)
        UNION ALL
        -- It may, as what it was before; or as what a phone held of the epoch before, where it had come back there.
        SELECT DISTINCT 'a deleted record came back as what it never was', a.record_id
        FROM record_versions a JOIN record_versions b
            ON b.patient_id = a.patient_id AND b.record_id = a.record_id AND b.version = a.version + 1
        LEFT JOIN record_versions c
            ON c.patient_id = a.patient_id AND c.record_id = a.record_id AND c.version = a.version - 1
        WHERE a.patient_id = p_patient AND a.deleted AND NOT b.deleted AND b.reoffered_version IS NULL
          AND (c.deleted OR c.content_hash IS DISTINCT FROM b.content_hash)
        UNION ALL
        SELECT 'a superseded version has lost its document', v.record_id
        FROM record_versions v JOIN records r ON r.patient_id = v.patient_id AND r.id = v.record_id
        WHERE v.patient_id = p_patient AND v.version < r.version AND v.document IS NULL
        UNION ALL
        SELECT 'a mutation was applied twice', min(v.record_id::text)::uuid
        FROM record_versions v WHERE v.patient_id = p_patient AND mutation_id IS NOT NULL
        GROUP BY mutation_id HAVING count(*) > 1
    )
    SELECT kind, count(*), coalesce((array_agg(id ORDER BY id) FILTER (WHERE id IS NOT NULL))[1:10], '{}')
    FROM found GROUP BY kind ORDER BY kind;
END $$;
