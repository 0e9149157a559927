"""The mutants: what is taken away, from where, and who must notice."""

from mutants import Mutant
from mutants.figures import FIGURES
from mutants.inputs import INPUTS

ACCESS = "app/models/access.sql"
ACCESS_LOG = "app/models/access_log_v1.sql"
COMPARE_DIARY = "app/models/compare_diary_v1.sql"
GRANTS_OF_SESSION = "app/models/grants_of_session_v1.sql"
KINDS = "app/models/kinds.sql"
LOCK_DIARY = "app/models/lock_diary_v1.sql"
POLICIES = "app/models/policies.sql"
READ_CHANGES = "app/models/read_changes_v1.sql"
READ_PAGE = "app/models/read_page_v1.sql"
READ_PANEL = "app/models/read_panel_v1.sql"
READ_RECORD = "app/models/read_record_v1.sql"
READ_STEPS = "app/models/read_steps.sql"
READ_VERSIONS = "app/models/read_versions_v1.sql"
REDEEM_SHARE_CODE = "app/models/redeem_share_code_v1.sql"
REVOKE_SESSIONS = "app/models/revoke_sessions_v1.sql"
SESSION_ACCOUNT = "app/models/session_account_v1.sql"
TREATMENTS = "app/models/treatments.sql"
WRITE_IMPORTS = "app/models/write_imports_v1.sql"
WRITE_RECORDS = "app/models/write_records_v1.sql"
WRITE_STEPS = "app/models/write_steps.sql"
VIEWS = "app/models/views.sql"
AUDIT_STEPS = "app/models/audit.sql"
SEAL_AUDIT = "app/models/seal_audit_v1.sql"
SETTLE_AUDIT = "app/models/settle_audit_v1.sql"
BROKEN_SEGMENTS = "app/models/broken_audit_segments_v1.sql"
VERIFY_DIARY = "app/models/verify_diary_v1.sql"
VERIFY = "app/services/verify.py"
ANCHORS = "app/services/audit.py"
PRIVILEGES = "app/models/privileges.sql"
SERVICE = "app/services/care_team.py"
ROUTES = "app/routers/care_team.py"
SYNC_SERVICE = "app/services/sync.py"
RECORDS_SERVICE = "app/services/record_store.py"
FUNCTIONS = "app/postgres/functions.py"
GROUPS = "app/postgres/group_commit.py"
SHARES = "app/postgres/shares.py"
DATABASE = "app/postgres/database.py"

MATRIX = "tests/test_access_matrix.py"
MODEL = "tests/test_consent_model.py"
ROWS = "tests/test_row_security.py"
HIDDEN = "tests/attacks/test_hidden_routes.py"
CHANNELS = "tests/test_side_channels.py"
TEAM = "tests/routers/test_care_team.py"
WINDOW = "tests/routers/test_consent.py"
SYNC_MODEL = "tests/test_sync_model.py"
PUSHES = "tests/routers/test_sync.py"
UNDELETE = "tests/routers/test_undelete.py"
COSTS = "tests/routers/test_sync_cost.py"
IMPORTS = "tests/routers/test_imports.py"
AUDIT = "tests/services/test_audit.py"
TAMPERING = "tests/services/test_tampering.py"
TOGETHER = "tests/postgres/test_group_commit.py"
HURRIED = "tests/postgres/test_database.py -k group"
LOST = "tests/postgres/test_lost_connections.py -k idle_then"
TURNS = "tests/postgres/test_shares.py"
PLANNED = "tests/routers/test_planned.py"
REPLICA = "tests/postgres/test_replica.py"

SIGNED_IN = "[*CallerOf.__metadata__"  # of whoever holds a valid token
OF_PATIENT = "patient_id = (SELECT nullif(current_setting('diary.patient', true), '')::uuid)"

MUTANTS = (
    # Who may see what: access().
    Mutant(
        "everybody owns every diary", ACCESS, "WHERE id = patient AND user_id = actor", "WHERE id = patient", MATRIX
    ),
    Mutant("a pending consent counts", ACCESS, "AND g.status = 'active' AND", "AND", MATRIX),
    Mutant(
        "a revoked consent counts",
        ACCESS,
        "g.status = 'active' AND g.revoked_at IS NULL",
        "g.status = 'active'",
        MATRIX,
    ),
    Mutant("a consent that is over counts", ACCESS, "AND g.expires_at > clock_timestamp()", "", MATRIX),
    Mutant(
        "a clinician needs no verification",
        ACCESS,
        "c.user_id = actor AND c.verified_at IS NOT NULL",
        "c.user_id = actor",
        MATRIX,
    ),
    Mutant("an admin reads by a consent", ACCESS, "WHEN 'admin' THEN false", "", MATRIX),
    Mutant("the consent of any patient counts", ACCESS, "g.patient_id = patient AND", "", MATRIX),
    Mutant(
        "any clinician uses any consent",
        ACCESS,
        "(g.grantee_id = actor OR g.organisation_id = c.organisation_id)",
        "true",
        MATRIX,
    ),
    Mutant("any patient uses any consent", ACCESS, "ELSE g.grantee_id = actor END", "ELSE true END", MATRIX),
    Mutant("no consent to an organisation counts", ACCESS, " OR g.organisation_id = c.organisation_id", "", MATRIX),
    Mutant(
        "an organisation's consent comes first",
        ACCESS,
        "ORDER BY g.grantee_id IS NULL",
        "ORDER BY g.grantee_id IS NOT NULL",
        MODEL,
    ),
    Mutant("the window is ignored", ACCESS, "coalesce(g.data_from, '-infinity')", "'-infinity'::timestamptz", WINDOW),
    *(
        Mutant(
            f"{other} open {scope}",
            KINDS,
            f"CASE WHEN '{scope}:read' = ANY (scopes)",
            f"CASE WHEN scopes && '{{{scope}:read,{other}:read}}'",
            WINDOW,
        )
        for scope, other in (("entries", "treatments"), ("treatments", "entries"), ("profile", "entries"))
    ),
    # The door: authorize() and sessions.
    Mutant(
        "a session that was ended goes on",
        ACCESS,
        "WHEN s.revoked_at IS NOT NULL OR s.expires",
        "WHEN s.expires",
        MATRIX,
    ),
    Mutant(
        "a session that is over goes on",
        ACCESS,
        "s.expires_at <= clock_timestamp() OR u.disabled_at",
        "u.disabled_at",
        AUDIT + " -k ended",
    ),
    Mutant(
        "a token speaks for whoever it names",
        ACCESS,
        "s.id = p_session AND s.user_id = p_user;",
        "s.id = p_session;",
        MATRIX,
    ),
    Mutant(
        "a token of somebody else tells of the account",
        SESSION_ACCOUNT,
        "WHERE s.id = p_session AND s.user_id = p_user",
        "WHERE s.id = p_session",
        MATRIX + " -k 'read_me or heads or panel or held'",
    ),
    Mutant("a disabled account goes on", ACCESS, " OR u.disabled_at IS NOT NULL", "", MATRIX),
    Mutant("an erased diary opens", ACCESS, "WHEN p.erased_at IS NOT NULL THEN 'erased'", "", MATRIX),
    Mutant("no scope is asked for", ACCESS, "ELSE NOT p_scope = ANY (a.scopes) END", "ELSE false END", MATRIX),
    Mutant("everybody sees notes", ACCESS, "'notes:read' = ANY (a.scopes)", "true", MATRIX + " -k notes"),
    Mutant(
        "a refusal is not written down",
        ACCESS,
        "    PERFORM audit(actor, role, p_session, grant_id,",
        "    PERFORM concat(actor, role, p_session, grant_id,",
        AUDIT,
    ),
    Mutant(
        "a visit is not written down",
        ACCESS,
        "PERFORM audit(visitor.actor,",
        "PERFORM concat(visitor.actor,",
        AUDIT,
    ),
    Mutant(
        "an ended session has an account",
        SESSION_ACCOUNT,
        "AND s.revoked_at IS NULL AND s.expires",
        "AND s.expires",
        MATRIX,
    ),
    Mutant(
        "a disabled account has an account",
        SESSION_ACCOUNT,
        "AND s.expires_at > clock_timestamp() AND u.disabled_at IS NULL",
        "AND s.expires_at > clock_timestamp()",
        MATRIX,
    ),
    Mutant(
        "somebody else's session can be ended",
        REVOKE_SESSIONS,
        "WHERE user_id = p_user AND id = ANY (p_sessions)",
        "WHERE id = ANY (p_sessions)",
        MATRIX,
    ),
    # Row security.
    Mutant("records of any patient", POLICIES, f"    {OF_PATIENT}\n    AND greatest", "    greatest", ROWS),
    Mutant(
        "records of any kind", POLICIES, "    AND kind = ANY ((SELECT nullif", "    AND '' <> ALL ((SELECT nullif", ROWS
    ),
    Mutant(
        "records of any time",
        POLICIES,
        "greatest(occurred_at, valid_to) >= (SELECT nullif",
        "'infinity' >= (SELECT nullif",
        ROWS,
    ),
    Mutant("records do not bind their owner", POLICIES, "ALTER TABLE records FORCE ROW LEVEL SECURITY;", "", ROWS),
    Mutant(
        "versions do not bind their owner", POLICIES, "ALTER TABLE record_versions FORCE ROW LEVEL SECURITY;", "", ROWS
    ),
    *(
        Mutant(
            f"{table} of any patient",
            POLICIES,
            f"ON {table} {verb} (\n    {column} =",
            f"ON {table} {verb} (true OR {column} =",
            ROWS,
        )
        for table, verb, column in (
            ("record_versions", "USING", "patient_id"),
            ("audit_events", "FOR SELECT TO diary_app USING", "patient_id"),
            ("patients", "FOR SELECT TO diary_app USING", "id"),
            ("patient_clocks", "FOR SELECT TO diary_app USING", "patient_id"),
            ("grants", "TO diary_app USING", "patient_id"),
            ("share_codes", "TO diary_app USING", "patient_id"),
        )
    ),
    # The visit, without which a context is worth nothing.
    Mutant(
        "a context is enough for records",
        POLICIES,
        "ON records AS RESTRICTIVE TO diary_app USING (\n    patient_id = (SELECT patient FROM visit())",
        "ON records AS RESTRICTIVE TO diary_app USING (\n    true",
        HIDDEN,
    ),
    Mutant(
        "a context is enough for kinds", POLICIES, "AND kind = ANY ((SELECT kinds FROM visit())::text[])", "", HIDDEN
    ),
    Mutant(
        "a context is enough for the window",
        POLICIES,
        "AND greatest(occurred_at, valid_to) >= (SELECT data_from FROM visit())",
        "",
        HIDDEN,
    ),
    Mutant("a visit of any transaction", ACCESS, "e.xmin = pg_current_xact_id_if_assigned()::xid AND ", "", HIDDEN),
    Mutant("a visit that was refused", ACCESS, "::bigint AND e.outcome = 'ok'", "::bigint", HIDDEN),
    Mutant(
        "a visit of whoever sets it",
        ACCESS,
        "FROM audit_events e, access(e.actor_id, e.patient_id) a\n"
        "    WHERE e.id = nullif(current_setting('diary.visit', true), '')::bigint AND e.outcome = 'ok'\n"
        "      AND e.xmin = pg_current_xact_id_if_assigned()::xid AND e.at",
        "FROM (SELECT user_id AS actor_id, id AS patient_id, now() AS at FROM patients\n"
        "          WHERE id::text = current_setting('diary.patient', true)) e, access(e.actor_id, e.patient_id) a\n"
        "    WHERE e.at",
        HIDDEN,
    ),
    Mutant(
        "the serving role writes audit rows",
        PRIVILEGES,
        "GRANT SELECT ON grants,",
        "GRANT INSERT ON audit_events TO diary_app;\nGRANT SELECT ON grants,",
        HIDDEN,
    ),
    *(
        Mutant(
            f"the view {view} asks for its owner",
            VIEWS,
            f"VIEW {view} WITH (security_invoker = true)",
            f"VIEW {view} WITH (security_invoker = false)",
            ROWS,
        )
        for view in ("diary_entries", "pain_scores", "treatment_events")
    ),
    Mutant(
        "the serving role selects notes",
        PRIVILEGES,
        "source_system, source_record_id)\nON records",
        "source_system, source_record_id, note)\nON records",
        ROWS,
    ),
    Mutant(
        "the serving role selects versions",
        PRIVILEGES,
        "GRANT SELECT ON grants,",
        "GRANT SELECT ON record_versions, grants,",
        ROWS,
    ),
    Mutant(
        "the serving role removes grants",
        PRIVILEGES,
        "GRANT SELECT ON grants,",
        "GRANT DELETE ON grants TO diary_app;\nGRANT SELECT ON grants,",
        ROWS,
    ),
    Mutant(
        "a role that gets round row security may serve",
        "app/postgres/database.py",
        'if row["mighty"]:',
        "if False:",
        "tests/postgres/test_database.py",
    ),
    # Consent: how it comes about.
    Mutant(
        "a stranger locks a diary",
        LOCK_DIARY,
        "WHERE s.id = p_session AND p.id = p_patient)",
        "WHERE s.id = p_session)",
        TEAM,
    ),
    Mutant("a code needs no confirmation", REDEEM_SHARE_CODE, "'pending', code.scopes", "'active', code.scopes", TEAM),
    Mutant(
        "an ended session redeems",
        REDEEM_SHARE_CODE,
        "AND s.revoked_at IS NULL AND s.expires",
        "AND s.expires",
        MATRIX + " -k redeem",
    ),
    Mutant(
        "a token of somebody else redeems",
        REDEEM_SHARE_CODE,
        "WHERE s.id = p_session AND s.user_id = p_user",
        "WHERE s.id = p_session",
        MATRIX + " -k redeem",
    ),
    Mutant("a disabled account redeems", REDEEM_SHARE_CODE, " AND u.disabled_at IS NULL;", ";", MATRIX + " -k redeem"),
    Mutant(
        "an unverified clinician redeems",
        REDEEM_SHARE_CODE,
        "WHEN redeemer.role = 'admin' OR redeemer.role = 'clinician' AND redeemer.verified_at IS NULL THEN",
        "WHEN redeemer.role = 'admin' THEN",
        MATRIX + " -k redeem",
    ),
    Mutant(
        "an admin redeems",
        REDEEM_SHARE_CODE,
        "WHEN redeemer.role = 'admin' OR redeemer.role",
        "WHEN redeemer.role",
        MATRIX + " -k redeem",
    ),
    Mutant(
        "anybody redeems for an organisation",
        REDEEM_SHARE_CODE,
        "WHEN p_as_organisation AND redeemer.organisation_id IS NULL THEN 'unverified'",
        "",
        TEAM,
    ),
    Mutant(
        "a code is good for ever",
        REDEEM_SHARE_CODE,
        "code.expires_at <= clock_timestamp()",
        "false",
        MATRIX + " -k redeem",
    ),
    Mutant(
        "a code is good twice",
        REDEEM_SHARE_CODE,
        "coalesce(code.redeemed_by, redeemer.id) <> redeemer.id",
        "false",
        TEAM + " -k good_once",
    ),
    Mutant(
        "a code of one's own is good",
        REDEEM_SHARE_CODE,
        "(user_id = redeemer.id OR erased_at IS NOT NULL)",
        "erased_at IS NOT NULL",
        MATRIX + " -k redeem",
    ),
    Mutant(
        "the code of an erased patient is good",
        REDEEM_SHARE_CODE,
        " OR erased_at IS NOT NULL)",
        ")",
        MATRIX + " -k redeem",
    ),
    Mutant(
        "everybody lists everybody's grants",
        GRANTS_OF_SESSION,
        "JOIN grants g ON g.grantee_id = a.user_id OR",
        "JOIN grants g ON true OR",
        MATRIX + " -k told",
    ),
    Mutant(
        "an unverified clinician lists grants",
        GRANTS_OF_SESSION,
        "WHEN 'clinician' THEN c.user_id IS NOT NULL WHEN 'admin'",
        "WHEN 'admin'",
        MATRIX + " -k told",
    ),
    Mutant(
        "the panel glances at entries by any consent",
        READ_PANEL,
        "IF 'entry' = ANY (open_kinds(found.scopes)) THEN",
        "IF true THEN",
        TEAM,
    ),
    Mutant("the panel shows erased patients", READ_PANEL, "AND p.erased_at IS NULL", "", MATRIX + " -k panel"),
    Mutant(
        "the panel is not written down",
        READ_PANEL,
        "PERFORM audit(reader.user_id,",
        "PERFORM concat(reader.user_id,",
        AUDIT,
    ),
    Mutant("the access log hides refusals", ACCESS_LOG, " OR outcome IN ('not_found', 'insufficient_scope')", "", TEAM),
    Mutant(
        "any consent decides about a diary",
        "app/models/open_own_diary_v1.sql",
        "visit.outcome = 'ok' AND visit.own THEN",
        "visit.outcome = 'ok' THEN",
        MATRIX + " -k grant",
    ),
    Mutant(
        "anybody decides about a diary",
        SERVICE,
        "await access.authorize_owner(transaction, diary, action)",
        "await access.authorize(transaction, diary, action)",
        MATRIX + " -k grant",
    ),
    Mutant(
        "the clock is not locked",
        SERVICE,
        "await call_in(transaction, LOCK_DIARY(session=diary.caller.session_id, patient=diary.patient_id))",
        "pass",
        TEAM,
    ),
    Mutant(
        "a code is shared without a fresh sign-in",
        SERVICE,
        "    await _check_fresh(transaction, diary.caller, now)\n    code =",
        "    code =",
        TEAM,
    ),
    Mutant(
        "consent is confirmed without a fresh sign-in",
        SERVICE,
        "    await _check_fresh(transaction, diary.caller, now)\n    grant =",
        "    grant =",
        TEAM,
    ),
    Mutant("guesses are not counted", SERVICE, "    await throttle.count(database, limits, now)\n", "", TEAM),
    Mutant("a key is good for other terms", SERVICE, " or made.terms_digest != terms_digest:", ":", TEAM),
    Mutant(
        "confirming ends every other consent",
        SERVICE,
        "update(Grant).where(same, Grant.status",
        "update(Grant).where(Grant.status",
        MODEL,
    ),
    Mutant(
        "an old consent stays beside the new",
        SERVICE,
        ".values(revoked_at=now)\n        )\n        grant.status",
        ".values(version=Grant.version)\n        )\n        grant.status",
        TEAM,
    ),
    Mutant(
        "what has ended is changed",
        SERVICE,
        "if grant.revoked_at is not None or grant.expires_at <= now:",
        "if False:",
        MATRIX + " -k grant",
    ),
    Mutant(
        "narrowing adds scopes",
        SERVICE,
        "if body.scopes is not None and not set(body.scopes) <= set(grant.scopes):",
        "if False:",
        TEAM,
    ),
    Mutant("narrowing widens the window", SERVICE, "body.data_from < grant.data_from:", "False:", TEAM),
    Mutant("narrowing lengthens", SERVICE, "body.expires_at > grant.expires_at:", "False:", TEAM),
    Mutant("narrowing keeps what makes no sense", SERVICE, "    _check_scopes(body.scopes or [])\n", "", MODEL),
    *(
        Mutant(f"{verb} asks any account", ROUTES, f'[Depends(own_diary("{action}"))', SIGNED_IN, MATRIX + " -k grant")
        for verb, action in (
            ("listing grants", "grants.list"),
            ("narrowing", "grant.narrow"),
            ("ending a consent", "grant.revoke"),
        )
    ),
    *(
        Mutant(
            f"{name} needs no live session",
            "app/routers/me.py",
            f'"/{name}",\n    dependencies=[Depends(current_user)],\n',
            f'"/{name}",\n',
            MATRIX + " -k list",
        )
        for name in ("patients", "grants")
    ),
    Mutant(
        "a route may forget its permission",
        "app/http/deps.py",
        "if not {public, identify} & calls:",
        "if False:",
        "tests/http/test_deps.py -k declares_no_permission",
    ),
    Mutant(
        "hidden routes: a permission on a patient is forgotten",
        "app/http/deps.py",
        "if open_diary not in calls and (told or not in_path <= OF_NO_PATIENT):",
        "if False:",
        "tests/http/test_deps.py -k told_of_a_patient",
    ),
    Mutant(
        "hidden routes: one that can declare nothing starts",
        "app/http/deps.py",
        "elif context.path != app.openapi_url:",
        "elif False:",
        "tests/http/test_deps.py -k declares_no_permission",
    ),
    Mutant(
        "hidden routes: only what the path says is seen",
        "app/http/deps.py",
        "told = {name for node in nodes for name in _parameters(node)",
        "told = {name for node in nodes[:0] for name in _parameters(node)",
        "tests/http/test_deps.py -k told_of_a_patient",
    ),
    # Records: scopes, window and notes where they are written and read.
    Mutant(
        "who may read may write",
        "app/schemas/records.py",
        'return f"{self.scope}:write"',
        'return f"{self.scope}:read"',
        MATRIX,
    ),
    Mutant(
        "a stranger is let near the clock",
        ACCESS,
        "FROM sessions s, access(s.user_id, patient) a\n    WHERE s.id = session AND a.scopes",
        "FROM sessions s LEFT JOIN access(s.user_id, patient) a ON true\n    WHERE s.id = session OR a.scopes",
        "tests/services/test_write_path.py -k stranger",
    ),
    Mutant(
        "every clock moves",
        WRITE_STEPS,
        " ELSE old_head END\n        WHERE patient_id = p_patient;",
        " ELSE old_head END;",
        MATRIX + " -k create",
    ),
    Mutant(
        "a profile changes every patient",
        WRITE_STEPS,
        "\n        WHERE p.id = p_patient\n",
        "\n",
        MATRIX + " -k profile",
    ),
    Mutant(
        "the ETag is of any diary",
        READ_STEPS,
        "FROM patient_clocks WHERE patient_id = p_patient\n",
        "FROM patient_clocks LIMIT 1\n",
        "tests/routers/test_timeline.py",
    ),
    Mutant(
        "what a consent does not open is shown in conflicts",
        WRITE_STEPS,
        "item.hidden := coalesce(NOT held.kind = ANY (visit.kinds)\n                                OR greatest",
        "item.hidden := coalesce(greatest",
        PUSHES,
    ),
    Mutant(
        "what lies before the window is changed",
        WRITE_STEPS,
        "\n                                OR greatest(held.occurred_at, held.valid_to) < visit.data_from, false)",
        ", false)",
        WINDOW,
    ),
    Mutant(
        "something is written before the window",
        WRITE_STEPS,
        "greatest(sent.occurred_at, sent.valid_to) < visit.data_from THEN",
        "false THEN",
        WINDOW,
    ),
    Mutant(
        "who cannot read a note removes it",
        WRITE_STEPS,
        "                sent.note := held.note;",
        "                NULL;",
        MATRIX + " -k notes",
    ),
    Mutant(
        "a replay compares notes",
        WRITE_STEPS,
        "                        NOT visit.notes, held,",
        "                        false, held,",
        CHANNELS,
    ),
    Mutant(
        "what is written answers the note",
        WRITE_STEPS,
        "                     CASE WHEN visit.notes THEN now.note END) END;",
        "                     now.note) END;",
        MATRIX + " -k notes",
    ),
    Mutant(
        "a record shows its note",
        READ_RECORD,
        "                                CASE WHEN visit.notes THEN held.note END);",
        "                                held.note);",
        MATRIX + " -k notes",
    ),
    Mutant(
        "a page shows notes",
        READ_PAGE,
        "wire(r.document, CASE WHEN visit.notes THEN r.note END)",
        "wire(r.document, r.note)",
        MATRIX + " -k notes",
    ),
    Mutant(
        "a history shows notes",
        READ_VERSIONS,
        "CASE WHEN visit.notes THEN CASE WHEN v.document IS NULL THEN held.note ELSE v.note END END",
        "CASE WHEN v.document IS NULL THEN held.note ELSE v.note END",
        MATRIX + " -k notes",
    ),
    Mutant(
        "a history reaches before the window",
        READ_VERSIONS,
        "AND (v.document IS NULL OR visit.data_from <= CASE",
        "AND (true OR visit.data_from <= CASE",
        WINDOW,
    ),
    Mutant(
        "a page reaches before the window",
        ACCESS,
        "set_config('diary.data_from', data_from::text, true)",
        "set_config('diary.data_from', '-infinity', true)",
        WINDOW,
    ),
    Mutant(
        "a page shows every kind",
        ACCESS,
        "set_config('diary.kinds', kinds::text, true)",
        "set_config('diary.kinds', all_kinds()::text, true)",
        WINDOW,
    ),
    Mutant(
        "an event names a hidden plan",
        TREATMENTS,
        "\n          AND greatest(occurred_at, valid_to) >= p_data_from)",
        ")",
        WINDOW,
    ),
    Mutant(
        "adherence reaches before the window",
        "app/services/adherence.py",
        'max(start, _first_day(course["data_from"], course["time_zone"]))',
        "start",
        WINDOW,
    ),
    Mutant(
        "anybody writes as a clinician",
        "app/schemas/treatments.py",
        'elif body.authored_by == "clinician" and',
        "elif False and",
        TEAM,
    ),
    Mutant(
        "a clinician acknowledges for the patient",
        "app/schemas/treatments.py",
        "if body.acknowledged_at is not None:",
        "if False:",
        TEAM,
    ),
    Mutant(
        "a cursor is good for another reader",
        "app/services/record_store.py",
        "{diary.caller.user_id} {filters}",
        "{filters}",
        WINDOW + " tests/routers/test_timeline.py",
    ),
    # Sync: what phones push, pull and offer again.
    Mutant(
        "a mutation that comes again is not recognised",
        WRITE_STEPS,
        "WHEN mutation_id IS NOT NULL AND earlier.mutation_id = mutation_id\n",
        "WHEN false AND earlier.mutation_id = mutation_id\n",
        SYNC_MODEL,
    ),
    Mutant(
        "a mutation id is good for anything",
        WRITE_STEPS,
        "THEN CASE WHEN replay THEN 'unchanged' ELSE 'reused' END",
        "THEN 'unchanged'",
        PUSHES,
    ),
    Mutant(
        "the base version is ignored",
        WRITE_STEPS,
        "held.version <> base_version THEN 'conflict'",
        "false THEN 'conflict'",
        SYNC_MODEL,
    ),
    Mutant(
        "a put revives a tombstone",
        WRITE_STEPS,
        "WHEN undeletes AND NOT after_refused AND held.version = base_version AND item.content_hash IS NOT NULL",
        "WHEN item.content_hash IS NOT NULL",
        SYNC_MODEL,
    ),
    Mutant(
        "whichever deletion is named is taken back",
        WRITE_STEPS,
        "AND held.version = base_version AND item.content_hash IS NOT NULL",
        "AND item.content_hash IS NOT NULL",
        UNDELETE,
    ),
    Mutant(
        "whoever may write takes a deletion back",
        WRITE_STEPS,
        "AND NOT (visit.own OR held.author_id = visit.actor)",
        "AND false",
        UNDELETE,
    ),
    Mutant(
        "what comes back has lost its note",
        WRITE_STEPS,
        "sent.note := before.note;\n    sent.document",
        "sent.document",
        UNDELETE,
    ),
    Mutant(
        "a tombstone keeps its times only",
        WRITE_STEPS,
        "    held.note := NULL;\n",
        "    held.note := NULL;\n    held.regions := NULL;\n",
        UNDELETE,
    ),
    Mutant(
        "a deletion is offered over what came after it",
        WRITE_STEPS,
        "WHEN held_was >= was_version THEN 'unchanged'\n            WHEN item.deleted THEN 'deleted'",
        "WHEN item.deleted THEN 'deleted'\n            WHEN held_was >= was_version THEN 'unchanged'",
        PUSHES,
    ),
    Mutant("what came back is offered in vain", WRITE_STEPS, "WHEN was_version > held_was", "WHEN false", PUSHES),
    Mutant(
        "a deletion that was taken back shows before its window",
        READ_VERSIONS,
        "WHEN held.valid_to IS NULL AND v.deleted THEN coalesce(",
        "WHEN v.deleted THEN 'infinity' WHEN false THEN coalesce(",
        UNDELETE,
    ),
    Mutant(
        "whatever follows a tombstone is sound",
        VERIFY_DIARY,
        "AND (c.deleted OR c.content_hash IS DISTINCT FROM b.content_hash)",
        "AND false",
        "tests/services/test_verify.py",
    ),
    Mutant(
        "the head stays behind the changes",
        WRITE_RECORDS,
        "old_head, clock.head, p_outbox_empty",
        "old_head, old_head, p_outbox_empty",
        SYNC_MODEL,
    ),
    Mutant(
        "what follows a refused mutation counts",
        WRITE_STEPS,
        "item.base_version > 0 AND sent.id = ANY (refused)",
        "false",
        SYNC_MODEL,
    ),
    Mutant(
        "what follows an invalid mutation counts",
        SYNC_SERVICE,
        "if mutation.base_version and mutation.id in records_refused:",
        "if False:",
        PUSHES,
    ),
    Mutant(
        "a push may speak of an epoch that is over",
        WRITE_RECORDS,
        "AND (clock.epoch IS NULL OR p_epoch <> clock.epoch\n",
        "AND (clock.epoch IS NULL\n",
        SYNC_MODEL,
    ),
    Mutant(
        "a push writes what is forbidden",
        WRITE_STEPS,
        "WHEN p_scope IS NULL AND NOT scope = ANY (visit.scopes)",
        "WHEN false",
        SYNC_MODEL,
    ),
    Mutant(
        "nobody is told what came after a mutation",
        SYNC_SERVICE,
        "if outcome.overtaken or is_elsewhere",
        "if is_elsewhere",
        SYNC_MODEL,
    ),
    Mutant(
        "nobody is told what an offer found",
        SYNC_SERVICE,
        'mutation.op == "undelete" or (mutation.reoffer and outcome.status == "unchanged")',
        'mutation.op == "undelete"',
        PUSHES,
    ),
    Mutant(
        "an import brings back what was deleted",
        WRITE_STEPS,
        "    held.note := NULL;\n",
        "    held.note := NULL;\n    held.source_record_id := NULL;\n",
        IMPORTS,
    ),
    Mutant(
        "who takes the source of a record writes over it",
        WRITE_IMPORTS,
        """item := item || '{"after_refused": true}';""",
        "NULL;",
        IMPORTS,
    ),
    Mutant(
        "what is imported twice in a push is two records",
        WRITE_IMPORTS,
        "found := coalesce(at_source ->> source, (",
        "found := coalesce((",
        IMPORTS,
    ),
    Mutant(
        "an import tells the id of what nobody may see",
        SYNC_SERVICE,
        "is_elsewhere = str(outcome.id) != mutation.id and outcome.version is not None",
        "is_elsewhere = str(outcome.id) != mutation.id",
        IMPORTS,
    ),
    Mutant(
        "the offer that comes last stays",
        WRITE_STEPS,
        "WHEN held_was >= was_version THEN 'unchanged'",
        "WHEN false THEN 'unchanged'",
        SYNC_MODEL,
    ),
    Mutant(
        "an offer takes the place of what is new",
        WRITE_STEPS,
        "WHEN earlier.change_seq > clock.restored_head THEN",
        "WHEN false THEN",
        PUSHES,
    ),
    Mutant("what was offered again is not known as that", WRITE_STEPS, "nullif(new.was_version, 0)", "NULL", PUSHES),
    Mutant(
        "an offer of any epoch is comparable",
        WRITE_STEPS,
        "WHEN reoffer = previous_epoch AND notes",
        "WHEN notes",
        PUSHES,
    ),
    Mutant(
        "an offer without notes is comparable",
        WRITE_STEPS,
        "WHEN reoffer = previous_epoch AND notes",
        "WHEN reoffer = previous_epoch",
        PUSHES,
    ),
    Mutant(
        "no tombstone for a delete that was lost",
        WRITE_STEPS,
        "THEN CASE WHEN item.deleted THEN 'deleted' ELSE 'created' END  --",
        "THEN CASE WHEN item.deleted THEN 'missing' ELSE 'created' END  --",
        PUSHES,
    ),
    Mutant(
        "a second restore forgets the first",
        "app/services/restores.py",
        "CASE WHEN previous_epoch IS NULL OR head > restored_head THEN epoch ELSE previous_epoch END",
        "epoch",
        PUSHES,
    ),
    Mutant(
        "a page begins one too late",
        READ_STEPS,
        "AND change_seq > p_after\n",
        "AND change_seq > p_after + least(p_after, 1)\n",
        SYNC_MODEL,
    ),
    Mutant(
        "a cursor of an epoch that is over goes on",
        READ_STEPS,
        "WHEN current_epoch <> p_epoch THEN 'reoffer'",
        "WHEN false THEN 'reoffer'",
        SYNC_MODEL,
    ),
    Mutant(
        "a cursor at another change goes on",
        READ_STEPS,
        " AND v.nonce = p_nonce)",
        ")",
        PUSHES,
    ),
    Mutant(
        "a cursor of other terms goes on",
        READ_STEPS,
        " OR visit.grant_version <> p_grant_version",
        "",
        SYNC_MODEL,
    ),
    Mutant(
        "a cursor of another consent goes on",
        READ_STEPS,
        "WHEN visit.grant_id IS DISTINCT FROM p_grant OR visit.grant_version",
        "WHEN visit.grant_version",
        PUSHES,
    ),
    Mutant(
        "nobody is told what left the window",
        READ_STEPS,
        "OR EXISTS (SELECT FROM record_versions v\n",
        "OR false AND EXISTS (SELECT FROM record_versions v\n",
        PUSHES,
    ),
    Mutant(
        "a pull shows what left the window",
        READ_STEPS,
        "greatest(occurred_at, valid_to) >= p_data_from AS visible",
        "true AS visible",
        PUSHES,
    ),
    Mutant(
        "a pull names what was never in the window",
        READ_STEPS,
        "AND (greatest(occurred_at, valid_to) >= p_data_from\n",
        "AND (true\n",
        PUSHES,
    ),
    Mutant(
        "a pull shows notes",
        READ_CHANGES,
        "CASE WHEN visit.notes THEN note END",
        "note",
        SYNC_MODEL,
    ),
    Mutant(
        "a digest keeps quiet about tombstones",
        COMPARE_DIARY,
        "NOT (mine.id IS NULL AND held.deleted)",
        "NOT coalesce(held.deleted, false)",
        PUSHES,
    ),
    Mutant(
        "anybody offers a clinician's plan",
        SYNC_SERVICE,
        "await records.check_author(kind, diary, record_id, None, body)",
        "await records.check_author(kind, diary, record_id, mutation.base_version, body)",
        PUSHES,
    ),
    Mutant(
        "a pull keeps its pages",
        SYNC_SERVICE,
        '    grant = row["grant_id"] and',
        '    pull.__dict__.setdefault("kept", []).append(row)\n    grant = row["grant_id"] and',
        COSTS,
    ),
    # What goes together ends as if it had been alone.
    Mutant(
        "a group waits for a lock",
        FUNCTIONS,
        'values.append(("wait", "false"))',
        'values.append(("wait", "true"))',
        TOGETHER,
    ),
    Mutant("a busy call is told so", GROUPS, "rows[0][0] == BUSY", "False", TOGETHER),
    Mutant("one that fails takes all along", GROUPS, "unkept and (len(calls) > 1 or ended)", "False", TOGETHER),
    Mutant(
        "what may have been kept is made again",
        GROUPS,
        "unkept = isinstance(failure, asyncpg.PostgresError)",
        "unkept = True",
        TOGETHER,
    ),
    Mutant("rows go to whoever came first", GROUPS, 'answers[row["place"] - 1]', "answers[0]", TOGETHER),
    Mutant("calls of one key are beside each other", GROUPS, "call.key not in self._keys and ", "", TOGETHER),
    Mutant("whoever waits waits for ever", GROUPS, "self._waiting[0].since <= latest", "False", TOGETHER),
    Mutant("no end of those who wait", GROUPS, "self.waiting >= MOST_WAITING", "False", TOGETHER),
    # What is heavy delays its owner only.
    Mutant("weights: what is heavy stays in its group", GROUPS, "if self._weights.heavy(call):", "if False:", TOGETHER),
    Mutant(
        "weights: no account has a share",
        SHARES,
        "return call if call.account is None else",
        "return call or",
        TOGETHER,
    ),
    Mutant("weights: an account fills a group", GROUPS, "sharing[call.account] >= MOST_TOGETHER", "False", TOGETHER),
    Mutant("weights: an account fills the queues", SHARES, "calls >= MOST_OF_ONE", "False", TOGETHER),
    Mutant("weights: a group has as long as others", DATABASE, ", GROUP_SETTINGS))", "))", HURRIED),
    Mutant("weights: slow calls take every connection", SHARES, "self._free_for_slow -= slow", "pass", TURNS),
    Mutant(
        "weights: whoever came first has all turns",
        SHARES,
        "self._queues[owner] = self._queues.pop(owner)",
        "pass",
        TURNS,
    ),
    # What is lost in silence is given up.
    Mutant(
        "deadlines: a statement has none here",
        DATABASE,
        '"command_timeout": seconds,',
        '"command_timeout": None,',
        "tests/postgres/test_lost_connections.py -k the_next_is_served",
    ),
    Mutant(
        "swallow: what was lost with it is tried one by one",
        DATABASE,
        "            await self._together.leave()\n            await self._apart.leave()\n",
        "",
        LOST,
    ),
    Mutant(
        "each transaction finds a lost connection by itself",
        DATABASE,
        "        raise InvalidatePoolError from None",
        "        raise",
        "tests/postgres/test_lost_connections.py -k the_first_alone",
    ),
    # What is forged is found.
    Mutant("any anchor holds", ANCHORS, "if kept == digest:", "if kept:", TAMPERING),
    Mutant("a trail may end before its anchor", ANCHORS, "if kept == digest:", "if kept in (digest, None):", TAMPERING),
    Mutant("diaries are not sealed", SEAL_AUDIT, "PERFORM seal_diary(", "CONTINUE; PERFORM seal_diary(", TAMPERING),
    Mutant("a segment does not cover diaries", AUDIT_STEPS, "WHERE s.segment = number", "WHERE false", TAMPERING),
    Mutant(
        "a note is not sealed", AUDIT_STEPS, "CASE WHEN r.id IS NULL THEN v.note ELSE r.note END", "NULL", TAMPERING
    ),
    Mutant("an author is not sealed", AUDIT_STEPS, "v.author_id, v.session_id,", "v.session_id,", TAMPERING),
    Mutant("a device is not sealed", AUDIT_STEPS, "v.author_id, v.session_id,", "v.author_id,", TAMPERING),
    Mutant("a time is not sealed", AUDIT_STEPS, "extract(epoch FROM v.received_at), ", "", TAMPERING),
    Mutant(
        "a document is not sealed",
        AUDIT_STEPS,
        "CASE WHEN r.id IS NULL THEN v.document ELSE r.document END::text",
        "''",
        TAMPERING,
    ),
    Mutant(
        "seals of diaries are no chain", AUDIT_STEPS, "sha256(previous || string_agg", "sha256(string_agg", TAMPERING
    ),
    Mutant(
        "seals of diaries are not looked at",
        VERIFY_DIARY,
        "WHERE (d.digest, d.last_seq) IS DISTINCT FROM (s.digest, s.change_seq)",
        "WHERE false",
        TAMPERING,
    ),
    Mutant(
        "seals outlive their segment",
        BROKEN_SEGMENTS,
        "WHERE NOT EXISTS (SELECT FROM audit_segments WHERE number = segment)",
        "WHERE false",
        TAMPERING,
    ),
    Mutant(
        "content is not compared with its hash",
        VERIFY_DIARY,
        "ELSE v.content_hash <> sha256(convert_to(sent_document(v.document, v.server), 'UTF8')) END",
        "ELSE false END",
        TAMPERING,
    ),
    Mutant(
        "a version is not compared with its document",
        VERIFY_DIARY,
        "WHEN NOT starts_with(v.document, v.server) THEN true",
        "WHEN NOT starts_with(v.document, v.server) THEN false",
        TAMPERING,
    ),
    Mutant(
        "a standing version may hold another document",
        VERIFY_DIARY,
        "OR v.document IS NOT NULL OR v.note IS NOT NULL",
        "",
        TAMPERING,
    ),
    Mutant("columns are not compared", VERIFY, "IS DISTINCT FROM ({OF_DOCUMENT})", "IS NULL", TAMPERING),
    Mutant(
        "what is deleted is not compared",
        VERIFY,
        "WHERE r.patient_id = $1 AND r.id > $2",
        "WHERE r.patient_id = $1 AND NOT r.deleted AND r.id > $2",
        TAMPERING,
    ),
    Mutant("what fits no kind is passed over", VERIFY, 'strangers.append(row["id"])', "pass", TAMPERING),
    # What a replica drafts, the primary signs.
    Mutant(
        "a page goes on after its consent was narrowed",
        READ_STEPS,
        "IF p_consent <> consent THEN",
        "IF false THEN",
        WINDOW + " -k narrowing",
    ),
    Mutant(
        "a history goes on after its consent was narrowed",
        READ_VERSIONS,
        " WHEN p_consent <> consent THEN 'consent_changed'",
        "",
        WINDOW + " -k narrowing",
    ),
    Mutant("what is planned buries the present", READ_PAGE, "least(before_at, p_planned_to)", "before_at", PLANNED),
    Mutant(
        "a change of a plan is due without notice",
        READ_STEPS,
        "least(planned_at, min(change.occurred_at) FILTER (WHERE change.occurred_at > p_planned_to))",
        "planned_at",
        PLANNED,
    ),
    Mutant(
        "a plan that begins is due without notice",
        TREATMENTS,
        "min(occurred_at) FILTER (WHERE occurred_at > p_planned_to)",
        "NULL::timestamptz",
        PLANNED,
    ),
    Mutant(
        "a known page holds past what is due",
        RECORDS_SERVICE,
        "int(named[1]) <= now.timestamp()",
        "False",
        PLANNED,
    ),
    Mutant("a draft holds whatever happened since", READ_STEPS, "ELSIF etag = p_draft", "ELSIF p_draft <> ''", REPLICA),
    Mutant("a draft leaves no trail", READ_STEPS, "p_action, p_drafted, 'ok',", "p_action, '{}', 'ok',", REPLICA),
    Mutant("a primary drafts", READ_PAGE, "IF p_drafting AND NOT pg_is_in_recovery()", "IF false", REPLICA),
    Mutant(
        "a draft is shown unasked", RECORDS_SERVICE, 'draft if page["outcome"] == "drafted" else page', "draft", REPLICA
    ),
    *FIGURES,
    *INPUTS,
)
