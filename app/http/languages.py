"""The language of an answer: what Accept-Language asks for (RFC 9110, 12.5.4), then the locale of the account."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, NamedTuple

from fastapi import Header, Request

from app import vocabularies
from app.errors import Unauthenticated, Unavailable
from app.http.deps import State, claims_of
from app.services import sessions

MOST_RANGES = 32
ANY = "*"
VARY = "Accept-Language, Authorization"

_RANGE = re.compile(
    r"(?P<tag>\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)(?:[ \t]*;[ \t]*q=(?P<quality>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)


class Range(NamedTuple):
    """A language that is asked for, `*` for any other, and how much it is preferred: 0 not at all, 1 most."""

    tag: str
    quality: float

    def names(self, language: str) -> bool:
        """Whether this language is meant: `de` by de and de-AT, `pt-br` by pt. Who refuses de-AT does not refuse de."""
        return covers(self.tag, language) or (self.quality > 0 and covers(language, self.tag))

    def nearest(self, languages: Iterable[str]) -> str | None:
        """Of these the one that is meant, rather exactly than by fewer or more subtags."""
        return min(filter(self.names, languages), key=lambda one: one.lower() != self.tag.lower(), default=None)


@dataclass(frozen=True, slots=True)
class Preference:
    """What a caller reads, as its header says and then its locale."""

    ranges: tuple[Range, ...] = ()
    locale: str | None = None

    def choose(self, offered: Sequence[str]) -> str:
        """One of the languages that are offered, the first where the caller prefers none of them."""
        suited = self.suited(offered)
        mine = Range(self.locale, 1).nearest(suited) if self.locale else None
        return mine or suited[0]

    def suited(self, offered: Sequence[str]) -> list[str]:
        """Those that the header prefers: several where it does not tell between them, all where none is asked for."""
        quality = {one: self._quality(one) for one in offered}
        top = max(quality.values())
        best = [one for one in offered if quality[one] == top]
        if top == 0:
            return [one for one in best if not any(asked.names(one) for asked in self.ranges)] or best
        named = (asked.nearest(best) for asked in self.ranges if asked.tag != ANY)
        first = next(filter(None, named), None)
        return best if first is None else [first]

    def _quality(self, language: str) -> float:
        named = [asked.quality for asked in self.ranges if asked.tag != ANY and asked.names(language)]
        return max(named or [asked.quality for asked in self.ranges if asked.tag == ANY], default=0)


def covers(tag: str, other: str) -> bool:
    """Whether the other tag is this one, or this one with more subtags."""
    return f"{other}-".lower().startswith(f"{tag}-".lower())


def ranges_of(accept_language: Iterable[str]) -> tuple[Range, ...]:
    """The ranges of the header's lines; what is no range is passed over, as platforms write what they like."""
    parts = (part for line in accept_language for part in line.split(",", MOST_RANGES))
    written = (part.strip(" \t").lower().replace("_", "-") for part in islice(parts, MOST_RANGES))
    found = [match for part in written if (match := _RANGE.fullmatch(part))]
    return tuple(Range(match["tag"], float(match["quality"] or 1)) for match in found)


async def preference(
    request: Request,
    _accept_language: Annotated[
        str | None,
        Header(
            alias="Accept-Language",
            description="Which languages are preferred. Where it does not tell, the locale of the profile does, of "
            "whoever sends an access token.",
            examples=["de-AT, en;q=0.5"],
        ),
    ] = None,
) -> Preference:
    """What the caller reads. The database is asked only where the header leaves it open and somebody is signed in."""
    asked = Preference(ranges_of(request.headers.getlist("Accept-Language")))
    claims = claims_of(request.scope)
    if claims is None or len(asked.suited(vocabularies.languages())) == 1:
        return asked
    parts: State = request.app.state.diary
    try:
        async with parts.database.open_transaction() as transaction:
            account = await sessions.account_of(transaction, claims.session_id, claims.user_id)
    except (Unauthenticated, Unavailable):  # what is read is open to everybody, and there without a database
        return asked
    return Preference(asked.ranges, account.locale)
