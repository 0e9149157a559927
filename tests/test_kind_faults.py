"""Whatever a kind of record lacks is named by `make check`: nothing is silently empty."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest

from app.schemas import profile
from app.schemas.base import text
from app.schemas.kinds import KINDS
from app.schemas.profile import MINIMAL_PROFILE, PROFILE, ProfileFields
from app.schemas.records import MADE, AnyKind
from migrations import kinds

AIM_ID = "0195d3f4-9d77-7b12-a0c4-6e2f8b1d5c39"


class Versioned(ProfileFields):
    version: int | None = None


class Talkative(ProfileFields):
    comment: Annotated[str, text(400)] | None = None
    motto: str | None = None


def aim(**differently: Any) -> AnyKind:
    """A kind of record like the profile, of which a diary has many."""
    named = {"name": "aim", "plural": "aims", "noun": "an aim", "holds": "moment"}
    made = {
        "create": MADE,
        "patch": MADE,
        "out": MADE,
        "patches": ({"conditions": []},),
        "examples": ({"id": AIM_ID} | MINIMAL_PROFILE,),
    }
    return replace(PROFILE, **(named | made | differently))


def with_aim(monkeypatch: pytest.MonkeyPatch, **differently: Any) -> list[str]:
    """What is wrong when it is declared beside the others."""
    monkeypatch.setattr(kinds, "KINDS", (*KINDS, aim(**differently)))
    return [sentence for sentence in kinds.faults() if "kinds.sql" not in sentence]


def test_nothing_is_wrong_with_the_kinds_there_are() -> None:
    assert list(kinds.faults()) == []


def test_a_kind_that_is_declared_and_not_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "AIM", aim(), raising=False)
    assert list(kinds.faults()) == ["aim: app/schemas/kinds.py does not list it."]


@pytest.mark.parametrize(
    ("differently", "sentence"),
    [
        ({}, "aim: tests/schemas/test_aims.py is missing, or tests nothing."),
        ({"scope": "aims"}, "aim: app/vocabularies/scopes.csv has no sentence for aims:read."),
        ({"scope": "aims"}, "aim: app/vocabularies/scopes.csv has no sentence for aims:write."),
        ({"name": "Aim"}, "Aim: name and plural are lower-case words with _ between them."),
        ({"name": "entry"}, "Two kinds have the name entry."),
        ({"plural": "entries"}, "Two kinds have the plural entries."),
        ({"holds": "singleton"}, "Two kinds are singletons, and both would have the id of the patient."),
        ({"facts": lambda _: {"target": 3}}, "aim: its facts name target, which is no promoted column of records."),
        (
            {"facts": lambda _: {"change_seq": 3}},
            "aim: its facts name change_seq, which is no promoted column of records.",
        ),
        ({"facts": lambda _: {"regions": {"back"}}}, "aim: its facts are no JSON: dates and instants go as text."),
        ({"patches": ({"weight": "heavy"},)}, "aim: example 0 is no AimPatch: weight."),
        ({"patches": ()}, "aim: it needs an example, and one of a patch."),
        ({"noun": "aim"}, "aim: its noun needs an article: a goal, an entry, the profile."),
        (
            {"holds": "interval"},
            "aim: it holds for an interval: it needs an Instant valid_to, or facts that say until when.",
        ),
        ({"fields": Versioned}, "aim: its field version is one that the server adds."),
        (
            {"fields": Talkative},
            "aim: its field comment is free text, which only the note may be: `notes:read` opens that alone.",
        ),
        ({"fields": Talkative}, "aim: its field motto is text without a bound: give it line(…), or a coded list."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_kind_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, differently: dict[str, Any], sentence: str
) -> None:
    assert sentence in with_aim(monkeypatch, **differently)


def test_an_example_that_no_client_could_send_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {"id": AIM_ID} | MINIMAL_PROFILE | {"birth_date": "tomorrow"}
    assert "aim: example 0 is no AimIn: birth_date." in with_aim(monkeypatch, examples=(sent,))


def test_sql_that_does_not_know_a_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", (*KINDS, aim()))
    [sentence] = [sentence for sentence in kinds.faults() if "kinds.sql" in sentence]
    assert "`make migration NAME=…` writes both anew" in sentence


def test_what_is_written_knows_each_kind_once_and_lets_nobody_write_another() -> None:
    text = kinds.sql()
    assert text == Path(kinds.KINDS_SQL).read_text()
    assert [text.count(f"WHEN '{kind.name}' THEN '{kind.write_scope}'") for kind in KINDS] == [1] * len(KINDS)
    scope = text.partition("write_scope(kind text)")[2].partition("$$;")[0]
    assert "ELSE" not in scope
