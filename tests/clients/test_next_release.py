"""Clients of today beside the next release: they read its answers, sync on, and lose nothing by writing back.

The next release is made up: a member of an entry and one inside of its sites, a member that the server adds, a code and
a kind of record more. Clients are generated from the document of the last release.
"""

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio.to_thread
import httpx
import pytest
from pydantic import SecretStr

from app.config import Settings
from examples.offline_client import Diary
from openapi import check
from tests.clients import generators
from tests.conftest import create_database, url_of
from tests.people import Person, Phone, entry, site, without_id
from tests.releases import Release
from tests.routers.test_sync import pull_all, pushed
from tests.routers.test_sync import put as mutation
from tests.serving import Served, serve
from tests.test_offline_clients import EXAMPLES, packages
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.anyio, pytest.mark.long]

__all__ = ["packages"]

NEW = "    weather: Annotated[Literal['sun', 'rain'] | None, Since(2)] = None\n"
INSIDE = "    warmth: Annotated[Literal['hot', 'cold'] | None, Since(2)] = None\n"
SERVERS = "    triaged: Annotated[Any, Since(2)] = servers_own()\n"


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """It, with its migration."""
    release = Release(tmp_path_factory.mktemp("next") / "release")
    release.add_kind()
    schema = "app/schemas/entries.py"
    course = '    course: Course | None = Field(default=None, description="How it is changing.")\n'
    release.edit(schema, course, course + NEW + SERVERS)
    release.edit(schema, "    depth: Depth | None = None\n", "    depth: Depth | None = None\n" + INSIDE)
    release.edit(schema, "from typing import Annotated,", "from typing import Annotated, Any,")
    release.edit(schema, "import Facts, RecordKind\n", "import Facts, RecordKind\nfrom app.schemas.since import *\n")
    release.edit("app/schemas/since.py", "SCHEMA = 1 ", "SCHEMA = 2 ")
    release.edit("app/models/documents.sql", """'{"kind":"'""", """'{"triaged":true,"kind":"'""")
    release.add("app/vocabularies/triggers.csv", "thunder,Thunder,own list,\n")
    release.new_migration("weather")
    return release


@pytest.fixture(scope="module")
async def server(
    next_release: Release, server_url: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    """The next release, serving."""
    name = f"next_{uuid4().hex[:8]}"
    await create_database(server_url, name)
    await anyio.to_thread.run_sync(next_release.migrate, url_of(server_url, "postgres", name))
    own = settings.model_copy(update={"database_url": SecretStr(url_of(server_url, "diary_app", name))})
    with serve(own, tmp_path_factory.mktemp("server"), next_release.root) as served:
        yield served


@pytest.fixture
async def phone(server: Served) -> AsyncIterator[Phone]:
    """A new patient, on a phone whose app is of the next release; it logged two entries and an aim."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
        phone = await Person().register_and_sign_in(http)
        sites = [site(warmth="hot"), site(region="neck_back_left", warmth="cold")]
        for _ in range(2):
            sent = entry(weather="rain", sites=sites, triggers=[{"code": "thunder"}])
            answer = await phone.post("/entries", sent)
            assert (answer.status_code, answer.json()["triaged"]) == (201, True), answer.text
        [result] = await pushed(phone, mutation("aim", entry(weather="sun")))
        assert result["status"] == "created", result
        yield phone


async def entries(phone: Phone) -> list[dict[str, Any]]:
    """What the server has of them."""
    held = await pull_all(phone, 200)
    return [record for record in held.values() if record["kind"] == "entry"]


async def assert_nothing_is_lost(phone: Phone, edited: int) -> None:
    """So many entries have the new mood, and all have what only the next release knows."""
    held = await entries(phone)
    assert len(held) == 2
    assert [record.get("mood") for record in held].count(9) == edited
    for record in held:
        assert (record["weather"], record["triggers"]) == ("rain", [{"code": "thunder"}])
        assert [one["warmth"] for one in record["sites"]] == ["hot", "cold"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where clients lie that were made of the document of the last release."""
    directory = tmp_path_factory.mktemp("generated")
    generators.install()
    generators.generate(check.RELEASED.read_text(), directory, generators.PYTHON.values())
    for script in (generators.HERE / "seen.py", *generators.HERE.glob("reads_*.py")):
        (directory / script.name).write_text(script.read_text())
    (directory / "mypy.ini").write_text(generators.MYPY)
    generators.run(["mypy", *(script.name for script in directory.glob("reads_*.py"))], directory)
    return directory


@pytest.mark.parametrize("script", ["reads_attrs.py", "reads_pydantic.py"])
async def test_a_typed_client_reads_on_and_drops_nothing(phone: Phone, generated: Path, script: str) -> None:
    asked = {
        "API": str(phone.http.base_url),
        "TOKEN": phone.tokens["access_token"],
        "PATIENT": phone.patient_id,
    }
    run = anyio.to_thread.run_sync
    printed = await run(lambda: generators.run(["python", script], generated, **asked))
    assert json.loads(printed) == {
        "unknown": ["aim"],
        "timeline": 3,
        "pushed": ["updated"],
        "after": [2, 2],
        "errors": [],
    }
    await assert_nothing_is_lost(phone, edited=2)


@pytest.mark.parametrize("store", ["rxdb", "watermelondb"])
async def test_an_open_source_store_syncs_on_and_gets_what_it_had_passed_over_once_it_knows_more(
    phone: Phone, store: str, packages: None
) -> None:
    edited = (await entries(phone))[0]["id"]
    [aim] = [id_ for id_, record in (await pull_all(phone, 200)).items() if record["kind"] == "aim"]
    asked = {
        "DIARY": f"{phone.http.base_url}".rstrip("/") + phone.diary,
        "TOKENS": phone.tokens["access_token"],
        "SCENARIO": "later",
        "EDITED": edited,
        "KIND": "aim",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    run = anyio.to_thread.run_sync
    printed = await run(lambda: generators.run(["node", f"test/{store}.mjs"], EXAMPLES, **asked))
    told = json.loads(printed)
    assert told["refused"] == []
    assert (aim in told["unknown"]) == (store == "rxdb")
    assert told["after"][aim]["data"]["weather"] == "sun"
    assert len(told["after"]) == 3
    await assert_nothing_is_lost(phone, edited=1)


async def test_the_offline_client_keeps_what_it_does_not_know(phone: Phone, tmp_path: Path) -> None:
    def edit() -> int:
        diary = Diary(
            str(tmp_path / "diary.sqlite"),
            str(phone.http.base_url.join(phone.diary)),
            lambda: str(phone.tokens["access_token"]),
        )
        diary.sync()
        held = diary.records()
        first = next(id_ for id_, data in held.items() if data.get("weather") == "rain")
        diary.write("entry", first, held[first] | {"mood": 9})
        diary.sync()
        assert diary.store.execute("SELECT * FROM refused").fetchall() == []
        return len(diary.records())

    assert await anyio.to_thread.run_sync(edit) == 3
    await assert_nothing_is_lost(phone, edited=1)


async def test_an_older_phone_that_sends_again_after_a_lost_answer_does_nothing_twice(phone: Phone) -> None:
    record = (await entries(phone))[0]
    known = {"id": record["id"], **{name: record[name] for name in ("occurred_at", "time_zone")}}
    first = mutation("entry", known | {"sites": [site(), site(region="neck_back_left")], "mood": 9}, 1)
    second = mutation("entry", known | {"sites": [site(region="neck_back_left")], "mood": 8}, 2)
    first["data"]["triggers"] = second["data"]["triggers"] = [{"code": "thunder"}]
    assert [one["status"] for one in await pushed(phone, first, second)] == ["updated", "updated"]
    assert [one["status"] for one in await pushed(phone, first, second)] == ["unchanged", "unchanged"]
    [now] = [one for one in await entries(phone) if one["id"] == record["id"]]
    assert (now["version"], now["mood"], now["weather"]) == (3, 8, "rain")
    assert [one["warmth"] for one in now["sites"]] == ["cold"]


async def test_a_phone_that_knows_the_schema_removes_what_it_leaves_out(phone: Phone) -> None:
    record = (await entries(phone))[0]
    fields = without_id(entry())
    answer = await phone.http.put(
        f"{phone.diary}/entries/{record['id']}",
        json=fields,
        params={"schema_version": 2},
        headers={"If-Match": '"1"'},
    )
    assert answer.status_code == 200, answer.text
    assert "weather" not in answer.json()
    patched = await phone.patch(f"/entries/{record['id']}", {"sites": [site()], "weather": None}, version=2)
    assert (patched.status_code, "weather" in patched.json()) == (200, False)


async def test_a_patch_by_an_older_phone_keeps_what_is_inside_of_a_list(phone: Phone) -> None:
    record = (await entries(phone))[0]
    patched = await phone.patch(f"/entries/{record['id']}", {"sites": [site(2), site(region="knee_front_left")]})
    assert patched.status_code == 200, patched.text
    assert [one.get("warmth") for one in patched.json()["sites"]] == ["hot", None]
    assert patched.json()["weather"] == "rain"
