"""`make bench-memory`: the memory of a worker under a mixed load, minute by minute, and whether it still grows."""

import argparse
import asyncio
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import linear_regression

from app.postgres import embedded
from bench import people, processes, report, stage
from bench.drivers import Driver, drive_with_wrk
from bench.run import arguments, options
from bench.stage import Stage
from bench.workloads import DIARY, WORKLOADS

TITLES = ["minute", "requests", "errors", "RSS MB"]
[MIXED] = [one for one in WORKLOADS if one.name == "mixed"]  # 70 % create, 20 % timeline, 10 % pull


@dataclass(frozen=True)
class Sample:
    """After so many minutes of load: what was answered since the sample before, and the bytes of the worker."""

    minutes: float
    requests: int
    errors: int
    resident: int

    def cells(self) -> list[str]:
        """Its row of the table."""
        return [f"{self.minutes:g}", f"{self.requests}", f"{self.errors}", f"{self.resident / 1e6:.1f}"]


async def watch(place: Stage, driver: Driver, samples: int, seconds: float, connections: int) -> list[Sample]:
    """A sample before the load, and one after each so many seconds of it."""
    worker = place.servers[DIARY]
    found = [Sample(0, 0, 0, processes.resident_bytes(worker.process.pid))]
    for number in range(1, samples + 1):
        await _sign_in_again(place)
        run = await driver(worker.port, MIXED.plans[DIARY](place), seconds, connections, False)
        resident = processes.resident_bytes(worker.process.pid)
        found.append(Sample(number * seconds / 60, run.requests, run.refused + run.broken, resident))
        print(dict(zip(TITLES, found[-1].cells(), strict=True)), file=sys.stderr)
    return found


async def _sign_in_again(place: Stage) -> None:
    """All at once: tokens last an hour at most, and hashing passwords takes more memory than all else."""
    async with stage.client(place) as http:
        place.people = await asyncio.gather(*(people.sign_in(http, one.email) for one in place.people))


def growth(samples: list[Sample]) -> float:
    """Bytes an hour: the slope of a line through the second half of the samples."""
    later = samples[len(samples) // 2 :]
    return linear_regression([one.minutes / 60 for one in later], [one.resident for one in later]).slope


def summary(samples: list[Sample]) -> str:
    """All samples as a table, and what is to be read from it."""
    most, slope = max(one.resident for one in samples) / 1e6, growth(samples) / 1e6
    rows = report.aligned([TITLES, *(one.cells() for one in samples)])
    return f"{rows}\n\nAt most {most:.1f} MB; in the second half {slope:+.1f} MB an hour."


async def run(asked: argparse.Namespace, postgres: tuple[embedded.Server, Path]) -> list[Sample]:
    """The samples of one worker on a stage of its own."""
    async with stage.staged(*postgres, asked.size, asked.patients, workers=1) as place:
        samples = max(2, round(asked.minutes * 60 / asked.seconds))
        driver = partial(drive_with_wrk, pause=asked.pause)
        return await watch(place, driver, samples, asked.seconds, asked.connections)


def main() -> None:
    parser = arguments("make bench-memory")
    parser.add_argument("--minutes", type=float, default=60, help="of load; a sample after each so many --seconds")
    parser.add_argument("--pause", type=int, default=0, help="of each connection before a request, in ms")
    parser.set_defaults(size=100_000, seconds=60, connections=4)
    asked = parser.parse_args()
    known = report.circumstances(**options(asked))
    with stage.postgres_server() as postgres:
        samples = asyncio.run(run(asked, postgres))
    text = summary(samples)
    print(f"\n{report.sentence(known)}\n\n{text}")
    if asked.docs:
        report.write_docs(report.ROOT / "docs" / "performance.md", "bench-memory", known, text)
    if any(one.errors for one in samples):
        sys.exit(1)


if __name__ == "__main__":
    main()
