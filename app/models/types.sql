-- Composite types of the functions. A type is never changed, since sessions hold plans with it: another one has another
-- name.
DO $$
BEGIN
    IF to_regtype('write_item') IS NULL THEN
        -- An item on its way through write_records_v1(): what was sent, what the diary holds there, what was decided.
        CREATE TYPE write_item AS (
            sent records,  -- by the writer; the whole new version once it is written
            document text,
            base_version integer,
            after_refused boolean,  -- the base version was to be made by what was refused
            undeletes boolean,  -- brings back what version base_version deleted, as it was before
            mutation_id uuid,
            scale_birth_dates json,
            reoffer uuid,
            was_version integer,  -- of what is offered again: its version in the epoch before; 0 cannot be compared
            held records,
            held_was integer,  -- the version in the epoch before; NULL where it was written since
            earlier record_versions,  -- the change that mutation_id made, or of what is created again version 1
            status text,
            hidden boolean,  -- the writer may not see what is held
            overtaken boolean  -- others changed what the mutation made
        );
        CREATE TYPE write_outcome AS (
            status text, id uuid, version integer, change_seq bigint, deleted boolean, overtaken boolean, record bytea,
            head bigint, epoch uuid
        );
    END IF;
    IF to_regtype('treatment_change') IS NULL THEN
        -- A change of a plan, as it stands on a timeline.
        CREATE TYPE treatment_change AS (
            id uuid, treatment_id uuid, occurred_at timestamptz, local_date date, document json
        );
    END IF;
END $$;
