"""`make bench-peers`: the service beside PocketBase, each workload on both in turn, and how durable either is."""

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from app.postgres import embedded
from bench import pocketbase, report, stage
from bench.drivers import drive_with_wrk
from bench.pocketbase import Pocket
from bench.report import Row
from bench.run import arguments, compare, options
from bench.workloads import DIARY, POCKETBASE, WORKLOADS, Workload


def workloads(pocket: Pocket) -> list[Workload]:
    """What both can do."""
    theirs = {
        "create": pocket.creating,
        "push-100": pocket.pushing,
        "timeline-50": pocket.reading,
        "pull-100": pocket.pulling,
    }
    return [
        replace(one, plans={DIARY: one.plans[DIARY], POCKETBASE: theirs[one.name]})
        for one in WORKLOADS
        if one.name in theirs
    ]


async def run(asked: argparse.Namespace, postgres: embedded.Server, directory: Path) -> tuple[list[Row], str]:
    """The whole comparison on a stage of its own, and what each side's settings promise."""
    async with (
        stage.staged(postgres, directory, asked.size, asked.patients, asked.workers) as place,
        pocketbase.serving(place, asked.pocketbase, asked.size) as pocket,
    ):
        chosen = workloads(pocket)
        rows = await compare(place, chosen, drive_with_wrk, asked.seconds, asked.rounds, asked.connections)
        return rows, await pocketbase.durability(place, asked.pocketbase)


def main() -> None:
    parser = arguments("make bench-peers")
    parser.add_argument("--pocketbase", type=Path, required=True, help="the program")
    asked = parser.parse_args()
    known = report.circumstances(**options(asked))
    with stage.postgres_server() as (postgres, directory):
        rows, durability = asyncio.run(run(asked, postgres, directory))
    text = f"{report.table(rows)}\n\n{durability}"
    print(f"\n{report.sentence(known)}\n\n{text}")
    report.write_json(report.ROOT / "build" / "bench.json", "peers", known, report.as_json(rows))
    if asked.docs:
        report.write_docs(report.ROOT / "docs" / "performance.md", "bench-peers", known, text)
    sys.exit(any(row.errors or not row.verified for row in rows))


if __name__ == "__main__":
    main()
