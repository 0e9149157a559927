"""Writes may go together: one that would have to wait for a diary's clock says so instead."""

from collections.abc import Sequence

from alembic import op

from migrations import run_sql

revision: str = "2026_11_22_group_commit"
down_revision: str | None = "2026_11_22_reoffer"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

REPLACED = ("compose", "read_page", "write_records")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")  # rather fail than queue everybody behind us
    for name in REPLACED:
        op.execute(f"DROP FUNCTION {name}")
    run_sql(revision, "access", "records", "privileges")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")
    for name in (*REPLACED, "consent_to_write"):
        op.execute(f"DROP FUNCTION {name}")
    run_sql("2026_11_22_sync", "access")
    run_sql("2026_11_22_reoffer", "records", "privileges")
