"""Programs that tests run as an operator would, in an environment in which nothing of ours is configured."""

import os
import subprocess
from pathlib import Path


def said(*command: str, directory: Path, **settings: str) -> str:
    """What a command prints that succeeds, in this directory and with these settings only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DIARY_", "COV_", "PYTHON"))}
    more = {f"DIARY_{name}": value for name, value in settings.items()}
    done = subprocess.run(command, cwd=directory, env=kept | more, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
