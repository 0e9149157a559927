"""Entity tags that clients send: weak comparison for If-None-Match, strong for If-Match (RFC 9110, 13.1)."""

import pytest

from app.http import etags


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        ('"a"', ("a",)),
        ('W/"a"', ("a",)),
        ('"a", W/"b" ,"c"', ("a", "b", "c")),
        ("*", (etags.ANY,)),
        (None, ("",)),
    ],
)
def test_if_none_match_names_the_versions_that_a_client_holds(sent: str | None, known: tuple[str, ...]) -> None:
    assert etags.known(sent) == known


@pytest.mark.parametrize("sent", ['"a"', 'W/"a"', '"b", "a"', "*"])
def test_a_client_holds_a_version_that_it_names(sent: str) -> None:
    assert etags.holds(sent, '"a"')


@pytest.mark.parametrize("sent", [None, "", '"b"', '"A"', '"aa"', '"*a"'])
def test_a_client_does_not_hold_another_version(sent: str | None) -> None:
    assert not etags.holds(sent, '"a"')


@pytest.mark.parametrize(("sent", "version"), [('"1"', 1), ('"999999999"', 999_999_999)])
def test_if_match_names_one_version(sent: str, version: int) -> None:
    assert etags.version(sent) == version


@pytest.mark.parametrize(
    "sent", ['"0"', '"01"', '"-1"', "1", 'W/"1"', '"1", "2"', "*", "", '"1" ', '"١"', '"1000000000"']
)
def test_anything_but_one_strong_tag_of_a_version_names_none(sent: str) -> None:
    assert etags.version(sent) is None
