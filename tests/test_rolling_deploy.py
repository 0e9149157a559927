"""A release is rolled out under load: workers of the one before serve on beside it, and no phone notices.

Which release comes before: the newest tag `v…` before this tree. As long as there is none, this tree is the older one,
and the newer is made up: with one argument more to what every write calls, and a column more in what it writes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from anyio.to_thread import run_sync as in_thread
from pydantic import SecretStr

from app.config import Settings
from app.services import verify
from tests.conftest import create_database, url_of
from tests.people import Person, Phone, entry
from tests.releases import Release, Tree, released, tags
from tests.routers.test_sync import pull, push, put
from tests.serving import ROOT, serve
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.anyio

PHONES = 4
ROUNDS = 20  # of a push, an entry and a page: so many at least in each part of a roll-out
WRITE = "app/models/write_records_v1.sql"


def made_up(release: Release) -> Release:
    """The release with what it writes changed, and the function of before kept."""
    new = WRITE.replace("_v1", "_v2")
    release.edit(WRITE, "write_records_v1(", "write_records_v2(", into=new)
    release.edit(new, "p_wait boolean\n", "p_wait boolean, p_trial text DEFAULT NULL\n")
    release.edit("app/models/privileges.sql", "write_records_v1", "write_records_v1, write_records_v2")
    release.edit("app/models/records.py", "    note: Mapped[str", "    trial: Mapped[str | None]\n    note: Mapped[str")
    release.edit("app/services/record_store.py", '"write_records_v1"', '"write_records_v2"')
    return release


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A next release."""
    release = made_up(Release(tmp_path_factory.mktemp("careful") / "next"))
    release.new_migration("trial")
    return release


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A next release that takes at once what the one before still calls."""
    release = made_up(Release(tmp_path_factory.mktemp("careless") / "next"))
    (release.root / WRITE).unlink()
    release.edit("app/models/privileges.sql", "write_records_v1, ", "")
    release.new_migration("trial")
    return release


@dataclass
class Load:
    """Phones that push, log and read all the time, each time at another of the workers that serve.

    Told "not now", they send it again after a while, as docs/sync.md asks of them: a slow machine may hold a lock for
    longer than a worker waits for it.
    """

    workers: list[str] = field(default_factory=list)
    acknowledged: dict[str, list[str]] = field(default_factory=dict)  # ids of records, by patient
    failures: list[str] = field(default_factory=list)
    readiness: list[int] = field(default_factory=list)  # of the older and the newer worker, on the newer schema
    done: int = 0
    ended: bool = False

    async def hold(self, phone: Phone) -> None:
        """One phone, one request after the other."""
        known = self.acknowledged[phone.patient_id] = []
        while not self.ended:
            phone.http.base_url = self.workers[self.done % len(self.workers)]
            self.done += 1
            pushed, logged = [entry() for _ in range(3)], entry()
            mutations = [put("entry", one) for one in pushed]
            for sent, answer in (
                (pushed, await patiently(lambda: push(phone, *mutations))),  # noqa: B023 - called at once
                ([logged], await patiently(lambda: phone.post("/entries", logged))),  # noqa: B023
                ([], await patiently(lambda: phone.get("/timeline"))),
            ):
                if answer.is_success:
                    known += [one["id"] for one in sent]
                else:
                    self.failures.append(f"{answer.request.method} {answer.status_code}")

    async def go_on(self) -> None:
        """Returns after so many rounds more."""
        enough = self.done + ROUNDS

        async def reached() -> bool:
            return self.done >= enough

        await until(reached)


async def patiently(send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The answer, once it is not "not now"; that only, where it stays so."""
    for _ in range(PATIENCE):
        answer = await send()
        if answer.status_code != 503:
            break
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    return answer


@dataclass
class Place:
    """Where a release is rolled out: a database, and what its workers share."""

    settings: Settings
    owner_url: str
    directory: Path


@pytest.fixture
async def place(server_url: str, tmp_path: Path) -> Place:
    name = f"rolling_{uuid4().hex[:8]}"
    await create_database(server_url, name)
    url = SecretStr(url_of(server_url, "diary_app", name))
    settings = Settings(environment="development", database_url=url, state_directory=tmp_path / "state")
    return Place(settings, url_of(server_url, "postgres", name), tmp_path)


async def roll_out(before: Tree, after: Tree, place: Place) -> Load:
    """What became of the load while one release took the place of the other."""
    load = Load()
    async with AsyncExitStack() as stack:
        await in_thread(before.migrate, place.owner_url)
        old = stack.enter_context(ExitStack())
        load.workers = [await in_thread(start, old, place, before)]
        phones = [await sign_in(stack, load.workers[0]) for _ in range(PHONES)]
        async with asyncio.TaskGroup() as group:
            for phone in phones:
                group.create_task(load.hold(phone))
            await load.go_on()
            await in_thread(after.migrate, place.owner_url)
            await load.go_on()
            load.workers.append(await in_thread(start, stack, place, after))  # takes longer than a look is kept
            await load.go_on()
            load.readiness = [(await phones[0].http.get(f"{url}/readyz")).status_code for url in load.workers]
            del load.workers[0]
            await load.go_on()
            await in_thread(old.close)
            await load.go_on()
            load.ended = True
        assert {phone.patient_id: sorted(await ids(phone)) for phone in phones} == {
            patient: sorted(known) for patient, known in load.acknowledged.items()
        }
    return load


def start(stack: ExitStack | AsyncExitStack, place: Place, tree: Tree) -> str:
    """The address of a worker of that release."""
    directory = place.directory / uuid4().hex
    directory.mkdir()
    return stack.enter_context(serve(place.settings, directory, tree.root)).url


async def sign_in(stack: AsyncExitStack, url: str) -> Phone:
    http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=PATIENCE))
    return await Person().register_and_sign_in(http)


async def ids(phone: Phone) -> list[str]:
    """The ids of all changes that a phone pulls."""
    page = await pull(phone)
    found = [change["id"] for change in page["changes"]]
    while page["has_more"]:
        page = await pull(phone, page["cursor"])
        found += [change["id"] for change in page["changes"]]
    return found


@pytest.mark.parametrize("tag", tags())
async def test_the_workers_of_the_release_before_serve_on_beside_this_one(
    tag: str, place: Place, tmp_path: Path
) -> None:
    load = await roll_out(released(tag, tmp_path / "before"), Tree(ROOT), place)
    assert (load.failures, load.readiness) == ([], [200, 200])
    assert await in_thread(verify.run, place.owner_url) == []


@pytest.mark.long
async def test_the_workers_of_this_release_serve_on_beside_the_next(place: Place, careful: Release) -> None:
    load = await roll_out(Tree(ROOT), careful, place)
    assert (load.failures, load.readiness) == ([], [200, 200])
    await in_thread(careful.verify, place.owner_url)


@pytest.mark.long
async def test_a_release_that_takes_at_once_what_the_one_before_calls_is_noticed(
    place: Place, careless: Release
) -> None:
    load = await roll_out(Tree(ROOT), careless, place)
    assert "POST 500" in load.failures
    assert load.readiness == [503, 200]
