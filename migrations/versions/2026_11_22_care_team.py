"""Organisations, clinicians, invitations and share codes; grants to organisations, and who redeemed them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations import run_sql

revision: str = "2026_11_22_care_team"
down_revision: str | None = "2026_11_22_treatments"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCOPES = (
    "scopes <@ ARRAY['entries:read', 'entries:write', 'notes:read', 'treatments:read', 'treatments:write',"
    " 'profile:read', 'profile:write', 'adherence:read', 'summary:read', 'export:create']"
)
READABLE = (
    "(NOT 'entries:write' = ANY (scopes) OR 'entries:read' = ANY (scopes))"
    " AND (NOT 'treatments:write' = ANY (scopes) OR 'treatments:read' = ANY (scopes))"
    " AND (NOT 'profile:write' = ANY (scopes) OR 'profile:read' = ANY (scopes))"
    " AND (NOT 'notes:read' = ANY (scopes) OR scopes && '{entries:read,treatments:read}')"
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")  # rather fail than queue everybody behind us
    op.create_table(
        "organisations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organisations")),
        sa.UniqueConstraint("name", name=op.f("uq_organisations_name")),
    )
    op.create_table(
        "clinicians",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=True),
        sa.Column("profession", sa.Text(), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "profession IN ('physician', 'nurse', 'physiotherapist', 'psychologist', 'pharmacist',"
            " 'occupational_therapist', 'social_worker')",
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
        sa.CheckConstraint(READABLE, name=op.f("ck_share_codes_readable")),
        sa.CheckConstraint(SCOPES, name=op.f("ck_share_codes_scopes")),
        sa.ForeignKeyConstraint(["patient_id"], ["patients.id"], name=op.f("fk_share_codes_patient_id")),
        sa.PrimaryKeyConstraint("patient_id", "id", name=op.f("pk_share_codes")),
        sa.UniqueConstraint("code_digest", name=op.f("uq_share_codes_code_digest")),
    )
    op.create_index("uq_share_codes_key", "share_codes", ["patient_id", "key_digest"], unique=True)
    op.create_index(
        "ix_audit_events_others",
        "audit_events",
        ["patient_id", "id"],
        unique=False,
        postgresql_where=sa.text("grant_id IS NOT NULL OR outcome IN ('not_found', 'insufficient_scope')"),
    )
    op.add_column("grants", sa.Column("organisation_id", sa.Uuid(), nullable=True))
    op.add_column("grants", sa.Column("redeemed_by", sa.Uuid(), nullable=True))
    op.add_column("grants", sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("grants", "grantee_id", existing_type=sa.UUID(), nullable=True)
    op.create_check_constraint(
        op.f("ck_grants_grantee"), "grants", sa.text("(grantee_id IS NULL) <> (organisation_id IS NULL)")
    )
    op.create_index(op.f("ix_grants_grantee_id"), "grants", ["grantee_id"], unique=False)
    op.create_index(op.f("ix_grants_organisation_id"), "grants", ["organisation_id"], unique=False)
    op.create_index(
        "uq_grants_active_organisation",
        "grants",
        ["patient_id", "organisation_id"],
        unique=True,
        postgresql_where=sa.text("status = 'active' AND revoked_at IS NULL"),
    )
    op.create_foreign_key(op.f("fk_grants_organisation_id"), "grants", "organisations", ["organisation_id"], ["id"])
    run_sql(revision, "access", "care_team", "privileges")


def downgrade() -> None:
    """Fails while an organisation holds a grant: nothing is thrown away."""
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.alter_column("grants", "grantee_id", existing_type=sa.UUID(), nullable=False)
    for name in (
        "lock_diary", "redeem_share_code", "grants_of_diary", "grants_of_session", "grant_words", "read_panel",
        "access_log",
    ):  # fmt: skip
        op.execute(f"DROP FUNCTION {name}")
    run_sql("2026_11_22_treatments", "access")
    op.execute("REVOKE UPDATE (email_verified_at) ON users FROM diary_app")
    op.execute(
        "REVOKE UPDATE (status, confirmed_at, revoked_at, scopes, data_from, expires_at, version) ON grants"
        " FROM diary_app"
    )
    op.drop_constraint(op.f("fk_grants_organisation_id"), "grants", type_="foreignkey")
    op.drop_constraint(op.f("ck_grants_grantee"), "grants")
    for name in ("uq_grants_active_organisation", "ix_grants_organisation_id", "ix_grants_grantee_id"):
        op.drop_index(name, table_name="grants")
    for name in ("confirmed_at", "redeemed_by", "organisation_id"):
        op.drop_column("grants", name)
    op.drop_index("ix_audit_events_others", table_name="audit_events")
    for table in ("share_codes", "invitations", "clinicians", "organisations"):
        op.drop_table(table)
