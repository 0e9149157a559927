"""`make migration NAME=goals`, or `python -m migrations.new goals`: writes the migration to what `app/models` says now.

The SQL of the kinds of record is written anew first. Table changes are found by Alembic, files of SQL by their digests,
and the functions that came, went or changed their signature by comparing catalogs. The text that is superseded is kept
under `migrations/frozen`, out of git's history. Then the migration is tried on an empty database, and what it leaves
out is printed: a CHECK, say, which Alembic does not see. With `--amend` instead of a name the newest migration, which
nobody else ran yet, takes the files as they are now.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from app.postgres import embedded
from app.postgres.migrate import alembic_config
from migrations import FROZEN, LAST, SOURCES, Unfrozen, check, digest_of, in_order, kinds, missing

ROOT = Path(__file__).parent.parent
Files = dict[str, str]  # name → digest


def main(arguments: list[str]) -> None:
    """Ends the process: 1 where something is left to do by hand, and says what."""
    kinds.main()
    if arguments == ["--amend"]:
        sys.exit(amend())
    if len(arguments) != 1 or not arguments[0].isidentifier():
        sys.exit("Name it by one word, as in: make migration NAME=goals")
    with check.temporary_server() as server:
        embedded.ensure_database(server, "migration")
        config = alembic_config(server.url("postgres", "migration"))
        left = write(config, arguments[0])
    sys.exit("\n".join(left) or 0)


def write(config: Config, name: str, sources: Path = SOURCES) -> list[str]:
    """Writes the migration, as the file of an empty database; returns what it leaves out."""
    url = config.attributes["url"]
    for path in freeze(config):
        say(f"kept     {path}")
    command.upgrade(config, "head")
    before, now = installed(config), written(sources)
    changed = {name: digest for name, digest in now.items() if before.get(name) != digest}
    removed = before.keys() - now.keys()
    superseded = {name: digest for name, digest in before.items() if now.get(name) != digest}
    migrated, meant = asyncio.run(check.both_catalogs(url, check.texts(sources)))
    config.attributes["template"] = {
        "installed": with_privileges(changed, now) if changed or removed else {},
        "replaced": with_privileges(superseded, before),
        "removed": sorted(removed),
        "gone": sorted(replaced(migrated, meant)),
        "come": sorted(replaced(meant, migrated)),
    }
    day = datetime.now(UTC).strftime("%Y_%m_%d")
    made = command.revision(config, name.capitalize().replace("_", " "), autogenerate=True, rev_id=f"{day}_{name}")
    assert isinstance(made, Script)  # noqa: S101 - one revision was asked for
    say(f"written  {made.path}")
    tidy(made.path)
    command.upgrade(config, "head")
    left = check.differences(url, sources)
    command.downgrade(config, "-1")
    command.upgrade(config, "head")
    return left


def freeze(config: Config) -> Iterator[Path]:
    """Keeps each text that a migration installs and that is there no more; raises Unfrozen where git has none."""
    for script in scripts(config):
        for name in list(missing(script.module.SQL)):
            digest = script.module.SQL[name]
            text = from_history(name, digest)
            if text is None:
                raise Unfrozen(f"{script.revision} installs a {name} that git does not know: commit it, or --amend.")
            path = FROZEN / script.revision / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            yield path.relative_to(ROOT)


def from_history(name: str, digest: str) -> bytes | None:
    """The text of this digest that the file had in some commit."""
    path = f"app/models/{name}"
    for commit in git("log", "--format=%H", "HEAD", "--", path).decode().split():
        text = git("show", f"{commit}:{path}", check=False)
        if digest_of(text) == digest:
            return text
    return None


def installed(config: Config) -> Files:
    """Each file and the digest that the migrations leave it with."""
    found: Files = {}
    for script in scripts(config):
        found |= script.module.SQL
        for name in getattr(script.module, "GONE", ()):
            found.pop(name)
    return found


def written(sources: Path) -> Files:
    """Each file and its digest."""
    paths = sorted(sources.glob("*.sql"), key=lambda path: in_order(path.name))
    return {path.name: digest_of(path.read_bytes()) for path in paths}


def with_privileges(some: Files, all_files: Files) -> Files:
    """These and, last, the privileges, which are given anew whenever a function is."""
    return some | {LAST: all_files[LAST]}


def replaced(old: check.Catalog, new: check.Catalog) -> Iterator[str]:
    """The functions of the old catalog that are not in the new one, or that answer something else there."""
    for name, definition in old.items():
        kind, _, routine = name.partition(" ")
        if kind == "function" and signature(definition) != signature(new.get(name, "")):
            yield routine


def signature(definition: str) -> list[str]:
    """The lines of a function's definition that REPLACE cannot change: names of parameters, and what it returns."""
    return definition.splitlines()[1:3]


def scripts(config: Config) -> list[Script]:
    """The migrations, the first one first."""
    return list(ScriptDirectory.from_config(config).walk_revisions())[::-1]


def amend() -> str | None:
    """Writes the digests of today into the newest migration; returns what hinders it."""
    newest = scripts(alembic_config(""))[-1]
    now, path = written(SOURCES), Path(newest.path)
    named = newest.module.SQL
    files = now if newest.down_revision is None else {name: now[name] for name in named if name in now}
    if files.keys() - named.keys() and newest.down_revision is not None:
        return "A file was added: write the migration anew."
    before, _, rest = path.read_text().partition("SQL = {\n")
    lines = "".join(f'    "{name}": "{digest}",\n' for name, digest in files.items())
    path.write_text(f"{before}SQL = {{\n{lines}}}\n{rest.partition('}' + chr(10))[2]}")
    say(f"amended  {path.relative_to(ROOT)}")
    return None


def tidy(path: str) -> None:
    """Lays the file out as `make check` wants it."""
    for arguments in (["check", "-q", "--fix"], ["format", "-q"]):
        subprocess.run([sys.executable, "-m", "ruff", *arguments, path], cwd=ROOT, check=True)  # noqa: S603


def git(*arguments: str, check: bool = True) -> bytes:
    """What git says."""
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=check)  # noqa: S603, S607
    return run.stdout


def say(line: str) -> None:
    """Prints at once."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
