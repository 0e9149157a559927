"""Alembic, for whoever migrates. It is imported there: a worker that serves does without a tenth of its memory."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

HOME = Path(__file__).parents[2]


class UnknownRevision(RuntimeError):
    """The database stands at a migration that this release does not know."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database stands at the migration {revision}, which this release does not know: it was made before"
            " version 0.1.0, whose schema starts anew, or by a later release."
        )
        self.revision = revision


def alembic_config(url: str) -> "Config":
    """Alembic's configuration for one database."""
    from alembic.config import Config

    config = Config(HOME / "alembic.ini")  # of a checkout: where a wheel was installed nobody writes migrations
    config.set_main_option("script_location", str(HOME / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


def migrate(url: str) -> list[str]:
    """Brings the database to the newest migration; returns those that were run, in their order.

    Raises UnknownRevision where it stands at a migration that is not here.
    """
    from alembic import command
    from alembic.script.revision import ResolutionError
    from alembic.util import CommandError

    try:
        config = alembic_config(url)
        command.upgrade(config, "head")
    except CommandError as error:
        if isinstance(error.__cause__, ResolutionError):
            raise UnknownRevision(error.__cause__.argument) from error
        raise
    applied: list[str] = config.attributes["applied"]
    return applied
