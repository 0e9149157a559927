"""What an answer tells, in short."""

from typing import Any

import httpx


def told(answer: httpx.Response) -> tuple[int, str]:
    """Status and slug of a problem."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def pointers(answer: httpx.Response) -> list[str]:
    """Where the faults of a problem lie."""
    return [fault["pointer"] for fault in answer.json()["errors"]]


def ids(answer: httpx.Response) -> list[str]:
    """The ids of a page's records, in order."""
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def without_request_id(answer: httpx.Response) -> dict[str, Any]:
    """A problem but for what tells one request from another."""
    return {name: value for name, value in answer.json().items() if name not in ("instance", "request_id")}
