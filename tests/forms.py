"""The two forms of what is long by nature: a short one for `make test`, the whole for `make verify`.

`@pytest.mark.long` is in the whole only; `@pytest.mark.scaled` is in both, of the size that `size()` says.
"""

import os
from typing import NoReturn

import pytest

LONG = "LONG" in os.environ


def size(name: str, short: int, long: int) -> int:
    """How much of it: what the environment says, or the form that is run."""
    return int(os.environ.get(name) or (long if LONG else short))


def skip(reason: str) -> NoReturn:
    """Passes over what this machine cannot do; under NO_SKIPS it fails, for who wants all proved."""
    if "NO_SKIPS" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)
