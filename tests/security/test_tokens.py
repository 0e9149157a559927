"""Access tokens: what is issued is accepted, everything else is 401, and keys change without a restart."""

import json
import logging
import os
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import digest
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unauthenticated
from app.security import tokens
from app.security.tokens import AccessTokens, Keyring, UnusableKeys, create_signing_key, key_ids

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
ISSUER, AUDIENCE, LIFETIME = "pain-diary", "pain-diary-api", 600
ANNA, SESSION = uuid4(), uuid4()
P256 = ec.ECDSA(hashes.SHA256())

Forgery = Callable[["Office"], str]


@dataclass
class Clock:
    """A monotonic clock that stands still until it is told."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Office:
    """A key directory, the tokens issued from it, and the means to forge others with its real key."""

    directory: Path
    kid: str
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.tokens = AccessTokens(Keyring(self.directory, self.clock), ISSUER, AUDIENCE, LIFETIME)
        self.key = private_key(self.directory / f"{self.kid}.pem")

    def issue(self, now: datetime = NOW) -> str:
        return self.tokens.issue(ANNA, SESSION, "patient", now)

    def header(self, **changes: object) -> dict[str, Any]:
        return {"alg": "ES256", "kid": self.kid, "typ": "at+jwt", **changes}

    def claims(self, **changes: object) -> dict[str, Any]:
        issued_at = int(NOW.timestamp())
        return {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(ANNA),
            "sid": str(SESSION),
            "jti": str(uuid4()),
            "iat": issued_at,
            "exp": issued_at + LIFETIME,
            "role": "patient",
            **changes,
        }

    def signed(self, header: object = None, claims: object = None) -> str:
        """A token with a genuine signature over any header and claims; bytes are taken as they are."""
        message = b".".join(encoded(part) for part in (header or self.header(), claims or self.claims()))
        return joined(message, raw_signature(self.key, message))


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def encoded(part: object) -> bytes:
    return base64url(part if isinstance(part, bytes) else json.dumps(part).encode())


def base64url(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def joined(message: bytes, signature: bytes) -> str:
    return (message + b"." + base64url(signature)).decode()


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, P256))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    directory = tmp_path_factory.mktemp("office") / "keys"
    return Office(directory, create_signing_key(directory))


@pytest.fixture
def own_office(tmp_path: Path) -> Office:
    """An office whose keys a test may change."""
    return Office(tmp_path / "keys", create_signing_key(tmp_path / "keys"))


def assert_refused(office: Office, token: str, now: datetime = NOW) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        office.tokens.verify(token, now)
    assert token == "" or token not in refusal.value.detail


class TestIssuedTokens:
    def test_a_token_says_who_it_was_issued_to_until_when(self, office: Office) -> None:
        claims = office.tokens.verify(office.issue(), NOW)
        assert (claims.user_id, claims.session_id, claims.role) == (ANNA, SESSION, "patient")
        assert claims.expires_at == int(NOW.timestamp()) + LIFETIME

    def test_two_tokens_have_different_ids(self, office: Office) -> None:
        first, second = (part_of(office.issue(), 1) for _ in range(2))
        assert first["jti"] != second["jti"]

    def test_the_header_names_algorithm_key_and_type_and_nothing_else(self, office: Office) -> None:
        assert header_of(office.issue()) == office.header()

    def test_the_second_look_at_a_token_gives_the_same_claims(self, office: Office) -> None:
        token = office.issue()
        assert office.tokens.verify(token, NOW) is office.tokens.verify(token, NOW)

    @pytest.mark.parametrize("seen_before", [True, False])
    def test_a_token_is_good_until_the_second_it_ends(self, office: Office, seen_before: bool) -> None:
        token, end = office.issue(), NOW + timedelta(seconds=LIFETIME)
        if seen_before:
            office.tokens.verify(token, NOW)
        assert_refused(office, token, end)
        assert_refused(office, token, end + timedelta(days=400))
        office.tokens.verify(token, end - timedelta(microseconds=1))

    def test_a_clock_behind_by_five_seconds_is_forgiven_and_by_more_is_not(self, office: Office) -> None:
        office.tokens.verify(office.issue(NOW + timedelta(seconds=5)), NOW)
        assert_refused(office, office.issue(NOW + timedelta(seconds=6)))

    def test_the_control_of_the_forgeries_is_accepted(self, office: Office) -> None:
        assert office.tokens.verify(office.signed(), NOW).user_id == ANNA

    def test_only_the_latest_verified_tokens_are_kept(
        self, own_office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tokens, "CACHE_SIZE", 3)
        issued = [own_office.issue() for _ in range(5)]
        for token in issued:
            own_office.tokens.verify(token, NOW)
        kept = [sha256(token.encode()).digest() for token in issued[2:]]
        assert list(own_office.tokens._verified) == kept
        assert own_office.tokens.verify(issued[0], NOW).user_id == ANNA

    def test_refused_tokens_are_not_kept(self, own_office: Office) -> None:
        assert_refused(own_office, own_office.signed(claims=own_office.claims(aud="another-api")))
        assert not own_office.tokens._verified


def header_of(token: str) -> dict[str, Any]:
    return part_of(token, 0)


def part_of(token: str, number: int) -> dict[str, Any]:
    part = token.split(".")[number]
    members: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return members


# --- forgeries by header and shape: each is one function from the office to a token -------------------------


def unsigned(office: Office) -> str:
    return joined(encoded(office.header(alg="none")) + b"." + encoded(office.claims()), b"")


def signed_without_algorithm(office: Office) -> str:
    return office.signed(office.header(alg="none"))


def stripped_signature(office: Office) -> str:
    return office.issue().rpartition(".")[0] + "."


def hmac_with(form: Encoding, format_: PublicFormat) -> Forgery:
    def forge(office: Office) -> str:
        secret = office.key.public_key().public_bytes(form, format_)
        message = encoded(office.header(alg="HS256")) + b"." + encoded(office.claims())
        return joined(message, digest(secret, message, "sha256"))

    return forge


def hmac_with_empty_secret(office: Office) -> str:
    message = encoded(office.header(alg="HS256")) + b"." + encoded(office.claims())
    return joined(message, digest(b"", message, "sha256"))


def rsa_signed(office: Office) -> str:
    message = encoded(office.header(alg="RS256")) + b"." + encoded(office.claims())
    key = rsa.generate_private_key(65537, 2048)
    return joined(message, key.sign(message, padding.PKCS1v15(), hashes.SHA256()))


def signed_by_a_stranger(office: Office) -> str:
    message = encoded(office.header()) + b"." + encoded(office.claims())
    return joined(message, raw_signature(ec.generate_private_key(ec.SECP256R1()), message))


def with_header(**changes: object) -> Forgery:
    return lambda office: office.signed(office.header(**changes))


def without_header(name: str) -> Forgery:
    return lambda office: office.signed({k: v for k, v in office.header().items() if k != name})


def with_raw_header(make: Callable[[str], bytes]) -> Forgery:
    return lambda office: office.signed(make(json.dumps(office.header())))


def with_der_signature(office: Office) -> str:
    message = encoded(office.header()) + b"." + encoded(office.claims())
    return joined(message, office.key.sign(message, P256))


def with_signature(change: Callable[[bytes], bytes]) -> Forgery:
    def forge(office: Office) -> str:
        message = encoded(office.header()) + b"." + encoded(office.claims())
        return joined(message, change(raw_signature(office.key, message)))

    return forge


def with_issued(change: Callable[[str], str]) -> Forgery:
    return lambda office: change(office.issue())


def with_spare_bits(token: str) -> str:
    """The same 64 bytes in another spelling: 86 characters hold four bits more than the signature."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


def with_tampered_payload(office: Office) -> str:
    header, _, signature = office.issue().split(".")
    return f"{header}.{encoded(office.claims(role='admin')).decode()}.{signature}"


def with_length(length: int) -> Forgery:
    return lambda office: office.signed(office.header(kid="k" * length))


def within_the_limit(token: str) -> str:
    assert len(token) <= tokens.LONGEST_TOKEN
    return token


ALGORITHMS: tuple[object, ...] = ("es256", "ES384", "", None, 256, ["ES256"], {})
KIDS: tuple[object, ...] = ("", "unknown", None, 7, True, [], {}, ["a"])

FORGERIES: dict[str, Forgery] = {
    "alg none, no signature": unsigned,
    "alg none, good signature": signed_without_algorithm,
    "signature removed": stripped_signature,
    "HS256 with the PEM public key": hmac_with(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "HS256 with the DER public key": hmac_with(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "HS256 with the public point": hmac_with(Encoding.X962, PublicFormat.UncompressedPoint),
    "HS256 with an empty secret": hmac_with_empty_secret,
    "RS256": rsa_signed,
    "our kid, a stranger's key": signed_by_a_stranger,
    **{f"alg {alg!r}": with_header(alg=alg) for alg in ALGORITHMS},
    **{f"typ {typ!r}": with_header(typ=typ) for typ in ("JWT", "AT+JWT", "application/at+jwt", None, 1)},
    **{f"kid {kid!r}": with_header(kid=kid) for kid in KIDS},
    **{
        f"path as kid {kid!r}": with_header(kid=kid)
        for kid in ("../keys/x", "/etc/passwd", "a\u0000b", "..", "x.pem", "\ud800")
    },
    **{f"no {name}": without_header(name) for name in ("alg", "kid", "typ")},
    **{
        f"header {name}": with_header(**{name: value})
        for name, value in {
            "crit": ["exp"],
            "b64": False,
            "jwk": {"kty": "EC"},
            "jku": "https://127.0.0.1/jwks.json",
            "x5u": "https://127.0.0.1/x5u",
            "x5c": ["AAAA"],
            "zip": "DEF",
            "enc": "A256GCM",
            "Alg": "ES256",
        }.items()
    },
    "header: crit, empty": with_header(crit=[]),
    "header: a list": lambda office: office.signed([office.header()]),
    "header: a string": lambda office: office.signed(b'"ES256"'),
    "header: a number": lambda office: office.signed(b"1"),
    "header: null": lambda office: office.signed(b"null"),
    "header: no JSON": lambda office: office.signed(b"{"),
    "header: trailing text": with_raw_header(lambda text: text.encode() + b"x"),
    "header: byte order mark": with_raw_header(lambda text: b"\xef\xbb\xbf" + text.encode()),
    "header: UTF-16": with_raw_header(lambda text: text.encode("utf-16")),
    "header: not UTF-8": with_raw_header(lambda text: text.replace("at+jwt", "\xff").encode("latin-1")),
    "header: duplicate alg": with_raw_header(lambda text: b'{"alg":"none",' + text[1:].encode()),
    "header: duplicate kid": with_raw_header(lambda text: b'{"kid":"ES256",' + text[1:].encode()),
    "header: NaN": with_raw_header(lambda text: text[:-1].encode() + b',"x":NaN}'),
    "header: 4000 digits": lambda office: office.signed(b'{"alg":' + b"9" * 2900 + b"}"),
    "header: 1e999": with_raw_header(lambda text: text[:-1].encode() + b',"x":1e999}'),
    "header: nested 2500 deep": lambda office: within_the_limit(office.signed(b"[" * 2500, b"{}")),
    "header: objects nested 500 deep": lambda office: within_the_limit(office.signed(b'{"a":' * 500, b"{}")),
    "header: nested 100 000 deep": lambda office: office.signed(b'{"a":' * 100_000),
    "signature: DER": with_der_signature,
    "signature: first bit": with_signature(lambda raw: bytes([raw[0] ^ 0x80]) + raw[1:]),
    "signature: last bit": with_signature(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
    "signature: zeros": with_signature(lambda _: bytes(64)),
    "signature: ones": with_signature(lambda _: b"\xff" * 64),
    "signature: 63 bytes": with_signature(lambda raw: raw[:63]),
    "signature: 65 bytes": with_signature(lambda raw: raw + b"\0"),
    "signature: twice": with_signature(lambda raw: raw * 2),
    "signature: halves padded": with_signature(lambda raw: b"\0" + raw[:32] + b"\0" + raw[32:]),
    "signature: halves exchanged": with_signature(lambda raw: raw[32:] + raw[:32]),
    "signature: spare bits": with_issued(with_spare_bits),
    "payload: tampered": with_tampered_payload,
    "shape: padded signature": with_issued(lambda token: token + "=="),
    "shape: padded header": with_issued(lambda token: token.replace(".", "==.", 1)),
    "shape: leading space": with_issued(lambda token: " " + token),
    "shape: trailing newline": with_issued(lambda token: token + "\n"),
    "shape: inner newline": with_issued(lambda token: token[:30] + "\n" + token[30:]),
    "shape: inner NUL": with_issued(lambda token: token[:30] + "\0" + token[30:]),
    "shape: standard alphabet": with_issued(lambda token: token.replace("-", "+").replace("_", "/") + "+"),
    "shape: two parts": with_issued(lambda token: token.rpartition(".")[0]),
    "shape: four parts": with_issued(lambda token: token + ".AAAA"),
    "shape: five parts, as a JWE": with_issued(lambda token: token + ".AAAA.AAAA"),
    "shape: JSON serialisation": with_issued(lambda token: json.dumps({"payload": token})),
    "shape: scheme included": with_issued(lambda token: "Bearer " + token),
    "shape: not ASCII": with_issued(lambda token: token[:-1] + "é"),
    "shape: lone surrogate": with_issued(lambda token: token[:-1] + "\ud800"),
    "shape: 5000 bytes": with_length(5000),
    "shape: a million dots": lambda _: "." * 1_000_000,
    "shape: two dots": lambda _: "..",
    "shape: empty": lambda _: "",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused(office: Office, name: str) -> None:
    assert_refused(office, FORGERIES[name](office))


def test_a_token_of_just_over_the_limit_is_refused_for_its_length_alone(own_office: Office) -> None:
    padding_ = " " * 2700
    token = own_office.signed(claims=(json.dumps(own_office.claims()) + padding_).encode())
    assert len(token) > tokens.LONGEST_TOKEN
    assert_refused(own_office, token)
    shorter = own_office.signed(claims=(json.dumps(own_office.claims()) + padding_[:2000]).encode())
    assert own_office.tokens.verify(shorter, NOW).user_id == ANNA


# --- claims: everything below carries a genuine signature ---------------------------------------------------

END_OF_LIFE = int(NOW.timestamp()) + 3600  # of the longest token that the settings allow
STRANGE: tuple[object, ...] = (None, True, 0, 1.5, "", "x", [], {}, [None], {"a": 1})
WRONG_CLAIMS: dict[str, tuple[object, ...]] = {
    "iss": (*STRANGE, "another-issuer", [ISSUER], ISSUER + " "),
    "aud": (*STRANGE, "another-api", [AUDIENCE], [AUDIENCE, "another-api"], AUDIENCE.upper()),
    "sub": (*STRANGE, ANNA.hex, f"{{{ANNA}}}", f"urn:uuid:{ANNA}", str(ANNA).upper(), f"{ANNA} ", ANNA.int),
    "sid": (*STRANGE, SESSION.hex, str(SESSION) + "\u0000"),
    "jti": (*STRANGE, uuid4().hex, 7),
    "iat": (*STRANGE, "1782900000", float(NOW.timestamp()), 10**400, 2**63),
    "exp": (
        *STRANGE,
        9_999_999_999,
        END_OF_LIFE + 1,
        "9999999999",
        float(NOW.timestamp()) + 60,
        -1,
        -(10**400),
        int(NOW.timestamp()),
    ),
    "role": (*STRANGE, "root", "Patient", "admin ", ["admin"]),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{index}")
        for name, values in WRONG_CLAIMS.items()
        for index, value in enumerate(values)
    ],
)
def test_a_claim_of_the_wrong_type_or_value_is_refused(office: Office, name: str, value: object) -> None:
    assert_refused(office, office.signed(claims=office.claims(**{name: value})))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "role"])
def test_every_claim_is_required(office: Office, name: str) -> None:
    assert_refused(office, office.signed(claims={k: v for k, v in office.claims().items() if k != name}))


@pytest.mark.parametrize("extra", [{"nbf": 0}, {"scope": "admin"}, {"": 1}])
def test_a_claim_that_we_never_write_is_refused(office: Office, extra: dict[str, object]) -> None:
    assert_refused(office, office.signed(claims=office.claims(**extra)))


def replaced_by(old: str, new: str) -> Callable[[str], bytes]:
    def replace(text: str) -> bytes:
        assert old in text
        return text.replace(old, new, 1).encode()

    return replace


RAW_PAYLOADS: dict[str, Callable[[str], bytes]] = {
    "duplicate claim": replaced_by("{", '{"role": "admin", '),
    "duplicate by escape": replaced_by("{", '{"\\u0072ole": "admin", '),
    "NaN": replaced_by('"exp": ', '"exp": NaN, "x": '),
    "Infinity": replaced_by('"exp": ', '"exp": Infinity, "x": '),
    "1e999": replaced_by('"exp": ', '"exp": 1e999, "x": '),
    "integral float": replaced_by(f'"iat": {int(NOW.timestamp())}', f'"iat": {int(NOW.timestamp())}.0'),
    "exponent": replaced_by(f'"iat": {int(NOW.timestamp())}', '"iat": 1e3'),
    "not UTF-8": lambda text: text.encode() + b"\xff",
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16-le"),
    "list": lambda text: b"[" + text.encode() + b"]",
    "string": lambda _: b'"x"',
    "empty": lambda _: b" ",
    "nested": lambda _: b"[" * 2500,
}


@pytest.mark.parametrize("name", RAW_PAYLOADS)
def test_a_signed_payload_that_is_not_strict_json_is_refused(office: Office, name: str) -> None:
    assert_refused(office, office.signed(claims=RAW_PAYLOADS[name](json.dumps(office.claims()))))


def test_the_payload_pack_differs_from_an_accepted_payload_only_where_it_says(office: Office) -> None:
    token = office.signed(claims=json.dumps(office.claims()).encode())
    assert office.tokens.verify(token, NOW).role == "patient"


class TestAnyText:
    @given(text=st.text() | st.from_regex(r"\A[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{86}\Z"))
    def test_no_text_gets_in_or_raises_anything_else(self, office: Office, text: str) -> None:
        with pytest.raises(Unauthenticated):
            office.tokens.verify(text, NOW)

    @given(header=st.binary(max_size=600), payload=st.binary(max_size=600))
    def test_no_bytes_get_in_even_with_our_signature(self, office: Office, header: bytes, payload: bytes) -> None:
        with pytest.raises(Unauthenticated):
            office.tokens.verify(office.signed(header or b" ", payload or b" "), NOW)

    @given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
    def test_no_json_value_serves_as_a_user(self, office: Office, value: object) -> None:
        with pytest.raises(Unauthenticated):
            office.tokens.verify(office.signed(claims=office.claims(sub=value)), NOW)

    @given(data=st.data())
    def test_no_character_of_a_token_may_change(self, office: Office, data: st.DataObject) -> None:
        token = office.issue()
        place = data.draw(st.integers(0, len(token) - 1))
        other = data.draw(st.characters().filter(lambda character: character != token[place]))
        with pytest.raises(Unauthenticated):
            office.tokens.verify(token[:place] + other + token[place + 1 :], NOW)

    @pytest.mark.parametrize("fault", [RecursionError, OverflowError, MemoryError, UnicodeError, KeyError])
    def test_whatever_the_library_raises_is_a_refusal(
        self, office: Office, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
    ) -> None:
        def fail(*_: object) -> None:
            raise fault

        monkeypatch.setattr("app.security.tokens.jws.verify", fail)
        assert_refused(office, office.issue())


class TestRotation:
    def kids(self, office: Office) -> list[str]:
        return [key["kid"] for key in office.tokens.jwks()["keys"]]

    def test_a_new_key_signs_within_a_second_and_the_old_one_still_verifies(self, own_office: Office) -> None:
        old_token = own_office.issue()
        new_kid = create_signing_key(own_office.directory)
        assert header_of(own_office.issue())["kid"] == own_office.kid
        own_office.clock.seconds += 1
        new_token = own_office.issue()
        assert header_of(new_token)["kid"] == new_kid > own_office.kid
        assert own_office.tokens.verify(old_token, NOW) == own_office.tokens.verify(new_token, NOW)

    def test_a_key_that_root_makes_is_of_whoever_signs_with_it(self, own_office: Office) -> None:
        owner = (65534, 65533) if os.geteuid() == 0 else (os.geteuid(), os.getegid())  # only root gives files away
        os.chown(own_office.directory, *owner)
        made = (own_office.directory / f"{create_signing_key(own_office.directory)}.pem").stat()
        assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (*owner, 0o600)

    def test_a_token_of_a_key_that_another_worker_has_seen_first_is_accepted_at_once(self, own_office: Office) -> None:
        other_worker = Office(own_office.directory, create_signing_key(own_office.directory))
        assert own_office.tokens.verify(other_worker.issue(), NOW).user_id == ANNA

    def test_garbage_kids_buy_one_look_into_the_directory_a_second(self, own_office: Office) -> None:
        assert_refused(own_office, own_office.signed(own_office.header(kid="garbage")))
        late = Office(own_office.directory, create_signing_key(own_office.directory))
        token = late.issue()
        assert_refused(own_office, token)
        own_office.clock.seconds += 1
        assert own_office.tokens.verify(token, NOW).user_id == ANNA

    def test_a_hundred_unknown_kids_make_one_look(self, own_office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        looks: list[Path] = []
        load = tokens._load

        def counted(directory: Path, known: dict[str, Any]) -> dict[str, Any]:
            looks.append(directory)
            return load(directory, known)

        monkeypatch.setattr(tokens, "_load", counted)
        for number in range(100):
            assert_refused(own_office, own_office.signed(own_office.header(kid=f"garbage-{number}")))
        assert looks == [own_office.directory]

    def test_a_removed_key_ends_its_tokens_within_a_second_even_verified_ones(self, own_office: Office) -> None:
        token = own_office.issue()
        own_office.tokens.verify(token, NOW)
        create_signing_key(own_office.directory)
        (own_office.directory / f"{own_office.kid}.pem").unlink()
        assert own_office.tokens.verify(token, NOW).user_id == ANNA
        own_office.clock.seconds += 1
        assert_refused(own_office, token)
        assert own_office.kid not in self.kids(own_office)

    def test_the_public_keys_follow_the_directory_newest_first(self, own_office: Office) -> None:
        new_kid = create_signing_key(own_office.directory)
        own_office.clock.seconds += 1
        assert self.kids(own_office) == [new_kid, own_office.kid]

    def test_an_invalid_file_at_run_time_keeps_the_keys_and_is_logged_without_its_path(
        self, own_office: Office, caplog: pytest.LogCaptureFixture
    ) -> None:
        (own_office.directory / "broken.pem").write_text("half a k")
        own_office.clock.seconds += 1
        with caplog.at_level(logging.ERROR, "app.security.tokens"):
            assert own_office.tokens.verify(own_office.issue(), NOW).user_id == ANNA
        assert "broken.pem" in caplog.text
        assert str(own_office.directory) not in caplog.text

    def test_a_file_that_was_half_written_is_taken_when_it_is_whole(self, own_office: Office) -> None:
        late = own_office.directory / "zz-late.pem"
        late.write_text("half a k")
        own_office.clock.seconds += 1
        assert header_of(own_office.issue())["kid"] == own_office.kid
        late.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
        own_office.clock.seconds += 1
        assert header_of(own_office.issue())["kid"] == "zz-late"

    def test_an_emptied_directory_keeps_the_last_keys(self, own_office: Office) -> None:
        (own_office.directory / f"{own_office.kid}.pem").unlink()
        own_office.clock.seconds += 1
        assert own_office.tokens.verify(own_office.issue(), NOW).user_id == ANNA


class TestPublicKeys:
    def test_the_set_holds_public_points_only(self, office: Office) -> None:
        (key,) = office.tokens.jwks()["keys"]
        assert set(key) == {"kty", "crv", "alg", "use", "kid", "x", "y"}
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")

    def test_a_client_can_verify_our_signature_with_the_set_alone(self, office: Office) -> None:
        (key,) = office.tokens.jwks()["keys"]
        x, y = (int.from_bytes(urlsafe_b64decode(key[name] + "="), "big") for name in "xy")
        assert ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()) == office.key.public_key().public_numbers()


class TestKeyFiles:
    def test_a_created_key_is_private_to_its_owner(self, tmp_path: Path) -> None:
        directory = tmp_path / "made" / "keys"
        kid = create_signing_key(directory)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [path.name for path in directory.iterdir()] == [f"{kid}.pem"]
        assert stat.S_IMODE((directory / f"{kid}.pem").stat().st_mode) == 0o600

    def test_a_directory_that_exists_keeps_its_permissions(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o750)
        create_signing_key(tmp_path)
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750

    def test_kids_sort_by_the_time_they_were_made(self, tmp_path: Path) -> None:
        kids = [create_signing_key(tmp_path) for _ in range(5)]
        assert kids == sorted(set(kids))

    def test_a_new_key_signs_wherever_the_clock_stands(self, tmp_path: Path) -> None:
        """Another machine made a key whose clock is ahead, or ours was set back since."""
        ahead = tmp_path / "20990101T000000999999Z-0a1b2c3d.pem"
        (tmp_path / f"{create_signing_key(tmp_path)}.pem").rename(ahead)
        kids = [create_signing_key(tmp_path) for _ in range(2)]
        assert key_ids(tmp_path) == [*reversed(kids), ahead.stem]
        assert kids[0].startswith("20990101T000001000000Z-")

    def test_a_key_that_would_sign_for_ever_is_named(self, tmp_path: Path) -> None:
        (tmp_path / f"{create_signing_key(tmp_path)}.pem").rename(tmp_path / "ours.pem")
        with pytest.raises(UnusableKeys, match="ours would go on signing"):
            create_signing_key(tmp_path)

    def test_files_of_another_kind_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "README").write_text("keys of the diary")
        (tmp_path / ".unfinished.new").write_text("")
        kid = create_signing_key(tmp_path)
        assert list(Keyring(tmp_path).current()) == [kid]

    @pytest.mark.parametrize("missing", [True, False])
    def test_no_key_is_refused_at_start(self, tmp_path: Path, missing: bool) -> None:
        with pytest.raises(ValueError, match=r"no <kid>\.pem"):
            Keyring(tmp_path / "missing" if missing else tmp_path)

    @pytest.mark.parametrize(
        ("name", "content", "fault"),
        [
            ("empty", b"", "not a readable"),
            ("text", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a readable"),
            ("binary", bytes(range(256)), "not a readable"),
            (
                "locked",
                pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x")),
                "not a readable",
            ),
            (
                "public",
                ec.generate_private_key(ec.SECP256R1())
                .public_key()
                .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
                "not a readable",
            ),
            ("p384", pem(ec.generate_private_key(ec.SECP384R1())), "not a P-256 key"),
            ("k256", pem(ec.generate_private_key(ec.SECP256K1())), "not a P-256 key"),
            ("rsa", pem(rsa.generate_private_key(65537, 2048)), "not a P-256 key"),
            ("ed25519", pem(ed25519.Ed25519PrivateKey.generate()), "not a P-256 key"),
            ("a kid with spaces", pem(ec.generate_private_key(ec.SECP256R1())), "is no kid"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_an_invalid_file_beside_a_good_one_is_refused_at_start_by_its_name(
        self, tmp_path: Path, name: str, content: bytes, fault: str
    ) -> None:
        create_signing_key(tmp_path)
        (tmp_path / f"{name}.pem").write_bytes(content)
        with pytest.raises(ValueError, match=fault) as refusal:
            Keyring(tmp_path)
        assert f"{name}.pem" in str(refusal.value)
        assert str(tmp_path) not in str(refusal.value)

    def test_a_directory_named_like_a_key_is_refused_at_start(self, tmp_path: Path) -> None:
        (tmp_path / "folder.pem").mkdir()
        with pytest.raises(ValueError, match=r"folder\.pem is not a readable"):
            Keyring(tmp_path)


def test_claims_are_plain_values(office: Office) -> None:
    claims = office.tokens.verify(office.issue(), NOW)
    assert isinstance(claims.user_id, UUID)
    with pytest.raises(AttributeError):
        claims.role = "admin"  # type: ignore[misc]  # frozen: that it fails is the point
