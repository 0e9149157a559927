"""deploy/nginx.conf and the service together, with a real nginx between client and service."""

import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from app.config import Settings
from tests.authority import Authority
from tests.http.test_https import NGINX
from tests.http.test_server import read_to_end
from tests.people import Person
from tests.serving import Served, serve
from tests.waiting import PATIENCE, block_until

pytestmark = [pytest.mark.anyio, pytest.mark.long]  # `make verify` installs nginx

NAME = "diary.example.org"


async def ask_for_name(request: httpx.Request) -> None:
    """In the handshake, as a client does that found the name in the DNS."""
    request.extensions["sni_hostname"] = NAME


class Proxied(NamedTuple):
    """Where nginx listens, whom it is vouched for by, and the service behind it."""

    port: int
    trusting: ssl.SSLContext
    service: Served

    def client(self) -> httpx.AsyncClient:
        """A client of the proxy, as patient as a test."""
        url = f"https://127.0.0.1:{self.port}"
        hooks = {"request": [ask_for_name]}
        headers = {"Host": NAME}
        return httpx.AsyncClient(
            verify=self.trusting, base_url=url, headers=headers, event_hooks=hooks, timeout=PATIENCE
        )

    def ask(self, request: bytes) -> bytes:
        """The whole answer to these bytes."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as plain,
            self.trusting.wrap_socket(plain, server_hostname=NAME) as secure,
        ):
            secure.sendall(request)
            return read_to_end(secure)


@pytest.fixture(scope="module")
def proxied(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """The service behind nginx, whose configuration is the shipped one but for names of files and numbers of ports."""
    directory = tmp_path_factory.mktemp("nginx")
    authority = Authority(directory, "ours")
    certificate, key = authority.issue()
    trusting = authority.trusting()
    trusting.check_hostname = False  # it is issued for this machine, and nginx looks for the name of the example
    port = free_port()
    with serve(settings, directory, TRUSTED_PROXIES="127.0.0.1") as service:
        places = {
            "/run/nginx.pid": f"{directory}/nginx.pid",
            "/var/log/nginx/": f"{directory}/",
            "/etc/ssl/diary/fullchain.pem": str(certificate),
            "/etc/ssl/diary/key.pem": str(key),
            "127.0.0.1:8000": f"127.0.0.1:{service.port}",
            "listen 443": f"listen 127.0.0.1:{port}",
        }
        written = re.sub(r" *listen \[::\].*\n", "", NGINX)
        for shipped, ours in places.items():
            assert shipped in written
            written = written.replace(shipped, ours)
        file = directory / "nginx.conf"
        file.write_text(written)
        process = subprocess.Popen(["nginx", "-c", file, "-e", directory / "early.log", "-g", "daemon off;"])
        try:
            block_until(lambda: process.poll() is not None or is_open(port))
            assert process.poll() is None, "nginx does not take its configuration"
            yield Proxied(port, trusting, service)
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def test_a_patient_signs_in_writes_and_reads_through_the_proxy(proxied: Proxied) -> None:
    async with proxied.client() as http:
        ada = await Person().register_and_sign_in(http)
        written = await ada.log(note="through nginx")
        assert (written.status_code, len(written.headers.get_list("Strict-Transport-Security"))) == (201, 1)
        assert (await ada.get("/timeline")).json()["items"][0]["note"] == "through nginx"


HIDDEN = [
    "/metrics", "/metrics%0A", "/metrics%0a", "/metrics%0D", "/metrics%09", "/metrics%00", "/metrics%20", "/metrics%7F",
    "/metrics%C2%85", "/metrics%E2%80%A8", "/metrics/", "//metrics", "/./metrics", "/x/../metrics", "/%6detrics",
    "/metrics?x", "/metrics#x", "/metrics;x", "/metrics%3Fx", "/metrics%2F", "/metrics/.", "/metrics/%2e",
    "/metrics/../metrics",
    "/METRICS", "/%2Fmetrics", "/metrics%", "/metrics%zz", "http://diary.example.org/metrics", "/metrics%0AHTTP/1.1",
]  # fmt: skip


@pytest.mark.parametrize("target", HIDDEN)
async def test_no_spelling_of_an_address_shows_the_metrics(proxied: Proxied, target: str) -> None:
    answer = proxied.ask(f"GET {target} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"400", b"404")
    assert b"diary_http" not in answer
    assert b"python_info" not in answer


async def test_the_service_shows_them_to_those_inside(proxied: Proxied) -> None:
    async with proxied.service.client() as http:
        assert "diary_http_requests_total" in (await http.get("/metrics")).text


@pytest.mark.parametrize("path", ["/v1/me", "/livez", "/openapi.json"])
@pytest.mark.parametrize("control", ["%0A", "%0D%0A", "%09", "%7F", "%C2%85"])
async def test_a_control_character_in_a_path_is_refused_behind_the_proxy_too(
    proxied: Proxied, path: str, control: str
) -> None:
    answer = proxied.ask(f"GET {path}{control} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")


SMUGGLED = {
    "two lengths": b"Content-Length: 4\r\nContent-Length: 40\r\n\r\n",
    "a length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a coding that hides": b"Transfer-Encoding: xchunked\r\n\r\n",
    "a length of letters": b"Content-Length: 0x4\r\n\r\n",
}


@pytest.mark.parametrize("fields", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_a_request_that_hides_another_is_one_request_at_most(proxied: Proxied, fields: bytes) -> None:
    hidden = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: diary\r\n\r\n"
    start = f"POST /v1/auth/refresh HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    answer = proxied.ask(start.encode() + fields + hidden)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"diary_http" not in answer


async def test_who_calls_is_whom_the_proxy_saw(proxied: Proxied) -> None:
    """A client that names an address of its own is still counted as the one that it is."""
    async with proxied.client() as http:
        told: list[Any] = []
        for number in range(2):
            forged = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
            answer = await http.get("/v1/me", headers=forged)
            told.append(int(re.findall(r"r=(\d+)", answer.headers["RateLimit"])[0]))
        assert told[1] == told[0] - 1


async def test_the_log_of_the_proxy_names_no_path(proxied: Proxied, tmp_path: Path) -> None:
    async with proxied.client() as http:
        answer = await http.get("/v1/patients/canary-4711/entries?region=canary-4712")
    log = proxied.service.log.parent / "access.log"
    block_until(lambda: answer.headers["X-Request-Id"] in log.read_text())
    assert "canary" not in log.read_text() + (log.parent / "error.log").read_text()
    assert json.loads(answer.text)["request_id"] == answer.headers["X-Request-Id"]
