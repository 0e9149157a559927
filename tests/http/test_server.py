"""Our uvicorn over real sockets: what reaches the app, what is refused, and how it closes down."""

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from uvloop import Loop as UvLoop

from app import logs
from app.http import protocol, server
from tests.http.tiny_apps import TinyApp, settings
from tests.waiting import PATIENCE, block_until

GET = b"GET %b HTTP/1.1\r\nHost: diary\r\n%b\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: diary\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK"
RECEIVE_SECONDS = 24.5  # for a request to arrive; no test lives to see it


@contextmanager
def serving(app: TinyApp, **changes: Any) -> Iterator[tuple[server.DrainingServer, int]]:
    """A server in a thread of this process, and its port."""
    chosen = settings(**changes)
    listener = server.bind(chosen)
    running = server.DrainingServer(server.Config(chosen, app))
    thread = Thread(target=running.run, args=([listener],))
    thread.start()
    try:
        block_until(lambda: running.started)
        yield running, listener.getsockname()[1]
    finally:
        app.release.set()
        running.should_exit = True
        thread.join(PATIENCE)
        listener.close()
        assert not thread.is_alive(), "it does not end"


@pytest.fixture(autouse=True)
def _logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves pytest's own logging alone."""
    monkeypatch.setattr(logs, "configure", lambda: None)


@pytest.fixture
def app() -> TinyApp:
    return TinyApp()


@pytest.fixture
def port(app: TinyApp) -> Iterator[int]:
    with serving(app) as (_, number):
        yield number


class Hourglass:
    """Deadlines for receiving that are over when the test says so, however slow the machine is."""

    def __init__(self) -> None:
        self.timers: list[tuple[server.Loop, asyncio.TimerHandle, Callable[[], None]]] = []

    def call_later(self, loop: server.Loop, delay: float, callback: Callable[[], None], *more: Any) -> Any:
        """The loop's own; it keeps what is due after the time for receiving."""
        timer = UvLoop.call_later(loop, delay, callback, *more)
        if delay == RECEIVE_SECONDS:
            self.timers.append((loop, timer, callback))
        return timer

    def turn(self) -> None:
        """The time is over for whatever began before."""
        over, self.timers = self.timers, []
        for loop, timer, callback in over:
            loop.call_soon_threadsafe(lambda timer=timer, callback=callback: timer.cancelled() or callback())


@pytest.fixture
def hourglass(monkeypatch: pytest.MonkeyPatch) -> Hourglass:
    glass = Hourglass()
    monkeypatch.setattr(server.Loop, "call_later", lambda *call: glass.call_later(*call), raising=False)
    return glass


@pytest.fixture
def patient_port(app: TinyApp, hourglass: Hourglass) -> Iterator[int]:
    """The port of a server that waits for a request until the hourglass is turned."""
    with serving(app, receive_seconds=RECEIVE_SECONDS) as (_, number):
        yield number


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def read_to_end(client: socket.socket) -> bytes:
    """All bytes until the server closes; a reset is an end too."""
    received = b""
    while True:
        try:
            part = client.recv(65536)
        except ConnectionResetError:
            return received
        if not part:
            return received
        received += part


def exchange(port: int, *parts: bytes) -> bytes:
    """The answer to raw bytes, read until the server closes."""
    with connect(port) as client:
        for part in parts:
            client.sendall(part)
        return read_to_end(client)


def ask(port: int, path: bytes, more: bytes = b"Connection: close\r\n") -> bytes:
    return exchange(port, GET % (path, more))


def problem_of(answer: bytes, status: int) -> dict[str, Any]:
    """The problem document of a refusal, after looking at everything around it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0].startswith(f"http/1.1 {status} ".encode())
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    assert f"content-length: {len(body)}".encode() in lines
    problem: dict[str, Any] = json.loads(body)
    assert problem["status"] == status
    assert problem["instance"] == f"urn:uuid:{problem['request_id']}"
    return problem


MALFORMED = {
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "an endless length": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc",
    "another coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an almost known coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"GET /echo HTTP/1.1\nHost: diary\n\n",
    "a bare line feed after a field": b"GET /echo HTTP/1.1\r\nHost: diary\nX: y\r\n\r\n",
    "a bare line feed at the end": b"GET /echo HTTP/1.1\r\nHost: diary\r\n\n",
    "a bare carriage return": b"GET /echo HTTP/1.1\r\nHost: diary\rX: y\r\n\r\n",
    "a folded field": GET % (b"/echo", b"X: y\r\n z\r\n"),
    "a field folded with a tab": GET % (b"/echo", b"X: y\r\n\tz\r\n"),
    "a space before the colon": GET % (b"/echo", b"X : y\r\n"),
    "a NUL in a field": GET % (b"/echo", b"X: y\0z\r\n"),
    "a NUL in the target": GET % (b"/ec\0ho", b""),
    "a field name that is no token": GET % (b"/echo", b"X-\xc3\xa9: y\r\n"),
    "a target that is not ASCII": GET % (b"/\xc3\xa9", b""),
    "no host": b"GET /echo HTTP/1.1\r\n\r\n",
    "two hosts": GET % (b"/echo", b"Host: other\r\n"),
    "HTTP/0.9": b"GET /echo\r\n\r\n",
    "HTTP/2": b"GET /echo HTTP/2.0\r\nHost: diary\r\n\r\n",
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel": b"CONNECT diary:443 HTTP/1.1\r\nHost: diary\r\n\r\n",
    "an upgrade with a body": POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a huge field": GET % (b"/echo", b"X: " + b"y" * 33_000 + b"\r\n"),
    "many fields": GET % (b"/echo", b"X: y\r\n" * 101),
    "a long target": GET % (b"/echo?" + b"y" * 33_000, b""),
    "a field without an end": b"GET /echo HTTP/1.1\r\nHost: diary\r\nX: " + b"y" * 500_000,
    "a target without an end": b"GET /" + b"y" * 500_000,
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_is_refused_and_never_reaches_the_app(
    port: int, app: TinyApp, request_bytes: bytes
) -> None:
    problem = problem_of(send_and_read(port, request_bytes), 400)
    assert problem["type"] == "/problems/malformed-request"
    assert app.paths == []


def send_and_read(port: int, request_bytes: bytes) -> bytes:
    """Reads while it sends: the server may close before it has everything."""
    with connect(port) as client:
        sender = Thread(target=_send_quietly, args=(client, request_bytes))
        sender.start()
        answer = read_to_end(client)
        sender.join()
        return answer


def _send_quietly(client: socket.socket, request_bytes: bytes) -> None:
    try:
        client.sendall(request_bytes)
    except OSError:
        return


def test_the_refusal_of_a_flood_names_the_limits(port: int) -> None:
    assert problem_of(ask(port, b"/echo", b"X: y\r\n" * 101), 400)["detail"] == protocol.HEAD_TOO_LARGE


@pytest.mark.parametrize(
    "broken",
    [
        b"1\na\n",
        b"fffffffffffffffff\r\n",
        b"zz\r\n",
        b"0\r\nX: " + b"y" * 33_000 + b"\r\n",
        b"0\r\n" + b"X: y\r\n" * 101,
        b"0\r\nX: " + b"y" * 500_000,
    ],
    ids=["line feeds", "overflow", "no number", "huge trailer", "many trailers", "endless trailer"],
)
def test_a_body_that_breaks_off_is_refused_and_the_app_is_told(port: int, app: TinyApp, broken: bytes) -> None:
    with connect(port) as client:
        client.sendall(CHUNKED + b"2\r\nhi\r\n")
        block_until(app.entered.is_set)
        sender = Thread(target=_send_quietly, args=(client, broken))
        sender.start()
        problem_of(read_to_end(client), 400)
        sender.join()
    block_until(app.disconnected.is_set)


def test_a_body_that_breaks_off_during_the_answer_gets_no_second_answer(port: int, app: TinyApp) -> None:
    with connect(port) as client:
        client.sendall(CHUNKED.replace(b"/echo", b"/begun"))
        block_until(app.entered.is_set)
        assert b"first" in read_some(client, b"first")
        client.sendall(b"zz\r\n")
        assert read_to_end(client) == b""
    block_until(app.disconnected.is_set)


def read_some(client: socket.socket, ending: bytes) -> bytes:
    received = b""
    while ending not in received:
        part = client.recv(65536)
        assert part, received
        received += part
    return received


def test_garbage_behind_a_request_in_progress_is_not_taken_for_its_answer(port: int, app: TinyApp) -> None:
    with connect(port) as client:
        client.sendall(GET % (b"/slow", b""))
        block_until(app.entered.is_set)
        client.sendall(b"\x00\x01\x02")
        assert read_to_end(client) == b""


def test_a_field_of_the_trailer_is_no_field_of_the_header(port: int, app: TinyApp) -> None:
    trailer = b"2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    answer = exchange(port, CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + trailer)
    assert answer.endswith(b"\r\n\r\nhi")
    assert b"authorization" not in dict(app.headers)


def test_requests_share_a_connection_also_when_sent_at_once(port: int) -> None:
    both = GET % (b"/readyz", b"") + b"\r\n" + POST + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi"
    answer = exchange(port, both)
    assert answer.count(OK) == 2
    assert answer.endswith(b"hi")


def test_an_upgrade_is_ignored_and_the_connection_closed(port: int, app: TinyApp) -> None:
    upgrade = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
    answer = exchange(port, GET % (b"/readyz", upgrade), GET % (b"/readyz", b""))
    assert answer.count(OK) == 1
    assert app.paths == ["/readyz"]


def test_http_1_0_is_served(port: int) -> None:
    assert exchange(port, b"GET /readyz HTTP/1.0\r\n\r\n").startswith(OK)


def test_the_answer_does_not_name_the_server(port: int) -> None:
    assert b"\r\nserver:" not in ask(port, b"/readyz").lower()


SLOW = {
    "idle": (b"", b""),
    "head": (b"GET /echo HTTP/1.1\r\nHost: diary\r\nX: ", b"y"),
    "body": (POST + b"Content-Length: 1000\r\n\r\n", b"y"),
    "line feeds": (b"\r\n", b"\r\n"),
}


def test_hundreds_of_slow_sockets_are_closed_and_a_healthy_client_is_served(
    patient_port: int, hourglass: Hourglass
) -> None:
    clients = [(connect(patient_port), kind) for _ in range(75) for kind in SLOW]
    for client, kind in clients:
        client.sendall(SLOW[kind][0])
    assert ask(patient_port, b"/readyz").startswith(OK)
    block_until(lambda: len(hourglass.timers) == len(clients) + 1)
    for client, kind in clients:  # however much trickles in, a deadline stays what it was
        client.sendall(SLOW[kind][1])
    assert ask(patient_port, b"/readyz").startswith(OK)
    block_until(lambda: len(hourglass.timers) == len(clients) + 2)
    hourglass.turn()
    ended = [(kind, read_to_end(client)) for client, kind in clients]
    assert ask(patient_port, b"/readyz").startswith(OK)
    for kind, answer in ended:
        if kind in ("head", "body"):
            assert problem_of(answer, 408)["type"] == "/problems/request-timeout"
        else:
            assert answer == b""
    for client, _ in clients:
        client.close()


def test_a_client_that_sends_nothing_is_closed_when_its_time_is_over(app: TinyApp) -> None:
    with serving(app, receive_seconds=0.1) as (_, number), connect(number) as idle:
        assert read_to_end(idle) == b""


def test_a_slow_body_after_an_early_answer_is_closed_without_a_second_answer(
    patient_port: int, hourglass: Hourglass
) -> None:
    with connect(patient_port) as client:
        client.sendall((POST + b"Content-Length: 9\r\n\r\n").replace(b"/echo", b"/early"))
        answer = read_some(client, b"\r\n\r\nno")
        hourglass.turn()
        answer += read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_slow_answer_is_not_cut_by_the_deadline_for_receiving(
    patient_port: int, hourglass: Hourglass, app: TinyApp
) -> None:
    with connect(patient_port) as client, connect(patient_port) as clock:
        client.sendall(GET % (b"/slow", b"Connection: close\r\n") + b"\r\n")
        block_until(app.entered.is_set)
        block_until(lambda: len(hourglass.timers) >= 2)
        hourglass.turn()
        assert read_to_end(clock) == b""  # a whole deadline has passed
        app.release.set()
        assert read_to_end(client).endswith(b"done")


def test_a_client_that_does_not_read_is_cut(patient_port: int, hourglass: Hourglass, app: TinyApp) -> None:
    with connect(patient_port) as client:
        client.sendall(GET % (b"/flood", b""))
        block_until(lambda: len(hourglass.timers) == 2)  # the second waits for the client to read
        hourglass.turn()
        block_until(app.left.is_set)
        assert len(read_to_end(client)) < 512 * 256 * 1024


def test_a_client_that_pauses_reading_gets_everything(port: int, app: TinyApp) -> None:
    with connect(port) as client:
        client.sendall(GET % (b"/flood", b"Connection: close\r\n"))
        block_until(app.entered.is_set)
        size = 0
        while part := client.recv(1 << 20):
            size += len(part)
    assert size > 512 * 256 * 1024


def test_a_taken_port_is_said_plainly(port: int) -> None:
    with pytest.raises(server.CannotListen, match=f"Cannot listen on 127.0.0.1:{port}: Address already in use"):
        server.bind(settings(port=port))


def test_ipv6_is_served() -> None:
    with server.bind(settings(host="::1")) as listener:
        assert listener.family == socket.AF_INET6


def test_a_named_proxy_is_believed_and_nobody_else(app: TinyApp) -> None:
    assert server.Config(settings(trusted_proxies="10.0.0.1"), app).forwarded_allow_ips == ["10.0.0.1"]
    assert server.Config(settings(), app).proxy_headers is False


def test_tls_is_1_2_or_newer_and_an_unfinished_handshake_is_closed(
    app: TinyApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path)
    monkeypatch.setattr(server, "TLS_HANDSHAKE_SECONDS", PATIENCE)
    with serving(app, tls_cert=certificate, tls_key=key) as (running, number):
        client = ssl.create_default_context(cafile=certificate)
        with client.wrap_socket(connect(number), server_hostname="localhost") as secure:
            secure.sendall(GET % (b"/readyz", b"Connection: close\r\n"))
            assert secure.recv(4096).startswith(OK)
        assert running.config.ssl is not None
        assert running.config.ssl.minimum_version == ssl.TLSVersion.TLSv1_2
    monkeypatch.setattr(server, "TLS_HANDSHAKE_SECONDS", 0.1)
    with serving(app, tls_cert=certificate, tls_key=key) as (_, number), connect(number) as silent:
        assert read_to_end(silent) == b""


def test_an_idle_tls_client_that_never_says_good_bye_does_not_hold_up_the_end(
    app: TinyApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TLS_HANDSHAKE_SECONDS", PATIENCE)
    monkeypatch.setattr(server, "TLS_CLOSE_SECONDS", 0.1)
    certificate, key = _certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate)
    with (
        serving(app, tls_cert=certificate, tls_key=key) as (running, number),
        trusting.wrap_socket(connect(number), server_hostname="localhost") as client,
    ):
        client.sendall(GET % (b"/readyz", b""))
        assert client.recv(4096).startswith(OK)
        running.should_exit = True
        block_until(lambda: not running.server_state.connections)
        assert not running.force_exit


def _certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(*kinds))
    return paths


def test_closing_finishes_the_request_in_flight_and_says_it_drains(app: TinyApp) -> None:
    with serving(app, drain_seconds=60) as (running, number), connect(number) as client:
        client.sendall(GET % (b"/slow", b""))
        block_until(app.entered.is_set)
        running.should_exit = True
        block_until(lambda: ask(number, b"/readyz").startswith(b"HTTP/1.1 503"))
        app.release.set()
        assert read_some(client, b"done").startswith(OK)
        running.force_exit = True  # a second Ctrl-C ends the drain


def test_a_drain_ends_by_itself(app: TinyApp) -> None:
    with serving(app, drain_seconds=0.1) as (running, _):
        pass
    assert running.config.lifecycle.draining


def start_process(code: str, **options: Any) -> "subprocess.Popen[str]":
    """A serving process of its own; its log comes line by line from its standard output."""
    script = f"from app.http import server; from tests.http.tiny_apps import *; {code}"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        **options,
    )


def port_of(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "listening":
            return int(event["port"])
    raise AssertionError("it does not listen")


def answers(port: int) -> bool:
    try:
        return ask(port, b"/readyz").startswith(b"HTTP/1.1 ")
    except ConnectionRefusedError:
        return False


def test_sigterm_lets_a_running_request_finish_and_the_caller_clean_up() -> None:
    code = "app = TinyApp(); server.run(settings(drain_seconds=60), app); print('cleaned up')"
    with start_process(code) as process:
        number = port_of(process)
        block_until(lambda: answers(number))
        with connect(number) as client:
            client.sendall(POST + b"Content-Length: 2\r\n\r\nh")
            process.send_signal(signal.SIGTERM)
            block_until(lambda: ask(number, b"/readyz").startswith(b"HTTP/1.1 503"))
            client.sendall(b"i")
            assert read_some(client, b"hi").endswith(b"\r\n\r\nhi")
        process.send_signal(signal.SIGINT)  # a second signal ends the drain
        output, _ = process.communicate(timeout=PATIENCE)
        assert "cleaned up" in output.splitlines()
        assert process.returncode == 0


def test_several_workers_share_the_port_and_their_metrics_directory() -> None:
    code = "server.run(settings(workers=2), 'tests.http.tiny_apps:TinyApp')"
    guarded = f"if __name__ == '__main__': {code}"
    with start_process("\n" + guarded) as process:
        number = port_of(process)
        block_until(lambda: answers(number))
        seen: set[bytes] = set()

        def both_answered() -> bool:
            seen.add(ask(number, b"/environment").rpartition(b"\r\n\r\n")[2])
            return len(seen) == 2

        block_until(both_answered)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert len({line.split()[1] for line in seen}) == 1
    assert not Path(seen.pop().split()[1].decode()).exists()
