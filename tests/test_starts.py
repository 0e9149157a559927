"""Every start, and every command, that must fail says why in one sentence and exits non-zero."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from cryptography.hazmat.primitives import serialization

from app.models.revision import REVISION
from app.postgres import connections, database
from tests.authority import Authority
from tests.conftest import ROOT, Run, create_database, make_database, url_of

PASSWORD = "canary-of-a-password"
NOT_MIGRATED = "The database is not migrated yet: `pain-diary migrate` comes first."
ANOTHER = (
    "The database stands at the migration {}, and this release needs " + REVISION + ":"
    " `pain-diary migrate` of this release comes first."
)
LET_IN = "PostgreSQL does not let this role in: it is unknown, may not log in, or pg_hba.conf has no line for it."
NO_FILE = "DIARY_DATABASE_PASSWORD_FILE cannot be read: No such file or directory."
NO_KEYS = "DIARY_SIGNING_KEYS_DIRECTORY: the signing keys directory holds no <kid>.pem."
UNREACHABLE = "PostgreSQL cannot be reached: nothing answers at its address."
WRONG_URL = "The URL of the database cannot be read: it is written as libpq takes it."
MIGHTY = "The serving role must be a plain member of diary_app, not an owner or superuser."


def sql(url: str, *statements: str) -> None:
    """Runs statements one by one."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def migrated(server_url: str) -> str:
    """The name of a migrated database of this module's own."""
    return asyncio.run(make_database(server_url))


@pytest.fixture(autouse=True)
def well(
    clean_environment: None, monkeypatch: pytest.MonkeyPatch, server_url: str, migrated: str, tmp_path: Path
) -> None:
    """Settings with which it would start."""
    monkeypatch.setenv("DIARY_ENVIRONMENT", "development")
    monkeypatch.setenv("DIARY_DATABASE_URL", url_of(server_url, "diary_app", migrated))
    monkeypatch.setenv("DIARY_PORT", "0")
    monkeypatch.setenv("DIARY_DATABASE_WAIT_SECONDS", "30")
    monkeypatch.setenv("DIARY_STATE_DIRECTORY", str(tmp_path / "state"))


@pytest.fixture
def guarded(server_url: str) -> Iterator[str]:
    """A serving role with a password."""
    role = f"guarded_{uuid4().hex[:8]}"
    sql(server_url, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' IN ROLE diary_app, guarded")
    yield role
    sql(server_url, f"DROP ROLE {role}")


def fails(run: Run, *command: str) -> str:
    """The sentence with which a command fails; nothing else is said, and no secret."""
    code, said, complaint = run(*command)
    assert code in (1, 2)
    assert said == ""
    assert complaint.count("\n") == 1
    assert "canary" not in complaint
    return complaint.removesuffix("\n")


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("DATABASE_URL", "", "DIARY_DATABASE_URL is not set. `pain-diary demo` brings a database of its own."),
        ("DATABASE_URL", "postgresql://canary@nowhere.invalid/diary", "The host of the database has no address."),
        ("DATABASE_URL", "postgresql://canary@127.0.0.1:1/diary", UNREACHABLE),
        ("DATABASE_URL", "postgresql://canary@/diary?host=/nowhere", UNREACHABLE),
        ("DATABASE_URL", "mysql://canary@127.0.0.1/diary", "DIARY_DATABASE_URL: it begins with postgresql://"),
        ("DATABASE_URL", "postgresql://canary@127.0.0.1:canary/diary", WRONG_URL),
        (
            "DATABASE_PASSWORD_FILE",
            "/nowhere",
            NO_FILE,
        ),
        ("DATABASE_PASSWORD_FILE", "/dev/null", "DIARY_DATABASE_PASSWORD_FILE is empty."),
        ("ENVIRONMENT", "canary", "DIARY_ENVIRONMENT: Input should be 'development' or 'production'"),
        ("WORKERS", "canary", "DIARY_WORKERS: Input should be a valid integer, unable to parse string as an integer"),
        ("HOST", "nowhere.invalid", "Cannot listen on nowhere.invalid:0: Name or service not known."),
        ("HOST", "192.0.2.1", "Cannot listen on 192.0.2.1:0: Cannot assign requested address."),
        ("SIGNING_KEYS_DIRECTORY", "/nowhere", NO_KEYS),
        ("STATE_DIRECTORY", "/dev/null/state", "Not a directory: /dev/null/state/keys"),
        ("TRUSTED_PROXIES", "canary", "DIARY_TRUSTED_PROXIES: give addresses or networks, separated by commas"),
        ("REPLICA_DATABASE_URL", "canary", "DIARY_REPLICA_DATABASE_URL: it begins with postgresql://"),
    ],
)
def test_serve_names_the_setting_that_is_wrong(
    run: Run, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"DIARY_{setting}", value)
    assert fails(run, "serve") == sentence


@pytest.mark.parametrize(
    ("user", "name", "sentence"),
    [
        ("diary_app", "nothing", "PostgreSQL has no database of this name."),
        ("nobody", None, LET_IN),
        ("diary_eraser", None, LET_IN),
        ("postgres", None, MIGHTY),
        ("diary_owner", None, MIGHTY),
    ],
)
def test_serve_says_why_a_database_is_not_open_to_it(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    server_url: str,
    migrated: str,
    user: str,
    name: str | None,
    sentence: str,
) -> None:
    monkeypatch.setenv("DIARY_DATABASE_URL", url_of(server_url, user, name or migrated))
    assert fails(run, "serve") == sentence


def test_serve_says_that_the_password_is_wrong(
    run: Run, monkeypatch: pytest.MonkeyPatch, server_url: str, migrated: str, guarded: str, tmp_path: Path
) -> None:
    url = url_of(server_url, guarded, migrated)
    monkeypatch.setenv("DIARY_DATABASE_URL", url.replace("@", ":canary@"))
    assert fails(run, "serve") == "PostgreSQL refuses the password."
    (tmp_path / "password").write_text("canary\n")
    monkeypatch.setenv("DIARY_DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    assert fails(run, "serve") == "PostgreSQL refuses the password."
    sql(server_url, f"ALTER ROLE {guarded} NOLOGIN")
    (tmp_path / "password").write_text(PASSWORD)
    assert fails(run, "serve") == LET_IN


@pytest.mark.parametrize(
    ("damage", "repair", "sentence"),
    [
        (
            "UPDATE alembic_version SET version_num = 'r1923'",
            f"UPDATE alembic_version SET version_num = '{REVISION}'",
            ANOTHER.format("r1923"),
        ),
        (
            "DELETE FROM alembic_version",
            f"INSERT INTO alembic_version VALUES ('{REVISION}')",
            NOT_MIGRATED,
        ),
        (
            "ALTER FUNCTION read_page_v1 OWNER TO postgres; ALTER FUNCTION write_records_v1 OWNER TO postgres",
            "ALTER FUNCTION read_page_v1 OWNER TO diary_owner; ALTER FUNCTION write_records_v1 OWNER TO diary_owner",
            "Functions of the database do not belong to diary_owner (read_page_v1, write_records_v1):"
            " `pain-diary verify` says more.",
        ),
        (
            "ALTER FUNCTION read_page_v1 RENAME TO read_page_v0",
            "ALTER FUNCTION read_page_v0 RENAME TO read_page_v1",
            "Functions of the database are missing (read_page_v1): `pain-diary verify` says more.",
        ),
        (
            "REVOKE EXECUTE ON FUNCTION read_heads_v1 FROM diary_app",
            "GRANT EXECUTE ON FUNCTION read_heads_v1 TO diary_app",
            "Functions of the database may not be called by the serving role (read_heads_v1):"
            " `pain-diary verify` says more.",
        ),
        (
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET synchronous_commit', current_database()); END $$",
            "synchronous_commit and fsync must be on: an acknowledged entry must survive a crash.",
        ),
        (
            "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
            "DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO PUBLIC', current_database()); END $$",
            "The role may not connect to this database.",
        ),
    ],
    ids=["foreign", "none", "owner", "missing", "grant", "durability", "connect"],
)
def test_serve_refuses_a_database_that_is_not_as_this_release_left_it(
    run: Run, server_url: str, migrated: str, damage: str, repair: str, sentence: str
) -> None:
    owner = url_of(server_url, "postgres", migrated)
    sql(owner, damage)
    try:
        assert fails(run, "serve") == sentence
    finally:
        sql(owner, repair)


def test_serve_refuses_a_database_without_the_migrations(
    run: Run, monkeypatch: pytest.MonkeyPatch, server_url: str
) -> None:
    name = f"empty_{uuid4().hex[:8]}"
    asyncio.run(create_database(server_url, name))
    monkeypatch.setenv("DIARY_DATABASE_URL", url_of(server_url, "diary_app", name))
    assert fails(run, "serve") == NOT_MIGRATED


def test_serve_refuses_a_server_that_is_too_old(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MINIMUM_VERSION", 990000)
    assert fails(run, "serve") == "PostgreSQL 15 or newer is needed."


def test_serve_refuses_a_certificate_that_it_cannot_speak_tls_with(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate, key = Authority(tmp_path, "ours").issue()
    _, another = Authority(tmp_path, "ours").issue("another")
    encrypted = serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "encrypted.pem").write_bytes(encrypted)
    pem = "DIARY_TLS_CERT and DIARY_TLS_KEY have to hold a certificate chain and its key, in PEM, without a passphrase."
    for chain, secret, sentence in (
        (tmp_path / "nothing", key, f"No such file or directory: {tmp_path / 'nothing'}"),
        (certificate, another, "DIARY_TLS_KEY is not the key of the certificate in DIARY_TLS_CERT."),
        (key, key, pem),
        (certificate, certificate, pem),
        (certificate, tmp_path / "encrypted.pem", pem),
    ):
        monkeypatch.setenv("DIARY_TLS_CERT", str(chain))
        monkeypatch.setenv("DIARY_TLS_KEY", str(secret))
        for workers in ("1", "2"):
            monkeypatch.setenv("DIARY_WORKERS", workers)
            assert fails(run, "serve") == sentence


def test_production_refuses_plain_http(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    production = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "canary-0123456789-abcdefghijklmnop",
        "SIGNING_KEYS_DIRECTORY": str(tmp_path),
        "PUBLIC_URL": "https://diary.example.org",
    }
    for name, value in production.items():
        monkeypatch.setenv(f"DIARY_{name}", value)
    assert fails(run, "serve").startswith("Plain HTTP is refused in production: set DIARY_TLS_CERT and DIARY_TLS_KEY,")
    monkeypatch.setenv("DIARY_TRUSTED_PROXIES", "127.0.0.1")
    assert fails(run, "serve") == NO_KEYS


COMMANDS = [
    ("migrate",),
    ("verify",),
    ("audit", "seal"),
    ("restored",),
    ("admin", "create", "olga@example.org"),
    ("admin", "organisation", "Pain clinic Mitte"),
    ("admin", "clinician", "w@example.org", "--name", "W", "--profession", "nurse"),
    ("admin", "verify-clinician", "w@example.org"),
    ("admin", "unverify-clinician", "w@example.org"),
    ("admin", "people", "list"),
    ("admin", "people", "disable", "w@example.org"),
    ("admin", "people", "enable", "w@example.org"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_says_why_it_has_no_database(
    run: Run, monkeypatch: pytest.MonkeyPatch, server_url: str, guarded: str, migrated: str, command: tuple[str, ...]
) -> None:
    wrong = url_of(server_url, guarded, migrated).replace("@", ":canary@")
    for url, sentence in (
        ("postgresql://canary@127.0.0.1:1/diary", UNREACHABLE),
        ("postgresql://canary@127.0.0.1:canary/diary", WRONG_URL),
        (url_of(server_url, "postgres", "nothing"), "PostgreSQL has no database of this name."),
        (url_of(server_url, "nobody", migrated), LET_IN),
        (wrong, "PostgreSQL refuses the password."),
    ):
        monkeypatch.setenv("DIARY_MIGRATION_DATABASE_URL", url)
        assert fails(run, *command) == sentence


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_without_settings_finds_no_empty_database_of_its_own_in_order(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    monkeypatch.delenv("DIARY_DATABASE_URL")
    here = "DIARY_MIGRATION_DATABASE_URL is not set, and `pain-diary demo` has no database here."
    assert fails(run, *command) == here
    assert not (tmp_path / "state").exists()


def test_settings_that_cannot_be_read_are_said_plainly(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / ".env"
    settings.write_bytes(b"DIARY_PUBLIC_URL=https://canary.example.org/\xff\n")
    assert fails(run, "serve") == "The settings in .env of this folder are no text in UTF-8."
    settings.unlink()
    settings.symlink_to("canary" * 50)  # no folder is closed to root
    assert fails(run, "serve") == "The settings in .env of this folder cannot be read: File name too long."


@pytest.mark.parametrize("command", [("rotate-keys",), ("keys", "list"), ("keys", "retire", "one")], ids=" ".join)
def test_keys_are_not_made_or_sought_where_no_setting_says(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    here = "DIARY_SIGNING_KEYS_DIRECTORY is not set, and `pain-diary demo` has no keys here."
    assert fails(run, "admin", *command) == here
    assert not (tmp_path / "state").exists()


def test_a_file_that_may_not_be_opened_is_not_a_server_that_is_down(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/root/.postgresql/canary.key")  # root may open everything

    monkeypatch.setattr(asyncpg, "connect", refuse)
    sentence = "PostgreSQL cannot be reached: its socket, or a file in ~/.postgresql, may not be opened."
    assert fails(run, "verify") == sentence


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_a_command_says_that_it_takes_a_migrated_database_and_its_owner(
    run: Run, monkeypatch: pytest.MonkeyPatch, server_url: str, migrated: str, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DIARY_MIGRATION_DATABASE_URL", url_of(server_url, "postgres", "postgres"))
    assert fails(run, *command) == NOT_MIGRATED
    monkeypatch.delenv("DIARY_MIGRATION_DATABASE_URL")  # which leaves the serving role's
    assert fails(run, *command) == "This takes the owner's rights: set DIARY_MIGRATION_DATABASE_URL."


def test_migrate_says_that_its_role_may_not_migrate(run: Run, monkeypatch: pytest.MonkeyPatch, server_url: str) -> None:
    name = f"empty_{uuid4().hex[:8]}"
    asyncio.run(create_database(server_url, name))
    monkeypatch.setenv("DIARY_MIGRATION_DATABASE_URL", url_of(server_url, "diary_app", name))
    assert fails(run, "migrate") == "This takes the owner's rights: set DIARY_MIGRATION_DATABASE_URL."


def test_what_nobody_foresaw_is_named_by_its_sqlstate() -> None:
    assert connections.refusal("22012") == "PostgreSQL refuses with SQLSTATE 22012: its log says more."
    assert connections.refusal("57P02") == connections.BROKEN
    assert connections.sentence(KeyError("canary")) is None


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_start_that_fails_in_a_worker_ends_with_a_failure_too(workers: str, server_url: str, migrated: str) -> None:
    code = "from app import cli; cli.check_start = lambda _: cli.asyncio.sleep(0); cli.main()"
    url = url_of(server_url, "postgres", migrated)  # which no worker serves with
    settings = {"DATABASE_URL": url, "WORKERS": workers, "ENVIRONMENT": "development", "PORT": "0"}
    environment = os.environ | {f"DIARY_{name}": value for name, value in settings.items()}
    guarded_main = f"if __name__ == '__main__':\n    {code}"
    done = subprocess.run(
        [sys.executable, "-c", guarded_main, "serve"], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr == b""
    events = {json.loads(line)["event"] for line in done.stdout.splitlines()}
    assert f"app.postgres.database.CannotServe: {MIGHTY}" in events
