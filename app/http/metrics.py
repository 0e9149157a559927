"""Prometheus metrics of the HTTP edge, labelled by method, route template and status only."""

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

# Labels are chosen by us: each new value is a series that Prometheus keeps for ever, and a caller can invent methods.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

IN_PROGRESS = Gauge("diary_http_requests_in_progress", "Requests being answered now", multiprocess_mode="livesum")
_REQUESTS = Counter("diary_http_requests", "Requests answered", ["method", "route", "status"])
_SECONDS = Histogram("diary_http_request_seconds", "Time to answer a request", ["method", "route"])


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
