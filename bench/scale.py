"""`make bench-scale`: what changes with the number of entries, of connections and workers, of phones, and on the disk.

growth   create, timeline and pull at several sizes, in turn
crowd    one and two workers, 64 and 512 connections, in turn
outage   5 000 phones that come back within ten seconds
disk     bytes per entry, and what each index costs and did
"""

import argparse
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import Any

import uvloop

from bench import outage, report, stage
from bench.drivers import drive_with_wrk
from bench.measure import Measured, measure
from bench.run import arguments, options
from bench.stage import Stage
from bench.workloads import DIARY, WORKLOADS, Workload

QUIET_CONNECTIONS = 4  # a latency that queues have no part in
CROWDS = (64, 512)
RELATIONS = """
    SELECT c.relname AS name, t.relname AS of, c.relkind = 'i' AS index, pg_relation_size(c.oid) AS bytes,
           coalesce(s.idx_scan, 0) AS scans
    FROM pg_class c
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
    LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = c.oid
    WHERE t.relname = ANY ($1) AND c.relkind IN ('r', 'i')
    ORDER BY t.relname, c.relkind DESC, bytes DESC
"""
TOASTED = "SELECT pg_total_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'records'"


def chosen(*names: str) -> list[Workload]:
    """The workloads of these names."""
    return [one for one in WORKLOADS if one.name in names]


async def grow(asked: argparse.Namespace) -> str:
    """Latency at several sizes; the ratios are to the smallest."""
    sizes = [int(size) for size in asked.sizes.split()]
    async with AsyncExitStack() as stages:
        places = [await stages.enter_async_context(_place(asked, size)) for size in sizes]
        cells = [["workload", "entries", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "p50 ÷ smallest"]]
        for workload in chosen("create", "timeline-50", "pull-100"):
            sides = [(place, DIARY, QUIET_CONNECTIONS) for place in places]
            found = await _in_turn(asked, workload, sides)
            least = median(one.run.p50 for one in found[0])
            for size, runs in zip(sizes, found, strict=True):
                ratio = median(one.run.p50 for one in runs) / least
                cells.append([workload.name, f"{size}", *_figures(runs), f"{ratio:.2f}"])
    return report.aligned(cells)


async def crowd(asked: argparse.Namespace) -> str:
    """One and two workers, few and many connections."""
    cells = [["workload", "workers", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs/request"]]
    cells[0] += ["refused", "broken"]
    async with _place(asked, asked.size) as place, stage.with_service(place, "two", 2):
        for workload in chosen("create", "timeline-50"):
            two = Workload(workload.name, workload.plans | {"two": workload.plans[DIARY]}, workload.stores)
            sides = [(place, side, connections) for connections in CROWDS for side in (DIARY, "two")]
            for (_, side, connections), runs in zip(sides, await _in_turn(asked, two, sides), strict=True):
                workers = "1" if side == DIARY else "2"
                failures = [f"{sum(getattr(one.run, name) for one in runs)}" for name in ("refused", "broken")]
                cells.append([workload.name, workers, f"{connections}", *_figures(runs), *failures])
    return report.aligned(cells)


async def reconnect(asked: argparse.Namespace) -> str:
    """Everybody comes back at once."""
    async with _place(asked, asked.size) as place:
        outcome = await outage.reconnect(place, asked.devices, asked.workers)
    return report.aligned([["what", "how much"], *([name, str(value)] for name, value in outcome.summary().items())])


async def weigh(asked: argparse.Namespace) -> str:
    """Bytes on the disk: of what each entry needs for itself, and of the audit row that each request leaves."""
    async with _place(asked, asked.size) as place:
        for workload in chosen("create", "timeline-50", "pull-100"):
            await measure(place, workload, DIARY, drive_with_wrk, asked.seconds, asked.connections)
        await place.owner.execute("VACUUM ANALYZE")
        entries = await place.owner.fetchval("SELECT count(*) FROM records")
        events = await place.owner.fetchval("SELECT count(*) FROM audit_events")
        rows = await place.owner.fetch(RELATIONS, ["records", "record_versions", "audit_events"])
        toasted = await place.owner.fetchval(TOASTED)
    cells = [["relation", "of", "MB", "bytes per row", "scans meanwhile"]]
    for row in rows:
        count = events if row["of"] == "audit_events" else entries
        scans = f"{row['scans']}" if row["index"] else ""
        cells.append([row["name"], row["of"], f"{row['bytes'] / 1e6:.1f}", f"{row['bytes'] / count:.0f}", scans])
    kept = (sum(row["bytes"] for row in rows if row["of"] != "audit_events") + toasted) / entries
    audited = sum(row["bytes"] for row in rows if row["of"] == "audit_events") / events
    said = f"{entries} entries, {events} audited requests: {kept:.0f} bytes per entry and its version"
    return f"{report.aligned(cells)}\n\n{said}, {audited:.0f} bytes per audited request; toast {toasted / 1e6:.1f} MB."


@asynccontextmanager
async def _place(asked: argparse.Namespace, size: int) -> AsyncIterator[Stage]:
    """A stage with a PostgreSQL of its own."""
    with stage.postgres_server() as (postgres, directory):
        async with stage.staged(postgres, directory, size, asked.patients, asked.workers) as place:
            yield place


async def _in_turn(
    asked: argparse.Namespace, workload: Workload, sides: Iterable[tuple[Stage, str, int]]
) -> list[list[Measured]]:
    """The runs on each side, after one that warms up."""
    listed = list(sides)
    runs: list[list[Measured]] = [[] for _ in listed]
    for turn in range(asked.rounds + 1):
        for (place, side, connections), found in zip(listed, runs, strict=True):
            one = await measure(place, workload, side, drive_with_wrk, asked.seconds if turn else 1, connections)
            assert one.verified, f"{one.stored} of {one.acknowledged} are stored"
            if turn:
                found.append(one)
    return runs


def _figures(runs: list[Measured]) -> list[str]:
    speed = f"{median(one.rate for one in runs):.0f}"
    latency = [f"{median(getattr(one.run, name) for one in runs):.1f}" for name in ("p50", "p99")]
    return [speed, *latency, f"{median(one.cpu for one in runs) * 1e6:.0f}"]


QUESTIONS: dict[str, Any] = {"growth": grow, "crowd": crowd, "outage": reconnect, "disk": weigh}


def main() -> None:
    parser = arguments("make bench-scale")
    parser.add_argument("--sizes", default="10000 1000000 5000000", help="of growth")
    parser.add_argument("--devices", type=int, default=5000, help="of outage")
    parser.add_argument("--what", default=" ".join(QUESTIONS), help="some of the questions")
    asked = parser.parse_args()
    texts = []
    for name in asked.what.split():
        known = report.circumstances(**options(asked))
        text = uvloop.run(QUESTIONS[name](asked))  # five thousand phones in one process
        texts.append(f"{name}; {report.sentence(known)}\n\n{text}")
        print(f"\n{texts[-1]}")
        report.write_json(report.ROOT / "build" / "bench.json", name, known, text.splitlines())
    if asked.docs:
        report.write_docs(report.ROOT / "docs" / "performance.md", "bench-scale", {}, "\n\n".join(texts))


if __name__ == "__main__":
    main()
