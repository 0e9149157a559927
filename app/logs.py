"""Log lines as JSON on standard output: what happened and where, never what somebody wrote.

Exceptions are shown by type and frames only, as their messages and locals may hold health data or secrets.
"""

import json
import logging
import logging.config
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import PurePath
from traceback import extract_tb

logger = logging.getLogger("diary")

_OUR_WORDS = ("diary", "uvicorn")  # loggers whose messages are known to be harmless
_MAX_FRAMES = 25
_MAX_EXCEPTIONS = 5
_ENCODER = json.JSONEncoder(default=str)


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object; of a foreign logger's message only the place is kept."""

    def format(self, record: logging.LogRecord) -> str:
        """One line with time, level, event, the record's fields and its exception."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _event(record),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1]:
            line["exceptions"] = describe(record.exc_info[1])
        return _ENCODER.encode(line)


def configure(level: str = "INFO") -> None:
    """Sends our lines, uvicorn's and the warnings of other libraries to standard output."""
    # No line tells them, and finding them out takes as long as writing it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLines}},
            "handlers": {
                "stdout": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stdout",
                    "formatter": "json",
                }
            },
            "root": {"handlers": ["stdout"], "level": "WARNING"},
            "loggers": {
                "diary": {"level": level},
                "uvicorn": {"level": level, "handlers": [], "propagate": True},
                "uvicorn.error": {"level": level, "handlers": [], "propagate": True},
                # Its lines hold paths and query strings; ours replace them.
                "uvicorn.access": {"handlers": [], "propagate": False},
            },
        }
    )


def info(event: str, **fields: object) -> None:
    """Logs that something happened, with fields that hold no personal data."""
    _write(logging.INFO, event, None, fields)


def error(event: str, exception: BaseException, **fields: object) -> None:
    """Logs a failure: the exception's type and frames, not its message."""
    _write(logging.ERROR, event, exception, fields)


def describe(exception: BaseException) -> list[dict[str, object]]:
    """The exception and its causes, outermost first: `[{type, frames: ["app/x.py:12 function", …]}]`."""
    return [
        {
            "type": f"{type(link).__module__}.{type(link).__qualname__}",
            "frames": [
                f"{'/'.join(PurePath(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"
                for frame in extract_tb(link.__traceback__)[-_MAX_FRAMES:]
            ],
        }
        for link in islice(_chain(exception), _MAX_EXCEPTIONS)
    ]


def _chain(exception: BaseException) -> Iterator[BaseException]:
    yield exception
    if isinstance(exception, BaseExceptionGroup):
        for member in exception.exceptions:
            yield from _chain(member)
    cause = exception.__cause__ or (None if exception.__suppress_context__ else exception.__context__)
    if cause:
        yield from _chain(cause)


def _event(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] in _OUR_WORDS:
        return _said(record.getMessage().strip())
    return f"{record.name}: {record.filename}:{record.lineno} {record.funcName}"


def _said(message: str) -> str:
    """The message; of a traceback, which is all that uvicorn has of a start that failed, what failed."""
    if not message.startswith("Traceback"):
        return message
    failure = message.splitlines()[-1]
    return failure if failure.startswith("app.") else failure.partition(":")[0]  # ours name nothing that was given


def _write(level: int, event: str, exception: BaseException | None, fields: dict[str, object]) -> None:
    if not logger.isEnabledFor(level):
        return
    exc_info = (type(exception), exception, exception.__traceback__) if exception else None
    # makeRecord instead of log(): nobody needs the caller's frame, and finding it costs as much as the rest.
    logger.handle(logger.makeRecord(logger.name, level, "", 0, event, (), exc_info, extra={"fields": fields}))
