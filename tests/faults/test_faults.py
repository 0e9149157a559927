"""The short form of every experiment, and the mutants that it must find; `make faults` runs the long ones."""

from collections.abc import Iterator

import pytest

from tests.faults.catalogue import EXPERIMENTS, Experiment, Mutant
from tests.faults.disks import CannotMount
from tests.faults.servers import Postgres, postgres
from tests.forms import skip

pytestmark = pytest.mark.anyio

SEED = 1
SOUND = [pytest.param(one, id=one.name, marks=() if one.quick else pytest.mark.long) for one in EXPERIMENTS]
PLANTED = [
    pytest.param(one, mutant, id=f"{one.name}-{mutant.name}", marks=() if mutant.quick else pytest.mark.long)
    for one in EXPERIMENTS
    for mutant in one.mutants
]


@pytest.fixture(scope="module")
def victim() -> Iterator[Postgres]:
    """A PostgreSQL that nobody else needs."""
    with postgres() as running:
        yield running


@pytest.mark.parametrize("experiment", SOUND)
async def test_nothing_is_lost_doubled_or_brought_back_when(experiment: Experiment, victim: Postgres) -> None:
    try:
        verdict = await experiment.verdict(victim, SEED, experiment.short)
    except CannotMount as reason:
        skip(str(reason))
    assert verdict.sound, verdict


@pytest.mark.parametrize(("experiment", "mutant"), PLANTED)
async def test_it_is_noticed_that(experiment: Experiment, mutant: Mutant, victim: Postgres) -> None:
    try:
        assert await experiment.finds(mutant, victim, SEED)
    except CannotMount as reason:
        skip(str(reason))
