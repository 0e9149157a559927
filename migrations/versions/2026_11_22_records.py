"""The first schema: roles, accounts, patients and their clocks, records and history, consent, audit."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import run_sql

revision: str = "2026_11_22_records"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Roles belong to the cluster: they may be there already, and another database may be making them right now.
# Who makes a role may from PostgreSQL 16 on grant it, but not yet become it.
ROLES = """
DO $$
DECLARE
    name text;
    right_to_become text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOR name IN
        SELECT unnest('{diary_owner,diary_app,diary_eraser}'::text[]) EXCEPT SELECT rolname FROM pg_roles ORDER BY 1
    LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I %s', name, CASE WHEN name = 'diary_eraser' THEN 'NOLOGIN' ELSE 'LOGIN' END);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    IF NOT pg_has_role('diary_owner', right_to_become) THEN
        EXECUTE format('GRANT diary_owner TO %I', current_user);
    END IF;
END $$
"""


def become_owner() -> None:
    """Makes the roles, and goes on as the owner, who needs no right beyond this schema."""
    op.execute("RESET ROLE")  # whoever signed in: up again after a downgrade, the owner may not make roles
    op.execute(ROLES)
    op.execute("GRANT CREATE, USAGE ON SCHEMA public TO diary_owner")
    op.execute("GRANT USAGE ON SCHEMA public TO diary_app, diary_eraser")
    op.execute("DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$")
    op.execute("ALTER TABLE alembic_version OWNER TO diary_owner")
    op.execute("SET ROLE diary_owner")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")  # rather fail than queue everybody behind us
    become_owner()
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("grant_id", sa.Uuid(), nullable=True),
        sa.Column("patient_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("record_ids", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("address", postgresql.INET(), nullable=True),
        sa.Column("request_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index(op.f("ix_audit_events_patient_id_id"), "audit_events", ["patient_id", "id"], unique=False)
    op.create_table(
        "audit_segments",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("to_id", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_segments")),
    )
    op.create_table(
        "record_versions",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("change_seq", sa.BigInteger(), nullable=False),
        sa.Column("nonce", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("mutation_id", sa.Uuid(), nullable=True),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("patient_id", "change_seq", name=op.f("pk_record_versions")),
        sa.UniqueConstraint(
            "patient_id", "record_id", "version", name=op.f("uq_record_versions_patient_id_record_id_version")
        ),
    )
    op.create_index(
        "uq_record_versions_mutation",
        "record_versions",
        ["patient_id", "mutation_id"],
        unique=True,
        postgresql_where=sa.text("mutation_id IS NOT NULL"),
    )
    op.create_table(
        "records",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("change_seq", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("utc_offset", sa.SmallInteger(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("local_date", sa.Date(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("performer", sa.Text(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("regions", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("characters", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("worst_score", sa.Numeric(precision=5, scale=2), nullable=True),
        sa.Column("scale", sa.Text(), nullable=True),
        sa.Column("duration_minutes", sa.Integer(), nullable=True),
        sa.Column("treatment_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("kind IN ('entry')", name=op.f("ck_records_kind")),
        sa.CheckConstraint(
            "performer IN ('self', 'caregiver', 'clinician_observer')", name=op.f("ck_records_performer")
        ),
        sa.CheckConstraint(
            "(worst_score IS NULL) = (scale IS NULL) AND worst_score BETWEEN 0 AND 100",
            name=op.f("ck_records_worst_score"),
        ),
        sa.CheckConstraint("duration_minutes BETWEEN 0 AND 525600", name=op.f("ck_records_duration_minutes")),
        sa.CheckConstraint("length(note) <= 4000 AND NOT (deleted AND note IS NOT NULL)", name=op.f("ck_records_note")),
        sa.CheckConstraint("octet_length(content_hash) = 32", name=op.f("ck_records_content_hash")),
        sa.CheckConstraint("utc_offset BETWEEN -840 AND 840", name=op.f("ck_records_utc_offset")),
        sa.CheckConstraint("version >= 1 AND change_seq >= 1", name=op.f("ck_records_version")),
        sa.PrimaryKeyConstraint("patient_id", "id", name=op.f("pk_records")),
        sa.UniqueConstraint("patient_id", "change_seq", name=op.f("uq_records_patient_id_change_seq")),
    )
    op.create_index(
        "ix_records_timeline",
        "records",
        ["patient_id", sa.literal_column("occurred_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_table(
        "sign_in_delays",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sign_in_delays")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("password_changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("second_factor_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('patient', 'caregiver', 'clinician', 'admin')", name=op.f("ck_users_role")),
        sa.CheckConstraint("email = lower(email) AND length(email) BETWEEN 3 AND 320", name=op.f("ck_users_email")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
    )
    op.create_table(
        "patients",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Date(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_patients_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patients")),
        sa.UniqueConstraint("user_id", name=op.f("uq_patients_user_id")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("device_name", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index(
        op.f("ix_sessions_user_id"),
        "sessions",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("grantee_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("data_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(NOT 'entries:write' = ANY (scopes) OR 'entries:read' = ANY (scopes))"
            " AND (NOT 'treatments:write' = ANY (scopes) OR 'treatments:read' = ANY (scopes))"
            " AND (NOT 'notes:read' = ANY (scopes) OR scopes && '{entries:read,treatments:read}')",
            name=op.f("ck_grants_readable"),
        ),
        sa.CheckConstraint("expires_at <= created_at + interval '365 days'", name=op.f("ck_grants_expiry")),
        sa.CheckConstraint(
            "scopes <@ ARRAY['entries:read', 'entries:write', 'notes:read', 'treatments:read', 'treatments:write',"
            " 'summary:read', 'export:create']",
            name=op.f("ck_grants_scopes"),
        ),
        sa.CheckConstraint("status IN ('pending', 'active')", name=op.f("ck_grants_status")),
        sa.ForeignKeyConstraint(["grantee_id"], ["users.id"], name=op.f("fk_grants_grantee_id")),
        sa.ForeignKeyConstraint(["patient_id"], ["patients.id"], name=op.f("fk_grants_patient_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    op.create_index(
        "uq_grants_active",
        "grants",
        ["patient_id", "grantee_id"],
        unique=True,
        postgresql_where=sa.text("status = 'active' AND revoked_at IS NULL"),
    )
    op.create_table(
        "patient_clocks",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("head", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("epoch", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.CheckConstraint("head >= 0", name=op.f("ck_patient_clocks_head")),
        sa.ForeignKeyConstraint(["patient_id"], ["patients.id"], name=op.f("fk_patient_clocks_patient_id")),
        sa.PrimaryKeyConstraint("patient_id", name=op.f("pk_patient_clocks")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('successor', 'current', 'retired', 'replaced')", name=op.f("ck_refresh_tokens_state")
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_refresh_tokens_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_refresh_tokens")),
    )
    op.create_index(
        "uq_refresh_tokens_current",
        "refresh_tokens",
        ["session_id"],
        unique=True,
        postgresql_where=sa.text("state = 'current'"),
    )
    op.create_index(
        "uq_refresh_tokens_successor",
        "refresh_tokens",
        ["session_id"],
        unique=True,
        postgresql_where=sa.text("state = 'successor'"),
    )
    run_sql(revision, "access", "records", "audit", "views", "verify", "privileges")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("DROP VIEW pain_scores, diary_entries")
    op.execute("""
        DO $$
        DECLARE
            routine regprocedure;
        BEGIN
            FOR routine IN SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                           AND proowner = 'diary_owner'::regrole LOOP
                EXECUTE 'DROP FUNCTION ' || routine || ' CASCADE';
            END LOOP;
        END $$
    """)
    op.drop_table("refresh_tokens")
    op.drop_table("patient_clocks")
    op.drop_table("grants")
    op.drop_table("sessions")
    op.drop_table("patients")
    op.drop_table("users")
    op.drop_table("sign_in_delays")
    op.drop_table("records")
    op.drop_table("record_versions")
    op.drop_table("audit_segments")
    op.drop_table("audit_events")
