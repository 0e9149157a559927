"""How a migration installs SQL: it names each file of `app/models` with the digest of the text that it means.

While the file still has that text it is taken from there; of a text that was replaced since, a copy is kept under
`migrations/frozen`, in the folder of the migration that first installed it. So a migration always does what it did on
its day, and what never changed is there once. `python -m migrations.new NAME` writes names, digests and copies.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from alembic import op

from app import models

SOURCES = Path(models.__file__).parent
FROZEN = Path(__file__).parent / "frozen"
# CHECKs are written NOT VALID, as what widens them need not look at every row; what narrows them must.
VALIDATE = """
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN SELECT format('ALTER TABLE %s VALIDATE CONSTRAINT %I', conrelid::regclass, conname)
                     FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND NOT convalidated LOOP
        EXECUTE statement;
    END LOOP;
END $$
"""
FIRST = "types.sql"
LAST = "privileges.sql"  # what it does not grant, nobody has


class Unfrozen(RuntimeError):
    """A migration's text is neither in `app/models` any more nor kept; says what to do."""


def install(files: Mapping[str, str]) -> None:
    """Runs the files with these digests, privileges last; raises Unfrozen where a text is not to be had."""
    texts = [source(name, digest) for name, digest in sorted(files.items(), key=lambda file: in_order(file[0]))]
    if LAST not in files:
        raise ValueError(f"{LAST} is missing: anybody may execute a new function until it ran")
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101 - an open migration has a connection
    # A function may call one that comes after it.
    for text in ("SET LOCAL check_function_bodies = off", *texts, "SET LOCAL check_function_bodies = on"):
        raw.run_async(lambda driver, text=text: driver.execute(text))


def restore(files: Mapping[str, str]) -> None:
    """Installs what was there before; fails where a row is there by now that it would not have let in."""
    install(files)
    op.execute(VALIDATE)


def source(name: str, digest: str) -> str:
    """The text of a file that has this digest."""
    for path in (SOURCES / name, *sorted(FROZEN.glob(f"*/{name}"))):
        if path.exists() and digest_of(path.read_bytes()) == digest:
            return path.read_text()
    raise Unfrozen(
        f"A migration installs {name} with the digest {digest[:12]}…, but app/models/{name} has another text by now"
        " and no copy of the older one is under migrations/frozen. `make migration NAME=…` writes the next migration"
        " and keeps the copy; while the migration is your own and unreleased, `python -m migrations.new --amend`"
        " lets it install the text of today."
    )


def missing(files: Mapping[str, str]) -> Iterator[str]:
    """The names of the files whose text is not to be had."""
    for name, digest in files.items():
        try:
            source(name, digest)
        except Unfrozen:
            yield name


def in_order(name: str) -> tuple[bool, bool, str]:
    """The key by which files are run."""
    return name == LAST, name != FIRST, name


def digest_of(text: bytes) -> str:
    """As migrations name it."""
    return sha256(text).hexdigest()
