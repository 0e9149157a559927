"""create_app(): what it makes on first use, what it starts and stops, and that no route is open by accident."""

import asyncio
import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import SecretStr

from app.config import Settings
from app.http import deps
from app.http.parts import assemble
from app.main import OPEN, SIGNED_IN, create_app
from app.security import passwords
from tests.conftest import url_of
from tests.people import Phone
from tests.waiting import until

pytestmark = pytest.mark.anyio

Superuser: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def in_state(settings: Settings, directory: Path, **values: object) -> Settings:
    return settings.model_copy(update={"state_directory": directory, **values})


async def test_development_makes_its_secret_and_key_once_and_for_their_owner_only(
    settings: Settings, tmp_path: Path
) -> None:
    create_app(in_state(settings, tmp_path))
    made = files_in(tmp_path)
    assert sorted(Path(name).suffix or name for name in made) == [".pem", "secret"]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in made} == {0o600}
    create_app(in_state(settings, tmp_path))
    assert files_in(tmp_path) == made


async def test_workers_that_start_together_share_one_secret(settings: Settings, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: assemble(in_state(settings, tmp_path)).secret, range(8)))
    assert [len(secret) for secret in secrets] == [64]


async def test_with_keys_and_secret_of_its_own_nothing_is_made(settings: Settings, tmp_path: Path) -> None:
    create_app(in_state(settings, tmp_path / "first"))
    keys = tmp_path / "first" / "keys"
    given = {"signing_keys_directory": keys, "secret_key": SecretStr("mine")}
    assert assemble(in_state(settings, tmp_path / "second", **given)).secret == b"mine"
    assert not (tmp_path / "second").exists()


async def test_settings_come_from_the_environment_by_default(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    assert settings.database_url is not None
    monkeypatch.setenv("DIARY_ENVIRONMENT", "development")
    monkeypatch.setenv("DIARY_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("DIARY_STATE_DIRECTORY", str(tmp_path))
    assert create_app().state.diary.settings.state_directory == tmp_path


async def test_a_stopped_application_leaves_no_task_and_no_connection(
    settings: Settings, tmp_path: Path, superuser: Superuser
) -> None:
    before = asyncio.all_tasks()
    connections = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'diary_app' AND datname = current_database()"
    held = await superuser.fetchval(connections)
    application = create_app(in_state(settings, tmp_path))
    async with application.router.lifespan_context(application):
        assert (await application.state.readiness.look()).writes
        assert await superuser.fetchval(connections) > held
    await until(lambda: superuser.fetchval(f"SELECT ({connections}) <= $1", held))
    assert asyncio.all_tasks() <= before


async def test_an_application_that_is_refused_its_database_does_not_start(
    server_url: str, database_name: str, settings: Settings, tmp_path: Path
) -> None:
    owner = SecretStr(url_of(server_url, "diary_owner", database_name))
    application = create_app(in_state(settings, tmp_path, database_url=owner))
    with pytest.raises(RuntimeError, match="owner"):
        async with application.router.lifespan_context(application):
            pass


async def test_a_running_application_seals_its_audit_trail(
    settings: Settings, tmp_path: Path, ada: Phone, superuser: Superuser
) -> None:
    assert (await ada.log()).status_code == 201
    waiting = (
        "SELECT count(*) FROM audit_events WHERE patient_id = $1"
        " AND id > coalesce((SELECT max(to_id) FROM audit_segments), 0)"
    )
    assert await superuser.fetchval(waiting, ada.patient_id) > 0
    application = create_app(in_state(settings, tmp_path, audit_seal_seconds=0.01))
    async with application.router.lifespan_context(application):
        await until(lambda: superuser.fetchval(f"SELECT ({waiting}) = 0", ada.patient_id))


async def test_what_lives_for_ever_is_left_out_of_garbage_collections(app: FastAPI) -> None:
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == 50_000


def test_importing_the_package_changes_nothing_in_the_process() -> None:
    code = (
        "import gc; before = gc.get_threshold(); import app, app.security.passwords as passwords;"
        "print(gc.get_threshold() == before, passwords._blocked.cache_info().currsize)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert told == ["True", "0"]


async def test_the_list_of_bad_passwords_is_read_before_the_first_request(app: FastAPI) -> None:
    assert app.state.diary is not None
    assert passwords._blocked.cache_info().currsize == 1


def test_a_process_that_serves_carries_nothing_that_only_migrates() -> None:
    code = "import sys, app.cli, app.main; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "sqlalchemy" in loaded
    assert not {"alembic", "mako", "pygments"} & set(loaded)


async def test_a_route_that_asks_for_no_permission_does_not_start(settings: Settings) -> None:
    application = create_app(settings)

    @application.get("/forgotten")
    async def read_forgotten() -> None:
        pass

    with pytest.raises(RuntimeError, match="/forgotten declares no permission"):
        deps.declare_routes(application)


def test_what_is_for_the_signed_in_is_not_open_as_well() -> None:
    for module in SIGNED_IN:
        assert all(_permissions(route) == {deps.identify} for route in module.router.routes)
    for module in OPEN:
        assert all(_permissions(route) == set() for route in module.router.routes)


def _permissions(route: object) -> set[Any]:
    assert isinstance(route, APIRoute)
    return {node.call for node in deps.tree(route.dependant)} & {deps.identify, deps.public}


async def test_every_operation_has_a_name_of_its_own(app: FastAPI) -> None:
    names = [
        context.name for context in iter_route_contexts(app.routes) if isinstance(context.original_route, APIRoute)
    ]
    assert names
    assert len(names) == len(set(names))


async def test_an_address_with_a_slash_too_many_is_not_redirected(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez/")).status_code == 404
