"""One run: a workload on one side for a while, what it cost, and whether all that was acknowledged is there."""

import asyncio
from dataclasses import dataclass

from bench import processes
from bench.drivers import Driver, Run
from bench.stage import Server, Stage
from bench.workloads import Workload

BUSY = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() AND datname IS NOT NULL"


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
    connections = min(connections, workload.most)
    server = stage.servers[side]
    await _quiet(stage)
    before = await server.count() if workload.stores != 0 else 0
    server_cpu, database_cpu = _cpu(server)
    run = await driver(server.port, plan, seconds, connections, workload.stores is None)
    server_after, database_after = _cpu(server)
    await _quiet(stage)
    stored = await server.count() if workload.stores != 0 else 0
    accepted = run.created if workload.stores is None else run.requests - run.refused
    each = 1 if workload.stores is None else workload.stores
    return Measured(
        run=run,
        server_cpu=(server_after - server_cpu) / max(1, run.requests),
        database_cpu=(database_after - database_cpu) / max(1, run.requests),
        resident=processes.resident_bytes(server.process.pid),
        stored=stored - before,
        acknowledged=accepted * each,
        in_flight=connections * each,
    )


def _cpu(server: Server) -> tuple[float, float]:
    spent = processes.cpu_seconds(server.process.pid)
    return spent, processes.cpu_seconds(server.database) if server.database else 0.0


async def _quiet(stage: Stage) -> None:
    """Waits for the requests that the end of a run cut off: their answers are lost, what they do is not."""
    calm = 0
    while calm < 3:
        await asyncio.sleep(0.01)
        calm = 0 if await stage.owner.fetchval(BUSY) else calm + 1
