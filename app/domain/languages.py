"""Language tags as BCP 47 (RFC 5646) writes them."""

import re

MOST = 64  # characters: RFC 5646 asks for room for 35

_TAG = re.compile(
    r"[a-z]{2,3}(?:-[a-z]{3}){0,3}"  # no language of more letters was ever registered
    r"(?:-[a-z]{4})?"  # script
    r"(?:-(?:[a-z]{2}|[0-9]{3}))?"  # region
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)"
    r"(?P<extensions>(?:-[a-wyz0-9](?:-[a-z0-9]{2,8})+)*)"
    r"(?:-x(?:-[a-z0-9]{1,8})+)?"  # private use
)
_PRIVATE = re.compile(r"x(?:-[a-z0-9]{1,8})+")
_SINGLETON = re.compile(r"(?<=-)[a-wyz0-9](?=-)")
_IRREGULAR = re.compile(  # those of RFC 5646 that are tags because they always were
    "en-gb-oed|i-(ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)|sgn-(be-fr|be-nl|ch-de)"
    "|art-lojban|cel-gaulish|no-bok|no-nyn|zh-(guoyu|hakka|min|min-nan|xiang)"
)


def parse_tag(text: str) -> str:
    """The tag as it was written, but for `_`, with which platforms join its parts; ValueError where it is none.

    Well-formed, and no variant or extension twice. Whether each part is registered is not asked: the registry grows.
    """
    tag = text.replace("_", "-")
    if len(tag) > MOST or not tag.isascii() or not _is_tag(tag.lower()):
        raise ValueError("not a language tag")
    return tag


def _is_tag(tag: str) -> bool:
    if _IRREGULAR.fullmatch(tag) or _PRIVATE.fullmatch(tag):
        return True
    found = _TAG.fullmatch(tag)
    if found is None:
        return False
    variants = found["variants"].split("-")[1:]
    singletons = _SINGLETON.findall(found["extensions"])
    return all(len(set(parts)) == len(parts) for parts in (variants, singletons))
