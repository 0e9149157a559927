"""The README is a promise: its commands are run here as they stand there."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(state: Path) -> dict[str, str]:
    """That of a shell in which nothing is configured but where data stay."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DIARY_", "COV_", "MAKE", "MFLAGS"))}
    return kept | {"DIARY_STATE_DIRECTORY": str(state)}


def make_reset(state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "reset"], cwd=ROOT, env=environment(state), capture_output=True, text=True)


@contextmanager
def make_run(state: Path, port: int) -> Iterator[None]:
    """`make run` on another port and data directory, once it says where it listens."""
    running = subprocess.Popen(
        ["make", "run", f"PORT={port}"],
        cwd=ROOT,
        env=environment(state),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    said: list[str] = []
    try:
        for line in running.stdout:
            said.append(line)
            if line.startswith("Stop:"):
                break
        assert any(f"http://127.0.0.1:{port}/docs" in line for line in said), "".join(said)
        for account in ("patient@example.org", "clinician@example.org"):
            assert any(account in line and "demo-demo-demo-demo" in line for line in said)
        assert any("README.md" in line for line in said)
        assert any("make reset" in line for line in said)
        yield
    finally:
        os.killpg(running.pid, signal.SIGINT)  # as a terminal's Ctrl-C
        running.communicate()


@pytest.fixture
def state() -> Iterator[Path]:
    """A data directory that PostgreSQL's account may enter, so that nothing lands elsewhere."""
    with TemporaryDirectory(prefix="diary-readme-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def shell(script: str, directory: Path) -> str:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_the_commands_of_the_readme_work_as_written(tmp_path: Path, state: Path) -> None:
    port = free_port()
    _, sign_in_and_post, read_correct_delete, assess = (
        block.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}") for block in BLOCKS
    )
    with make_run(state, port):
        stored = json.loads(shell(sign_in_and_post, tmp_path))
        assert stored["version"] == 1
        documented = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])
        assert documented.keys() <= stored.keys()

        token = json.loads((tmp_path / "session.json").read_text())["access_token"]
        names = f"API=http://127.0.0.1:{port} ENTRY={stored['id']} PATIENT={stored['patient_id']} TOKEN={token}\n"
        answers = shell(names + read_correct_delete, tmp_path)
        timeline, end = json.JSONDecoder().raw_decode(answers)
        assert timeline["items"][0] == stored
        assert json.loads(answers[end:])["note"] == "Better after a walk."
        assert json.loads(shell(names + assess, tmp_path))["overall"]["doses"]["taking"]["value"] > 0.5

    with make_run(state, port):  # the second start finds the same demo, and the data of the first
        again = json.loads(shell(sign_in_and_post, tmp_path))
        assert again["patient_id"] == stored["patient_id"]
        assert again["change_seq"] == stored["change_seq"] + 3
        refused = make_reset(state)
        assert refused.returncode != 0
        assert f"PostgreSQL is running on the data in {state}/postgres" in refused.stderr

    done = make_reset(state)
    assert done.returncode == 0, done.stderr
    assert f"The data in {state}/postgres are deleted." in done.stdout
    with make_run(state, port):
        anew = json.loads(shell(sign_in_and_post, tmp_path))
        assert anew["patient_id"] != stored["patient_id"]


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 120
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:app|tests|docs|migrations)/[^`*]*)`", README):
        assert (ROOT / path).exists(), path


def test_every_make_target_of_the_readme_exists() -> None:
    rules = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make (\w[\w-]*)", README)) <= set(" ".join(rules).split())


def test_ci_runs_the_commands_that_are_named_here() -> None:
    [command] = re.findall(r"^exec (make .*)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert f"`{command}`" in (ROOT / "CONTRIBUTING.md").read_text()
    words = command.split()[1:]
    commands = set(re.findall(r"`(?:make )?([a-z0-9-]+)`", README.partition("## Commands")[2]))
    assert {word for word in words if "=" not in word} <= commands
    assert {word for word in words if "=" in word} == {"COVERAGE=1"}
    assert "`COVERAGE=1`" in README
