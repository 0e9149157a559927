"""What is skipped, and who may skip."""

import re
from pathlib import Path

import pytest

from tests import forms

TESTS = Path(__file__).parent


def test_what_a_machine_cannot_do_is_skipped_there_and_fails_for_who_wants_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SKIPS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no disk"):
        forms.skip("no disk")
    monkeypatch.setenv("NO_SKIPS", "1")
    with pytest.raises(pytest.fail.Exception, match="no disk"):
        forms.skip("no disk")


def test_no_test_is_skipped_in_another_way() -> None:
    skips = re.compile(r"pytest\.(skip|importorskip|xfail)\(|mark\.(skip|xfail)")
    ours = [path for path in TESTS.rglob("*.py") if not {".venv", "node_modules"} & set(path.parts)]
    found = {path.relative_to(TESTS).as_posix() for path in ours if skips.search(path.read_text())}
    assert found == {"forms.py"}
