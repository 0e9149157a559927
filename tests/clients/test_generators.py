"""Six generators make clients of the OpenAPI document that are free of errors under the strictest settings."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.config import Settings
from app.main import create_app
from tests.clients import generators

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Today's, as it is served."""
    state = tmp_path_factory.mktemp("state")
    settings = Settings(environment="development", database_url=SecretStr("postgresql://"), state_directory=state)
    generators.install()
    return json.dumps(create_app(settings).openapi())


def test_clients_for_typescript_are_strict(document: str, tmp_path: Path) -> None:
    generators.generate(document, tmp_path, generators.TYPESCRIPT.values())
    made = sorted({path.parent.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.ts")})
    assert made == ["hey_api", "openapi_ts", "orval", "swagger"]
    options = json.loads((generators.HERE / "tsconfig.json").read_text())
    (tmp_path / "tsconfig.json").write_text(json.dumps(options | {"include": made}))
    generators.run(["tsc", "--project", "."], tmp_path)


def test_clients_for_python_are_strict(document: str, tmp_path: Path) -> None:
    generators.generate(document, tmp_path, generators.PYTHON.values())
    (tmp_path / "mypy.ini").write_text(generators.MYPY)
    generators.run(["mypy", "attrs_client", "pydantic_client.py"], tmp_path)


@pytest.mark.parametrize("name", [*generators.TYPESCRIPT, *generators.PYTHON])
def test_the_guide_says_how_to_call_each(name: str) -> None:
    guide = (generators.HERE.parents[2] / "docs" / "integrate.md").read_text()
    section = guide.partition("## Other generators")[2].partition("\n## ")[0]
    locked = (generators.HERE / "package-lock.json").read_text() + (generators.HERE / "requirements.lock").read_text()
    assert name in section
    version = section.partition(f"{name} ")[2].split()[0].rstrip(",|")
    assert f'"{name}": "{version}.' in locked or f"{name}=={version}." in locked
