"""`make mutants`: applies each mutant to a copy of the service and runs its tests, which must turn red.

Prints a table, and exits 1 when a mutant survives. Words on the command line choose the mutants whose names have them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from mutants import ROOT, Mutant
from mutants.catalogue import MUTANTS

LONGEST_SECONDS = 240  # for the tests of one mutant
WORKERS = os.cpu_count() or 1
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "node_modules")


def main(words: list[str]) -> None:
    """Ends the process: 1 where a mutant survived, or where the tests are red without one."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    with copies() as free, ThreadPoolExecutor(WORKERS) as workers:
        try:
            list(workers.map(lambda tests: refuse_red(tests, free), sorted({mutant.tests for mutant in chosen})))
            verdicts = list(workers.map(lambda mutant: judge(mutant, free), chosen))
        finally:
            workers.shutdown(cancel_futures=True)  # Ctrl-C waits for those that run, not for all
    survivors = verdicts.count(False)
    say(f"{len(chosen)} mutants, {survivors} not caught")
    sys.exit(1 if survivors or not chosen else 0)


@contextmanager
def copies() -> Iterator[SimpleQueue[Path]]:
    """A copy of the service for each worker."""
    free: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="diary-mutants-") as directory:
        Path(directory).chmod(0o755)
        for number in range(WORKERS):
            free.put(Path(shutil.copytree(ROOT, Path(directory) / str(number), ignore=LEFT_OUT)))
        yield free


def refuse_red(tests: str, free: "SimpleQueue[Path]") -> None:
    """Ends the process where one of these fails without a mutant: then it would say nothing with one."""
    root = free.get()
    red = first_failure(root, tests)
    free.put(root)
    if red:
        sys.exit(f"red without a mutant: {red}")


def judge(mutant: Mutant, free: "SimpleQueue[Path]") -> bool:
    """Whether a test fails with the mutant; a suite that cannot even begin, or hangs, has not caught it."""
    root, began = free.get(), time.monotonic()
    try:
        with mutant.applied(root):
            failure = first_failure(root, mutant.tests)
    except subprocess.TimeoutExpired:
        failure = "too slow"
    finally:
        free.put(root)
    caught = failure.startswith("FAILED")
    verdict = "caught  " if caught else "SURVIVED"
    say(f"{time.monotonic() - began:4.0f} s  {verdict}  {mutant.name:<56} {failure.rpartition('::')[2]}")
    return caught


def first_failure(root: Path, tests: str) -> str:
    """What pytest says of the first test that fails or cannot be run; nothing where all is well."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "--tb=no", "-p", "no:cacheprovider", *tests.split()]
    run = subprocess.run(  # noqa: S603 - of the catalogue's own words
        command, cwd=root, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
    )
    if run.returncode == 0:
        return ""
    told = [line for line in run.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return told[0].partition(" - ")[0] if told else f"pytest ended with {run.returncode}"


def say(line: str) -> None:
    """Prints at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
