"""Releases to migrate to and to serve: those that were made, by their tags, and changed copies of this tree."""

import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

from tests.serving import ROOT

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "node_modules", "docs", "examples")
AS_SOMEBODY = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
MIGRATE = "import sys; from app.postgres.migrate import migrate; migrate(sys.argv[1])"
VERIFY = "import sys; from app.services.verify import run; sys.exit(chr(10).join(run(sys.argv[1])) or 0)"
DOWN = (
    "import sys; from alembic import command; from app.postgres.migrate import alembic_config;"
    " command.downgrade(alembic_config(sys.argv[1]), '-1')"
)

KINDS = "KINDS: tuple[AnyKind, ...] = ("
MORE_KINDS = """\
AIM = replace(
    ENTRY,
    name="aim",
    plural="aims",
    noun="an aim",
    patches=({"mood": 3},),
    computed={},
    create=MADE,
    patch=MADE,
    out=MADE,
)
KINDS: tuple[AnyKind, ...] = (AIM, """


class Tree:
    """The code of one release. What runs in it is this code."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def migrate(self, url: str) -> None:
        """Brings a database up to this release."""
        self.run("-c", MIGRATE, url)

    def verify(self, url: str) -> None:
        """Raises RuntimeError where its own verifier finds something."""
        self.run("-c", VERIFY, url)

    def migrate_back(self, url: str) -> None:
        """One migration down."""
        self.run("-c", DOWN, url)

    def run(self, *arguments: str) -> None:
        """Runs Python in this tree; raises RuntimeError with what it said where it fails."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)


class Release(Tree):
    """A copy of this tree under git, to be changed into another release."""

    def __init__(self, root: Path) -> None:
        super().__init__(Path(shutil.copytree(ROOT, root, ignore=LEFT_OUT)))
        git(self.root, "init", "-q")
        git(self.root, "add", "-A")
        git(self.root, *AS_SOMEBODY, "commit", "-q", "-m", "The release before")

    def edit(self, path: str, old: str, new: str, into: str | None = None) -> None:
        """Changes a text that is there, or with `into` writes a changed copy of it; fails where it is not."""
        text = (self.root / path).read_text()
        assert old in text, f"{path} has no {old!r}"
        (self.root / (into or path)).write_text(text.replace(old, new))

    def add_kind(self) -> None:
        """Declares a kind of record more: an aim, with the members of an entry."""
        self.edit("app/schemas/kinds.py", KINDS, MORE_KINDS)
        self.edit("app/schemas/kinds.py", "import AnyKind", "import MADE, AnyKind")
        self.edit("app/schemas/kinds.py", "from typing import", "from dataclasses import replace\nfrom typing import")

    def add(self, path: str, more: str) -> None:
        """Adds a text at the end of a file."""
        with (self.root / path).open("a") as file:
            file.write(more)

    def new_migration(self, name: str) -> Path:
        """The file that `make migration` writes; fails where something is left to do by hand."""
        self.run("-m", "migrations.new", name)
        [path] = (self.root / "migrations" / "versions").glob(f"*_{name}.py")
        return path


def tags() -> list[str]:
    """The newest release that was made, if any was."""
    found = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"], cwd=ROOT, capture_output=True, check=False
    )
    return found.stdout.decode().split()


def released(tag: str, root: Path) -> Tree:
    """The tree of a release that was made."""
    with tarfile.open(fileobj=BytesIO(git(ROOT, "archive", tag))) as archive:
        archive.extractall(root, filter="data")
    return Tree(root)


def git(root: Path, *arguments: str) -> bytes:
    """What git says in this tree."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
