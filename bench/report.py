"""The table of a run, its JSON, and its place in the documentation."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import Measured
from bench.workloads import Workload

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- make {}: begin -->", "<!-- make {}: end -->"
COLUMNS = ["workload", "side", "requests/s", "p50 ms", "p99 ms", "errors", "CPU µs/request", "server", "PostgreSQL"]
COLUMNS += ["RSS MB", "rows verified"]
Runs = dict[str, list[Measured]]  # by side, in the order of the rounds


@dataclass(frozen=True)
class Row:
    """Medians over the rounds of one workload on one side."""

    workload: str
    side: str
    rate: float
    p50: float
    p99: float
    errors: int
    cpu: float  # microseconds per request
    server_cpu: float
    database_cpu: float
    resident: float  # megabytes
    acknowledged: int | None  # records; None where nothing is written
    stored: int | None
    verified: bool  # all that was acknowledged is stored, and no more than was sent
    ratios: dict[str, float]  # "rate/bare", "cpu/bare", …
    goals: dict[str, bool]


def rows_of(workload: Workload, runs: Runs) -> list[Row]:
    """One row for each side, the service's with its ratios and goals."""
    return [_row(workload, side, runs) for side in runs]


def _row(workload: Workload, side: str, runs: Runs) -> Row:
    found = runs[side]
    others = sorted(runs.keys() - {side}) if side == "diary" else []
    ratios = {f"{figure}/{other}": _ratio(figure, found, runs[other]) for other in others for figure in ("rate", "cpu")}
    known = [goal for goal in workload.goals if f"{goal.figure}/{goal.side}" in ratios]
    return Row(
        workload=workload.name,
        side=side,
        rate=median(one.rate for one in found),
        p50=median(one.run.p50 for one in found),
        p99=median(one.run.p99 for one in found),
        errors=sum(one.errors for one in found),
        cpu=median(one.cpu for one in found) * 1e6,
        server_cpu=median(one.server_cpu for one in found) * 1e6,
        database_cpu=median(one.database_cpu for one in found) * 1e6,
        resident=max(one.resident for one in found) / 1e6,
        acknowledged=sum(one.acknowledged for one in found) if workload.stores != 0 else None,
        stored=sum(one.stored for one in found) if workload.stores != 0 else None,
        verified=all(one.verified for one in found),
        ratios=ratios,
        goals={str(goal): goal.reached(ratios[f"{goal.figure}/{goal.side}"]) for goal in known},
    )


def _ratio(figure: str, ours: list[Measured], others: list[Measured]) -> float:
    """The median of the rounds' ratios: both sides of one had the same neighbours on the machine."""
    pairs = [(getattr(a, figure), getattr(b, figure)) for a, b in zip(ours, others, strict=True)]
    return median(mine / theirs if theirs else inf for mine, theirs in pairs)


def table(rows: Sequence[Row]) -> str:
    """All rows as one table: Markdown that reads well as plain text too."""
    ratios = list(dict.fromkeys(name for row in rows for name in row.ratios))
    titles = [*COLUMNS, *(name.replace("/", " ÷ ") for name in ratios), "goals"]
    return aligned([titles, *([*_figures(row), *_ratios(row, ratios), _goals(row)] for row in rows)])


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table of these cells, whose first row holds the titles."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _figures(row: Row) -> list[str]:
    verified = f"{row.acknowledged}" if row.verified else f"NO: {row.stored} of {row.acknowledged}"
    speed = [f"{row.rate:.0f}", f"{row.p50:.1f}", f"{row.p99:.1f}", f"{row.errors}"]
    costs = [f"{row.cpu:.0f}", f"{row.server_cpu:.0f}", f"{row.database_cpu:.0f}", f"{row.resident:.0f}"]
    return [row.workload, row.side, *speed, *costs, "" if row.stored is None else verified]


def _ratios(row: Row, names: list[str]) -> list[str]:
    return [f"{row.ratios[name]:.2f}" if name in row.ratios else "" for name in names]


def _goals(row: Row) -> str:
    return ", ".join(f"{goal}: {'yes' if reached else 'NO'}" for goal, reached in row.goals.items())


def circumstances(**chosen: Any) -> dict[str, Any]:
    """What a figure means nothing without."""
    model = next((line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": len(os.sched_getaffinity(0)),
        "model": model,
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        **chosen,
    }


def write_json(path: Path, name: str, known: dict[str, Any], found: Any) -> None:
    """Puts one result into the file, beside the others that are there."""
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | {name: {"circumstances": known, "result": found}}, indent=2) + "\n")


def write_docs(path: Path, command: str, known: dict[str, Any], text: str) -> None:
    """Replaces what stands between the two marks of a command; appends them where there are none."""
    begin, end = BEGIN.format(command), END.format(command)
    page = path.read_text() if path.exists() else "# Performance\n"
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{sentence(known)}\n\n{text}\n{end}{after}")


def sentence(known: dict[str, Any]) -> str:
    """The circumstances in one line."""
    return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in known.items())


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for a program."""
    return [asdict(row) for row in rows]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
