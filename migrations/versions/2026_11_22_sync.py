"""Sync: writes in batches."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations import run_sql

revision: str = "2026_11_22_sync"
down_revision: str | None = "2026_11_22_care_team"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")  # rather fail than queue everybody behind us
    op.add_column("sessions", sa.Column("clock_skew_seconds", sa.Integer(), nullable=True))
    for name in ("enter_diary", "write_records"):
        op.execute(f"DROP FUNCTION {name}")
    run_sql(revision, "access", "records", "sync", "verify", "privileges")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")
    for name in (
        "enter_diary",
        "write_records",
        "write_scope",
        "read_changes",
        "compare_diary",
        "heads",
        "verify_diary",
    ):
        op.execute(f"DROP FUNCTION {name}")
    run_sql("2026_11_22_care_team", "access")
    run_sql("2026_11_22_treatments", "records")
    run_sql("2026_11_22_records", "verify")
    run_sql("2026_11_22_care_team", "privileges")
    op.drop_column("sessions", "clock_skew_seconds")
