"""`make faults`: every experiment at full size, every mutant, and docs/faults.md from what came of it.

Exits 1 where something was lost or a mutant was not found. SEED chooses another run, WORDS some of the experiments;
then the document stays as it is.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from secrets import randbelow

from tests.faults.catalogue import EXPERIMENTS, Experiment
from tests.faults.disks import CannotMount
from tests.faults.oracle import Verdict
from tests.faults.servers import Postgres, postgres
from tests.serving import ROOT

DOCUMENT = ROOT / "docs" / "faults.md"
HEAD = """# Faults

Written by `make faults`, with seed {seed}. Phones make changes by the clock, whatever happens to the server, and send
each until it is answered; readers fold pages of 1, 7, 37 and 200, and crash between any two transactions of theirs.
What was acknowledged is then compared with the database, and what every reader holds with a full pull and with the
table. A mutant is the same experiment, small, with a fault planted that it has to find.

- lost: acknowledged, and not in the history as it was acknowledged; after a restore, not as last acknowledged
- duplicates: mutations applied more than once
- resurrected: records that live after their deletion
- diverged: readers that hold something else than the server, or never came to an end
- wrong: what a diary's own check found, and answers that no phone should get

| experiment | done | acknowledged | lost | duplicates | resurrected | diverged | wrong | mutant found |
|--|--|--:|--:|--:|--:|--:|--:|--|
"""


@dataclass
class Row:
    """One line of the table."""

    experiment: Experiment
    verdict: Verdict
    found: dict[str, bool]

    @property
    def good(self) -> bool:
        """Sound, and not blind."""
        return self.verdict.sound and all(self.found.values())

    def __str__(self) -> str:
        v = self.verdict
        found = "; ".join(f"{name}: {'yes' if found else '**no**'}" for name, found in self.found.items())
        figures = [v.acknowledged, v.lost, v.duplicates, v.resurrected, v.diverged, len(v.faults)]
        return "| " + " | ".join([self.experiment.name, v.did, *map(str, figures), found]) + " |"


def main(words: list[str]) -> None:
    """Ends the process."""
    seed = int(os.environ.get("SEED") or randbelow(1_000_000))
    say(f"seed {seed}")
    chosen = [one for one in EXPERIMENTS if not words or any(word in one.name for word in words)]
    with postgres() as victim:
        rows = [row for one in chosen if (row := carry_out(one, victim, seed))]
    if chosen == list(EXPERIMENTS):
        DOCUMENT.write_text(HEAD.format(seed=seed) + "".join(f"{row}\n" for row in rows))
    sys.exit(0 if rows and all(row.good for row in rows) else 1)


def carry_out(experiment: Experiment, victim: Postgres, seed: int) -> Row | None:
    """What came of one experiment and its mutants; None where this machine does not allow it."""
    try:
        verdict = asyncio.run(experiment.verdict(victim, seed, experiment.long))
        found = {one.name: asyncio.run(experiment.finds(one, victim, seed)) for one in experiment.mutants}
    except CannotMount as reason:
        say(f"not done: {experiment.name}: {reason}")
        return None
    row = Row(experiment, verdict, found)
    say(str(row))
    for fault in verdict.faults:
        say(f"  wrong: {fault}")
    return row


def say(line: str) -> None:
    """Prints at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
