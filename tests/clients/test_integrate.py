"""docs/integrate.md is a promise: its commands make clients of the OpenAPI document, and the clients work."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from pydantic import SecretStr

from app.config import Settings
from app.demo import seed
from tests.conftest import make_database, url_of
from tests.serving import ROOT, serve
from tests.test_locks import installed, missing, versions_in

pytestmark = pytest.mark.anyio

GUIDE = ROOT / "docs" / "integrate.md"
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
SHOWN = ["Dr. Weber", "Appointment", "pain: lower_back_left", "taken: Ibuprofen 400 mg 400", "treatment_change"]


@pytest.fixture(scope="module")
async def api(server_url: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Where a server listens that knows the demo's people, on a database of its own."""
    name = await make_database(server_url)
    owner = url_of(server_url, "postgres", name)
    own = {"database_url": SecretStr(url_of(server_url, "diary_app", name))}
    settings = settings.model_copy(update=own)
    await anyio.to_thread.run_sync(seed.seed, settings, owner)
    with serve(settings, tmp_path_factory.mktemp("server")) as server:
        yield server.url


def commands(section: str) -> str:
    """What the guide says to type in this section."""
    return "\n".join(re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL))


def shell(script: str, api: str, directory: Path = ROOT) -> str:
    """What the commands print; they find Node beside Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=os.environ | {"API": api, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def json_in(printed: str) -> Iterator[Any]:
    """The JSON values that were printed one after the other."""
    while printed:
        value, end = json.JSONDecoder().raw_decode(printed)
        yield value
        printed = printed[end:].lstrip()


async def test_curl_logs_corrects_and_reads(api: str) -> None:
    printed = await anyio.to_thread.run_sync(shell, commands("curl"), api)
    created, corrected, timeline = json_in(printed)
    assert (created["version"], corrected["version"], corrected["mood"]) == (1, 2, 4)
    assert corrected in timeline["items"]


@pytest.mark.long
@pytest.mark.parametrize("language", ["TypeScript", "Python"])
async def test_a_generated_client_logs_a_dose_shares_and_reads_as_the_clinician(api: str, language: str) -> None:
    printed = await anyio.to_thread.run_sync(shell, commands(language), api)
    assert [word for word in SHOWN if word not in printed] == []
    for site_packages in (ROOT / "examples" / language.lower()).glob(".venv/lib/*/site-packages"):  # Python has one
        locked = versions_in(ROOT / "examples" / "python" / "requirements.lock")
        versions, requires = installed([str(site_packages)])
        assert {name: versions.get(name) for name in locked} == locked
        assert missing(locked, requires, ["openapi-python-client"]) == []


def test_the_links_of_the_guide_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)]+)\)", GUIDE.read_text())
    assert [target for target in targets if not (GUIDE.parent / target).exists()] == []
