"""Is every permission check held by a test? Each mutant is the service without one of them: see `catalogue`, `run`.

The patient filters inside the functions that row security doubles are not here: without one of them nothing leaks,
which `tests/test_row_security.py` shows for all of them at once. The policies themselves are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
        for path, text in texts.items():
            if text.count(self.old) != 1:
                raise ValueError(f"{self.name}: {path.name} has the old text {text.count(self.old)} times")
            path.write_text(text.replace(self.old, self.new))
        try:
            yield
        finally:
            for path, text in texts.items():
                path.write_text(text)

    def files(self, root: Path) -> list[Path]:
        """The file and, of SQL, the migrations' copies that say the same there: databases are made by these."""
        today = root / self.path
        copies = sorted((root / "migrations" / "sql").glob(f"*/{today.name}"))
        return [today, *(copy for copy in copies if copy.read_text().count(self.old) == 1)]
