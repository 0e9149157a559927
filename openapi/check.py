"""`python -m openapi.check build/openapi.json`: does it break clients of the last release? Exits 1 if so.

`released.json` beside this file is the document of the last release; the next one writes it anew with `make freeze` and
empties ACCEPTED (CONTRIBUTING.md, "A release").
"""

import json
import sys
from pathlib import Path

from openapi.breaks import breaks

RELEASED = Path(__file__).with_name("released.json")
# Breaks that break nobody, each with its reason.
ACCEPTED: dict[str, str] = {}


def main(path: str) -> None:
    """Prints each break that is not accepted, and then exits with 1."""
    found = breaks(json.loads(RELEASED.read_text()), json.loads(Path(path).read_text()))
    unexpected = [one for one in found if one not in ACCEPTED]
    if unexpected:
        print("\n".join(["Clients of the last release break:", *unexpected]))
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
