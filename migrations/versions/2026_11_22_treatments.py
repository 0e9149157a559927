"""Treatments, their events and the profile: three kinds of record more, and when a device had nothing left to send."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations import run_sql

revision: str = "2026_11_22_treatments"
down_revision: str | None = "2026_11_22_records"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

READABLE = (
    "(NOT 'entries:write' = ANY (scopes) OR 'entries:read' = ANY (scopes))"
    " AND (NOT 'treatments:write' = ANY (scopes) OR 'treatments:read' = ANY (scopes)){profile}"
    " AND (NOT 'notes:read' = ANY (scopes) OR scopes && '{{entries:read,treatments:read}}')"
)
PROFILE = " AND (NOT 'profile:write' = ANY (scopes) OR 'profile:read' = ANY (scopes))"
SCOPES = (
    "scopes <@ ARRAY['entries:read', 'entries:write', 'notes:read', 'treatments:read', 'treatments:write',"
    "{more} 'summary:read', 'export:create']"
)
MORE = " 'profile:read', 'profile:write', 'adherence:read',"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")  # rather fail than queue everybody behind us
    op.add_column("sessions", sa.Column("outbox_empty_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_sessions_user_id", table_name="sessions")
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"], unique=False)
    replace_check("grants", "readable", READABLE.format(profile=PROFILE))
    replace_check("grants", "scopes", SCOPES.format(more=MORE))
    op.add_column("records", sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True))
    replace_check("records", "kind", "kind IN ('entry', 'treatment', 'treatment_event', 'profile')")
    add_check("records", "profile", "(kind = 'profile') = (id = patient_id)")
    add_check("records", "valid_to", "(kind IN ('treatment', 'profile')) = (valid_to IS NOT NULL)")
    add_check("records", "treatment_id", "deleted OR (kind = 'treatment_event') = (treatment_id IS NOT NULL)")
    op.create_index(
        "ix_records_agreed",
        "records",
        ["patient_id", sa.literal_column("occurred_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("NOT deleted AND kind IN ('treatment', 'profile')"),
    )
    drop_functions("enter_diary", "write_records", "read_page")
    run_sql(revision, "access", "records", "treatments", "views", "privileges")


def downgrade() -> None:
    """Fails while there is a record of the new kinds: nothing is thrown away."""
    op.execute("SET LOCAL lock_timeout = '3s'")
    replace_check("records", "kind", "kind IN ('entry')")
    op.execute("DROP VIEW treatment_events")
    drop_functions(
        "enter_diary", "write_records", "read_page", "read_course", "course", "last_word", "treatment_changes",
        "beside_treatment", "with_treatment", "event_flags", "treatment_label",
    )  # fmt: skip
    run_sql("2026_11_22_records", "access", "records", "privileges")
    op.drop_index("ix_records_agreed", table_name="records")
    for name in ("treatment_id", "valid_to", "profile"):
        op.drop_constraint(op.f(f"ck_records_{name}"), "records")
    op.drop_column("records", "valid_to")
    replace_check("grants", "scopes", SCOPES.format(more=""))
    replace_check("grants", "readable", READABLE.format(profile=""))
    op.drop_index(op.f("ix_sessions_user_id"), table_name="sessions")
    op.create_index(
        "ix_sessions_user_id", "sessions", ["user_id"], unique=False, postgresql_where=sa.text("revoked_at IS NULL")
    )
    op.drop_column("sessions", "outbox_empty_at")


def add_check(table: str, name: str, condition: str) -> None:
    """A CHECK with the name that the models' naming convention gives it."""
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, sa.text(condition))


def replace_check(table: str, name: str, condition: str) -> None:
    """Another condition under the same name."""
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    add_check(table, name, condition)


def drop_functions(*names: str) -> None:
    """Drops functions whatever their parameters: REPLACE could not change these."""
    for name in names:
        op.execute(f"DROP FUNCTION {name}")
