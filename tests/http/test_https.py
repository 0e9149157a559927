"""HTTPS from end to end: a server with a certificate of our own authority, and the proxy that may stand before it."""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import httpx
import pytest

from app import errors
from app.config import Settings
from app.http import problems, server, tls
from tests.authority import Authority
from tests.http.test_server import connect, read_to_end
from tests.people import Person
from tests.serving import ROOT, serve
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio

HSTS = "Strict-Transport-Security"
NGINX = (ROOT / "deploy" / "nginx.conf").read_text()


class Secure(NamedTuple):
    """A server process, who vouches for it, and its certificate and key."""

    port: int
    authority: Authority
    files: tuple[Path, Path]


@pytest.fixture(scope="module")
def secure(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """`pain-diary serve` with a certificate; in production nobody could sign in without a second factor."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory, "ours")
    certificate, key = authority.issue()
    with serve(settings, directory, TLS_CERT=str(certificate), TLS_KEY=str(key)) as server:
        yield Secure(server.port, authority, (certificate, key))


async def test_a_client_that_trusts_the_authority_signs_in_writes_and_reads(secure: Secure) -> None:
    address = f"https://127.0.0.1:{secure.port}"
    async with httpx.AsyncClient(verify=secure.authority.trusting(), base_url=address, timeout=PATIENCE) as http:
        ada = await Person().register_and_sign_in(http)
        written = await ada.log(note="over the wire")
        read = await ada.get("/timeline")
    assert written.status_code == 201
    assert [item["note"] for item in read.json()["items"]] == ["over the wire"]
    assert {answer.headers[HSTS] for answer in (written, read)} == {"max-age=63072000"}


async def test_plain_http_makes_no_promise_of_https(client: httpx.AsyncClient) -> None:
    answer = await client.get("/livez")
    assert answer.status_code == 200
    assert HSTS not in answer.headers


async def test_a_client_that_does_not_know_the_authority_sends_nothing(secure: Secure, tmp_path: Path) -> None:
    others = Authority(tmp_path, "others").trusting()
    async with httpx.AsyncClient(verify=others, base_url=f"https://127.0.0.1:{secure.port}", timeout=PATIENCE) as http:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await http.get("/livez")


def handshake(secure: Secure, context: ssl.SSLContext) -> tuple[str | None, str]:
    """Protocol and cipher that server and client agree on."""
    with context.wrap_socket(connect(secure.port), server_hostname="localhost") as client:
        agreed = client.cipher()
        assert agreed is not None
        return client.version(), agreed[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_tls_1_2_and_1_3_are_spoken(secure: Secure, version: ssl.TLSVersion) -> None:
    client = secure.authority.trusting()
    client.minimum_version = client.maximum_version = version
    assert handshake(secure, client)[0] == version.name.replace("_", ".")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
async def test_older_tls_is_refused(secure: Secure, version: ssl.TLSVersion) -> None:
    client = offering(secure, "ALL:@SECLEVEL=0")
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="deprecated"):
        client.maximum_version = version
    with pytest.raises(ssl.SSLError, match="EOF"):
        handshake(secure, client)
    assert succeeds_with_a_lenient_server(secure, client)


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"])
async def test_tls_1_2_is_spoken_with_modern_ciphers(secure: Secure, cipher: str) -> None:
    assert handshake(secure, offering(secure, cipher)) == ("TLSv1.2", cipher)


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES256-CCM", "ECDHE-ECDSA-AES128-SHA"])
async def test_tls_1_2_is_refused_with_any_other_cipher(secure: Secure, cipher: str) -> None:
    client = offering(secure, cipher)
    with pytest.raises(ssl.SSLError, match="EOF"):
        handshake(secure, client)
    assert succeeds_with_a_lenient_server(secure, client)


def offering(secure: Secure, ciphers: str) -> ssl.SSLContext:
    """A client that knows TLS up to 1.2, with these ciphers."""
    client = secure.authority.trusting()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    return client


def succeeds_with_a_lenient_server(secure: Secure, client: ssl.SSLContext) -> bool:
    """Whether the client could do it, so that the refusal was our server's."""
    lenient = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lenient.load_cert_chain(*secure.files)
    lenient.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    lenient.set_ciphers("ALL:@SECLEVEL=0")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there, server_hostname="localhost")
    answering = lenient.wrap_bio(there, back, server_side=True)
    for end in (asking, answering, asking, answering):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    asking.do_handshake()
    return asking.cipher() is not None


@pytest.mark.parametrize("path", ["/livez", "/docs", "/v1/me"])
async def test_plain_http_is_neither_answered_nor_redirected(secure: Secure, path: str) -> None:
    with connect(secure.port) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        answer = read_to_end(client)
    assert answer[:1] in (b"", b"\x15")  # nothing, or an alert of TLS
    assert len(answer) <= 7


# --- deploy/nginx.conf, as far as it can be wrong without nginx


def directives() -> list[list[str]]:
    """Each directive with its arguments, and each closing brace."""
    found: list[list[str]] = [[]]
    for token in re.findall(r"""#.*|"[^"]*"|'[^']*'|[{};]|[^\s{};]+""", NGINX):
        if token in "{};":
            found += [[token], []] if token == "}" else [[]]
        elif not token.startswith("#"):
            found[-1].append(token)
    return [one for one in found if one]


def arguments(name: str) -> list[list[str]]:
    """The arguments of each directive of this name."""
    return [one[1:] for one in directives() if one[0] == name]


def test_the_proxy_speaks_https_only_and_redirects_nobody() -> None:
    assert arguments("listen")
    assert all("ssl" in listen for listen in arguments("listen"))
    assert arguments("ssl_protocols") == [["TLSv1.2", "TLSv1.3"]]
    assert arguments("ssl_ciphers") == [[tls.CIPHERS]]
    assert [code for code, *_ in arguments("return") if code.startswith("3")] == []
    assert arguments("rewrite") == []


def test_the_proxy_tells_who_calls_and_lets_nobody_pretend() -> None:
    told = dict(arguments("proxy_set_header"))
    assert told["X-Forwarded-For"] == "$remote_addr"
    assert told["X-Forwarded-Proto"] == "https"
    assert HSTS not in {name for name, *_ in arguments("add_header")}  # the service's own comes through


def test_the_proxy_logs_no_address_of_a_request_and_keeps_no_health_data() -> None:
    [[_, *parts]] = arguments("log_format")
    assert set(re.findall(r"\$\w+", "".join(parts))) == {
        "$time_iso8601",
        "$remote_addr",
        "$request_method",
        "$status",
        "$body_bytes_sent",
        "$request_time",
        "$sent_http_x_request_id",
    }
    assert [level for _, level in arguments("error_log")] == ["crit"]
    assert arguments("proxy_max_temp_file_size") == [["0"]]
    assert arguments("client_max_body_size") == arguments("client_body_buffer_size") == [["1m"]]
    assert "proxy_cache" not in NGINX


def test_the_proxy_is_more_patient_than_the_service_and_forgets_connections_sooner() -> None:
    defaults = Settings(_env_file=None)
    config = server.Config(defaults, "app.main:create_app")
    assert defaults.max_body_bytes <= 1024 * 1024
    [upstream, _] = sorted(int(seconds.removesuffix("s")) for [seconds] in arguments("keepalive_timeout"))
    assert upstream < config.timeout_keep_alive
    [[patience]] = arguments("client_body_timeout")
    assert int(patience.removesuffix("s")) >= defaults.receive_seconds


@pytest.mark.parametrize("kind", [errors.Unavailable, errors.TooLarge])
def test_the_problems_of_the_proxy_are_those_of_the_service(kind: type[errors.Problem]) -> None:
    [body] = [text for status, *text in arguments("return") if status == str(kind.status)]
    found = json.loads(body[0].strip("'").replace("$uuid", str(UUID(int=0))))
    assert found == json.loads(bytes(problems.respond(kind(), UUID(int=0)).body))


def test_the_braces_of_the_proxy_fit() -> None:
    opened = re.findall(r"{$", NGINX, re.MULTILINE)
    assert len(opened) == len(arguments("}")) > 0
