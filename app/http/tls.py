"""The certificate that TLS is spoken with: read at the start, and anew when it was renewed, without a restart."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # TLS 1.2 with forward secrecy and authenticated encryption only, as in 1.3

NO_PEM = "DIARY_TLS_CERT and DIARY_TLS_KEY have to hold a certificate chain and its key, in PEM, without a passphrase."


class UnfitCertificate(Exception):
    """Certificate and key are not what TLS could be spoken with; the text says why in one sentence."""


class Certificate:
    """A certificate chain and its key. Workers get it as it was read last, whatever the files hold by then."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Reads the files; raises UnfitCertificate."""
        self._files = certificate, key
        self.reload()

    def reload(self) -> None:
        """Takes up what the files hold now; raises UnfitCertificate, and then stays as it was."""
        certificate, key = map(_read, self._files)
        self._current = _context(certificate, key)
        self._pem = certificate, key

    def listening(self) -> ssl.SSLContext:
        """A context for a listener, which answers each new connection with the certificate of that moment."""
        context = _context(*self._pem)
        context.sni_callback = self._choose  # called for each handshake, whether or not it names a server
        return context

    def _choose(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def __getstate__(self) -> dict[str, object]:
        return {"_files": self._files, "_pem": self._pem}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._current = _context(*self._pem)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise UnfitCertificate(f"{failure.strerror}: {path}") from None


def _context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION  # TLS 1.2: each would cost us far more than the client
    try:
        with _file(certificate) as chain, _file(key) as secret:
            context.load_cert_chain(chain, secret, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UnfitCertificate("DIARY_TLS_KEY is not the key of the certificate in DIARY_TLS_CERT.") from None
        raise UnfitCertificate(NO_PEM) from None
    return context


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """The path of a file in memory: the module ssl reads files only, and between two looks theirs may change."""
    with os.fdopen(os.memfd_create("pem"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
