"""docs/backup.md is followed as it is written: what was backed up is there again in an empty cluster, and no more."""

import getpass
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import httpx
import pytest
from anyio.to_thread import run_sync as in_thread
from fastapi import FastAPI
from pydantic import SecretStr

from app.config import Settings
from app.main import create_app
from app.postgres import embedded, programs
from tests.conftest import connect
from tests.people import Person, Phone, consent, lent, make_clinician
from tests.serving import ROOT

pytestmark = pytest.mark.anyio

GUIDE = (ROOT / "docs" / "backup.md").read_text()
ROLES, LOGICAL, RESTORE, PHYSICAL, INSTALL, BARMAN, RECOVER, AFTERWARDS = re.findall(
    r"```sh\n(.*?)```", GUIDE, re.DOTALL
)
[BARMAN_CONF] = re.findall(r"```ini\n(.*?)```", GUIDE, re.DOTALL)
CHOSEN = os.environ.get("DIARY_POSTGRES_BINARIES")
DEBIAN = Path("/usr/lib/postgresql/15/bin")  # the oldest that is supported
SERVERS = [Path(CHOSEN) if CHOSEN else None, *([DEBIAN] if not CHOSEN and DEBIAN.exists() else [])]
NAME = "diary"


@dataclass
class Place:
    """A cluster, and an operator's shell beside it."""

    server: embedded.Server
    directory: Path
    etc: Path  # in the place of /etc/pain-diary

    def url(self, user: str) -> str:
        return self.server.url(user, NAME)

    def shell(self, script: str, **more: str) -> str:
        """What a block of the guide prints; it must succeed to its last command."""
        programs = (self.server.binaries, self.directory / "barman" / "bin", Path(sys.executable).parent)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DIARY_", "COV_"))}
        environment = kept | {
            "PATH": os.pathsep.join([*map(str, programs), kept["PATH"]]),
            "HOME": str(self.directory),
            "PGHOST": str(self.server.socket_directory),
            "PGPORT": str(embedded.PORT),
            "PGUSER": "postgres",
            "PGDATABASE": NAME,
            "DIARY_ENVIRONMENT": "development",
            "DIARY_DATABASE_URL": self.url("diary_app"),
            "DIARY_MIGRATION_DATABASE_URL": self.url("postgres"),
            **more,
        }
        script = script.replace("/etc/pain-diary", str(self.etc))
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @asynccontextmanager
    async def app(self) -> AsyncIterator[FastAPI]:
        """The application on this cluster, with the keys and the secret of /etc/pain-diary."""
        settings = Settings(
            environment="development",
            database_url=SecretStr(self.url("diary_app")),
            state_directory=self.etc,
            access_token_seconds=3600,
        )
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            yield app


@contextmanager
def room() -> Iterator[Path]:
    """A folder that PostgreSQL's account may pass through."""
    with TemporaryDirectory(prefix="diary-backup-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        home.chmod(0o755)
        yield home


@contextmanager
def cluster(binaries: Path | None, home: Path) -> Iterator[Place]:
    """A PostgreSQL of its own: an empty one, or with the data that were restored to `home/cluster`."""
    (home / "etc").mkdir()
    if (home / "cluster").exists():
        give_to_postgres(home / "cluster")
    server = embedded.start(home, binaries)
    try:
        yield Place(server, home, home / "etc")
    finally:
        server.stop()


def give_to_postgres(data: Path) -> None:
    """What a guide cannot do for whoever is root: the account that runs PostgreSQL owns its data."""
    data.chmod(0o700)
    if os.geteuid() == 0:
        account = programs.unprivileged(data / "nowhere")
        for path in (data, *data.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


@contextmanager
def migrated(binaries: Path | None) -> Iterator[Place]:
    """A cluster with a migrated database and the roles that make backups."""
    with room() as home, cluster(binaries, home) as place:
        embedded.ensure_database(place.server, NAME)
        place.shell("pain-diary migrate")
        place.shell(ROLES)
        yield place


async def statuses(phone: Phone) -> dict[str, str]:
    """The status of each consent that a patient gave."""
    return {grant["id"]: grant["status"] for grant in (await phone.get("/grants")).json()["items"]}


async def sign_in_again(http: httpx.AsyncClient, phone: Phone) -> None:
    """The same person on the same phone, at a service that ended all sessions."""
    http.headers["Authorization"] = phone.http.headers["Authorization"]
    assert (await http.get("/v1/me")).status_code == 401
    answer = await phone.person.sign_in(http)
    assert answer.status_code == 201, answer.text
    http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    phone.http = http


async def entries(phone: Phone) -> list[str]:
    """The notes of the timeline."""
    return sorted(item["note"] for item in (await phone.get("/timeline")).json()["items"])


async def test_a_dump_is_restored_into_an_empty_cluster_and_what_ended_since_stays_ended() -> None:
    with migrated(SERVERS[0]) as first, room() as home, cluster(SERVERS[0], home) as second:
        async with first.app() as app, connect(app) as phone, connect(app) as desk:
            ada = await Person().register_and_sign_in(phone)
            superuser = await asyncpg.connect(first.url("postgres"))
            weber = await make_clinician(superuser, await Person().register_and_sign_in(desk))
            await superuser.close()
            assert (await ada.log(note="kept")).status_code == 201
            grant = await consent(ada, weber)
            said = await in_thread(first.shell, LOGICAL)
            assert "1 patients with 1 records in 1 changes" in said
            assert (await ada.log(note="lost")).status_code == 201
            assert (await ada.http.delete(f"{ada.diary}/grants/{grant}")).status_code == 204
            assert (await lent(weber, ada).get("/timeline")).status_code == 404

        for name in ("roles.sql", "diary.dump", "settings.tgz"):
            shutil.copy(first.directory / name, second.directory)
        await in_thread(second.shell, RESTORE)
        said = await in_thread(second.shell, AFTERWARDS)
        assert "1 consents are suspended" in said
        before, found, _ = said.partition("1 diaries have a new epoch")
        assert (bool(found), "again" in before) == (True, False), "nothing had to be mended"

        async with second.app() as app, connect(app) as phone, connect(app) as desk:
            await sign_in_again(phone, ada)
            await sign_in_again(desk, weber)
            assert await entries(ada) == ["kept"]
            assert await statuses(ada) == {grant: "pending"}
            assert (await lent(weber, ada).get("/timeline")).status_code == 404
            assert (await ada.post(f"/grants/{grant}/confirm", {})).status_code == 200
            assert (await lent(weber, ada).get("/timeline")).status_code == 200


async def wrote(place: Place, *notes: str) -> None:
    """A patient logs these."""
    async with place.app() as app, connect(app) as http:
        ada = await Person().register_and_sign_in(http)
        for note in notes:
            assert (await ada.log(note=note)).status_code == 201


def read(place: Place) -> str:
    """The notes that lie in a cluster, after what is to be done after every restore."""
    place.shell(AFTERWARDS)
    return place.shell("psql --no-align --tuples-only --command 'SELECT note FROM records ORDER BY note'")


@pytest.mark.long
@pytest.mark.parametrize("binaries", SERVERS, ids=str)
async def test_a_copy_of_the_cluster_is_started_in_its_place(binaries: Path | None) -> None:
    with migrated(binaries) as first, room() as home:
        await wrote(first, "one", "two")
        await in_thread(first.shell, PHYSICAL)
        shutil.move(first.directory / "base", home / "cluster")
        with cluster(binaries, home) as second:
            assert await in_thread(read, second) == "one\ntwo\n"


@pytest.mark.long
@pytest.mark.parametrize("binaries", SERVERS, ids=str)
async def test_barman_brings_back_the_moment_before_the_accident(binaries: Path | None) -> None:
    with migrated(binaries) as first, room() as home:
        shutil.copytree(ROOT / "deploy", first.directory / "deploy")
        await in_thread(first.shell, INSTALL)
        conf = BARMAN_CONF.replace("/var/lib/barman", f"{first.directory}/store")
        conf = conf.replace("/var/log", str(first.directory)).replace(
            "= barman\nbarman_home", f"= {getpass.getuser()}\nbarman_home"
        )
        (first.directory / ".barman.conf").write_text(conf)
        (first.directory / "store").mkdir()
        try:
            await wrote(first, "before the backup")
            await in_thread(first.shell, BARMAN)
            await wrote(first, "after it")
            moment = (await in_thread(first.shell, "psql --no-align --tuples-only --command 'SELECT now()'")).strip()
            await in_thread(first.shell, "psql --command 'TRUNCATE records, record_versions'")
            await in_thread(lambda: first.shell(RECOVER, MOMENT=moment, PGDATA=str(home / "cluster")))
        finally:
            await in_thread(first.shell, "barman receive-wal --stop diary || true")
        with cluster(binaries, home) as second:
            assert await in_thread(read, second) == "after it\nbefore the backup\n"
