"""`make bench`: the service beside two references without guarantees, each workload on each side in turn.

bare     what one writes who only has to store and list          the price of everything
equal    the same work in the database, nothing around it        the price of the framework
"""

import argparse
import asyncio
import sys
from pathlib import Path

from app.postgres import embedded
from app.services import verify
from bench import report, stage
from bench.drivers import Driver, drive_with_wrk
from bench.measure import Measured, measure
from bench.report import Row
from bench.stage import Stage
from bench.workloads import WORKLOADS, Workload

WARM_UP_SECONDS = 1


async def compare(
    place: Stage, chosen: list[Workload], driver: Driver, seconds: float, rounds: int, connections: int
) -> list[Row]:
    """The rows of the table: each workload on each side in turn, after a warm-up."""
    rows: list[Row] = []
    for workload in chosen:
        runs: dict[str, list[Measured]] = {side: [] for side in workload.plans}
        for turn in range(rounds + 1):
            for side in runs:
                lasting = seconds if turn else min(seconds, WARM_UP_SECONDS)
                found = await measure(place, workload, side, driver, lasting, connections)
                if turn:
                    runs[side].append(found)
        rows += report.rows_of(workload, runs)
        print(report.table(rows[-len(runs) :]), file=sys.stderr)
    return rows


def arguments(command: str) -> argparse.ArgumentParser:
    """What may be chosen; the Makefile hands it on."""
    parser = argparse.ArgumentParser(prog=command)
    parser.add_argument("--size", type=int, default=1_000_000, help="entries before the first request")
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--docs", action="store_true", help="rewrites its part of docs/performance.md")
    return parser


def options(asked: argparse.Namespace) -> dict[str, object]:
    """What of it a figure depends on."""
    return {name: value for name, value in vars(asked).items() if isinstance(value, int | float) and name != "docs"}


async def run(asked: argparse.Namespace, postgres: tuple[embedded.Server, Path]) -> list[Row]:
    """The whole comparison on a stage of its own."""
    words = asked.only.split() or [""]
    chosen = [one for one in WORKLOADS if any(word in one.name for word in words)]
    async with (
        stage.staged(*postgres, asked.size, asked.patients, asked.workers) as place,
        stage.with_references(place, asked.size, asked.workers),
    ):
        return await compare(place, chosen, drive_with_wrk, asked.seconds, asked.rounds, asked.connections)


def main() -> None:
    parser = arguments("make bench")
    parser.add_argument("--only", default="", help="words: the workloads whose names hold one of them")
    asked = parser.parse_args()
    known = report.circumstances(**options(asked))
    with stage.postgres_server() as (postgres, directory):
        rows = asyncio.run(run(asked, (postgres, directory)))
        damage = verify.run(postgres.url("postgres", "diary"))
    text = report.table(rows)
    print(f"\n{report.sentence(known)}\n\n{text}\n\npain-diary verify: {damage or 'nothing wrong'}")
    report.write_json(report.ROOT / "build" / "bench.json", "compare", known, report.as_json(rows))
    if asked.docs:
        report.write_docs(report.ROOT / "docs" / "performance.md", "bench", known, text)
    if damage or any(row.errors or not row.verified for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
