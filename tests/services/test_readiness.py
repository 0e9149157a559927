"""Readiness: what the service says it can do is what it can do, while the database changes under it."""

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import anyio.to_thread
import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app import services
from app.config import Settings
from app.models.revision import REVISION
from app.postgres import connections
from app.postgres.database import Database
from app.postgres.functions import Function
from app.services import readiness, verify
from app.services.readiness import READ_ONLY, DatabaseState, Readiness, revision_fault
from tests.conftest import connect, make_database, started, url_of
from tests.faults.disks import CannotMount, fill, small_disk
from tests.forms import skip
from tests.people import Person
from tests.waiting import until

pytestmark = pytest.mark.anyio

Superuser: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
STAMP = "UPDATE alembic_version SET version_num = '{}'"
FULL = DatabaseState(True, False, "The disk of the database is full.")


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0)
    monkeypatch.setattr(readiness, "DISK_SECONDS", 0)


@pytest.fixture
async def name(server_url: str, superuser: Superuser) -> AsyncIterator[str]:
    """A database of the test's own."""
    made = await make_database(server_url)
    yield made
    await superuser.execute(f"DROP DATABASE {made} WITH (FORCE)")


async def test_a_service_that_can_do_everything_says_so(app: FastAPI, client: httpx.AsyncClient) -> None:
    assert await app.state.readiness.look() == DatabaseState(True, True)
    assert (await client.get("/readyz")).json() == {"status": "ready", "reads": True, "writes": True}


@pytest.mark.parametrize(
    ("stands_at", "migrations", "fits"),
    [
        ([REVISION], REVISION, True),
        ([REVISION], None, True),
        (["next"], f"{REVISION} next", True),
        (["next"], f"before {REVISION} between next", True),
        (["before"], "before", False),
        (["r1923"], REVISION, False),
        (["r1923"], f"{REVISION} next", False),
        (["next"], None, False),
        ([], None, False),
    ],
)
def test_a_database_ahead_of_the_release_is_told_from_a_foreign_and_an_older_one(
    stands_at: list[str], migrations: str | None, fits: bool
) -> None:
    assert (revision_fault(stands_at, migrations) is None) is fits


def test_all_functions_that_the_service_calls_are_looked_at() -> None:
    modules = [
        importlib.import_module(f"app.services.{module.name}") for module in pkgutil.iter_modules(services.__path__)
    ]
    called = {one for module in modules for one in vars(module).values() if isinstance(one, Function)}
    of_the_owner = {verify.VERIFY_DIARY, verify.BROKEN_AUDIT_SEGMENTS}
    assert set(readiness.CALLED) == called - of_the_owner


async def test_what_happens_to_the_schema_of_a_running_service_is_noticed(
    settings: Settings, server_url: str, name: str
) -> None:
    owner = await asyncpg.connect(url_of(server_url, "postgres", name))
    async with started(settings, url_of(server_url, "diary_app", name)) as app, connect(app) as client:
        for damage, repair in (
            (STAMP.format("r1923"), STAMP.format(REVISION)),
            ("ALTER FUNCTION read_page_v1 OWNER TO postgres", "ALTER FUNCTION read_page_v1 OWNER TO diary_owner"),
            ("ALTER TABLE alembic_version RENAME TO gone", "ALTER TABLE gone RENAME TO alembic_version"),
        ):
            await owner.execute(damage)
            refused = await client.get("/readyz?for=reads")
            assert (refused.status_code, refused.json()["reads"]) == (503, False)
            await owner.execute(repair)
            assert (await client.get("/readyz")).status_code == 200
    await owner.close()


async def test_a_read_only_database_is_ready_for_nothing(
    settings: Settings, server_url: str, name: str, superuser: Superuser
) -> None:
    await superuser.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with started(settings, url_of(server_url, "diary_app", name)) as app, connect(app) as client:
        assert await app.state.readiness.look() == DatabaseState(False, False, READ_ONLY)
        refused = await Person().register(client)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0


@pytest.fixture
async def full_disk(server_url: str, superuser: Superuser) -> AsyncIterator[tuple[str, Path]]:
    """A database on a disk of its own, and where that is."""
    try:
        with small_disk(Path(await superuser.fetchval("SHOW data_directory"))) as disk:
            space, made = f"disk_{uuid4().hex[:8]}", await make_database(server_url)
            await superuser.execute(f"CREATE TABLESPACE {space} LOCATION '{disk}'")
            await superuser.execute(f"ALTER DATABASE {made} SET TABLESPACE {space}")
            yield made, disk
            await superuser.execute(f"DROP DATABASE {made} WITH (FORCE)")
            await superuser.execute(f"DROP TABLESPACE {space}")
    except CannotMount as reason:
        skip(str(reason))


async def test_a_full_disk_takes_the_writes_away_and_gives_them_back(
    settings: Settings, server_url: str, full_disk: tuple[str, Path]
) -> None:
    name, disk = full_disk
    async with started(settings, url_of(server_url, "diary_app", name)) as app, connect(app) as client:
        phone = await Person().register_and_sign_in(client)
        assert (await client.get("/readyz")).status_code == 200
        await anyio.to_thread.run_sync(fill, disk / "filler")
        assert await app.state.readiness.look() == FULL
        assert (await client.get("/readyz?for=reads")).json() == {"status": "ready", "reads": True, "writes": False}

        async def refused() -> bool:
            answer = await phone.log()
            assert answer.status_code in (201, 503)
            return answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0

        await until(refused)  # what has room yet is filled first
        (disk / "filler").unlink()
        assert await app.state.readiness.look() == DatabaseState(True, True)
        assert (await phone.log()).status_code == 201


async def test_many_who_ask_at_once_cost_one_look(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 3600)
    looked: list[int] = []

    async def see(_: Readiness) -> DatabaseState:
        looked.append(1)
        await asyncio.sleep(0)
        return DatabaseState(True, True)

    monkeypatch.setattr(Readiness, "_see", see)
    one = Readiness(Database(settings))
    assert set(await asyncio.gather(*(one.look() for _ in range(50)))) == {DatabaseState(True, True)}
    assert looked == [1]


PASSWORDS = ("the-first-password", "the-second-password")


@pytest.fixture
async def guarded(server_url: str, superuser: Superuser) -> AsyncIterator[str]:
    """A serving role with a password."""
    role = f"guarded_{uuid4().hex[:8]}"
    await superuser.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORDS[0]}' IN ROLE diary_app, guarded")
    yield role
    await superuser.execute(f"DROP ROLE {role}")


@pytest.fixture
def guarded_url(server_url: str, database_name: str, guarded: str) -> str:
    """Its URL, without the password."""
    return url_of(server_url, guarded, database_name)


async def shut_out(superuser: Superuser, role: str, change: str) -> None:
    """Changes the role, and ends its connections."""
    await superuser.execute(f"ALTER ROLE {role} {change}")
    await superuser.execute("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = $1", role)


@pytest.mark.parametrize("way", ["DIARY_DATABASE_PASSWORD_FILE", "passfile"])
async def test_a_new_password_is_taken_without_a_restart(
    settings: Settings, guarded_url: str, superuser: Superuser, guarded: str, tmp_path: Path, way: str
) -> None:
    file, url = tmp_path / "password", guarded_url

    def write(password: str) -> None:
        file.write_text(f"{password}\n" if way != "passfile" else f"*:*:*:*:{password}\n")
        file.chmod(0o600)

    write(PASSWORDS[0])
    changes = {"database_password_file": file} if way != "passfile" else {}
    url += f"&passfile={file}" if way == "passfile" else ""
    async with started(settings, url, **changes) as app, connect(app) as client:
        assert (await client.get("/readyz")).status_code == 200
        phone = await Person().register_and_sign_in(client)
        await shut_out(superuser, guarded, f"PASSWORD '{PASSWORDS[1]}'")
        await refuses(client, phone.diary, "PostgreSQL refuses the password.")
        write(PASSWORDS[1])
        assert (await client.get("/readyz")).status_code == 200
        assert (await phone.log()).status_code == 201


async def test_a_role_that_may_not_log_in_any_more_is_told_when_to_come_back(
    settings: Settings, guarded_url: str, superuser: Superuser, guarded: str
) -> None:
    url = guarded_url.replace("@", f":{PASSWORDS[0]}@")
    async with started(settings, url) as app, connect(app) as client:
        phone = await Person().register_and_sign_in(client)
        await shut_out(superuser, guarded, "NOLOGIN")
        await refuses(client, phone.diary, connections.REFUSALS["28000"])
        await superuser.execute(f"ALTER ROLE {guarded} LOGIN")
        assert (await phone.log()).status_code == 201


async def refuses(client: httpx.AsyncClient, diary: str, reason: str) -> None:
    """Everything that takes the database is 503 with a Retry-After, by either way to it, and readiness says why."""
    answers = [await client.get(f"{diary}/timeline"), await client.get("/v1/me"), await client.get("/readyz")]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert answers[-1].json()["detail"] == reason
