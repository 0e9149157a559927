-- What the serving role may do. It owns nothing, writes records by write_records_v1() only, ends sessions by
-- revoke_sessions_v1() only, and can select records within the context of row security, but never a note.

-- Every migration that installs SQL ends with this file: what is not granted below is not granted.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, diary_app, diary_eraser;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, diary_app, diary_eraser;

GRANT SELECT, INSERT ON users, sessions TO diary_app;
GRANT UPDATE (password_hash, password_changed_at, email_verified_at) ON users TO diary_app;
GRANT SELECT, UPDATE (used_at) ON invitations TO diary_app;
GRANT SELECT ON organisations, clinicians TO diary_app;
GRANT SELECT, INSERT ON share_codes TO diary_app;
GRANT UPDATE (status, confirmed_at, revoked_at, scopes, data_from, expires_at, version) ON grants TO diary_app;
GRANT UPDATE (last_seen_at, expires_at, network, has_sent, outbox_empty_at, clock_skew_seconds) ON sessions TO diary_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON refresh_tokens, sign_in_delays TO diary_app;
GRANT SELECT, INSERT ON patients, patient_clocks TO diary_app;
GRANT SELECT ON grants, audit_events, alembic_version, diary_entries, pain_scores, associated_symptoms, treatment_events
TO diary_app;
GRANT SELECT (patient_id, id, kind, version, change_seq, occurred_at, utc_offset, time_zone, local_date, recorded_at,
              received_at, author_id, session_id, performer, deleted, content_hash, document, regions, characters,
              worst_score, scale, duration_minutes, treatment_id, valid_to, source_system, source_record_id)
ON records TO diary_app;
-- By name: each is there once. What of these a release calls, the next one leaves in place.
GRANT EXECUTE ON FUNCTION
    access_log_v1, broken_audit_segments_v1, compare_diary_v1, grant_words, grants_of_diary_v1,
    grants_of_session_v1, lock_diary_v1, open_diary_v1, open_own_diary_v1, probe_disk_v1, purge_v1,
    read_changes_v1, read_course_v1, read_heads_v1, read_page_v1, read_panel_v1, read_record_v1, read_versions_v1,
    redeem_share_code_v1, revoke_sessions_v1,
    seal_audit_v1, session_account_v1, settle_audit_v1, visit, write_imports_v1, write_records_v1
TO diary_app;

-- Erasure is a verb of its own with a role of its own.
GRANT SELECT, DELETE ON records, record_versions, patient_clocks, grants, share_codes, sessions, refresh_tokens
TO diary_eraser;
GRANT SELECT, UPDATE (display_name, birth_date, erased_at) ON patients TO diary_eraser;
GRANT SELECT, DELETE ON users TO diary_eraser;
