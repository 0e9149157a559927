"""initdb runs once for all tests: who needs a cluster of their own gets a copy, as in PostgreSQL's own tests."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from app.postgres import programs
from app.postgres.programs import UnixAccount

Program = Callable[..., str]


def copy_made(templates: Path) -> None:
    """From now on `programs.run()` keeps here what initdb makes, and copies it where the same is asked for."""
    templates.mkdir(mode=0o755, exist_ok=True)
    run = programs.run

    def copying(account: UnixAccount | None, program: Path, *arguments: str | Path, script: str = "") -> str:
        if program.name != "initdb":
            return run(account, program, *arguments, script=script)
        _, target, *options = arguments
        template = templates / sha256(repr((account, program, options)).encode()).hexdigest()[:12]
        with Path(f"{template}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                _make(run, account, program, template, options)
        subprocess.run(["cp", "-a", f"{template}/.", target], check=True)
        return ""

    programs.run = copying


def _make(run: Program, account: UnixAccount | None, program: Path, template: Path, options: list[str | Path]) -> None:
    """A cluster that no server has run on; none is left where initdb fails."""
    partial = Path(f"{template}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if account is not None:
        os.chown(partial, account.uid, account.gid)
    run(account, program, "-D", partial, *options)
    partial.rename(template)
