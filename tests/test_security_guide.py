"""docs/security.md names who may attack and the tests that show what stops them: each of those is there, and runs."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "security.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in GUIDE.splitlines() if line.startswith("| ")][1:]
PACKS = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "attacks").glob("test_*.py")}


def functions_of(path: Path) -> set[str]:
    """The names of the tests of a file."""
    nodes = ast.parse(path.read_text()).body
    return {one.name for one in nodes if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_says_who_what_stops_them_and_a_test_that_is_there(row: list[str]) -> None:
    _who, held, stops, shown = row
    named = re.findall(r"`([^`]+)`", shown)
    assert held
    assert stops
    assert named
    for name in named:
        path, _, test = name.partition("::")
        assert test.startswith("test_"), name
        assert test in functions_of(ROOT / path), name


def test_every_pack_of_attacks_has_a_row_and_every_decision_is_there() -> None:
    without = {"tests/attacks/test_clocks.py", "tests/attacks/test_workers.py"}  # about faults, and nobody's attack
    assert {pack for pack in PACKS if pack not in GUIDE} == without
    decisions = {path.name[:4] for path in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert {f"{int(number):04}" for number in re.findall(r"ADR (\d+)", GUIDE)} <= decisions
    assert len(ROWS) >= 20
