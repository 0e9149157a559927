"""Clients that other people's generators make of the OpenAPI document, as docs/integrate.md says to call them."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
BIN = HERE / ".venv" / "bin"
MODULES = HERE / "node_modules" / ".bin"
PATH = os.pathsep.join([str(BIN), str(MODULES), str(Path(sys.executable).parent), os.environ["PATH"]])
INSTALL = "-m pip install --quiet --no-deps --only-binary :all: --require-hashes --requirement requirements.lock"

TYPESCRIPT = {
    "openapi-typescript": "openapi-typescript openapi.json --default-non-nullable=false -o openapi_ts/schema.ts",
    "@hey-api/openapi-ts": "openapi-ts --input openapi.json --output hey_api --client @hey-api/client-fetch",
    "orval": "orval --input openapi.json --output orval/client.ts --client fetch",
    "swagger-typescript-api": "swagger-typescript-api generate --path openapi.json --output swagger --name client.ts",
}
PYTHON = {
    "openapi-python-client": "openapi-python-client generate --path openapi.json --meta none --output-path attrs_client"
    " --overwrite --fail-on-warning",
    "datamodel-code-generator": "datamodel-codegen --input openapi.json --input-file-type openapi"
    " --output pydantic_client.py --output-model-type pydantic_v2.BaseModel --use-annotated --collapse-root-models"
    " --extra-fields allow --set-default-enum-member --target-python-version 3.11 --formatters builtin",
}
# The first one's own __exit__ is not strict.
MYPY = "[mypy]\nstrict = True\n[mypy-attrs_client.client]\nignore_errors = True\n"


def install() -> None:
    """Installs what both lock files name, once; one process does it while others wait."""
    with (HERE / "package-lock.json").open() as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        if _is_older(HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"):
            run(["npm", "ci", "--ignore-scripts", "--no-progress"], HERE)
        if _is_older(BIN / "installed", HERE / "requirements.lock"):
            run([sys.executable, "-m", "venv", "--clear", str(BIN.parent)], HERE)
            run([str(BIN / "python"), *INSTALL.split()], HERE)
            (BIN / "installed").touch()


def generate(document: str, directory: Path, commands: Iterable[str]) -> None:
    """Clients of this document in the directory."""
    (directory / "openapi.json").write_text(document)
    for command in commands:
        run(command.split(), directory)


def run(command: list[str], directory: Path, **more: str) -> str:
    """What the command prints; fails with all that it said where it does."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | {"PATH": PATH} | more
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def _is_older(made: Path, lock: Path) -> bool:
    return not made.exists() or made.stat().st_mtime < lock.stat().st_mtime
