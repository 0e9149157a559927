"""What a generated client says that it saw, whoever generated it."""

import json
import sys
from typing import Any


def tell(records: list[Any], unknown: Any, timeline: Any, pushed: Any, again: Any) -> None:
    """As JSON: of these records the unknown kinds, and what came of a push and of the pull after it."""
    seen = {
        "unknown": [record.kind for record in records if isinstance(record, unknown)],
        "timeline": len(timeline.items),
        "pushed": [result.status for result in pushed.results],
        "after": [change.version for change in again.changes],
        "errors": [str(one) for one in pushed.results[0].errors or ()],
    }
    json.dump(seen, sys.stdout)
