"""Releases that were never made: copies of the tree with a change, to migrate to and to serve."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.serving import ROOT

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "node_modules", "docs", "examples")
GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
MIGRATE = "import sys; from app.postgres.migrate import migrate; migrate(sys.argv[1])"
DOWN = (
    "import sys; from alembic import command; from app.postgres.migrate import alembic_config;"
    " command.downgrade(alembic_config(sys.argv[1]), '-1')"
)


class Release:
    """A copy of the tree under git, changed at will. What runs in it is this copy's code."""

    def __init__(self, root: Path) -> None:
        self.root = Path(shutil.copytree(ROOT, root, ignore=LEFT_OUT))
        self._do(["git", "init", "-q"])
        self.commit()

    def edit(self, path: str, old: str, new: str, into: str | None = None) -> None:
        """Changes a text that is there, or with `into` writes a changed copy of it; fails where it is not."""
        text = (self.root / path).read_text()
        assert old in text, f"{path} has no {old!r}"
        (self.root / (into or path)).write_text(text.replace(old, new))

    def add(self, path: str, more: str) -> None:
        """Adds a text at the end of a file."""
        with (self.root / path).open("a") as file:
            file.write(more)

    def commit(self) -> None:
        """Commits everything."""
        self._do(["git", "add", "-A"])
        self._do([*GIT, "commit", "-q", "-m", "A release"])

    def new_migration(self, name: str) -> Path:
        """The file that `make migration` writes, which must have nothing to add by hand."""
        self.run("-m", "migrations.new", name)
        [path] = (self.root / "migrations" / "versions").glob(f"*_{name}.py")
        return path

    def migrate(self, url: str) -> None:
        """Up to this release."""
        self.run("-c", MIGRATE, url)

    def migrate_back(self, url: str) -> None:
        """One migration down."""
        self.run("-c", DOWN, url)

    def run(self, *arguments: str) -> None:
        """Runs this copy's Python; raises RuntimeError with what it said where it fails."""
        self._do([sys.executable, *arguments])

    def _do(self, command: list[str]) -> None:
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
