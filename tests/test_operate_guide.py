"""docs/operate.md is followed as it is written: installed, upgraded and rolled back while phones write and read."""

import asyncio
import re
import shutil
import sys
from contextlib import AsyncExitStack, ExitStack
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from anyio.to_thread import run_sync as in_thread

from tests.programs import said
from tests.releases import LEFT_OUT, Release
from tests.serving import ROOT, Served, serve
from tests.test_rolling_deploy import PHONES, Load, Place, ids, made_up, sign_in
from tests.test_rolling_deploy import place as place
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio

GUIDE = (ROOT / "docs" / "operate.md").read_text()
INSTALL, ACCOUNT, OWNER, UPGRADE, ROLL_BACK = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)[:5]
UNIT = (ROOT / "deploy" / "pain-diary@.service").read_text()
ALERTS = ROOT / "deploy" / "alerts.yaml"
LINK = "ln --symbolic --force --no-dereference"


def build(source: Path, into: Path) -> None:
    """`make wheel`, of a copy: other tests work in this tree."""
    command = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index")
    assert f"$(BIN)/python {' '.join(command[1:])}" in (ROOT / "Makefile").read_text()
    said(*command, "--wheel-dir", str(into), str(source), directory=into)


class Machine:
    """Where the guide is followed; /opt/pain-diary is a folder of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opt = directory / "opt"
        shutil.copy(ROOT / "requirements.lock", directory)

    def follow(self, block: str, **settings: str) -> None:
        """Runs a block of the guide, but for systemctl: instances are the test's."""
        assert "systemctl restart" in block or "pip install" in block
        lines = [line for line in block.splitlines() if not line.startswith("systemctl")]
        script = "\n".join(lines).replace("/opt/pain-diary", str(self.opt))
        said("bash", "-euc", script, directory=self.directory, **settings)

    def instance(self, stack: AsyncExitStack | ExitStack, place: Place) -> Served:
        """What systemd starts: the release that is the current one."""
        assert "ExecStart=/usr/bin/env DIARY_PORT=%i /opt/pain-diary/current/bin/pain-diary serve\n" in UNIT
        program = str((self.opt / "current").resolve() / "bin" / "pain-diary")
        log = self.directory / f"instance-{len(list(self.directory.glob('instance-*')))}"
        log.mkdir()
        return stack.enter_context(serve(place.settings, log, self.directory, (program,)))


@pytest.mark.long
async def test_the_guide_installs_upgrades_and_rolls_back_under_load(place: Place, tmp_path: Path) -> None:
    machine, owner = Machine(tmp_path), {"MIGRATION_DATABASE_URL": place.owner_url, "ENVIRONMENT": "development"}
    after = made_up(Release(tmp_path / "next"))
    after.new_migration("trial")
    after.edit("pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"')
    after.edit("app/__init__.py", '"0.1.0"', '"0.2.0"')
    await in_thread(build, Path(shutil.copytree(ROOT, tmp_path / "this", ignore=LEFT_OUT)), tmp_path)
    await in_thread(build, after.root, tmp_path)
    await in_thread(machine.follow, INSTALL)
    program = str(machine.opt / "current" / "bin" / "pain-diary")
    await in_thread(lambda: said(program, "migrate", directory=tmp_path, **owner))
    load = Load()

    async with AsyncExitStack() as stack:
        old, new, again = (stack.enter_context(ExitStack()) for _ in range(3))
        load.workers = [(await in_thread(machine.instance, old, place)).url]
        phones = [await sign_in(stack, load.workers[0]) for _ in range(PHONES)]
        async with asyncio.TaskGroup() as group:
            for phone in phones:
                group.create_task(load.hold(phone))
            await load.go_on()
            beside = INSTALL.replace("RELEASE=0.1.0", "RELEASE=0.2.0").partition(LINK)[0]
            await in_thread(machine.follow, beside)
            await in_thread(lambda: machine.follow("RELEASE=0.2.0\n" + UPGRADE, **owner))
            await load.go_on()
            assert await take_over(load, new, machine, place) == "0.2.0"
            await in_thread(old.close)
            await load.go_on()
            await in_thread(machine.follow, "BEFORE=0.1.0\n" + ROLL_BACK)
            assert await take_over(load, again, machine, place) == "0.1.0"
            await in_thread(new.close)
            await load.go_on()
            load.ended = True
        assert load.failures == []
        for phone in phones:
            assert sorted(await ids(phone)) == sorted(load.acknowledged[phone.patient_id])
    newer = str(machine.opt / "0.2.0" / "bin" / "pain-diary")
    assert (
        len((await in_thread(lambda: said(newer, "verify", directory=tmp_path, **owner))).splitlines()) == 1
    )  # an anchor
    with pytest.raises(AssertionError, match="which this release does not know"):
        await in_thread(lambda: said(program, "migrate", directory=tmp_path, **owner))


async def take_over(load: Load, stack: ExitStack, machine: Machine, place: Place) -> str:
    """The version of the instance that takes over from those that serve."""
    server = await in_thread(machine.instance, stack, place)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
        version = str((await http.get("/openapi.json")).json()["info"]["version"])
    load.workers.append(server.url)
    await load.go_on()
    del load.workers[0]
    await load.go_on()
    return version


def test_the_commands_of_root_are_written_in_shell_that_can_be_read() -> None:
    for block in (INSTALL, ACCOUNT, OWNER, UPGRADE, ROLL_BACK):
        said("bash", "-n", "-c", block, directory=ROOT)
    assert UPGRADE.index("pain-diary migrate") < UPGRADE.index("systemctl restart"), "the database goes first"


def test_the_unit_serves_what_the_guide_installs_and_stops_as_patiently_as_the_service() -> None:
    settings = dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and not line.startswith("#"))
    assert settings["EnvironmentFile"] in ACCOUNT
    assert int(settings["TimeoutStopSec"]) > 60 + 30  # the longest drain, and requests in flight
    assert settings["RestartPreventExitStatus"] == "2"  # what app/cli.py ends with where a setting is wrong
    assert "Environment" not in settings  # systemd lets the file go before it, and the file names every setting


@pytest.mark.long  # `make verify` installs systemd
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "pain-diary"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "pain-diary@8000.service"
    unit.write_text(UNIT.replace("/opt/pain-diary/current/bin/pain-diary", str(program)))
    said("systemd-analyze", "verify", "--man=no", str(unit), directory=tmp_path)


def test_alerts_speak_of_metrics_that_there_are() -> None:
    groups = import_module("yaml").safe_load(ALERTS.read_text())["groups"]
    asked = {name for group in groups for rule in group["rules"] for name in re.findall(r"diary_\w+", rule["expr"])}
    assert asked
    metrics = (ROOT / "app" / "http" / "metrics.py").read_text()
    known = set(re.findall(r'"(diary_\w+)"', metrics))
    assert {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in asked} <= known


@pytest.mark.long  # `make verify` installs promtool
def test_alerts_fire_on_what_they_are_about_and_on_nothing_else() -> None:
    said("promtool", "check", "rules", str(ALERTS), directory=ROOT)
    said("promtool", "test", "rules", str(ALERTS.with_suffix(".test.yaml")), directory=ROOT)
