"""The wheel installs and works where there is no checkout: what a program needs at run time is inside."""

import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from app.config import Settings
from tests.conftest import create_database, url_of
from tests.forms import LONG
from tests.people import Person
from tests.programs import said
from tests.releases import LEFT_OUT
from tests.serving import ROOT, serve
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that docs/operate.md builds."""
    directory = tmp_path_factory.mktemp("wheel")
    source = Path(shutil.copytree(ROOT, directory / "source", ignore=LEFT_OUT))
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(directory), str(source))
    said(sys.executable, "-m", "pip", *build, directory=directory)
    [path] = directory.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel and what is locked, and knows nothing of this checkout."""
    environment = tmp_path_factory.mktemp("installed") / "environment"
    said(sys.executable, "-m", "venv", "--without-pip", str(environment), directory=environment.parent)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--no-deps")
    if LONG:  # as the guide does it
        locked = ("--only-binary", ":all:", "--require-hashes", "-r", str(ROOT / "requirements.lock"))
        said(*pip, *locked, directory=environment)
    else:  # what is installed here is what is locked (test_locks); a .pth in its way, the checkout's, is not followed
        [site_packages] = environment.glob("lib/*/site-packages")
        (site_packages / "locked.pth").write_text(sysconfig.get_path("purelib"))
    said(*pip, "--no-index", "--force-reinstall", str(wheel), directory=environment)
    return python.parent


def test_whatever_lies_beside_the_code_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    files = [path for package in ("app", "migrations") for path in (ROOT / package).rglob("*") if path.is_file()]
    expected = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert expected - inside == set()
    assert {name.partition("/")[0] for name in inside - expected} == {wheel.name.partition("-py3")[0] + ".dist-info"}


@pytest.mark.scaled
async def test_an_installed_wheel_migrates_and_serves_from_an_empty_folder(
    installed: Path, server_url: str, tmp_path: Path
) -> None:
    name, folder = f"wheel_{uuid4().hex[:8]}", tmp_path / "folder"
    folder.mkdir()
    await create_database(server_url, name)
    program = str(installed / "pain-diary")
    owner = {"MIGRATION_DATABASE_URL": url_of(server_url, "postgres", name), "ENVIRONMENT": "development"}
    said(program, "migrate", directory=folder, **owner)
    said(program, "verify", directory=folder, **owner)
    where = "import app, migrations; print(app.__file__, migrations.__file__)"
    assert str(ROOT) not in said(str(installed / "python"), "-c", where, directory=folder)

    url = SecretStr(url_of(server_url, "diary_app", name))
    settings = Settings(environment="development", database_url=url, state_directory=tmp_path / "state")
    with serve(settings, tmp_path, folder, (program,)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
            for path in ("/readyz", "/docs", "/v1/vocabularies/body_regions", "/openapi.json"):
                assert (await http.get(path)).status_code == 200, path
            ada = await Person().register_and_sign_in(http)
            assert (await ada.log()).status_code == 201
    assert list(folder.iterdir()) == []
