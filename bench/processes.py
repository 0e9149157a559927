"""What processes cost: the processor time and memory of a process and its children, as Linux counts them."""

import os
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(root: int) -> float:
    """The time that the process and its children, alive or gone, have spent on a processor."""
    reaped = sum(int(field) for field in _stat(root)[13:15]) / TICKS
    return reaped + sum(map(_thread_seconds, family(root)))


def resident_bytes(root: int) -> int:
    """The memory of the process and its children; what they share counts for each."""
    return sum(int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE for pid in family(root))


def family(root: int) -> list[int]:
    """The process, its children and theirs."""
    found = [root]
    for pid in found:
        for listed in (PROC / str(pid) / "task").glob("*/children"):
            found += map(int, _read(listed).split())
    return found


def _thread_seconds(pid: int) -> float:
    return sum(float(_read(one).partition(" ")[0] or 0) for one in (PROC / str(pid) / "task").glob("*/schedstat")) / 1e9


def _stat(pid: int) -> list[str]:
    return _read(PROC / str(pid) / "stat").rpartition(")")[2].split()


def _read(path: Path) -> str:
    """The file, or nothing of a thread that has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
