"""The short form of `make bench`: every workload is answered on every side, and what was acknowledged is stored."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from app.postgres import embedded
from app.services import verify
from bench import memory, report, run, stage
from bench.drivers import GAP, SEPARATOR, Run, drive_in_python
from bench.measure import Measured
from bench.memory import Sample
from bench.report import Row
from bench.workloads import BARE, DIARY, EQUAL, WORKLOADS, Goal, Workload

SIZE, PATIENTS, CONNECTIONS = 600, 6, 2
SPENT = Run(requests=10, seconds=2, p50=1, p99=2, refused=0, broken=0, created=10)
FINE = Measured(
    SPENT, server_cpu=1e-3, database_cpu=1e-3, resident=10**8, stored=11, acknowledged=10, in_flight=CONNECTIONS
)


@pytest.mark.long
def test_every_workload_is_answered_on_every_side_and_what_was_acknowledged_is_stored() -> None:
    with stage.postgres_server() as (postgres, directory):
        rows, samples = asyncio.run(_measure_all(postgres, directory))
        assert verify.run(postgres.url("postgres", "diary")) == []
    assert {(row.workload, row.side) for row in rows} >= {(one.name, DIARY) for one in WORKLOADS}
    assert {(row.workload, row.side) for row in rows} >= {
        (one.name, side) for one in WORKLOADS[:7] for side in (EQUAL, BARE)
    }
    assert [(row.workload, row.side, row.errors) for row in rows if row.errors or not row.verified] == []
    assert all(row.stored == row.acknowledged for row in rows)  # nothing is cut off: this driver waits
    stored = {row.workload: row.stored for row in rows if row.side == DIARY}
    assert stored["create"] == CONNECTIONS
    assert stored["push-100"] == 100 * CONNECTIONS
    assert stored["timeline-50"] is None
    assert all(row.server_cpu > 0 and row.database_cpu > 0 and row.resident > 10 for row in rows)
    assert report.table(rows).count("\n") == len(rows) + 1
    assert [one.minutes for one in samples] == [0, 0.005, 0.01]
    assert all(one.requests > 0 and one.errors == 0 for one in samples[1:])
    assert all(one.resident > 10_000_000 for one in samples)


async def _measure_all(postgres: embedded.Server, directory: Path) -> tuple[list[Row], list[Sample]]:
    async with (
        stage.staged(postgres, directory, SIZE, PATIENTS, workers=1) as place,
        stage.with_references(place, SIZE, workers=1),
    ):
        plans = [plan(place) for one in WORKLOADS for plan in one.plans.values()]
        assert not any(SEPARATOR in request for plan in plans for request in plan)
        rows = await run.compare(place, WORKLOADS, drive_in_python, 0, 1, CONNECTIONS)
        return rows, await memory.watch(place, drive_in_python, 2, 0.3, CONNECTIONS)


def test_a_row_that_is_missing_is_told() -> None:
    [row] = report.rows_of(Workload("create", {}, 1), {DIARY: [replace(FINE, stored=9)]})
    assert not row.verified
    assert "NO: 9 of 10" in report.table([row])


def test_a_row_that_nobody_sent_is_told() -> None:
    [row] = report.rows_of(Workload("create", {}, 1), {DIARY: [replace(FINE, stored=13)]})
    assert not row.verified


def test_goals_are_judged_by_the_median_ratio_of_the_rounds() -> None:
    slow = replace(FINE, run=replace(SPENT, seconds=4), server_cpu=3e-3)
    workload = Workload("create", {}, 1, [Goal(BARE, "rate", 0.5), Goal(BARE, "cpu", 1.9)])
    ours, others = report.rows_of(workload, {DIARY: [slow, slow, FINE], BARE: [FINE] * 3})
    assert ours.ratios == {"rate/bare": 0.5, "cpu/bare": 2.0}
    assert list(ours.goals.values()) == [True, False]
    assert not others.ratios


def test_what_memory_grows_by_is_told_for_the_second_half() -> None:
    resident = [90, 120, 140, 150, 151, 152]
    samples = [Sample(minute, 9, 0, megabytes * 1_000_000) for minute, megabytes in enumerate(resident)]
    assert memory.summary(samples).endswith("At most 152.0 MB; in the second half +60.0 MB an hour.")
    assert "| 1      | 9        | 0      | 120.0  |" in memory.summary(samples)


def test_the_documentation_keeps_what_stands_around_the_table(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    begin, end = "<!-- make bench: begin -->", "<!-- make bench: end -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    report.write_docs(page, "bench", {"size": 3}, "| new |")
    assert page.read_text() == f"before\n{begin}\nsize: 3\n\n| new |\n{end}\nafter\n"


def test_the_result_of_one_command_leaves_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    report.write_json(path, "compare", {}, [1])
    report.write_json(path, "disk", {}, [2])
    assert path.read_text().count('"result"') == 2


def test_the_script_of_wrk_looks_for_the_gaps_that_plans_have() -> None:
    script = (Path(run.__file__).parent / "lua" / "replay.lua").read_text()
    assert f'GAP = "{GAP}"' in script
    assert f'SEPARATOR = "\\{SEPARATOR[0]}"' in script
