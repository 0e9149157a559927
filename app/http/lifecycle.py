"""Whether this process is closing down."""


class Lifecycle:
    """Read by /readyz, set by the server."""

    def __init__(self) -> None:
        self.draining = False
