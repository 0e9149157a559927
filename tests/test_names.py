"""One name, one thing: whoever searches for a class finds one."""

import ast
from collections import defaultdict
from pathlib import Path

APP = Path(__file__).parent.parent / "app"


def test_no_two_classes_have_the_same_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(APP.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(APP)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
