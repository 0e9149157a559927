"""Alembic, for whoever migrates. It is imported there: a worker that serves does without a tenth of its memory."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config


class UnknownRevision(Exception):
    """The database stands at a migration that this version does not know; the text says so."""


def alembic_config(url: str) -> "Config":
    """Alembic's configuration for one database."""
    from alembic.config import Config

    config = Config(Path(__file__).parents[2] / "alembic.ini")
    config.attributes["url"] = url
    return config


def migrate(url: str) -> None:
    """Brings the database to the newest migration; raises UnknownRevision."""
    from alembic import command
    from alembic.script.revision import ResolutionError
    from alembic.util import CommandError

    try:
        command.upgrade(alembic_config(url), "head")
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        raise UnknownRevision("Another version migrated the database: this one does not know its state.") from None
