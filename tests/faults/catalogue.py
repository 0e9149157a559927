"""The experiments: what is done, at which size, and the faults that each must find."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.faults import builds, plants
from tests.faults.crashes import connections_lost, postgres_killed, server_killed
from tests.faults.disks import disk_full
from tests.faults.limits import clients_left
from tests.faults.oracle import Verdict
from tests.faults.phones import ForgetfulPhone
from tests.faults.poison import items_poisoned
from tests.faults.races import commits_delayed, pulled_one_by_one, replies_dropped
from tests.faults.readers import HastyReader
from tests.faults.restores import backup_restored
from tests.faults.servers import Postgres

Figure = Literal["lost", "duplicates", "resurrected", "diverged", "faults"]
Size = dict[str, Any]
TRIES = 10


@dataclass(frozen=True)
class Mutant:
    """A build, a database or a client with a fault, and the figure that must show it."""

    name: str
    planted: dict[str, Any]
    shows: Figure
    quick: bool = False  # enough for `make test`


@dataclass(frozen=True)
class Experiment:
    """One experiment in two sizes; its mutants are as small as the short one."""

    name: str
    run: Callable[..., Awaitable[Verdict]]
    short: Size
    long: Size
    mutants: tuple[Mutant, ...] = field(default=())
    quick: bool = False  # enough for `make test`

    async def verdict(self, postgres: Postgres, seed: int, size: Size) -> Verdict:
        """What comes of it as it is."""
        return await self.run(postgres, seed, **size)

    async def finds(self, mutant: Mutant, postgres: Postgres, seed: int) -> bool:
        """Whether it turns red where it should: most often at once, and by more than luck in so many tries."""
        for number in range(TRIES):
            verdict = await self.run(postgres, seed + number, **self.short, **mutant.planted)
            if getattr(verdict, mutant.shows):
                return True
        return False


EXPERIMENTS = (
    Experiment(
        "the server is killed",
        server_killed,
        {"times": 2, "connections": 8},
        {"times": 20, "connections": 64},
        (
            Mutant(
                "it acknowledges before the commit", {"program": builds.program("acknowledge_before_commit")}, "lost"
            ),
        ),
        quick=True,
    ),
    Experiment(
        "PostgreSQL is killed",
        postgres_killed,
        {"times": 1},
        {"times": 10},
        (Mutant("commits do not wait for the disk", {"plant": plants.CARELESS_COMMITS}, "lost"),),
        quick=True,
    ),
    Experiment(
        "connections to PostgreSQL are lost",
        connections_lost,
        {"times": 2},
        {"times": 20},
        (Mutant("nobody ends a statement here", {"program": builds.program("wait_for_ever")}, "faults"),),
    ),
    Experiment(
        "replies are lost",
        replies_dropped,
        {"seconds": 1.5},
        {"seconds": 30},
        (Mutant("mutation_id has no unique key, nobody looks", {"plant": plants.FORGOTTEN_MUTATIONS}, "duplicates"),),
    ),
    Experiment(
        "commits linger",
        commits_delayed,
        {"seconds": 3},
        {"seconds": 30},
        (
            Mutant("the cursor is a sequence", {"plant": plants.SEQUENCE_CURSOR}, "diverged", quick=True),
            Mutant("a late edit brings a record back", {"plant": plants.LATE_UPLOADS}, "resurrected"),
            Mutant("a phone stores the cursor before the data", {"kind": HastyReader}, "diverged"),
        ),
        quick=True,
    ),
    Experiment(
        "an older backup is restored",
        backup_restored,
        {"phones": 4, "seconds": 0.5},
        {"phones": 16, "seconds": 5},
        (Mutant("phones do not offer again", {"kind": ForgetfulPhone}, "lost"),),
    ),
    Experiment(
        "clients leave",
        clients_left,
        {"requests": 200},
        {"requests": 5000},
        (
            Mutant(
                "connections stay checked out when a client leaves",
                {"program": builds.program("keep_connections")},
                "faults",
            ),
        ),
    ),
    Experiment(
        "the disk is full",
        disk_full,
        {"times": 1},
        {"times": 10},
        (
            Mutant(
                "that is answered with 500",
                {"program": builds.program("full_disk_is_our_fault")},
                "faults",
            ),
        ),
    ),
    Experiment(
        "one by one while others write",
        pulled_one_by_one,
        {"changes": 300},
        {"changes": 5000},
        (Mutant("a page begins with the last one's end", {"plant": plants.ENDLESS_PAGES}, "diverged"),),
    ),
    Experiment(
        "poison item",
        items_poisoned,
        {"seconds": 1.5},
        {"seconds": 30},
        (
            Mutant(
                "what cannot be read is refused with all that came with it",
                {"program": builds.program("refuse_whole")},
                "faults",
            ),
            Mutant(
                "what means nothing is refused with all that came with it",
                {"program": builds.program("refuse_all_mutations")},
                "faults",
            ),
        ),
    ),
)
