"""Clients that are mostly offline, on a running server: two devices of one patient lose nothing.

RxDB and WatermelonDB in Node, by their adapters in examples/, and examples/offline_client.py.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import anyio
import asyncpg
import pytest
from anyio.streams.text import TextReceiveStream

from app.services.restores import NEW_EPOCHS
from examples.offline_client import SERVERS, Diary, Json, Problem
from tests.people import Person, Phone, entry, grant, lent, treatment, without_id
from tests.routers.test_sync import pull_all
from tests.serving import ROOT, Served
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

EXAMPLES = ROOT / "examples"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # Node may lie beside Python
TABLES = ("patient_clocks", "records", "record_versions")


@pytest.fixture
async def devices(served: Served) -> AsyncIterator[list[Phone]]:
    """Two devices of one patient, signed in."""
    person = Person()
    async with served.client() as one, served.client() as other:
        yield [await person.register_and_sign_in(one), Phone(other, person, (await person.sign_in(other)).json())]


@pytest.fixture(scope="session")
def packages() -> None:
    """What the lock file names is installed; one worker does it while others wait."""
    lock, installed = EXAMPLES / "package-lock.json", EXAMPLES / "node_modules" / ".package-lock.json"
    with lock.open() as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            command = ["npm", "ci", "--ignore-scripts", "--no-progress"]
            subprocess.run(command, cwd=EXAMPLES, env=os.environ | {"PATH": PATH}, check=True, capture_output=True)


def diary_url(phone: Phone) -> str:
    return str(phone.http.base_url.join(phone.diary))


async def back_up(superuser: Connection, patient: UUID) -> None:
    """Keeps the diary as it is now, for as long as the connection lives."""
    for table in TABLES:
        await superuser.execute(
            f"CREATE TEMP TABLE old_{table} AS SELECT * FROM {table} WHERE patient_id = '{patient}'"
        )


async def restore(superuser: Connection, patient: UUID) -> None:
    """The diary as it was, in a new epoch, as `pain-diary restored` leaves it."""
    async with superuser.transaction():
        for table in TABLES:
            await superuser.execute(f"DELETE FROM {table} WHERE patient_id = '{patient}'")
            await superuser.execute(f"INSERT INTO {table} SELECT * FROM old_{table}")
        await superuser.execute(f"{NEW_EPOCHS} WHERE patient_id = $1", patient)


@pytest.mark.long
@pytest.mark.parametrize("store", ["rxdb", "watermelondb"])
async def test_two_devices_with_an_open_source_store_converge(
    store: str, devices: list[Phone], packages: None, superuser: Connection
) -> None:
    patient = UUID(devices[0].patient_id)
    environment = {
        "DIARY": diary_url(devices[0]),
        "TOKENS": " ".join(device.tokens["access_token"] for device in devices),
        "PATH": PATH,
    }
    asked = []
    process = await anyio.open_process(["node", f"test/{store}.mjs"], cwd=EXAMPLES, env=environment, stderr=None)
    with anyio.fail_after(PATIENCE):  # a store that never comes to rest is killed; it ends when its input does
        async with process as node:
            assert node.stdin is not None
            assert node.stdout is not None
            async for line in TextReceiveStream(node.stdout):
                asked.append(line.strip())
                if asked[-1] == "back up":
                    await back_up(superuser, patient)
                if asked[-1] == "restore":
                    await restore(superuser, patient)
                await node.stdin.send(line.encode())
    assert (asked, node.returncode) == (["back up", "restore", "done"], 0)
    assert await superuser.fetch("SELECT * FROM verify_diary_v1($1)", patient) == []


class Shaky(Diary):
    """examples/offline_client.py, whose answers get lost, and which crashes."""

    losing = ""  # the answer to this call, once
    crashes = False  # before what was pulled is stored with its cursor

    def _call(self, path: str, body: Json | None = None) -> Json:
        answer = super()._call(path, body)
        if self.losing and path.startswith(self.losing):
            self.losing = ""
            raise ConnectionResetError
        return answer

    def _pull(self) -> None:
        super()._pull()
        if self.crashes:
            raise KeyboardInterrupt


@pytest.fixture
def diaries(devices: list[Phone], tmp_path: Path) -> list[Shaky]:
    """The patient's diary on both devices."""
    return [opened(phone, tmp_path / f"{number}.sqlite") for number, phone in enumerate(devices)]


def opened(phone: Phone, path: Path) -> Shaky:
    return Shaky(str(path), diary_url(phone), lambda: str(phone.tokens["access_token"]))


def logged(diary: Diary, **fields: Any) -> str:
    """The id of a new entry."""
    record = entry(**fields)
    diary.write("entry", record["id"], without_id(record))
    return str(record["id"])


def edited(diary: Diary, record_id: str, **fields: Any) -> None:
    diary.write("entry", record_id, diary.records()[record_id] | fields)


def met(*diaries: Diary) -> dict[str, Json]:
    """What all hold alike after everybody has synced."""
    for diary in (*diaries, *diaries):
        diary.sync()
    held = [diary.records() for diary in diaries]
    assert held[1:] == held[:-1]
    return held[0]


async def pulled(phone: Phone) -> dict[str, Json]:
    """What the server has."""
    records = await pull_all(phone, 200)
    return {id_: {name: record[name] for name in record if name not in SERVERS} for id_, record in records.items()}


async def test_the_offline_client_merges_what_two_devices_did(devices: list[Phone], diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    both, same, gone = [logged(phone) for _ in range(3)]
    assert met(phone, tablet).keys() == {both, same, gone}
    edited(phone, both, mood=3)
    edited(tablet, both, note="after the walk")
    edited(phone, same, mood=1)
    edited(tablet, same, mood=9)
    edited(phone, gone, mood=5)
    tablet.write("entry", gone, None)
    phone.write("entry", logged(phone), None)
    records = met(phone, tablet)
    assert (records[both]["mood"], records[both]["note"], records[same]["mood"]) == (3, "after the walk", 9)
    assert records.keys() == {both, same}
    assert records == await pulled(devices[0])


async def test_an_edit_of_what_another_device_deleted_is_shown_to_the_user(diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    gone = logged(phone)
    met(phone, tablet)
    tablet.write("entry", gone, None)
    tablet.sync()
    edited(phone, gone, mood=5)
    assert met(phone, tablet) == {}
    [(mutation, _)] = phone.store.execute("SELECT * FROM refused")
    assert '"mood": 5' in mutation


async def test_what_was_deleted_comes_back_on_every_device(devices: list[Phone], diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    far, near, twice = logged(phone, note="canary"), logged(phone), logged(phone)
    met(phone, tablet)
    for gone in (far, twice):
        tablet.write("entry", gone, None)
    assert met(phone, tablet).keys() == {near}
    phone.undelete(far)
    phone.write("entry", near, None)
    phone.undelete(near)
    for diary in diaries:
        diary.undelete(twice)
    records = met(phone, tablet)
    assert records.keys() == {far, near, twice}
    assert records[far]["note"] == "canary"
    assert records == await pulled(devices[0])
    assert all(not diary.store.execute("SELECT * FROM refused").fetchall() for diary in diaries)


async def test_what_was_deleted_once_more_stays_deleted_and_is_shown(diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    gone = logged(phone)
    met(phone, tablet)
    tablet.write("entry", gone, None)
    met(phone, tablet)
    phone.undelete(gone)
    tablet.undelete(gone)
    tablet.sync()
    tablet.write("entry", gone, None)
    tablet.sync()
    assert met(phone, tablet) == {}
    [(mutation, _)] = phone.store.execute("SELECT * FROM refused")
    assert json.loads(mutation)["op"] == "undelete"


async def test_a_lost_answer_is_asked_for_again_and_nothing_is_done_twice(
    devices: list[Phone], diaries: list[Shaky], superuser: Connection
) -> None:
    phone, tablet = diaries
    first = logged(phone)
    edited(phone, first, mood=2)
    phone.losing = "push"
    with pytest.raises(ConnectionResetError):
        phone.sync()
    tablet.sync()
    edited(tablet, first, mood=7)
    tablet.sync()
    edited(phone, first, note="still offline")
    records = met(phone, tablet)
    assert (records[first]["mood"], records[first]["note"]) == (7, "still offline")
    versions = "SELECT count(*) FROM record_versions WHERE patient_id = $1"
    assert await superuser.fetchval(versions, UUID(devices[0].patient_id)) == 4


@pytest.mark.parametrize("losing", ["pull", "push"])
async def test_a_crash_loses_nothing(losing: str, devices: list[Phone], diaries: list[Shaky], tmp_path: Path) -> None:
    phone, tablet = diaries
    theirs, mine = logged(tablet), logged(phone)
    tablet.sync()
    phone.losing = losing
    with pytest.raises(ConnectionResetError):
        phone.sync()
    phone.store.close()
    phone = opened(devices[0], tmp_path / "0.sqlite")
    assert mine in phone.records()
    phone.crashes = True
    with pytest.raises(KeyboardInterrupt):
        phone.sync()
    phone.store.close()
    assert met(opened(devices[0], tmp_path / "0.sqlite"), tablet).keys() == {theirs, mine}


async def test_what_the_server_will_not_take_is_shown_and_blocks_nothing(diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    logged(phone, mood=99)
    good = logged(phone)
    assert met(phone, tablet).keys() == {good}
    [(_, result)] = phone.store.execute("SELECT * FROM refused")
    assert '"/mutations/0/data/mood"' in result


async def test_a_push_that_is_refused_whole_is_halved_until_the_one_stands_alone(diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    good = [logged(phone) for _ in range(3)]
    logged(phone, note="x" * 600_000)  # more than any push may hold
    good += [logged(phone) for _ in range(3)]
    assert met(phone, tablet).keys() == set(good)
    [(_, result)] = phone.store.execute("SELECT * FROM refused")
    assert json.loads(result)["status"] == "invalid"


@pytest.mark.parametrize("spoiled", ["half an emoji \ud83d", "NUL \0", float("nan"), 10**400, [[[[[[[[[[[[]]]]]]]]]]]]])
async def test_an_entry_that_nobody_can_store_is_shown_and_blocks_nothing(diaries: list[Shaky], spoiled: Any) -> None:
    phone, tablet = diaries
    good = [logged(phone)]
    logged(phone, note=spoiled)
    good += [logged(phone)]
    assert met(phone, tablet).keys() == set(good)
    [(_, result)] = phone.store.execute("SELECT * FROM refused")
    assert json.loads(result)["errors"][0]["pointer"].startswith("/mutations/1/data/note")


def score(value: int, measure: str = "now") -> Json:
    return {"measure": measure, "scale": "nrs_0_10", "value": value}


async def test_two_devices_that_add_to_the_same_lists_keep_both(diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    plan = treatment()
    phone.write("treatment", plan["id"], without_id(plan))
    record = logged(phone, sites=[{"region": "lower_back_left", "scores": [score(6)]}], triggers=[{"code": "sitting"}])
    met(phone, tablet)
    first = {"from": "2026-04-01T00:00:00+02:00", "to": "2026-04-03T00:00:00+02:00"}
    second = {"from": "2026-04-05T00:00:00+02:00", "to": "2026-04-06T00:00:00+02:00"}
    for diary, pause in ((phone, second), (tablet, first)):
        held = diary.records()[plan["id"]]
        diary.write("treatment", plan["id"], held | {"pauses": [pause]})
    [site] = phone.records()[record]["sites"]
    other = {"region": "neck_back_right", "scores": [score(3)]}
    edited(phone, record, sites=[site, other], triggers=[{"code": "sitting"}, {"code": "walking"}])
    edited(tablet, record, sites=[site | {"scores": [score(6), score(8, "worst")]}], triggers=[])
    records = met(phone, tablet)
    assert records[plan["id"]]["pauses"] == [first, second]
    [back, neck] = records[record]["sites"]
    assert (back["scores"], neck["region"]) == ([score(6), score(8, "worst")], "neck_back_right")
    assert [one["code"] for one in records[record]["triggers"]] == ["walking"]
    for diary in diaries:
        assert diary.store.execute("SELECT * FROM refused").fetchall() == []


async def test_a_backup_that_two_devices_import_is_there_once_with_what_was_done_to_it(diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    once, twice = ({"source": {"system": "other-app", "record_id": name}} for name in ("1", "2"))
    first, second = logged(phone, **once), logged(phone, **twice)
    phone.sync()
    again, other = logged(tablet, **once), logged(tablet, **twice, mood=9)  # before it has pulled anything
    edited(tablet, again, note="Read in again.")
    records = met(phone, tablet)
    assert records.keys() == {first, second}
    assert again not in records
    assert other not in records
    assert (records[first]["note"], "mood" in records[second]) == ("Read in again.", False)
    for diary in diaries:
        assert diary.store.execute("SELECT * FROM refused").fetchall() == []


async def test_what_cannot_be_merged_is_shown_with_what_the_other_device_said(diaries: list[Shaky]) -> None:
    phone, tablet = diaries
    same = logged(phone, mood=5)
    met(phone, tablet)
    edited(phone, same, mood=1)
    edited(tablet, same, mood=9)
    assert met(phone, tablet)[same]["mood"] == 9
    [(mutation, result)] = tablet.store.execute("SELECT * FROM refused")
    told = json.loads(result)
    assert (json.loads(mutation)["data"]["mood"], told["record"]["mood"], told["lost"]) == (9, 1, ["mood"])


async def test_it_says_when_nothing_is_left_to_send(
    devices: list[Phone], diaries: list[Shaky], superuser: Connection
) -> None:
    for _ in range(101):
        logged(diaries[0], note="ü" * 4000)  # more than one push takes
    before = await superuser.fetchval("SELECT now()")
    diaries[0].sync()
    told = "SELECT outbox_empty_at > $2 FROM sessions WHERE id = $1"
    assert await superuser.fetchval(told, UUID(devices[0].session_id), before)
    assert len(met(*diaries)) == 101


async def test_after_a_restore_everything_that_was_acknowledged_comes_back(
    devices: list[Phone], diaries: list[Shaky], superuser: Connection
) -> None:
    phone, tablet = diaries
    patient = UUID(devices[0].patient_id)
    old, gone, pending = [logged(phone) for _ in range(3)]
    met(phone, tablet)
    await back_up(superuser, patient)
    edited(phone, old, mood=4)
    edited(phone, pending, mood=1)
    tablet.write("entry", gone, None)
    since = logged(tablet)
    met(phone, tablet)
    await restore(superuser, patient)
    edited(phone, pending, note="not sent yet")
    records = met(phone, tablet)
    assert records.keys() == {old, pending, since}
    assert (records[old]["mood"], records[pending]["mood"], records[pending]["note"]) == (4, 1, "not sent yet")
    assert records == await pulled(devices[0])
    assert await superuser.fetch("SELECT * FROM verify_diary_v1($1)", patient) == []


@pytest.mark.parametrize("first", ["the newer", "the older"])
async def test_after_a_restore_the_later_version_wins_whoever_offers_first(
    first: str, devices: list[Phone], diaries: list[Shaky], superuser: Connection
) -> None:
    phone, tablet = diaries
    patient = UUID(devices[0].patient_id)
    old = logged(phone)
    met(phone, tablet)
    await back_up(superuser, patient)
    edited(phone, old, mood=2)
    lost, gone = logged(phone, mood=2), logged(phone)
    met(phone, tablet)
    edited(phone, old, mood=3)
    edited(phone, lost, mood=3)
    phone.write("entry", gone, None)
    phone.sync()
    await restore(superuser, patient)
    records = met(phone, tablet) if first == "the newer" else met(tablet, phone)
    assert {id_: record["mood"] for id_, record in records.items()} == {old: 3, lost: 3}
    assert records == await pulled(devices[0])


async def test_what_came_back_before_a_restore_is_there_after_it(
    devices: list[Phone], diaries: list[Shaky], superuser: Connection
) -> None:
    phone, tablet = diaries
    patient = UUID(devices[0].patient_id)
    old, gone = logged(phone), logged(phone)
    met(phone, tablet)
    tablet.write("entry", gone, None)
    met(phone, tablet)
    await back_up(superuser, patient)
    tablet.write("entry", old, None)
    met(phone, tablet)
    for one in (old, gone):
        phone.undelete(one)
    phone.sync()  # the tablet has heard of the deletions only
    await restore(superuser, patient)
    assert met(tablet, phone).keys() == {old, gone}


@pytest.mark.parametrize("losing", ["pull", "push"])
async def test_a_restore_that_is_interrupted_loses_nothing(
    losing: str, devices: list[Phone], diaries: list[Shaky], superuser: Connection
) -> None:
    phone, tablet = diaries
    patient = UUID(devices[0].patient_id)
    await back_up(superuser, patient)
    acknowledged = logged(phone)
    met(phone, tablet)
    waiting = logged(phone)
    for _ in range(2):
        await restore(superuser, patient)
        phone.losing = losing
        with pytest.raises(ConnectionResetError):
            phone.sync()
        assert phone.records().keys() == {acknowledged, waiting}
    assert met(phone, tablet).keys() == {acknowledged, waiting}


async def test_what_is_withdrawn_is_not_offered_and_an_edit_of_it_is_shown_to_the_user(
    served: Served, devices: list[Phone], diaries: list[Shaky], superuser: Connection, tmp_path: Path
) -> None:
    ada, diary = devices[0], diaries[0]
    moved, edited_meanwhile = [logged(diary, occurred_at="2026-05-01T08:00:00+02:00") for _ in range(2)]
    diary.sync()
    async with served.client() as http:
        helper = await Person().register_and_sign_in(http)
        await grant(superuser, ada, helper, data_from=datetime(2026, 4, 1, tzinfo=UTC))
        copy = opened(lent(helper, ada), tmp_path / "helper.sqlite")
        copy.sync()
        edited(copy, edited_meanwhile, mood=5)
        for entry_id in (moved, edited_meanwhile):
            edited(diary, entry_id, occurred_at="2026-03-01T08:00:00+01:00")
        diary.sync()
        copy.sync()
        assert copy.records() == {}
        assert len(copy.store.execute("SELECT * FROM refused").fetchall()) == 1
        await superuser.execute(f"{NEW_EPOCHS} WHERE patient_id = $1", UUID(ada.patient_id))
        copy.sync()
    assert met(*diaries).keys() == {moved, edited_meanwhile}


async def test_after_another_consent_the_client_forgets_what_it_may_no_longer_see(
    served: Served, devices: list[Phone], diaries: list[Shaky], superuser: Connection, tmp_path: Path
) -> None:
    ada, diary = devices[0], diaries[0]
    old, new = logged(diary), logged(diary, occurred_at="2026-05-01T08:00:00+02:00")
    diary.sync()
    async with served.client() as http:
        helper = await Person().register_and_sign_in(http)
        grant_id = await grant(superuser, ada, helper)
        copy = opened(lent(helper, ada), tmp_path / "helper.sqlite")
        assert met(diary, copy).keys() == {old, new}
        narrowed = "UPDATE grants SET version = 2, data_from = '2026-04-01' WHERE id = $1"
        await superuser.execute(narrowed, grant_id)
        mine = logged(copy, occurred_at="2026-05-02T08:00:00+02:00")
        copy.sync()
    assert copy.records().keys() == {new, mine}
    diary.sync()
    assert diary.records().keys() == {old, new, mine}


async def test_what_is_no_matter_of_sync_is_told(diaries: list[Shaky], devices: list[Phone]) -> None:
    await devices[0].http.delete(f"/v1/me/sessions/{devices[1].session_id}")
    with pytest.raises(Problem):
        diaries[1].sync()
