"""Prometheus metrics: of the HTTP edge by method, route template and status, and of what stands behind it.

What happens behind the edge is counted there in plain numbers, where each microsecond is dear, and copied from time to
time. All workers of one service are one in what is answered.
"""

import asyncio
import os
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from app import __version__
from app.models.revision import REVISION
from app.postgres.database import Database
from app.services.readiness import Readiness

# Labels are chosen by us: each new value is a series that Prometheus keeps for ever, and a caller can invent methods.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

IN_PROGRESS = Gauge("diary_http_requests_in_progress", "Requests being answered now", multiprocess_mode="livesum")
LOG_LINES_DROPPED = Counter("diary_log_lines_dropped", "Log lines that nobody read in time")
_REQUESTS = Counter("diary_http_requests", "Requests answered", ["method", "route", "status"])
_SECONDS = Histogram("diary_http_request_seconds", "Time to answer a request", ["method", "route"])

_RELEASE = Gauge("diary_release", "Always 1; see the labels", ["version", "migration"], multiprocess_mode="livemax")
_READY = Gauge("diary_ready", "1 while the database lets the service do it", ["what"], multiprocess_mode="livemin")
_REPLICA = Gauge("diary_replica_ready", "1 while the replica drafts pages", multiprocess_mode="livemin")
_CONNECTIONS = Gauge(
    "diary_database_connections", "Connections to the database", ["pool", "state"], multiprocess_mode="livesum"
)
_WAITING = Gauge("diary_database_calls_waiting", "Calls that have not left yet", multiprocess_mode="livesum")
_TALLIED = {
    "calls": Counter("diary_database_calls", "Calls by group commit: how each went, or that it was refused", ["way"]),
    "statements": Counter("diary_database_statements", "Statements that carried these calls", ["way"]),
    "mutations": Counter("diary_sync_mutations", "Mutations that phones pushed, by outcome", ["outcome"]),
    "seals": Counter("diary_audit_seals", "Attempts to seal the audit trail", ["outcome"]),
}


class Sampler:
    """Copies what one application has counted, and how its database is, into the metrics."""

    def __init__(self, database: Database, readiness: Readiness) -> None:
        self._database = database
        self._readiness = readiness
        self._copied: dict[tuple[str, str], int] = {}

    def sample(self) -> None:
        """Copies what is known now."""
        _RELEASE.labels(__version__, REVISION).set(1)
        _WAITING.set(self._database.waiting)
        for pool, (opened, busy) in self._database.connections().items():
            _CONNECTIONS.labels(pool, "busy").set(busy)
            _CONNECTIONS.labels(pool, "idle").set(opened - busy)
        for name, counter in _TALLIED.items():
            for label, count in getattr(self._database.tally, name).items():
                counter.labels(label).inc(count - self._copied.get((name, label), 0))
                self._copied[name, label] = count
        seen = self._readiness.last
        if seen is not None:
            _READY.labels("reads").set(seen.reads)
            _READY.labels("writes").set(seen.writes)
            if seen.replica is not None:
                _REPLICA.set(seen.replica)

    async def sample_regularly(self, seconds: float) -> None:
        """Looks at the database and copies, again and again until it is cancelled."""
        while True:
            await self._readiness.look()
            self.sample()
            await asyncio.sleep(seconds)


def observe(method: str, route: str | None, status: int, seconds: float) -> None:
    """Counts one answered request; a method or route that a caller made up shares one label."""
    requests, duration = _children(method if method in METHODS else "other", route or "unmatched", status)
    requests.inc()
    duration.observe(seconds)


def exposition() -> tuple[bytes, str]:
    """All metrics as Prometheus text with its content type; of all workers when they share a directory."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    workers = CollectorRegistry()
    MultiProcessCollector(workers)  # type: ignore[no-untyped-call]  # the package leaves it untyped
    return generate_latest(workers), CONTENT_TYPE_LATEST


@cache  # bounded by the routes
def _children(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return _REQUESTS.labels(method, route, str(status)), _SECONDS.labels(method, route)
