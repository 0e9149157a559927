"""Settings: kind in development, strict in production, and silent about secrets."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.config import Settings

pytestmark = pytest.mark.usefixtures("clean_environment")

PRODUCTION: dict[str, Any] = {
    "database_url": "postgresql://diary_app:pass-canary@db.example.org/diary",
    "signing_keys_directory": "/run/secrets/keys",
    "secret_key": "canary-0123456789-abcdefghijklmnop",
    "public_url": "https://diary.example.org",
}


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def production(**values: Any) -> Settings:
    return settings(**PRODUCTION | {"environment": "production"} | values)


def test_without_any_setting_it_is_development() -> None:
    found = settings()
    assert found.development
    assert (found.require_verified_email, found.require_second_factor, found.drain_seconds) == (False, False, 0)
    assert (found.access_token_seconds, found.database_wait_seconds) == (600, 1.5)


def test_naming_a_database_makes_it_production() -> None:
    found = settings(**PRODUCTION)
    assert not found.development
    assert (found.require_verified_email, found.require_second_factor, found.drain_seconds) == (True, True, 5)


def test_development_on_a_named_database_has_to_be_said() -> None:
    found = settings(database_url="postgresql://localhost/diary", environment="development", drain_seconds=3)
    assert (found.development, found.drain_seconds) == (True, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"database_url": None}, "DIARY_DATABASE_URL is required"),
        ({"signing_keys_directory": None}, "DIARY_SIGNING_KEYS_DIRECTORY is required"),
        ({"secret_key": None}, "DIARY_SECRET_KEY must hold"),
        ({"secret_key": "canary-too-short-0123456789-abc"}, "DIARY_SECRET_KEY must hold"),
        ({"secret_key": "canary" * 10}, "DIARY_SECRET_KEY must hold"),
        ({"require_verified_email": False}, "stay on"),
        ({"require_second_factor": False}, "stay on"),
        ({"metrics_token": "canary"}, "DIARY_METRICS_TOKEN must hold"),
        ({"metrics_addresses": "everybody"}, "metrics_addresses"),
        ({"public_url": "http://diary.example.org"}, "DIARY_PUBLIC_URL must begin with https"),
        ({"tls_cert": "/cert.pem"}, "go together"),
        ({"tls_key": "/key.pem"}, "go together"),
        ({"trusted_proxies": "*"}, "trusted_proxies"),
        ({"trusted_proxies": "proxy.example.org"}, "trusted_proxies"),
        ({"environment": "staging"}, "environment"),
        ({"port": 65536}, "port"),
        ({"workers": 0}, "workers"),
        ({"database_wait_seconds": 0}, "database_wait_seconds"),
    ],
)
def test_production_refuses_what_is_weak_or_wrong_and_shows_no_secret(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refusal:
        production(**values)
    assert "canary" not in str(refusal.value) + repr(refusal.value)


def test_secrets_are_masked_wherever_settings_are_printed() -> None:
    assert "canary" not in str(production()) + repr(production())


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_PORT", "8765")
    monkeypatch.setenv("DIARY_TRUSTED_PROXIES", "10.0.0.7, 192.168.0.0/16,")
    monkeypatch.setenv("DIARY_SECRET_KEY", "")
    monkeypatch.setenv("DIARY_NOT_A_SETTING", "1")
    found = settings()
    assert (found.port, found.trusted_proxies, found.secret_key) == (8765, ("10.0.0.7", "192.168.0.0/16"), None)


def test_settings_come_from_a_file_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("DIARY_PORT=8765\nDIARY_WORKERS=3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIARY_WORKERS", "2")
    found = Settings()
    assert (found.port, found.workers) == (8765, 2)
