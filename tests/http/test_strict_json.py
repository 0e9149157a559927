"""Strict JSON: property tests against a slow, obvious reading of the same rules."""

import inspect
import json
import math
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import BadRequest
from app.http import strict_json

STORABLE_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | STORABLE_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)
ESCAPES = st.sampled_from(["\\u0000", "\\\\u0000", "\\\\", '\\"', "\\ud83d", "\\uDE00", "\\u00e4", "a"])
PIECES = ESCAPES | st.sampled_from(['"', "\\", "\\u", "[", "]", "{", "}", ":", ",", "1", "1e999", "\0", "\n"])


def depth(value: object) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(text for inner in value.values() for text in texts(inner))]
    return [text for inner in value for text in texts(inner)] if isinstance(value, list) else []


def check(body: bytes) -> None:
    """What passes is storable, and what does not is refused with BadRequest only."""
    try:
        value = strict_json.parse(body)
    except BadRequest:
        return
    assert value == json.loads(body)
    assert depth(value) <= strict_json.MAX_DEPTH
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    assert not any("\0" in text for text in texts(value))


@given(st.binary())
def test_arbitrary_bytes_pass_clean_or_are_a_bad_request(body: bytes) -> None:
    check(body)


@given(st.lists(PIECES, max_size=40).map("".join))
@example('"\\ud83d\\ude00"')
@example('"\\ud83d\\\\ude00"')
def test_nearly_json_passes_clean_or_is_a_bad_request(text: str) -> None:
    check(text.encode())


@given(st.lists(ESCAPES))
def test_exactly_the_strings_with_nul_or_half_a_pair_are_refused(pieces: list[str]) -> None:
    body = f'{{"{"".join(pieces)}": 1}}'
    text = next(iter(json.loads(body)))
    bad = "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
    if bad:
        with pytest.raises(BadRequest, match="malformed"):
            strict_json.parse(body.encode())
    else:
        assert strict_json.parse(body.encode()) == {text: 1}


@given(JSON, st.booleans())
def test_every_acceptable_value_comes_back_unchanged(value: object, ascii_only: bool) -> None:
    assert strict_json.parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xc0\x80"', "not UTF-8"),
        (b"", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} {}', "not valid JSON"),
        (b'{"a": 1,}', "not valid JSON"),
        (b'"a\x00b"', "not valid JSON"),
        (b'{"a": 1, "a": 1}', "same key twice"),
        (b'[{"a": {"b": 1, "\\u0062": 2}}]', "same key twice"),
        (b"NaN", "NaN and Infinity"),
        (b"[-Infinity]", "NaN and Infinity"),
        (b"1e999", "not finite"),
        (b"-1e999", "not finite"),
        (b"9007199254740993", "outside"),
        (b"-9007199254740993", "outside"),
        (b"1" * 100_000, "outside"),
        (b"0." + b"1" * 100_000, "longer than 64"),
        (b'"\\u0000"', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'"\\ud83d"', "surrogate"),
        (b'"\\ude00\\ud83d"', "surrogate"),
        (b'"\\ud83d\\\\ude00"', "surrogate"),
        (b"[" * 33 + b"]" * 33, "32 levels"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "32 levels"),
        (b"[" * 12_000, "32 levels"),
        (b"[" * 500_000, "too many values"),
        (b'["[[["' + b",[]" * 40 + b"," + b"[" * 32 + b"]" * 32 + b"]", "32 levels"),
        (b'["]",' * 33 + b"1" + b"]" * 33, "32 levels"),
        (b'["]","\\"",' * 33 + b"1" + b"]" * 33, "32 levels"),
        (b'[{"a":' * 16 + b"[1]" + b"}]" * 16, "32 levels"),
    ],
)
def test_each_rule_refuses_with_its_own_sentence(body: bytes, rule: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        strict_json.parse(body)
    assert rule in refusal.value.detail


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 32 + b"]" * 32,
        b'["' + b"[{" * 1000 + b'"]',
        b'[{"a":' * 16 + b"1" + b"}]" * 16,
        b'{"]":' * 32 + b'"["' + b"}" * 32,
        b'["\\"' + b"[" * 1000 + b'", 1]',
        b"[" + b"[]," * 1000 + b"[]]",
        b"9007199254740992",
        b"-9007199254740992",
        b"1e300",
        b'"\\\\u0000"',
        b'"\\ud83d\\ude00"',
        b' {"a": [1.5, true, null]}\r\n',
    ],
)
def test_what_only_looks_dangerous_passes(body: bytes) -> None:
    assert strict_json.parse(body) == json.loads(body)


def test_an_open_string_of_escapes_is_scanned_once() -> None:
    body = b"[" * 33 + b'"' + b'\\"' * 200_000  # quadratic scanning would take hours
    with pytest.raises(BadRequest):
        strict_json.parse(body)


def test_a_nearly_exhausted_stack_is_a_bad_request_not_a_recursion_error() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 20)
    try:
        strict_json.parse(b"[" * 32 + b"]" * 32)
    except Exception as exception:
        outcome = exception
    finally:
        sys.setrecursionlimit(before)
    assert isinstance(outcome, BadRequest)


@given(st.floats())
def test_every_finite_float_passes_and_no_other(number: float) -> None:
    body = json.dumps(number).encode()
    if math.isfinite(number):
        assert strict_json.parse(body) == number
    else:
        with pytest.raises(BadRequest):
            strict_json.parse(body)


def test_more_members_than_any_body_needs_are_refused_before_they_cost_time() -> None:
    with pytest.raises(BadRequest, match="malformed") as refused:
        strict_json.parse(b"{" + b",".join(b'"%d":0' % n for n in range(strict_json.MAX_VALUES + 1)) + b"}")
    assert "members" in refused.value.detail
    text = b'{"note":"%b"}' % (b":" * (strict_json.MAX_VALUES + 1))  # colons of a text are none
    assert strict_json.parse(text)


FULL = 512 * 1024
UNITS = [
    b"1",
    b"1.5",
    b"123456789012345",
    b"null",
    b"[]",
    b"[[[]]]",
    b"{}",
    b'""',
    b'"\\\\"',
    b'"\\""',
    b'"]"',
    b'{"a":1}',
]


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_more_values_than_any_body_needs_are_refused_before_they_cost_time(unit: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        strict_json.parse(b"[[" + b",".join([unit] * (FULL // (len(unit) + 1))) + b"]" + b",[]" * 32 + b"]")
    assert "many" in refused.value.detail


def test_brackets_that_fit_nowhere_are_not_counted_for_long() -> None:
    with pytest.raises(BadRequest, match="malformed") as refused:
        strict_json.parse(b"[}" * (FULL // 2))
    assert "many values" in refused.value.detail


def test_an_object_of_hundreds_of_members_is_refused() -> None:
    members = [b'"%d":0' % number for number in range(strict_json.MAX_MEMBERS_OF_ONE + 1)]
    assert strict_json.parse(b"{" + b",".join(members[1:]) + b"}")
    with pytest.raises(BadRequest) as refused:
        strict_json.parse(b"{" + b",".join(members) + b"}")
    assert "members" in refused.value.detail


def test_punctuation_inside_of_strings_is_no_structure() -> None:
    text = b",:[]{}" * 10_000 + rb"\\" + b'\\"' * 100_000
    assert strict_json.parse(b'["%b",%b]' % (text, b",".join([b"[]"] * 40)))
