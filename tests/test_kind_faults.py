"""Whatever a kind of record lacks is named by `make check`: nothing is silently empty."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.schemas import profile
from app.schemas.kinds import KINDS
from app.schemas.profile import MINIMAL_PROFILE, PROFILE
from app.schemas.records import MADE, AnyKind
from migrations import kinds

GOAL_ID = "0195d3f4-9d77-7b12-a0c4-6e2f8b1d5c39"


def goal(**differently: Any) -> AnyKind:
    """A kind of record like the profile, of which a diary has many."""
    named = {"name": "goal", "plural": "goals", "noun": "a goal", "holds": "moment"}
    made = {"create": MADE, "patch": MADE, "out": MADE, "examples": ({"id": GOAL_ID} | MINIMAL_PROFILE,)}
    return replace(PROFILE, **(named | made | differently))


def with_goal(monkeypatch: pytest.MonkeyPatch, **differently: Any) -> list[str]:
    """What is wrong when it is declared beside the others."""
    monkeypatch.setattr(kinds, "KINDS", (*KINDS, goal(**differently)))
    return [sentence for sentence in kinds.faults() if "kinds.sql" not in sentence]


def test_nothing_is_wrong_with_the_kinds_there_are() -> None:
    assert list(kinds.faults()) == []


def test_a_kind_that_is_declared_and_not_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "GOAL", goal(), raising=False)
    assert list(kinds.faults()) == ["goal: app/schemas/kinds.py does not list it."]


@pytest.mark.parametrize(
    ("differently", "sentence"),
    [
        ({}, "goal: tests/schemas/test_goals.py is missing."),
        ({"scope": "goals"}, "goal: app/vocabularies/scopes.csv has no sentence for goals:read."),
        ({"scope": "goals"}, "goal: app/vocabularies/scopes.csv has no sentence for goals:write."),
        ({"name": "Goal"}, "Goal: name and plural are lower-case words with _ between them."),
        ({"name": "entry"}, "Two kinds have the name entry."),
        ({"plural": "entries"}, "Two kinds have the plural entries."),
        ({"holds": "singleton"}, "Two kinds are singletons, and both would have the id of the patient."),
        ({"facts": lambda _: {"target": 3}}, "goal: its facts name target, which is no column of records."),
        ({"patches": ({"weight": "heavy"},)}, "goal: example 0 is no GoalPatch: weight."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_kind_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, differently: dict[str, Any], sentence: str
) -> None:
    assert sentence in with_goal(monkeypatch, **differently)


def test_an_example_that_no_client_could_send_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {"id": GOAL_ID} | MINIMAL_PROFILE | {"birth_date": "tomorrow"}
    assert "goal: example 0 is no GoalIn: birth_date." in with_goal(monkeypatch, examples=(sent,))


def test_sql_that_does_not_know_a_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", (*KINDS, goal()))
    [sentence] = [sentence for sentence in kinds.faults() if "kinds.sql" in sentence]
    assert "`python -m migrations.kinds` writes it anew" in sentence


def test_what_is_written_knows_each_kind_once_and_lets_nobody_write_another() -> None:
    text = kinds.sql()
    assert text == Path(kinds.KINDS_SQL).read_text()
    assert [text.count(f"WHEN '{kind.name}' THEN '{kind.write_scope}'") for kind in KINDS] == [1] * len(KINDS)
    scope = text.partition("write_scope(kind text)")[2].partition("$$;")[0]
    assert "ELSE" not in scope
