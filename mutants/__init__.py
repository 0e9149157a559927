"""Is every check held by a test? Each mutant is the service without one of them: see `catalogue`, `run`.

The patient filters inside the functions that row security doubles are not here: without one of them nothing leaks,
which `tests/test_row_security.py` shows for all of them at once. The policies themselves are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Mutant:
    """One change of one file, and the tests, as pytest takes them, of which one must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: str

    @contextmanager
    def applied(self, root: Path) -> Iterator[None]:
        """Changes the files under this root for a while; raises ValueError where the old text is not there once."""
        texts = {path: path.read_text() for path in self.files(root)}
        changed = root / self.path
        text = texts[changed]
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {changed.name} has the old text {text.count(self.old)} times")
        mutated = text.replace(self.old, self.new)
        changed.write_text(mutated)
        for path in texts.keys() - {changed}:
            path.write_text(texts[path].replace(_digest(text), _digest(mutated)))
        try:
            yield
        finally:
            for path, before in texts.items():
                path.write_text(before)

    def files(self, root: Path) -> list[Path]:
        """The file and, of SQL, the migration that installs it: it names the digest of the text."""
        changed = root / self.path
        digest = _digest(changed.read_text())
        migrations = sorted((root / "migrations" / "versions").glob("*.py"))
        return [changed, *(path for path in migrations if digest in path.read_text())]


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
