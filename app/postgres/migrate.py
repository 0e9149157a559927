"""Alembic, for whoever migrates. It is imported there: a worker that serves does without a tenth of its memory."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config


def alembic_config(url: str) -> "Config":
    """Alembic's configuration for one database."""
    from alembic.config import Config

    config = Config(Path(__file__).parents[2] / "alembic.ini")
    config.attributes["url"] = url
    return config


def migrate(url: str) -> None:
    """Brings the database to the newest migration."""
    from alembic import command

    command.upgrade(alembic_config(url), "head")
