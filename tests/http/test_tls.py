"""A certificate is renewed under the eyes of those who are connected; a bad one is refused and the old one stays."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import Settings
from tests.authority import Authority
from tests.http.test_server import OK, ask, connect, read_to_end
from tests.serving import STARTED, Served, events_of, serve
from tests.waiting import block_until

pytestmark = pytest.mark.anyio

STAYS = "the certificate stays as it was: DIARY_TLS_KEY is not the key of the certificate in DIARY_TLS_CERT."
MANY = 30  # handshakes, more than two workers would divide unevenly among them


def shown(served: Served, authority: Authority) -> bytes:
    """The certificate that a new connection meets."""
    with authority.trusting().wrap_socket(connect(served.port), server_hostname="localhost") as client:
        certificate = client.getpeercert(binary_form=True)
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: diary\r\nConnection: close\r\n\r\n")
        assert read_to_end(client).startswith(OK)
    assert certificate is not None
    return certificate


def told(served: Served, event: str) -> int:
    """How often the log says it."""
    return [line["event"] for line in events_of(served.log)].count(event)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_renewed_certificate_is_taken_up_and_a_bad_one_is_not(
    settings: Settings, tmp_path: Path, workers: int
) -> None:
    authority = Authority(tmp_path, "ours")
    certificate, key = authority.issue()

    def reload_until(said: Callable[[], int]) -> None:
        """Sends SIGHUP, and returns once whoever speaks TLS, and the process above them, has read the files."""
        before = said()
        os.kill(served.pid, signal.SIGHUP)
        block_until(lambda: said() == before + (workers + 1 if workers > 1 else 1))

    with serve(settings, tmp_path, WORKERS=str(workers), TLS_CERT=str(certificate), TLS_KEY=str(key)) as served:
        before = shown(served, authority)
        authority.issue()
        reload_until(lambda: told(served, "the certificate was read anew"))
        renewed = {shown(served, authority) for _ in range(MANY)}
        assert len(renewed) == 1
        assert before not in renewed

        _, another = authority.issue("another")
        key.write_bytes(another.read_bytes())
        reload_until(lambda: told(served, STAYS))
        assert {shown(served, authority) for _ in range(MANY)} == renewed
        assert told(served, STARTED) == workers  # nobody was restarted
        if workers > 1:
            os.kill(worker_of(served.pid), signal.SIGKILL)
            block_until(lambda: told(served, STARTED) == workers + 1)
            assert {shown(served, authority) for _ in range(MANY)} == renewed


def worker_of(parent: int) -> int:
    """A worker process."""
    return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])


async def test_without_a_certificate_sighup_ends_nothing(settings: Settings, tmp_path: Path) -> None:
    with serve(settings, tmp_path) as served:
        os.kill(served.pid, signal.SIGHUP)
        block_until(lambda: told(served, "there is no certificate to read anew") == 1)
        for _ in range(200):  # amid the lines of the log, too
            os.kill(served.pid, signal.SIGHUP)
            assert ask(served.port, b"/livez").startswith(OK)
