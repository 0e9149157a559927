"""How a migration installs the SQL it was written with."""

from pathlib import Path

from alembic import op


def run_sql(folder: str, *names: str) -> None:
    """Runs `migrations/sql/<folder>/<name>.sql`: the text of that day, whatever `app/models/*.sql` says by now."""
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101 - an open migration has a connection
    for name in names:
        text = (Path(__file__).parent / "sql" / folder / f"{name}.sql").read_text()
        raw.run_async(lambda driver, text=text: driver.execute(text))
