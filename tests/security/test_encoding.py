"""One spelling for each value: what decodes is what would be written."""

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security.encoding import DuplicateKey, from_base64url, to_base64url, unique_members


@given(st.binary(max_size=100))
def test_what_is_written_is_read_back(data: bytes) -> None:
    assert from_base64url(to_base64url(data)) == data


@given(st.text() | st.text("ABCabc019-_=+/. \n", max_size=12))
def test_no_other_text_is_read(text: str) -> None:
    try:
        data = from_base64url(text)
    except ValueError:
        return
    assert to_base64url(data) == text


@pytest.mark.parametrize("text", ["QQ==", "QR", "QQ\n", " QQ", "Q", "Q.Q", "+w", "/w", "é", "\ud800"])
def test_a_lenient_spelling_is_refused(text: str) -> None:
    assert to_base64url(b"A") == "QQ"
    with pytest.raises(ValueError, match=r"."):
        from_base64url(text)


def test_padding_is_never_written() -> None:
    assert urlsafe_b64encode(b"A") == b"QQ=="
    assert to_base64url(b"A") == "QQ"


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"b": {"a": 1, "a": 2}}', '[{"a": 1, "\\u0061": 2}]'])
def test_a_key_that_comes_twice_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(DuplicateKey):
        json.loads(text, object_pairs_hook=unique_members)


def test_the_same_key_in_two_objects_is_fine() -> None:
    text = '[{"a": {"a": 1}}, {"a": 2}, {}]'
    assert json.loads(text, object_pairs_hook=unique_members) == json.loads(text)
