"""What is cut as a release is one: its version, its changelog and its frozen document agree (CONTRIBUTING.md)."""

import json
import re
import tomllib
from pathlib import Path

from pydantic import SecretStr

from app import __version__
from app.config import Settings
from app.main import create_app
from openapi import check
from openapi.freeze import frozen

ROOT = Path(__file__).parent.parent
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
UNRELEASED = "### " in CHANGELOG.partition("## [Unreleased]")[2].partition("\n## [")[0]
RELEASED = json.loads(check.RELEASED.read_text())


def test_the_newest_release_of_the_changelog_is_the_one_whose_document_is_frozen() -> None:
    newest, *_ = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert newest == RELEASED["info"]["version"]
    assert __version__ == pyproject["project"]["version"]


def test_every_operation_of_the_release_is_guarded() -> None:
    assert sum(len(path) for path in RELEASED["paths"].values()) > 50


def test_as_long_as_nothing_is_unreleased_the_frozen_document_is_todays(tmp_path: Path) -> None:
    settings = Settings(environment="development", database_url=SecretStr("postgresql://"), state_directory=tmp_path)
    today = frozen(json.loads(json.dumps(create_app(settings).openapi())))
    assert UNRELEASED or (today == RELEASED and check.ACCEPTED == {}), "make freeze"
