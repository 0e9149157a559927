"""`python -m openapi.freeze build/openapi.json`: keeps it as the document of the release that is being made.

Whatever a client could have been generated from is in it; the examples are not.
"""

import json
import sys
from pathlib import Path
from typing import Any

from openapi.check import RELEASED


def frozen(document: Any) -> Any:
    """The document without its examples."""
    if isinstance(document, dict):
        return {name: frozen(inner) for name, inner in document.items() if name not in ("example", "examples")}
    return [frozen(inner) for inner in document] if isinstance(document, list) else document


if __name__ == "__main__":
    document = frozen(json.loads(Path(sys.argv[1]).read_text()))
    RELEASED.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
