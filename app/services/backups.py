"""Whether a dump of the database can bring the diaries back: it is read to its end and counted, and not restored."""

import gzip
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from app.models import Base

ARCHIVE, GZIPPED = b"PGDMP", b"\x1f\x8b"  # what files of pg_dump's custom format and of gzip begin with
END = b"-- PostgreSQL database dump complete"
NOTHING_SEEN = "It holds no record: whoever dumped it was not allowed to see them (docs/backup.md)."
NOTHING_WRITTEN = "It holds no record, and no diary's clock knows of one: there is nothing to bring back yet."


class Unreadable(Exception):
    """This is no whole dump; the text says why in one sentence."""


@dataclass
class Dump:
    """What a dump holds. Counted from rows, as pg_dump writes them: no value of a record is kept."""

    rows: Counter[str] = field(default_factory=Counter)  # by table
    copied: set[str] = field(default_factory=set)  # tables with data, be they none
    made: set[str] = field(default_factory=set)  # tables with a definition
    policies: int = 0
    heads: int = 0  # of all clocks: as many changes must be there
    first_versions: int = 0  # as many records must be there
    revision: str = ""

    @property
    def faults(self) -> list[str]:
        """Why the dump must not be relied on, in sentences; empty where it may."""
        tables = set(Base.metadata.tables)
        without = sorted(tables - self.copied)
        changes, records = self.rows["record_versions"], self.rows["records"]
        return [
            sentence
            for wrong, sentence in (
                (without, f"It has no data of {', '.join(without)}."),
                (tables - self.made or not self.policies, "It has not the whole schema: dump without --data-only."),
                (not self.revision, "It does not say at which migration it stands."),
                (not records, NOTHING_SEEN if self.heads else NOTHING_WRITTEN),
                (changes != self.heads, f"It holds {changes} changes of records, and there must be {self.heads}."),
                (
                    records != self.first_versions,
                    f"It holds {records} records, and their changes are of {self.first_versions}.",
                ),
            )
            if wrong
        ]


def read(path: Path, pg_restore: Path) -> Dump:
    """What the dump holds, of any format that pg_dump writes; raises Unreadable where it is broken off or none."""
    dump = Dump()
    try:
        with _script(path, pg_restore) as lines:
            whole = _count(dump, lines)
    except (ValueError, IndexError):  # a line that is cut off
        whole = False
    if not whole:
        raise Unreadable(f"{path} is no dump, or ends before its end.")
    return dump


def _count(dump: Dump, lines: Iterator[bytes]) -> bool:
    """Whether the end was reached."""
    whole = False
    for line in lines:
        if line.startswith(b"COPY public."):
            _count_rows(dump, line.decode(), lines)
        elif line.startswith(b"CREATE TABLE public."):
            dump.made.add(line.split()[2].decode().removeprefix("public."))
        else:
            dump.policies += line.startswith(b"CREATE POLICY ")
            whole = whole or line.startswith(END)
    return whole


def _count_rows(dump: Dump, header: str, lines: Iterable[bytes]) -> None:
    """Counts the rows after a line such as `COPY public.records (patient_id, id) FROM stdin;`."""
    table = header.split()[1].removeprefix("public.")
    columns = header[header.index("(") + 1 : header.index(")")].split(", ")
    dump.copied.add(table)
    for line in lines:
        if line.startswith(b"\\."):
            return
        dump.rows[table] += 1
        if table == "patient_clocks":
            dump.heads += int(_value(line, columns, "head"))
        elif table == "record_versions":
            dump.first_versions += _value(line, columns, "version") == b"1"
        elif table == "alembic_version":
            dump.revision = _value(line, columns, "version_num").decode()


def _value(line: bytes, columns: list[str], name: str) -> bytes:
    return line.rstrip(b"\n").split(b"\t")[columns.index(name)]


@contextmanager
def _script(path: Path, pg_restore: Path) -> Iterator[Iterator[bytes]]:
    """The dump as the lines of a script of SQL."""
    beginning = ARCHIVE if path.is_dir() else _beginning(path)
    if beginning == ARCHIVE:
        with _restored_to_a_script(path, pg_restore) as lines:
            yield lines
        return
    try:
        with gzip.open(path) if beginning.startswith(GZIPPED) else path.open("rb") as lines:
            yield lines
    except (EOFError, OSError):
        raise Unreadable(f"{path} ends before its end.") from None


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(ARCHIVE))
    except OSError as failure:
        raise Unreadable(f"{path} cannot be read: {failure.strerror}.") from None


@contextmanager
def _restored_to_a_script(path: Path, pg_restore: Path) -> Iterator[Iterator[bytes]]:
    command = (str(pg_restore), "--file=-", str(path))
    with (
        TemporaryFile() as complaints,  # and no pipe, in which it might wait to be heard
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints) as process,  # noqa: S603 - ours
    ):
        assert process.stdout is not None  # noqa: S101 - asked for above
        yield process.stdout
        process.wait()
        complaints.seek(0)
        complaint = complaints.read().decode(errors="replace").strip()
    if process.returncode:
        raise Unreadable(f"{path} cannot be read to its end: {complaint}.")
