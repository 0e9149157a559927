"""One run: a workload on one side for a while, what it cost, and whether all that was acknowledged is there."""

from dataclasses import dataclass

from bench import processes
from bench.drivers import Driver, Run
from bench.stage import Stage
from bench.workloads import BARE, Workload

STORED = "SELECT count(*) FROM records"
STORED_BARE = "SELECT count(*) FROM entries"


@dataclass(frozen=True)
class Measured:
    """A run with its costs: processor seconds per request, resident bytes of the server, records found stored."""

    run: Run
    server_cpu: float
    database_cpu: float
    resident: int
    stored: int
    acknowledged: int
    in_flight: int  # at most so many requests were cut off by the end of the run, and may have been done

    @property
    def rate(self) -> float:
        """Accepted requests a second."""
        return (self.run.requests - self.run.refused) / self.run.seconds

    @property
    def cpu(self) -> float:
        """Of server and database."""
        return self.server_cpu + self.database_cpu

    @property
    def errors(self) -> int:
        """Requests that were refused or got no answer."""
        return self.run.refused + self.run.broken

    @property
    def verified(self) -> bool:
        """Whether everything acknowledged is stored, and nothing that nobody sent."""
        return 0 <= self.stored - self.acknowledged <= self.in_flight


async def measure(
    stage: Stage, workload: Workload, side: str, driver: Driver, seconds: float, connections: int
) -> Measured:
    """What came of so many seconds of a workload on one side."""
    plan = workload.plans[side](stage)
    server = stage.servers[side]
    before = await _stored(stage, side)
    server_cpu, database_cpu = _cpu(stage, side)
    run = await driver(server.port, plan, seconds, connections, workload.stores is None)
    server_after, database_after = _cpu(stage, side)
    accepted = run.created if workload.stores is None else run.requests - run.refused
    each = 1 if workload.stores is None else workload.stores
    return Measured(
        run=run,
        server_cpu=(server_after - server_cpu) / max(1, run.requests),
        database_cpu=(database_after - database_cpu) / max(1, run.requests),
        resident=processes.resident_bytes(server.process.pid),
        stored=await _stored(stage, side) - before,
        acknowledged=accepted * each,
        in_flight=connections * each,
    )


def _cpu(stage: Stage, side: str) -> tuple[float, float]:
    return processes.cpu_seconds(stage.servers[side].process.pid), processes.cpu_seconds(stage.postmaster)


async def _stored(stage: Stage, side: str) -> int:
    connection, question = (stage.bare_owner, STORED_BARE) if side == BARE else (stage.owner, STORED)
    count: int = await connection.fetchval(question)
    return count
