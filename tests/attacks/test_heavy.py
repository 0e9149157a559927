"""What one account makes heavy delays its owner only: whoever else writes meanwhile waits hardly longer, and is served.

What an attacker may fill a diary with and ask for over and over, each of these calls being one of a phone.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from app.config import Settings
from tests.attacks.flood import flood, wait_of
from tests.forms import LONG, size
from tests.people import Person, Phone, consent, entry, lent, treatment
from tests.routers.test_sync import pushed, put
from tests.serving import Served, serve
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.scaled]
logger = logging.getLogger(__name__)

CONNECTIONS = 12
ROUNDS = size("HEAVY_ROUNDS", 1, 3)  # other work on the machine disturbs single ones
CALLS = size("VICTIM_CALLS", 20, 100)
TREATMENTS = size("HEAVY_TREATMENTS", 500, 5_000)
ENTRIES = size("HEAVY_ENTRIES", 2_000, 15_000)
AT_ONCE = 100  # as many as a push may have


@pytest.fixture(scope="module")
def limited(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the limits of who is signed in that it has unless told otherwise; diaries are filled by another."""
    with serve(settings, tmp_path_factory.mktemp("heavy"), REQUESTS_PER_SESSION="", REQUESTS_PER_ACCOUNT="") as server:
        yield server


async def fill(phone: Phone, kind: str, make: Callable[[], dict[str, Any]], count: int) -> None:
    """So many records in the phone's diary."""
    for _ in range(0, count, AT_ONCE):
        await pushed(phone, *(put(kind, make()) for _ in range(AT_ONCE)))


def request(phone: Phone, method: str, path: str, body: bytes = b"") -> bytes:
    """What is sent over and over."""
    fields = f"Host: diary\r\nAuthorization: {phone.http.headers['Authorization']}\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {phone.diary}{path} HTTP/1.1\r\n{fields}{kind}\r\n".encode() + body


async def many_treatments(phone: Phone, http: httpx.AsyncClient) -> bytes:
    """Each page shows when plans began, changed and ended."""
    await fill(phone, "treatment", partial(treatment, "08:00"), TREATMENTS)
    return request(phone, "GET", "/timeline?limit=1")


async def hidden_by_a_window(phone: Phone, http: httpx.AsyncClient) -> bytes:
    """A patient's account is the caregiver of another, and sees the last hour of a long diary."""
    caregiver = await Person().register_and_sign_in(http)
    await fill(phone, "entry", entry, ENTRIES)
    await consent(phone, caregiver, data_from=(datetime.now(UTC) - timedelta(hours=1)).isoformat())
    return request(lent(caregiver, phone), "GET", "/sync/pull?limit=1")


async def long_digest(phone: Phone, http: httpx.AsyncClient) -> bytes:
    """The phone says that it holds nothing of a long diary."""
    await fill(phone, "entry", entry, ENTRIES)
    return request(phone, "POST", "/sync/digest", b'{"records": []}')


Attack = Callable[[Phone, httpx.AsyncClient], Awaitable[bytes]]


@pytest.mark.parametrize("attack", [many_treatments, hidden_by_a_window, long_digest])
async def test_whoever_else_writes_waits_hardly_longer(served: Served, limited: Served, attack: Attack) -> None:
    async with served.client() as others, served.client() as more:
        repeated = await attack(await Person().register_and_sign_in(others), more)
        figures = [await waits(limited, repeated) for _ in range(ROUNDS)]
    logger.info("%s: times, quiet and attacked milliseconds %s", attack.__name__, sorted(figures))
    if LONG:
        assert sorted(figures)[ROUNDS // 2][0] < 2, figures


async def waits(limited: Served, repeated: bytes) -> tuple[float, float, float]:
    """By how much longer somebody new waits who writes during the attack; and the quiet and attacked milliseconds."""
    async with limited.client() as http:
        ada = await Person().register_and_sign_in(http)

        async def write() -> int:
            return (await ada.log()).status_code

        quiet, _ = await wait_of(write, CALLS)
        before = await alone(http)
        with flood(limited.port, repeated, CONNECTIONS):
            attacked, statuses = await wait_of(write, CALLS)
            await until(partial(_more_alone, http, before))  # as many as the limits let through
        assert set(statuses) == {201}
        return attacked / quiet, quiet, attacked


async def _more_alone(http: httpx.AsyncClient, count: float) -> bool:
    return await alone(http) > count


async def alone(http: httpx.AsyncClient) -> float:
    """How many calls the service has sent alone so far."""
    [line] = [line for line in (await http.get("/metrics")).text.splitlines() if 'calls_total{way="alone"}' in line]
    return float(line.split()[-1])
