-- The steps of writing records: see write_records_v1().

-- What is to become of an item: created, updated, deleted; unchanged where it is already so;
-- conflict, missing or reused where it is refused. `earlier` is version 1, or the change that the
-- item's mutation_id made. What is offered again after a restore was `was_version` in the epoch before, 0 where that
-- cannot be compared; what is held was `held_was` there, NULL where it was written since: then somebody has to look.
-- The later version stays.
CREATE OR REPLACE FUNCTION decide(
    item records, base_version integer, mutation_id uuid, was_version integer, keep_note boolean,
    held records, held_was integer, earlier record_versions
) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    same boolean := held.content_hash = item.content_hash AND (keep_note OR held.note IS NOT DISTINCT FROM item.note);
    replay boolean := earlier.record_id = item.id AND earlier.deleted = item.deleted
        AND (item.deleted OR (earlier.content_hash = item.content_hash AND (keep_note OR item.note IS NOT DISTINCT FROM
             CASE WHEN earlier.change_seq = held.change_seq THEN held.note ELSE earlier.note END)));
BEGIN
    RETURN CASE
        WHEN mutation_id IS NOT NULL AND earlier.mutation_id = mutation_id
            THEN CASE WHEN replay THEN 'unchanged' ELSE 'reused' END
        WHEN held.id IS NULL AND was_version IS NOT NULL
            THEN CASE WHEN item.deleted THEN 'deleted' ELSE 'created' END  -- a tombstone, that nobody brings it back
        WHEN held.id IS NULL THEN CASE WHEN base_version = 0 AND NOT item.deleted THEN 'created' ELSE 'missing' END
        WHEN held.kind <> item.kind THEN 'conflict'
        WHEN held.deleted THEN CASE WHEN item.deleted THEN 'unchanged' ELSE 'conflict' END
        WHEN was_version IS NOT NULL THEN CASE
            WHEN held_was IS NULL OR was_version = 0 THEN CASE WHEN same THEN 'unchanged' ELSE 'conflict' END
            WHEN item.deleted THEN 'deleted'
            WHEN held_was >= was_version THEN 'unchanged'
            ELSE 'updated' END
        WHEN base_version = 0 AND replay THEN 'unchanged'
        WHEN NOT item.deleted AND (base_version > 0 OR mutation_id IS NOT NULL) AND same THEN 'unchanged'
        WHEN held.version <> base_version THEN 'conflict'
        WHEN item.deleted THEN 'deleted'
        ELSE 'updated'
    END;
END $$;
