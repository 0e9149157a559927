"""The schema of the first release: roles, tables, functions, row security, views and privileges."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import install

revision: str = "2026_11_28_baseline"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SQL = {
    "types.sql": "768f1fcad4f5fa6ecadee4db2fe81abffaefd13c5aefb462ff848abb6e201adb",
    "access.sql": "bc73616bf3c7e318309282994097f4b95efb3a423e594b58084b2aa8ece0919b",
    "access_log_v1.sql": "0a878fc115b5ab52a58757133eadd5d164c78db8434ab5c11f3e65ca09eac388",
    "audit.sql": "2cf7e2458ad794f32574e19fa7a1c1cdfc77676c7df9fe994cc8a1aa4e436507",
    "broken_audit_segments_v1.sql": "39b09d0f0422af6665a62d1b683af97f341e9adb0cb1b3070389ba6cd3f147f2",
    "compare_diary_v1.sql": "26a0f13453cd5768a64cff6dabe214f1116a98d5c839760b8bdf7b94f48f6ab4",
    "course.sql": "cdf0ca7f1752bc92d64d9f7e46c66eca281befdd162ad7143ac114e73d02e3d0",
    "documents.sql": "f875e32cd1dd242e71696863cbbd7fe3aba933f64b267c9707d4b780e819f1f8",
    "grants.sql": "2ce34bb22e923e8eaa982df87f5e8844e6c0ac744ca218237c160ec7c3dcf432",
    "grants_of_diary_v1.sql": "938ae638c0bc835bbbbdc3f6e39a180cc3fa317d843611207c1ecead4b82cd0a",
    "grants_of_session_v1.sql": "cb3779025a69a899097fb008fb9266508dcc607dbec723a7928f533af58fe9f5",
    "kinds.sql": "10bd60d41f50aadf269e5af1f0116f0f1d681f9456ebaa44102aff496e18b8c8",
    "lock_diary_v1.sql": "abd6dcdf95ccd8635c1aeed5850e828c0b41336a8afdc0493388540d0593dc99",
    "open_diary_v1.sql": "29b73b440fbfcb7d86bc97e748f1f81165acd5d3d1f3719fe9254e48146e8271",
    "open_own_diary_v1.sql": "51b9b7519f6eb9ae09d167c4a5e947aa92fb32c008e34f67fd8d81d37e53c659",
    "policies.sql": "94c200ced61b80a12c700f09bb2ea4c5eb889cfd769a3fee46eaa448ed801fee",
    "probe_disk_v1.sql": "ffb892fa0f0ca5df6c2f891515e5ca1b670bfaec5aaab134034191d9f72232b7",
    "purge_v1.sql": "8b6793340b8bf913600de5998d559ddb340e072de600b1eb34951e66df9c2c6b",
    "read_changes_v1.sql": "aa9ada38ae0d27d7fb6cccad2a81c1106c5806df46696cd1f22f0e1681ed86ce",
    "read_course_v1.sql": "3a45928dfb3181d158d30b5077a265b99f5af910897694d67918869cf76ea256",
    "read_heads_v1.sql": "82fcafbd7be20da042d7d36caab0a6af936903b94221351bb72f46937d5b691e",
    "read_page_v1.sql": "b1785417b90d7710b69343bd29fb0bf0704488131b800ffe7a5e92bfd221e1a8",
    "read_panel_v1.sql": "2cf5d170825d84052a3a30d60eaab67b96ada2eb736dd8356035934da73fabd7",
    "read_record_v1.sql": "90e88f5a69770831e086515bfbe5518ca14b7b12dc4c02ecfa176c18a17bac91",
    "read_steps.sql": "e23bd9bd118fd9631b5f896b4f2fe145cb44d0f2c0824bb4b1d050816f785b33",
    "read_versions_v1.sql": "5b5204263c37d9628ee98402daf5de6a4125dcd85637384c1b690781477c89e7",
    "redeem_share_code_v1.sql": "adc81108a0dce03f4baee85fc8c77ac20775fb9b32d4f505eaee61ea5201215d",
    "revoke_sessions_v1.sql": "63bbb455030170898e227bb1fb12f05ddacad129fee0ae5393e2dacdc895d3eb",
    "seal_audit_v1.sql": "14716b0653447a464bf981f2f5723c613218a7a3e17679078537571bcd3b56b9",
    "session_account_v1.sql": "842f89bef1f188a6b2aba1c4878cb31987e7b8cd4618aa2dcb8700650d6d7c67",
    "settle_audit_v1.sql": "21d9582f2f6fbd479d01c3db57131a819e6524684d3fbb935ddfc0b9db19f15f",
    "treatments.sql": "7f8dcfd1909a08f4dabcfebf4b0bab9e1ab5eae165235f545a2ac53b85f8864f",
    "verify_diary_v1.sql": "502905c52427f1a494582d1edcbbbb1cd898d79b47dfd4b68507843824244ba2",
    "views.sql": "6893a1fb2ebf103d571e5f7e7c5ef0f73f46e71eed80f9521df9d250872537d0",
    "write_imports_v1.sql": "d3adbedc0c1a265e143b9a44567421d0b4d8f3343c1bd70e6173914584953d08",
    "write_records_v1.sql": "ac22c0563eb0125e87c0fd97181021ef5a29c6be44253fadaefea738a89cd0f2",
    "write_steps.sql": "293621bfc5b593a962b3fe6c88e1315680a419f6d7b176e2bc2a7b49564a7e76",
    "privileges.sql": "2df3a9e485756f5074863313b38a65bdee3bac03a96dd1f3e523c825329e8485",
}
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
    op.create_index(
        "ix_audit_events_others",
        "audit_events",
        ["patient_id", "id"],
        unique=False,
        postgresql_where=sa.text("grant_id IS NOT NULL OR outcome IN ('not_found', 'insufficient_scope')"),
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
        "diary_seals",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("change_seq", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "change_seq", name=op.f("pk_diary_seals")),
    )
    op.create_index(op.f("ix_diary_seals_segment"), "diary_seals", ["segment"], unique=False)
    op.create_table(
        "organisations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organisations")),
        sa.UniqueConstraint("name", name=op.f("uq_organisations_name")),
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
        sa.Column("reoffered_version", sa.Integer(), nullable=True),
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
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source_system", sa.Text(), nullable=True),
        sa.Column("source_record_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "deleted OR (kind = 'treatment_event') = (treatment_id IS NOT NULL)", name=op.f("ck_records_treatment_id")
        ),
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
        sa.CheckConstraint("source_record_id IS NULL OR source_system IS NOT NULL", name=op.f("ck_records_source")),
        sa.CheckConstraint("utc_offset BETWEEN -840 AND 840", name=op.f("ck_records_utc_offset")),
        sa.CheckConstraint("version >= 1 AND change_seq >= 1", name=op.f("ck_records_version")),
        sa.PrimaryKeyConstraint("patient_id", "id", name=op.f("pk_records")),
        sa.UniqueConstraint("patient_id", "change_seq", name=op.f("uq_records_patient_id_change_seq")),
    )
    op.create_index(
        "ix_records_agreed",
        "records",
        ["patient_id", sa.literal_column("occurred_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("NOT deleted AND valid_to IS NOT NULL"),
    )
    op.create_index(
        "ix_records_timeline",
        "records",
        ["patient_id", sa.literal_column("occurred_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_index(
        "uq_records_source",
        "records",
        ["patient_id", "kind", "source_system", "source_record_id"],
        unique=True,
        postgresql_where=sa.text("source_record_id IS NOT NULL"),
    )
    op.create_table(
        "sign_in_delays",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sign_in_delays")),
    )
    op.create_index(op.f("ix_sign_in_delays_failed_at"), "sign_in_delays", ["failed_at"], unique=False)
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
        "clinicians",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=True),
        sa.Column("profession", sa.Text(), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "profession IN ('physician', 'nurse', 'physiotherapist', 'psychologist', 'pharmacist', "
            "'occupational_therapist', 'social_worker')",
            name=op.f("ck_clinicians_profession"),
        ),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name=op.f("fk_clinicians_organisation_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_clinicians_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_clinicians")),
    )
    op.create_table(
        "invitations",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_invitations_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_invitations")),
    )
    op.create_table(
        "patients",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Date(), nullable=False),
        sa.Column("birth_date_precision", sa.Text(), server_default=sa.text("'day'"), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "birth_date_precision IN ('day', 'month', 'year')", name=op.f("ck_patients_birth_date_precision")
        ),
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
        sa.Column("ended_because", sa.Text(), nullable=True),
        sa.Column("network", sa.LargeBinary(), nullable=True),
        sa.Column("has_sent", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("outbox_empty_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clock_skew_seconds", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "ended_because IS NULL OR ended_because = 'token_reused' AND revoked_at IS NOT NULL",
            name=op.f("ck_sessions_ended_because"),
        ),
        sa.CheckConstraint("has_sent OR outbox_empty_at IS NULL", name=op.f("ck_sessions_has_sent")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"], unique=False)
    op.create_table(
        "grants",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("grantee_id", sa.Uuid(), nullable=True),
        sa.Column("organisation_id", sa.Uuid(), nullable=True),
        sa.Column("redeemed_by", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("data_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("expires_at <= created_at + interval '365 days'", name=op.f("ck_grants_expiry")),
        sa.CheckConstraint("status IN ('pending', 'active')", name=op.f("ck_grants_status")),
        sa.CheckConstraint("(grantee_id IS NULL) <> (organisation_id IS NULL)", name=op.f("ck_grants_grantee")),
        sa.ForeignKeyConstraint(["grantee_id"], ["users.id"], name=op.f("fk_grants_grantee_id")),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name=op.f("fk_grants_organisation_id")),
        sa.ForeignKeyConstraint(["patient_id"], ["patients.id"], name=op.f("fk_grants_patient_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    op.create_index(op.f("ix_grants_grantee_id"), "grants", ["grantee_id"], unique=False)
    op.create_index(op.f("ix_grants_organisation_id"), "grants", ["organisation_id"], unique=False)
    op.create_index(
        "uq_grants_active",
        "grants",
        ["patient_id", "grantee_id"],
        unique=True,
        postgresql_where=sa.text("status = 'active' AND revoked_at IS NULL"),
    )
    op.create_index(
        "uq_grants_active_organisation",
        "grants",
        ["patient_id", "organisation_id"],
        unique=True,
        postgresql_where=sa.text("status = 'active' AND revoked_at IS NULL"),
    )
    op.create_table(
        "patient_clocks",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("head", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("epoch", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("previous_epoch", sa.Uuid(), nullable=True),
        sa.Column("restored_head", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("head_before_day", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
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
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("handed_out_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'current') = (first_used_at IS NOT NULL)", name=op.f("ck_refresh_tokens_first_used_at")
        ),
        sa.CheckConstraint(
            "(state = 'replaced') = (replaced_at IS NOT NULL)", name=op.f("ck_refresh_tokens_replaced_at")
        ),
        sa.CheckConstraint("state IN ('successor', 'current', 'replaced')", name=op.f("ck_refresh_tokens_state")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_refresh_tokens_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_refresh_tokens")),
    )
    op.create_index(op.f("ix_refresh_tokens_session_id"), "refresh_tokens", ["session_id"], unique=False)
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
    op.create_table(
        "share_codes",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("code_digest", sa.LargeBinary(), nullable=False),
        sa.Column("key_digest", sa.LargeBinary(), nullable=False),
        sa.Column("terms_digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("data_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("grant_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redeemed_by", sa.Uuid(), nullable=True),
        sa.Column("grant_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["patient_id"], ["patients.id"], name=op.f("fk_share_codes_patient_id")),
        sa.PrimaryKeyConstraint("patient_id", "id", name=op.f("pk_share_codes")),
        sa.UniqueConstraint("code_digest", name=op.f("uq_share_codes_code_digest")),
    )
    op.create_index("uq_share_codes_key", "share_codes", ["patient_id", "key_digest"], unique=True)
    install(SQL)


def downgrade() -> None:
    op.execute("DROP VIEW treatment_events, associated_symptoms, pain_scores, diary_entries")
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
    op.execute("DROP TYPE write_item, write_outcome, treatment_change")
    op.drop_table("share_codes")
    op.drop_table("refresh_tokens")
    op.drop_table("patient_clocks")
    op.drop_table("grants")
    op.drop_table("sessions")
    op.drop_table("patients")
    op.drop_table("invitations")
    op.drop_table("clinicians")
    op.drop_table("users")
    op.drop_table("sign_in_delays")
    op.drop_table("records")
    op.drop_table("record_versions")
    op.drop_table("organisations")
    op.drop_table("diary_seals")
    op.drop_table("audit_segments")
    op.drop_table("audit_events")
