"""Cursors: what is sealed for a purpose opens for it, and nothing else opens."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidCursor
from app.security import cursors
from app.security.cursors import LONGEST_CURSOR, Cursors, Scalar

CURSORS = Cursors(b"a secret of thirty-two bytes, no less")
PURPOSE = "entries:patient:reader:filters"
POSITION = ("2026-07-01T10:00:00.000000Z", "8f14e45f-ceea-467f-a0e6-ed1bb2a2a1c3", 7, None)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10)
)


def assert_refused(cursor: str, purpose: str = PURPOSE, cursors: Cursors = CURSORS) -> None:
    with pytest.raises(InvalidCursor):
        cursors.open(purpose, cursor)


@given(payload=st.lists(scalars, max_size=4).map(tuple), purpose=st.text(st.characters(codec="utf-8")))
def test_what_is_sealed_opens_for_the_same_purpose(payload: tuple[Scalar, ...], purpose: str) -> None:
    assert CURSORS.open(purpose, CURSORS.seal(purpose, payload)) == list(payload)


def test_another_process_with_the_same_secret_opens_it() -> None:
    cursor = CURSORS.seal(PURPOSE, POSITION)
    assert Cursors(b"a secret of thirty-two bytes, no less").open(PURPOSE, cursor) == list(POSITION)


def test_a_cursor_is_url_safe_short_and_does_not_contain_its_purpose() -> None:
    cursor = CURSORS.seal(PURPOSE, POSITION)
    assert set(cursor) <= set(ALPHABET)
    assert len(cursor) < 140
    assert b"entries" not in urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def test_another_secret_does_not_open_it() -> None:
    assert_refused(CURSORS.seal(PURPOSE, POSITION), cursors=Cursors(b"another secret of thirty-two bytes"))


@pytest.mark.parametrize("purpose", ["", PURPOSE + " ", PURPOSE[:-1], PURPOSE.upper(), "entries:patient:other"])
def test_another_purpose_does_not_open_it(purpose: str) -> None:
    assert_refused(CURSORS.seal(PURPOSE, POSITION), purpose)


def test_the_border_between_purpose_and_payload_cannot_be_moved() -> None:
    sealed = raw(CURSORS.seal("p", ("x",)))
    tag, body = sealed[:16], sealed[16:]
    assert_refused(spelled(tag + body[1:]), "p" + body[:1].decode())
    assert_refused(spelled(tag + b"p" + body), "")


@pytest.mark.parametrize("place", range(len(raw_sealed := CURSORS.seal(PURPOSE, POSITION)) * 3 // 4))
def test_no_byte_may_change(place: int) -> None:
    sealed = bytearray(raw(raw_sealed))
    for bit in range(8):
        sealed[place] ^= 1 << bit
        assert_refused(spelled(bytes(sealed)))
        sealed[place] ^= 1 << bit
    assert CURSORS.open(PURPOSE, spelled(bytes(sealed))) == list(POSITION)


@given(data=st.data())
def test_no_character_may_change(data: st.DataObject) -> None:
    cursor = CURSORS.seal(PURPOSE, POSITION)
    place = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters().filter(lambda character: character != cursor[place]))
    assert_refused(cursor[:place] + other + cursor[place + 1 :])


@given(text=st.text() | st.text(ALPHABET, max_size=LONGEST_CURSOR))
def test_no_text_opens_or_raises_anything_else(text: str) -> None:
    assert_refused(text)


@pytest.mark.parametrize("payload", [("x",), ("xy",), ("xyz",)], ids=["one", "two", "three"])
def test_only_one_spelling_opens(payload: tuple[str]) -> None:
    cursor = CURSORS.seal(PURPOSE, payload)
    spare_bits = [cursor[:-1] + character for character in ALPHABET if character != cursor[-1]]
    padded = [
        cursor + "=",
        cursor + "==",
        cursor + "A",
        cursor + "\n",
        " " + cursor,
        cursor[:9] + "." + cursor[9:],
    ]
    for other in spare_bits + padded:
        assert_refused(other)


@pytest.mark.parametrize("length", range(len(raw_sealed)))
def test_no_part_of_a_cursor_opens(length: int) -> None:
    assert_refused(raw_sealed[:length])


def test_a_cursor_is_at_most_512_characters() -> None:
    longest = CURSORS.seal(PURPOSE, ("x" * 364,))
    assert len(longest) == LONGEST_CURSOR
    assert CURSORS.open(PURPOSE, longest) == ["x" * 364]
    assert_refused(longest + "A")
    assert_refused("A" * 1_000_000)
    with pytest.raises(ValueError, match="too large"):
        CURSORS.seal(PURPOSE, ("x" * 365,))


def test_a_longer_cursor_is_refused_even_with_our_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(cursors, "LONGEST_CURSOR", 600)
        cursor = CURSORS.seal(PURPOSE, ("x" * 400,))
        assert CURSORS.open(PURPOSE, cursor) == ["x" * 400]
    assert_refused(cursor)


def test_a_payload_that_json_cannot_carry_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="JSON"):
        CURSORS.seal(PURPOSE, (float("nan"),))


def raw(cursor: str) -> bytes:
    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def spelled(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()
