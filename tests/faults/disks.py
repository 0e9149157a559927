"""Experiment 7: the disk is full."""

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.crowd import crowd, enrol
from tests.faults.load import Writer
from tests.faults.oracle import Verdict, judge
from tests.faults.servers import Postgres, diary
from tests.serving import SOUND


class CannotMount(Exception):
    """There can be no small disk on this machine."""


async def disk_full(postgres: Postgres, seed: int, *, times: int, program: str = SOUND) -> Verdict:
    """The disk of the records fills up and is emptied again, under neither server's eyes."""
    with small_disk(postgres.server.data_directory) as disk, diary(postgres, program) as server:
        await asyncio.to_thread(move_records, postgres, server.name, disk)
        url = f"http://127.0.0.1:{server.port}"
        patients = await enrol(url, 1)
        faults, pages = [], 0
        async with crowd(url, patients, 1, 1, seed) as phones:
            [writer], [reader] = phones.writers, phones.readers
            for _ in range(times):
                await writer.write(20)
                fill(disk / "filler")
                faults += await refused_for_want_of_room(writer)
                before = reader.pages
                await reader.catch_up(most_pages=1000)
                pages += reader.pages - before
                faults += ["reads do not go on"] * (reader.pages == before)
                (disk / "filler").unlink()
                await writer.write(0)
            verdict = await judge(server.owner_url, url, patients, phones.ledger, phones.readers)
        verdict.faults += faults
        server.stop()
        postgres.sql("postgres", f"DROP DATABASE {server.name}", f"DROP TABLESPACE {disk.name}")
    refusals = phones.ledger.refusals[503]
    verdict.did = f"{times} × full: {refusals} pushes refused with 503, {pages} pages read meanwhile"
    return verdict


async def refused_for_want_of_room(writer: Writer) -> list[str]:
    """Writes until there is no room: pages that are there already take a few."""
    for _ in range(1000):
        writer.put(writer.new_id(), 0)
        if not await writer.push():
            return []
    return ["the disk was not full"]


@contextmanager
def small_disk(data_directory: Path) -> Iterator[Path]:
    """A file system of its own for the PostgreSQL of this directory; only root may mount one."""
    account = data_directory.stat()
    with tempfile.TemporaryDirectory(prefix="diary_disk_") as name:
        directory = Path(name)
        options = f"size=16m,mode=0700,uid={account.st_uid},gid={account.st_gid}"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], stderr=subprocess.DEVNULL)
        if mounted.returncode != 0:
            raise CannotMount("a disk that is small enough to fill can be mounted by root only")
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


def move_records(postgres: Postgres, name: str, disk: Path) -> None:
    """Puts what patients write on the small disk; the audit of reads stays where it is."""
    postgres.sql("postgres", f"CREATE TABLESPACE {disk.name} LOCATION '{disk}'")
    tables = [f"ALTER TABLE {table} SET TABLESPACE {disk.name}" for table in ("records", "record_versions")]
    postgres.sql(name, *tables)


def fill(path: Path) -> None:
    """Writes until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
