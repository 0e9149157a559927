"""The mutants fit the service as it is today; `make mutants` sees whether they are caught."""

import shutil
from pathlib import Path

import pytest

from mutants import ROOT, Mutant
from mutants.catalogue import MUTANTS


def test_there_are_many_and_no_two_are_the_same() -> None:
    assert len(MUTANTS) > 80
    assert len({mutant.name for mutant in MUTANTS}) == len({(m.path, m.old, m.new) for m in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_changes_one_place_and_can_be_undone(mutant: Mutant, tmp_path: Path) -> None:
    for path in mutant.files(ROOT):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    files = mutant.files(tmp_path)
    assert (len(files) > 1) == mutant.path.endswith(".sql"), "no migration installs this text"
    before = [path.read_text() for path in files]
    with mutant.applied(tmp_path):
        assert all(path.read_text() != text for path, text in zip(files, before, strict=True))
    assert [path.read_text() for path in files] == before
    assert all((ROOT / word).exists() for word in mutant.tests.split() if word.startswith("tests/"))
