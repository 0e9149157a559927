"""The migration that this release was written for; `python -m migrations.new` writes it."""

REVISION = "2026_11_28_baseline"
