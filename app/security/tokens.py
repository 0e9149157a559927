"""Access tokens: ES256 `at+jwt`, signed and checked here and nowhere else; no other module imports jose.

Whether the session behind a token is alive is not asked here: PostgreSQL asks in the same call as the data.
"""

import json
import logging
import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import NoReturn
from uuid import UUID, uuid4

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jose import jwk, jws
from jose.backends.base import Key

from app import errors
from app.domain.people import ROLES, Role
from app.security.encoding import from_base64url, unique_members

ALGORITHM = "ES256"
TYPE = "at+jwt"
HEADER = frozenset({"alg", "kid", "typ"})
CLAIMS = frozenset({"iss", "aud", "sub", "sid", "jti", "iat", "exp", "role"})
LONGEST_TOKEN = 4096
LONGEST_LIFE_SECONDS = 3600  # what the settings allow
CLOCK_LEEWAY_SECONDS = 5  # another server's clock may be ahead of ours
RESCAN_SECONDS = 1
CACHE_SIZE = 10_000  # verifying ES256 costs more than the rest of a small request

STAMP = "%Y%m%dT%H%M%S%fZ"
KID = re.compile(r"[A-Za-z0-9_-]{1,64}")

logger = logging.getLogger("diary.tokens")


class UnusableKeys(ValueError):
    """The directory holds no key, or what is none; the text says which file."""


class NotRetired(Exception):
    """The key stays; the text says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Who a verified token speaks for, and the second (Unix time) at which it ends."""

    user_id: UUID
    session_id: UUID
    role: Role
    expires_at: int


@dataclass(frozen=True, slots=True)
class _KeyPair:
    private: Key
    public: Key


class Keyring:
    """The ES256 key pairs of a directory of `<kid>.pem`: the greatest kid signs, every kid verifies.

    Files that come or go are noticed within a second. A file is never read twice: another key is another kid.
    While the directory holds an invalid file, or no key, the last good keys stay in use and the log says so.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._keys = _load(directory, {})
        self._look_at = clock() + RESCAN_SECONDS
        self._search_at = clock()

    def current(self) -> Mapping[str, _KeyPair]:
        """Every key pair by its kid; another object as soon as the keys are others."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + RESCAN_SECONDS
            self._rescan()
        return self._keys

    def sign(self, claims: Mapping[str, str | int]) -> str:
        """A compact JWS over the claims, signed by the greatest kid."""
        keys = self.current()
        kid = max(keys)
        return jws.sign(claims, keys[kid].private, {"kid": kid, "typ": TYPE}, ALGORITHM)

    def verify(self, token: str) -> bytes:
        """The payload of a token signed by one of the keys; any exception means that it is not."""
        header, _, _ = (from_base64url(part) for part in token.split("."))
        members = _parse(header)
        if members.keys() != HEADER or (members["alg"], members["typ"]) != (ALGORITHM, TYPE):
            _refuse()
        return jws.verify(token, self._find(str(members["kid"])).public, [ALGORITHM])

    def public_jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JWK set (RFC 7517), newest first."""
        newest_first = sorted(self.current().items(), reverse=True)
        return {"keys": [{**pair.public.to_dict(), "kid": kid, "use": "sig"} for kid, pair in newest_first]}

    def _find(self, kid: str) -> _KeyPair:
        # Another worker may sign with a key younger than our last look; garbage kids buy one look a second.
        if kid not in self._keys and self._clock() >= self._search_at:
            self._search_at = self._clock() + RESCAN_SECONDS
            self._rescan()
        return self._keys[kid]

    def _rescan(self) -> None:
        try:
            self._keys = _load(self._directory, self._keys)
        except UnusableKeys as fault:
            logger.error("signing keys stay as they were: %s", fault)


class AccessTokens:
    """Issues and verifies the access tokens of one issuer and audience, in one thread."""

    def __init__(self, keyring: Keyring, issuer: str, audience: str, lifetime_seconds: int) -> None:
        self._keyring = keyring
        self._issuer = issuer
        self._audience = audience
        self._lifetime_seconds = lifetime_seconds
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        self._verified_with = keyring.current()

    def issue(self, user_id: UUID, session_id: UUID, role: str, now: datetime) -> str:
        """A new token that is good from now for the configured lifetime."""
        issued_at = int(now.timestamp())
        return self._keyring.sign(
            {
                "iss": self._issuer,
                "aud": self._audience,
                "sub": str(user_id),
                "sid": str(session_id),
                "jti": str(uuid4()),
                "iat": issued_at,
                "exp": issued_at + self._lifetime_seconds,
                "role": role,
            }
        )

    def verify(self, token: str, now: datetime) -> Claims:
        """What a token of ours that is good at `now` says; raises Unauthenticated for everything else."""
        try:
            return self._verify(token, now.timestamp())
        except Exception:  # whatever hostile bytes do to a parser, nobody is signed in
            raise errors.Unauthenticated from None

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The JWK set that `/.well-known/jwks.json` answers."""
        return self._keyring.public_jwks()

    def _verify(self, token: str, now: float) -> Claims:
        if len(token) > LONGEST_TOKEN:
            _refuse()
        # By digest: the cache then holds no tokens, and looking one up compares nothing that could be guessed bytewise.
        digest = sha256(token.encode("ascii")).digest()
        claims = self._cache().get(digest)
        if claims is None:
            claims = self._claims(_parse(self._keyring.verify(token)), now)
            self._remember(digest, claims)
        if now >= claims.expires_at:  # asked again each time: a cached token ends too
            _refuse()
        return claims

    def _cache(self) -> OrderedDict[bytes, Claims]:
        keys = self._keyring.current()
        if keys is not self._verified_with:  # a key that was taken away verifies nothing any more
            self._verified.clear()
            self._verified_with = keys
        return self._verified

    def _remember(self, digest: bytes, claims: Claims) -> None:
        self._verified[digest] = claims
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)

    def _claims(self, members: dict[str, object], now: float) -> Claims:
        if members.keys() != CLAIMS or (members["iss"], members["aud"]) != (self._issuer, self._audience):
            _refuse()
        issued_at, expires_at = _integer(members["iat"]), _integer(members["exp"])
        if issued_at > now + CLOCK_LEEWAY_SECONDS or not 0 < expires_at - issued_at <= LONGEST_LIFE_SECONDS:
            _refuse()
        _uuid(members["jti"])  # it names this one token; nothing asks for it, but a token of ours has one
        return Claims(
            user_id=_uuid(members["sub"]),
            session_id=_uuid(members["sid"]),
            role=_role(members["role"]),
            expires_at=expires_at,
        )


def ensure_key(directory: Path) -> Path:
    """The directory, with a signing key in it; for development, where nobody ran `admin rotate-keys`."""
    if not any(directory.glob("*.pem")):
        create_signing_key(directory)
    return directory


def create_signing_key(directory: Path) -> str:
    """The kid of a new key `<kid>.pem` (0600, the directory's owner's) in the directory, made (0700) when missing."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    kid = f"{_next_stamp(directory)}-{token_hex(4)}"
    unfinished = directory / f".{kid}.new"
    unfinished.touch(mode=0o600, exist_ok=False)
    with unfinished.open("wb") as file:
        file.write(_pem(ec.generate_private_key(ec.SECP256R1())))
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:  # root looks after keys; whom the directory belongs to signs with them
        shutil.chown(unfinished, directory.stat().st_uid, directory.stat().st_gid)
    unfinished.rename(directory / f"{kid}.pem")  # a worker that looks meanwhile sees no half of a key
    return kid


def _next_stamp(directory: Path) -> str:
    """The time, or a moment after the newest key: where the clock was set back since, or another one made it."""
    newest = max((path.stem for path in directory.glob("*.pem")), default="").partition("-")[0]
    now = datetime.now(UTC).strftime(STAMP)
    if now > newest:
        return now
    try:
        made = datetime.strptime(newest, STAMP).replace(tzinfo=UTC)
    except ValueError:
        raise UnusableKeys(f"{newest} would go on signing: its name comes after those of keys made here") from None
    return (made + timedelta(microseconds=1)).strftime(STAMP)


def key_ids(directory: Path) -> list[str]:
    """The kids of the directory, the one that signs first; raises UnusableKeys."""
    return sorted(_load(directory, {}), reverse=True)


def retire_key(directory: Path, kid: str) -> None:
    """Deletes a key that does not sign any more: what it signed is good for nothing within a second.

    Raises NotRetired, and UnusableKeys.
    """
    kids = key_ids(directory)
    if kid not in kids:
        raise NotRetired("There is no key of this kid: `pain-diary admin keys list` names them.")
    if kid == kids[0]:
        raise NotRetired("This key signs: `pain-diary admin rotate-keys` makes its successor first.")
    (directory / f"{kid}.pem").unlink()


def _load(directory: Path, known: dict[str, _KeyPair]) -> dict[str, _KeyPair]:
    files = {path.stem: path for path in directory.glob("*.pem")}
    if not files:
        raise UnusableKeys("the signing keys directory holds no <kid>.pem")
    if files.keys() == known.keys():
        return known
    return {kid: known.get(kid) or _read(path) for kid, path in files.items()}


def _read(path: Path) -> _KeyPair:
    try:
        private_key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, OSError, UnsupportedAlgorithm):
        raise UnusableKeys(f"{path.name} is not a readable, unencrypted private key in PEM") from None
    if not isinstance(private_key, ec.EllipticCurvePrivateKey) or private_key.curve.name != "secp256r1":
        raise UnusableKeys(f"{path.name} is not a P-256 key")
    if not KID.fullmatch(path.stem):
        raise UnusableKeys(f"{path.name} is no kid: letters, digits, - and _, at most 64 before .pem")
    private = jwk.construct(_pem(private_key), ALGORITHM)
    return _KeyPair(private, private.public_key())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _parse(document: bytes) -> dict[str, object]:
    members = json.loads(document.decode(), object_pairs_hook=unique_members)
    if not isinstance(members, dict):
        _refuse()
    return members


def _integer(value: object) -> int:
    return value if type(value) is int else _refuse()  # a bool is an int to isinstance


def _role(value: object) -> Role:
    return next((role for role in ROLES if role == value), None) or _refuse()


def _uuid(value: object) -> UUID:
    uuid = UUID(value) if isinstance(value, str) else _refuse()
    return uuid if str(uuid) == value else _refuse()


def _refuse() -> NoReturn:
    raise errors.Unauthenticated
