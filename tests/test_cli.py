"""The command line as a shell sees it: exit codes, plain sentences, nobody's secrets."""

import asyncio
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import asyncpg
import pytest

from app import cli
from app.config import Settings
from app.http import server
from app.models.revision import REVISION
from app.postgres import database, embedded, programs
from app.services import audit, verify
from tests.conftest import Run, create_database, url_of
from tests.test_migrations import as_user, fill
from tests.waiting import block_until

ROOT = Path(__file__).parents[1]
SECRET = "hunter2"

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_help_names_every_command(run: Run) -> None:
    code, output, _ = run("--help")
    assert code == 0
    for name in ("serve", "demo", "migrate", "openapi", "verify", "admin", "distribute", "reset"):
        assert name in output


def test_serve_without_a_database_says_what_to_do(run: Run) -> None:
    assert run("serve") == (
        2,
        "",
        "DIARY_DATABASE_URL is not set. `pain-diary demo` brings a database of its own.\n",
    )


def test_each_fault_of_the_configuration_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_PORT", "99999")
    monkeypatch.setenv("DIARY_WORKERS", "many")
    code, _, complaint = run("serve")
    assert code == 2
    assert [line.partition(":")[0] for line in complaint.splitlines()] == ["DIARY_PORT", "DIARY_WORKERS"]
    assert "many" not in complaint


def test_a_weak_production_is_refused_without_showing_its_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_DATABASE_URL", f"postgresql://diary:{SECRET}@nowhere/diary")
    monkeypatch.setenv("DIARY_SIGNING_KEYS_DIRECTORY", "keys")
    monkeypatch.setenv("DIARY_SECRET_KEY", SECRET)
    code, output, complaint = run("serve")
    assert code == 2
    assert complaint == "DIARY_SECRET_KEY must hold at least 32 random characters in production\n"
    assert SECRET not in output + complaint


@pytest.mark.parametrize("by_option", [True, False], ids=["--port", "DIARY_PORT"])
def test_a_taken_port_is_said_before_anything_is_started(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_option: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        if not by_option:
            monkeypatch.setenv("DIARY_PORT", port)
        code, output, complaint = run("demo", *(["--port", port] if by_option else []))
    assert (code, output) == (1, "")
    assert complaint == f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n"
    assert list(tmp_path.iterdir()) == []


def test_serve_says_that_its_port_is_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_DATABASE_URL", "postgresql://")
    monkeypatch.setenv("DIARY_ENVIRONMENT", "development")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("DIARY_PORT", port)
        assert run("serve") == (1, "", f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n")


def test_an_embedded_database_that_cannot_start_is_said_plainly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_POSTGRES_BINARIES", "/nowhere")
    monkeypatch.setenv("DIARY_PORT", "0")
    monkeypatch.setattr(programs, "STATE_DIRECTORY", Path.cwd() / "state")
    started = "Starting a PostgreSQL of its own.\n"
    assert run("demo") == (1, started, "There is no PostgreSQL in /nowhere.\n")


def test_a_migration_from_another_version_is_said_plainly_and_a_reset_begins_anew(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIARY_PORT", "0")
    monkeypatch.setenv("DIARY_DATABASE_URL", "postgresql://nobody@nowhere/nothing")  # the demo has its own
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        monkeypatch.setattr(programs, "STATE_DIRECTORY", Path(directory))
        server = embedded.start(tmp_path / ".data" / "postgres")
        embedded.ensure_database(server, cli.DATABASE)
        older = "CREATE TABLE alembic_version AS SELECT 'r1923' AS version_num"
        programs.run(None, server.binaries / "psql", "-d", server.url(database=cli.DATABASE), "-c", older)
        code, _, complaint = run("reset")
        assert code == 1
        assert complaint.startswith(f"PostgreSQL is running on the data in {server.data_directory.parent}: ")
        server.stop()

        code, _, complaint = run("demo")
        assert code == 1
        assert complaint == (
            f"The data in {server.data_directory.parent} were made by an earlier version: `make reset` begins anew.\n"
        )
        deleted = f"The data in {server.data_directory.parent} are deleted.\n"
        assert run("reset") == (0, f"{deleted}`make run` begins anew.\n", "")
        assert run("reset") == (0, "`make run` begins anew.\n", "")


def test_migrate_says_plainly_that_another_version_migrated_the_database(run: Run, database_url: str) -> None:
    assert run("migrate")[0] == 0

    async def rename_revision() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute("UPDATE alembic_version SET version_num = 'r1923'")
        finally:
            await connection.close()

    asyncio.run(rename_revision())
    code, said, complaint = run("migrate")
    assert (code, said) == (1, "")
    assert complaint.startswith("The database stands at the migration r1923, which this release does not know: ")


@pytest.fixture
def database_url(server_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The owner's URL of an empty database, which is configured for migrations."""
    name = f"diary_cli_{uuid4().hex[:12]}"
    asyncio.run(create_database(server_url, name))
    url = url_of(server_url, "postgres", name)
    monkeypatch.setenv("DIARY_ENVIRONMENT", "development")
    monkeypatch.setenv("DIARY_DATABASE_URL", "postgresql://nobody@nowhere/nothing")
    monkeypatch.setenv("DIARY_MIGRATION_DATABASE_URL", url)
    return url


def test_migrate_can_be_repeated_and_verify_then_finds_nothing(run: Run, database_url: str) -> None:
    assert run("migrate") == (0, f"Migrated to {REVISION}.\n", "")
    assert run("migrate") == (0, f"It stands at {REVISION} already.\n", "")
    assert run("verify") == (0, "Nothing is sealed yet.\n", "")


def test_an_anchor_that_the_trail_does_not_reach_is_a_finding_and_what_is_none_is_refused(
    run: Run, database_url: str
) -> None:
    assert run("migrate")[0] == 0
    assert run("audit", "seal") == (0, "Nothing is sealed yet.\n", "")
    ends = "the audit trail ends before the anchor: 1\n  audit segment 7\n"
    assert run("verify", "--anchor", "7:" + "a" * 64) == (1, ends, "")
    assert run("verify", "--anchor", "7") == (2, "", f"{audit.NOT_ONE}\n")


def test_restored_says_what_it_took_back(run: Run, admin: Run) -> None:
    admin("create", "olga@example.org")
    code, said, _ = run("restored")
    assert (code, [int(line.split()[0]) for line in said.splitlines()]) == (0, [0, 0, 1, 0])


def test_restored_ends_no_session_of_a_service_that_runs(run: Run, admin: Run, database_url: str) -> None:
    admin("create", "olga@example.org")

    runs = "The service runs on this database: `restored` would end every session, so stop it first.\n"
    url = as_user(database_url, "diary_app")
    with closing(asyncio.new_event_loop()) as loop:
        service = loop.run_until_complete(asyncpg.connect(url, server_settings=database.SESSION_SETTINGS))
        told = run("restored")
        loop.run_until_complete(service.close())
    assert told == (1, "", runs)
    said: list[str] = []

    def ended() -> bool:  # PostgreSQL forgets a connection a moment after it was closed
        code, told, _ = run("restored")
        said.append(told)
        return code == 0

    block_until(ended)
    assert "\n1 one-time links are ended" in said[-1]


def test_a_backup_is_checked_before_it_is_relied_on(run: Run, admin: Run, database_url: str, tmp_path: Path) -> None:
    fill(database_url, tmp_path)
    pg_dump = programs.find() / "pg_dump"
    for form in ("plain", "custom"):
        subprocess.run([pg_dump, f"--format={form}", "--file=diary.dump", database_url], check=True)
        assert run("backup", "check", "diary.dump") == (
            0,
            "diary.dump holds 2 patients with 4 records in 8 changes, at the migration 2026_11_28_baseline.\n",
            "",
        )
    subprocess.run([pg_dump, "--exclude-table-data=records", "--file=diary.dump", database_url], check=True)
    code, said, complaint = run("backup", "check", "diary.dump")
    assert (code, said, complaint.splitlines()[0]) == (1, "", "It has no data of records.")
    assert run("backup", "check", "other.dump") == (1, "", "other.dump cannot be read: No such file or directory.\n")


def test_migrate_says_what_it_mended_and_refuses_what_it_cannot(run: Run, admin: Run, database_url: str) -> None:
    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute("ALTER FUNCTION access(uuid, uuid) OWNER TO postgres"))
    code, said, _ = run("migrate")
    assert (code, "1 tables, views, types and functions belong to diary_owner again." in said) == (0, True)
    asyncio.run(execute("DROP TRIGGER append_only ON audit_events"))
    code, said, complaint = run("migrate")
    assert (code, said) == (1, "")
    assert complaint.startswith("The database lacks trigger append_only on audit_events: restore the whole backup")


def test_progress_is_one_line_that_fills(capsys: pytest.CaptureFixture[str]) -> None:
    cli._show_progress(1, 4)
    cli._show_progress(4, 4)
    shown = capsys.readouterr().err
    assert shown == f"\r[{'#' * 10}{'.' * 30}] 1 of 4 diaries\r[{'#' * 40}] 4 of 4 diaries\n"


def test_verify_prints_what_it_finds_and_fails(run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {database_url: ["audit segment 7", "audit segment 8"]}
    monkeypatch.setattr(verify, "run", lambda url, *_, **__: found[url])
    assert run("verify") == (1, "audit segment 7\naudit segment 8\n", "")


def test_openapi_is_printed_and_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    code, output, _ = run("openapi")
    assert code == 0
    assert "/livez" in json.loads(output)["paths"]
    assert list(tmp_path.iterdir()) == []


def test_rotating_keys_adds_a_private_file(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIARY_SIGNING_KEYS_DIRECTORY", str(tmp_path / "keys"))
    code, first, _ = run("admin", "rotate-keys")
    _, second, _ = run("admin", "rotate-keys")
    assert code == 0
    keys = sorted((tmp_path / "keys").iterdir())
    assert [key.stem for key in keys] == [first.strip(), second.strip()]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_a_key_that_was_replaced_is_retired_and_the_one_that_signs_is_not(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIARY_SIGNING_KEYS_DIRECTORY", str(tmp_path))
    old, new = (run("admin", "rotate-keys")[1].strip() for _ in range(2))
    assert run("admin", "keys", "list") == (0, f"{new} signs\n{old}\n", "")
    in_use = "This key signs: `pain-diary admin rotate-keys` makes its successor first.\n"
    assert run("admin", "keys", "retire", new) == (2, "", in_use)
    assert run("admin", "keys", "retire", old) == (0, "", "")
    assert run("admin", "keys", "list") == (0, f"{new} signs\n", "")
    unknown = "There is no key of this kid: `pain-diary admin keys list` names them.\n"
    for kid in (old, f"../{tmp_path.name}/{new}"):
        assert run("admin", "keys", "retire", kid) == (2, "", unknown)
    assert [key.stem for key in tmp_path.glob("*.pem")] == [new]


@pytest.fixture
def admin(run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`pain-diary admin …` on a migrated database, for a service that is reached at an address of its own."""
    assert run("migrate")[0] == 0
    monkeypatch.setenv("DIARY_PUBLIC_URL", "https://diary.example.org/")
    return partial(run, "admin")


def test_an_admin_or_clinician_gets_a_link_whose_token_no_server_sees(admin: Run) -> None:
    code, organisation, _ = admin("organisation", "Pain clinic Mitte")
    assert (code, str(UUID(organisation.strip())) + "\n") == (0, organisation)
    weber = ("weber@example.org", "--name", "Dr. Weber", "--profession", "physician")
    for arguments in (
        ("create", "olga@example.org"),
        ("create", "olga@example.org", "--name", "Olga"),
        ("clinician", *weber, "--organisation", "Pain clinic Mitte"),
        ("clinician", *weber, "--unverified"),
    ):
        code, link, hint = admin(*arguments)
        assert (code, hint) == (0, "It is good once, for 7 days, and instead of any link before.\n")
        assert re.fullmatch(r"https://diary\.example\.org/activate#[\w-]{43}\n", link)


def test_a_clinician_is_verified_and_unverified_without_a_word(admin: Run, database_url: str) -> None:
    admin("clinician", "weber@example.org", "--name", "Dr. Weber", "--profession", "nurse", "--unverified")

    async def verified() -> bool:
        connection = await asyncpg.connect(database_url)
        try:
            return bool(await connection.fetchval("SELECT verified_at IS NOT NULL FROM clinicians"))
        finally:
            await connection.close()

    assert not asyncio.run(verified())
    for command, outcome in (("verify-clinician", True), ("verify-clinician", True), ("unverify-clinician", False)):
        assert admin(command, "Weber@example.org") == (0, "", "")
        assert asyncio.run(verified()) is outcome


def test_people_are_listed_disabled_and_enabled(admin: Run) -> None:
    admin("create", "olga@example.org", "--name", "Olga")
    admin("clinician", "weber@example.org", "--name", "Dr. Weber", "--profession", "nurse")
    day = r"\d{4}-\d\d-\d\d"
    weber, olga = (
        f"weber@example.org\tclinician\tDr. Weber\t{day}\tnever\t",
        f"olga@example.org\tadmin\tOlga\t{day}\tnever\t",
    )
    assert re.fullmatch(f"{olga}active\n{weber}active\n", admin("people", "list")[1])
    assert admin("people", "disable", "Weber@example.org") == (0, "", "")
    assert re.fullmatch(f"{olga}active\n{weber}disabled {day}\n", admin("people", "list")[1])
    assert re.fullmatch(f"{weber}disabled {day}\n", admin("people", "list", "--disabled")[1])
    assert re.fullmatch(f"{olga}active\n", admin("people", "list", "--role", "admin")[1])
    assert admin("people", "enable", "weber@example.org") == (0, "", "")
    assert admin("people", "list", "--disabled") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("people", "disable", "olga@example.org"), "There is no account with this address.\n"),
        (("people", "enable", "olga"), "This is no e-mail address.\n"),
        (
            ("people", "list", "--role", "wizard"),
            "The role is one of patient, caregiver, clinician, admin.\n",
        ),
        (("create", "olga"), "This is no e-mail address.\n"),
        (("create", "olga@example.org", "--name", ""), "A name has 1 to 120 characters, on one line.\n"),
        (("organisation", " "), "A name has 1 to 120 characters, on one line.\n"),
        (("verify-clinician", "olga@example.org"), "There is no clinician with this address.\n"),
        (
            ("clinician", "w@example.org", "--name", "W", "--profession", "wizard"),
            "The profession is one of physician, nurse, physiotherapist, psychologist, pharmacist,"
            " occupational_therapist, social_worker.\n",
        ),
    ],
    ids=["nobody", "no address", "role", "address", "name", "organisation", "clinician", "profession"],
)
def test_what_an_operator_cannot_ask_for_is_one_plain_sentence(
    admin: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    assert admin(*arguments) == (2, "", sentence)


def test_the_page_for_operators_shows_commands_that_work(
    admin: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIARY_SIGNING_KEYS_DIRECTORY", str(tmp_path / "keys"))
    old = admin("rotate-keys")[1].strip()
    page = (ROOT / "docs" / "operate.md").read_text().replace("\\\n", "").replace('"$OLD"', old)
    shown = [shlex.split(line, comments=True) for line in re.findall(r"^pain-diary admin .+", page, re.MULTILINE)]
    everything = {"rotate-keys", "keys", "people", "create", "organisation", "clinician", *cli.ON_ACCOUNT}
    assert {words[2] for words in shown} == everything - {"disable", "enable"}
    assert [admin(*words[2:])[0] for words in shown] == [0] * len(shown)


def test_a_database_without_the_migrations_is_said_plainly(run: Run, database_url: str) -> None:
    complaint = "The database is not migrated yet: `pain-diary migrate` comes first.\n"
    assert run("admin", "create", "olga@example.org") == (2, "", complaint)


def test_sigterm_ends_a_command_through_its_clean_up(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, sys
        from app import cli
        @cli.cli.command()
        def wait():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                print("cleaned up")
        sys.argv = ["pain-diary", "wait"]
        cli.main()
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert (result.returncode, result.stdout, result.stderr) == (143, "cleaned up\n", "")


@pytest.mark.parametrize(
    ("bound", "certificate", "address"),
    [
        (("127.0.0.1", 8000), None, "http://127.0.0.1:8000"),
        (("0.0.0.0", 8000), None, "http://127.0.0.1:8000"),
        (("::1", 8000, 0, 0), Path("cert.pem"), "https://[::1]:8000"),
    ],
)
def test_the_printed_address_opens_on_this_machine(
    bound: tuple[object, ...], certificate: Path | None, address: str
) -> None:
    listener = cast(socket.socket, SimpleNamespace(getsockname=lambda: bound))
    settings = cast(Settings, SimpleNamespace(tls_cert=certificate))
    assert server.address_of(listener, settings) == address


def test_the_example_names_every_setting_and_changes_none() -> None:
    example = ROOT / ".env.example"
    names = [line.partition("=")[0] for line in example.read_text().splitlines() if line.startswith("DIARY_")]
    assert sorted(names) == sorted(f"DIARY_{name.upper()}" for name in Settings.model_fields)
    assert Settings(_env_file=example) == Settings(_env_file=None)


def test_each_line_of_the_example_is_explained() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    for comment, line in pairwise(lines):
        assert "=" not in line.partition("#")[0] or comment.startswith("# ")
