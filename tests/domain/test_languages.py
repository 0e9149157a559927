"""Language tags: what RFC 5646 takes (its appendix A), and what phones write instead."""

import pytest

from app.domain.languages import parse_tag


@pytest.mark.parametrize(
    "tag",
    ["de", "i-enochian", "zh-Hant", "zh-cmn-Hans-CN", "zh-yue-HK", "sr-Latn-RS", "sl-rozaj-biske", "de-CH-1901",
     "hy-Latn-IT-arevela", "es-419", "de-CH-x-phonebk", "x-whatever", "qaa-Qaaa-QM-x-southern", "en-US-u-islamcal",
     "zh-CN-a-myext-x-private", "en-a-myext-b-another", "ca-ES-valencia", "ar-EG-u-nu-latn", "en-GB-oed", "EN-us",
     "sl-1994", "ber", "tlh-Latn-AQ", "de-DE-u-co-phonebk-x-a"],
)  # fmt: skip
def test_a_tag_of_bcp_47_is_kept_as_it_is(tag: str) -> None:
    assert parse_tag(tag) == tag


@pytest.mark.parametrize(
    ("written", "tag"), [("en_US", "en-US"), ("zh_Hant_TW", "zh-Hant-TW"), ("en_US_POSIX", "en-US-POSIX")]
)
def test_parts_that_a_platform_joins_otherwise_are_read_alike(written: str, tag: str) -> None:
    assert parse_tag(written) == tag


@pytest.mark.parametrize(
    "text",
    ["", "-", "d", "de-", "-de", "de--DE", "de-419-DE", "a-DE", "de-DE-1901-1901", "ar-a-aaa-b-bbb-a-ccc", "en-u",
     "en-x", "x", "C.UTF-8", "en_US.UTF-8", "en_US@calendar=buddhist", "de-\u0434\u0435", "de DE", "de-DE\n",
     "deutsch", "English", "en-" + "x-abcdefgh" * 8, "zh_CN_#Hans"],
)  # fmt: skip
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="language tag"):
        parse_tag(text)
