"""What was lost in a restore is offered again in its order."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations import run_sql

revision: str = "2026_11_22_reoffer"
down_revision: str | None = "2026_11_22_sync"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

REPLACED = ("decide", "wire", "write_records")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")  # rather fail than queue everybody behind us
    op.add_column("patient_clocks", sa.Column("previous_epoch", sa.Uuid(), nullable=True))
    op.add_column(
        "patient_clocks", sa.Column("restored_head", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("record_versions", sa.Column("reoffered_version", sa.Integer(), nullable=True))
    for name in REPLACED:
        op.execute(f"DROP FUNCTION {name}")
    op.execute("DROP FUNCTION verify_diaries")
    run_sql(revision, "records", "sync", "verify", "privileges")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '3s'")
    for name in REPLACED:
        op.execute(f"DROP FUNCTION {name}")
    op.drop_column("record_versions", "reoffered_version")
    op.drop_column("patient_clocks", "restored_head")
    op.drop_column("patient_clocks", "previous_epoch")
    run_sql("2026_11_22_sync", "records", "sync", "verify", "privileges")
