"""`python -m openapi.check build/openapi.json`: does it break clients of the last release? Exits 1 if so.

`released.json` beside this file is the document of the last release; the next one writes it anew with
`pain-diary openapi > openapi/released.json` and empties ACCEPTED.
"""

import json
import sys
from pathlib import Path

from openapi.breaks import breaks

RELEASED = Path(__file__).with_name("released.json")
UNTOLD = "The document said too little; every request that was served is served."
KINDS = "Kinds have been added; only a list that repeats one some forty times is refused now."

UNREAD = "Nobody could enrol a second factor, so nobody had a code to send."

# Breaks that break nobody, each with its reason.
ACCEPTED = {
    "replace_entry: header If-Match is required now": UNTOLD,
    "revise_entry: header If-Match is required now": UNTOLD,
    "delete_entry: header If-Match is required now": UNTOLD,
    "list_entries: query min_score: string is not taken any more": UNTOLD,
    "list_entries: query min_score: minimum is narrower now": UNTOLD,
    "list_entries: query min_score: maximum is narrower now": UNTOLD,
    "read_timeline: query kinds: maxLength is narrower now": KINDS,
    "read_timeline: query kinds: pattern is narrower now": KINDS,
    "SignInIn as sent/totp is gone": UNREAD,
}


def main(path: str) -> None:
    """Prints each break that is not accepted, and then exits with 1."""
    found = breaks(json.loads(RELEASED.read_text()), json.loads(Path(path).read_text()))
    unexpected = [one for one in found if one not in ACCEPTED]
    if unexpected:
        print("\n".join(["Clients of the last release break:", *unexpected]))
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
