-- What the serving role may do. It owns nothing, writes records by write_records() only, ends sessions by
-- revoke_sessions() only, and can select records within the context of row security, but never a note.

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;

GRANT SELECT, INSERT ON users, sessions TO diary_app;
GRANT UPDATE (password_hash, password_changed_at, email_verified_at) ON users TO diary_app;
GRANT SELECT, UPDATE (used_at) ON invitations TO diary_app;
GRANT SELECT ON organisations, clinicians TO diary_app;
GRANT SELECT, INSERT ON share_codes TO diary_app;
GRANT UPDATE (status, confirmed_at, revoked_at, scopes, data_from, expires_at, version) ON grants TO diary_app;
GRANT UPDATE (last_seen_at, expires_at, outbox_empty_at, clock_skew_seconds) ON sessions TO diary_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON refresh_tokens, sign_in_delays TO diary_app;
GRANT SELECT, INSERT ON patients, patient_clocks TO diary_app;
GRANT SELECT ON grants, audit_events, alembic_version, diary_entries, pain_scores, treatment_events TO diary_app;
GRANT SELECT (patient_id, id, kind, version, change_seq, occurred_at, utc_offset, time_zone, local_date, recorded_at,
              received_at, author_id, session_id, performer, deleted, content_hash, document, regions, characters,
              worst_score, scale, duration_minutes, treatment_id, valid_to) ON records TO diary_app;
GRANT EXECUTE ON FUNCTION
    write_records(uuid, uuid, text, text, json, text[], boolean, uuid, uuid, inet, boolean),
    read_record(uuid, uuid, text, text, text, uuid, uuid, inet),
    read_page(uuid, uuid, text, text, text[], date, date, text, text, text, numeric, uuid, timestamptz, uuid, integer,
              text[], boolean, text, uuid[], uuid, inet),
    read_versions(uuid, uuid, text, text, text, uuid, integer, integer, uuid, inet),
    read_course(uuid, uuid, text, text, date, date, integer, uuid, inet),
    read_changes(uuid, uuid, text, uuid, bigint, uuid, uuid, integer, integer, uuid, inet),
    compare_diary(uuid, uuid, text, uuid[], integer[], uuid, uuid, integer, uuid, inet),
    heads(uuid),
    open_diary(uuid, uuid, text, text, uuid, inet),
    lock_diary(uuid, uuid),
    redeem_share_code(uuid, bytea, boolean, uuid, inet),
    grant_words(grants),
    grants_of_diary(uuid),
    grants_of_session(uuid, uuid),
    read_panel(uuid, text, uuid, integer, uuid, inet),
    access_log(boolean, bigint, integer),
    session_account(uuid),
    revoke_sessions(uuid, uuid[]),
    settle_audit(),
    seal_audit(bigint),
    broken_audit_segments()
TO diary_app;

-- Erasure is a verb of its own with a role of its own.
GRANT SELECT, DELETE ON records, record_versions, patient_clocks, grants, share_codes, sessions, refresh_tokens
TO diary_eraser;
GRANT SELECT, UPDATE (display_name, birth_date, erased_at) ON patients TO diary_eraser;
GRANT SELECT, DELETE ON users TO diary_eraser;
