"""Dockerfile, compose.yaml and .env.example are read together, as Docker would: they and app/config.py must agree."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from tests.http.test_https import Secure
from tests.http.test_https import secure as secure
from tests.programs import said
from tests.serving import ROOT, serve

DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = ROOT / ".env.example"
IN_IMAGE = ROOT / "deploy" / "container.env"
# What compose.yaml decides by itself, and not for the service: each has a reason.
DECIDED = {
    "DIARY_ENVIRONMENT",  # production
    "DIARY_DATABASE_URL",  # its own PostgreSQL
    "DIARY_MIGRATION_DATABASE_URL",  # only where it migrates
    "DIARY_STATE_DIRECTORY",  # nothing is embedded
    "DIARY_POSTGRES_BINARIES",
    "DIARY_SIGNING_KEYS_DIRECTORY",  # its volume
    "DIARY_HOST",  # whoever reaches the container
    "DIARY_PORT",  # the host's
}
REQUIRED = {
    "DIARY_PUBLIC_URL": "https://diary.example.org",
    "DIARY_SECRET_KEY": "0123456789abcdef0123456789abcdef",
    "DIARY_TRUSTED_PROXIES": "172.30.94.1",
    "POSTGRES_PASSWORD": "ab12",
    "POSTGRES_APP_PASSWORD": "cd34",
}
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")
Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("clean_environment")


def variables(path: Path) -> dict[str, str]:
    """What an env file sets."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def composed(environment: dict[str, str]) -> Json:
    """compose.yaml with its variables filled in; fails where one that it insists on is empty."""

    def filled(found: re.Match[str]) -> str:
        name, kind, word = found.groups()
        value = environment.get(name or "", "")
        assert value or kind != "?", f"{name}: {word}"
        return "$" if name is None else value or (word if kind == "-" else "")

    text = (ROOT / "compose.yaml").read_text()
    document: Json = import_module("yaml").safe_load(VARIABLE.sub(filled, text))
    for service in document["services"].values():
        service["environment"] = {name: as_variable(value) for name, value in service["environment"].items()}
    return document


def as_variable(value: object) -> str:
    """What a process finds in its environment, of what YAML says."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def settings_in_container(environment: dict[str, str]) -> Settings:
    """What the service reads in a container with this environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return Settings(_env_file=IN_IMAGE)


def test_every_setting_of_the_example_reaches_the_service_through_compose() -> None:
    marked = {name: f"of-{name}" for name in variables(EXAMPLE)}
    passed = composed(marked)["services"]["api"]["environment"]
    expected = {name: marked[name] for name in marked if name.startswith("DIARY_") and name not in DECIDED}
    assert {name: passed.get(name) for name in expected} == expected
    assert {"DIARY_HOST", "DIARY_PORT", "DIARY_SIGNING_KEYS_DIRECTORY"}.isdisjoint(passed)


def test_whoever_fills_in_what_compose_asks_for_gets_a_service_of_production_on_its_own_database() -> None:
    document = composed(variables(EXAMPLE) | REQUIRED)
    for name in ("api", "migrate"):
        environment = document["services"][name]["environment"]
        found = settings_in_container(environment)
        assert not found.development
        assert (found.host, found.port, found.signing_keys_directory) == ("0.0.0.0", 8000, Path("/keys"))
        assert found.database_url is not None
        assert found.database_url.get_secret_value() == "postgresql://diary_app:cd34@postgres/diary"
        assert "keys:/keys" in document["services"][name]["volumes"]
    assert "ab12" not in str(document["services"]["api"]), "the superuser's password is the migration's only"
    assert document["services"]["api"]["ports"] == ["127.0.0.1:8000:8000"]


@pytest.mark.parametrize("name", sorted(REQUIRED.keys() - {"DIARY_TRUSTED_PROXIES"}))
def test_compose_insists_on_what_has_no_default(name: str) -> None:
    with pytest.raises(AssertionError, match=f"{name}: set it in .env"):
        composed(REQUIRED | {name: ""})


def test_the_gateway_that_the_example_names_is_that_of_compose() -> None:
    [network] = composed(REQUIRED)["networks"]["default"]["ipam"]["config"]
    assert f"{network['gateway']}\n" in EXAMPLE.read_text()


def test_an_example_that_is_passed_as_it_stands_overrides_nothing_of_the_image() -> None:
    assert "COPY deploy/container.env /srv/.env\n" in DOCKERFILE
    assert "WORKDIR /srv\nUSER" in DOCKERFILE  # where .env is read
    assert "DIARY_" not in re.sub(r"(?m)^#.*$", "", DOCKERFILE), "an empty variable of --env-file would win over ENV"
    found = settings_in_container(variables(EXAMPLE))
    assert {f"DIARY_{name.upper()}" for name in Settings.model_fields} >= variables(IN_IMAGE).keys()
    assert (found.host, str(found.signing_keys_directory)) == tuple(variables(IN_IMAGE).values())


def test_the_image_is_made_of_files_that_are_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
            assert any(kept == f"!{source}" or kept.startswith(f"!{source}/") for kept in ignored), source


def check_health(**settings: str) -> None:
    said("python3", str(ROOT / "deploy" / "healthcheck.py"), directory=ROOT, **settings)


@pytest.mark.anyio
async def test_the_health_check_speaks_tls_where_the_service_does(secure: Secure) -> None:
    assert 'CMD ["python", "healthcheck.py"]' in DOCKERFILE
    check_health(PORT=str(secure.port), TLS_CERT="/tls/fullchain.pem")
    with pytest.raises(AssertionError):
        check_health(PORT=str(secure.port), TLS_CERT="")


@pytest.mark.anyio
async def test_the_health_check_speaks_http_where_a_proxy_ends_tls(settings: Settings, tmp_path: Path) -> None:
    with serve(settings, tmp_path) as server:
        check_health(PORT=str(server.port), TLS_CERT="")
    with pytest.raises(AssertionError):
        check_health(PORT=str(server.port))
