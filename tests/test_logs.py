"""Log lines: JSON, one per event, without messages that may hold what somebody wrote."""

import json
import logging
import traceback
from collections.abc import Iterator

import pytest

from app import logs
from app.postgres.database import CannotServe

NAMES = ("", "diary", "uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def failing_twice(secret: str) -> None:
    try:
        raise KeyError(secret)
    except KeyError as cause:
        raise ValueError(secret) from cause


def test_an_event_is_one_json_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.info("request", status=200, route=None)
    (line,) = lines(capsys)
    assert line.pop("time")
    assert line == {"level": "info", "event": "request", "status": 200, "route": None}


def test_a_line_break_in_a_field_starts_no_new_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.info("odd", name="a\nb")
    (line,) = lines(capsys)
    assert (line["level"], line["name"]) == ("info", "a\nb")


def test_a_lower_level_than_configured_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING")
    logs.info("request")
    assert lines(capsys) == []


def test_an_exception_shows_types_and_frames_but_no_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    with pytest.raises(ValueError, match="canary") as caught:
        failing_twice("canary")
    logs.error("unexpected", caught.value)
    (line,) = lines(capsys)
    exceptions = line["exceptions"]
    assert isinstance(exceptions, list)
    assert [one["type"] for one in exceptions] == ["builtins.ValueError", "builtins.KeyError"]
    assert exceptions[0]["frames"][-1].endswith("failing_twice")
    assert "tests/test_logs.py:" in exceptions[0]["frames"][-1]
    assert "canary" not in json.dumps(line)


def test_the_members_of_a_group_are_shown_and_a_suppressed_context_is_not() -> None:
    member = KeyError()
    member.__context__, member.__suppress_context__ = OSError(), True
    types = [one["type"] for one in logs.describe(ExceptionGroup("canary", [member]))]
    assert types == ["builtins.ExceptionGroup", "builtins.KeyError"]


def test_of_a_start_that_failed_the_log_says_what_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    for failure in (CannotServe("It is too old."), KeyError("canary")):
        try:
            raise failure
        except (CannotServe, KeyError):
            logging.getLogger("uvicorn.error").error(traceback.format_exc())
    told = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["app.postgres.database.CannotServe: It is too old.", "KeyError"]


def test_uvicorn_reports_itself_but_never_paths(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info("GET /v1/patients/canary?note=canary")
    assert [line["event"] for line in lines(capsys)] == ["Started server process [7]"]
    assert not logging.getLogger("uvicorn.access").hasHandlers()


def test_of_another_library_only_the_place_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    error = ValueError("canary")
    logging.getLogger("asyncio").error("Task failed with %r", error, exc_info=error)
    (line,) = lines(capsys)
    assert str(line["event"]).startswith("asyncio: test_logs.py:")
    assert "canary" not in json.dumps(line)
    assert "builtins.ValueError" in json.dumps(line)
