"""A dump is believed only once it was read to its end and holds what its clocks say."""

import asyncio
import gzip
import os
import subprocess
from pathlib import Path

import pytest

from app.postgres import programs
from app.services import backups
from tests.conftest import make_database, url_of
from tests.test_migrations import fill

SERVER = os.environ.get("DIARY_POSTGRES_BINARIES")
PROGRAMS = programs.find(Path(SERVER) if SERVER else None)
PG_RESTORE = programs.find() / "pg_restore"  # what `backup check` takes


@pytest.fixture(scope="module")
def filled(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The superuser's URL of a database with rows in every table."""
    url = url_of(server_url, "postgres", asyncio.run(make_database(server_url)))
    fill(url, tmp_path_factory.mktemp("state"))
    return url


def dump(url: str, path: Path, *options: str) -> int:
    """What pg_dump exits with."""
    return subprocess.run([PROGRAMS / "pg_dump", f"--file={path}", *options, url], stderr=subprocess.DEVNULL).returncode


@pytest.fixture(scope="module")
def plain(filled: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound dump as a script."""
    path = tmp_path_factory.mktemp("dump") / "diary.sql"
    assert dump(filled, path) == 0
    return path


@pytest.mark.parametrize("form", ["custom", "directory"])
def test_a_whole_dump_is_counted_in_any_format(form: str, filled: str, plain: Path, tmp_path: Path) -> None:
    assert dump(filled, tmp_path / "diary", f"--format={form}") == 0
    found = backups.read(tmp_path / "diary", PG_RESTORE)
    assert (found.faults, found.rows["patients"], found.rows["records"], found.rows["record_versions"]) == ([], 2, 4, 8)
    zipped = tmp_path / "diary.sql.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert backups.read(plain, PG_RESTORE) == backups.read(zipped, PG_RESTORE) == found


def test_a_service_in_which_nobody_wrote_is_not_called_badly_dumped(server_url: str, tmp_path: Path) -> None:
    url = url_of(server_url, "postgres", asyncio.run(make_database(server_url)))
    assert dump(url, tmp_path / "new.sql") == 0
    assert backups.read(tmp_path / "new.sql", PG_RESTORE).faults == [
        "It holds no record, and no diary's clock knows of one: there is nothing to bring back yet."
    ]


def test_the_empty_diary_that_row_security_leaves_is_refused(filled: str, tmp_path: Path) -> None:
    owner = filled.replace("//postgres@", "//diary_owner@")
    assert dump(owner, tmp_path / "refused.sql") != 0, "the owner is bound by row security too"
    assert dump(owner, tmp_path / "empty.sql", "--enable-row-security") == 0
    assert backups.read(tmp_path / "empty.sql", PG_RESTORE).faults == [
        "It holds no record: whoever dumped it was not allowed to see them (docs/backup.md).",
        "It holds 0 changes of records, and there must be 8.",
    ]


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        ("--exclude-table-data=grants", "It has no data of grants."),
        ("--data-only", "It has not the whole schema: dump without --data-only."),
        ("--exclude-table=alembic_version", "It does not say at which migration it stands."),
    ],
)
def test_a_dump_of_a_part_is_refused(option: str, fault: str, filled: str, tmp_path: Path) -> None:
    assert dump(filled, tmp_path / "part", "--format=custom", option) == 0
    assert backups.read(tmp_path / "part", PG_RESTORE).faults == [fault]


@pytest.mark.parametrize(
    ("table", "fault"),
    [("records", "It holds 3 records, and their changes are of 4."), ("record_versions", "It holds 7 changes")],
)
def test_a_row_that_is_missing_is_noticed(table: str, fault: str, plain: Path, tmp_path: Path) -> None:
    lines = plain.read_bytes().splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith(f"COPY public.{table} ".encode()))
    del lines[start + 1]
    (tmp_path / "less.sql").write_bytes(b"".join(lines))
    assert backups.read(tmp_path / "less.sql", PG_RESTORE).faults[0].startswith(fault)


def test_a_dump_that_was_broken_off_is_refused(filled: str, plain: Path, tmp_path: Path) -> None:
    custom, zipped = tmp_path / "diary.dump", tmp_path / "diary.sql.gz"
    assert dump(filled, custom, "--format=custom") == 0
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    for whole in (custom, zipped, plain):
        content = whole.read_bytes()
        for share in (0.1, 0.5, 0.9):
            part = tmp_path / "part"
            part.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(backups.Unreadable):
                backups.read(part, PG_RESTORE)


def test_what_is_no_dump_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("COPY that\n")
    for name in ("nowhere", "notes.txt"):
        with pytest.raises(backups.Unreadable, match=name):
            backups.read(tmp_path / name, PG_RESTORE)
