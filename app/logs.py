"""Log lines as JSON on standard output: what happened and where, never what somebody wrote.

Exceptions are shown by type and frames only, as their messages and locals may hold health data or secrets. Nobody waits
for whoever reads the lines: where they go into a pipe a thread writes them, and what does not fit its buffer is dropped
and counted.
"""

import json
import logging
import logging.config
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import PurePath
from stat import S_ISFIFO, S_ISSOCK
from threading import Condition, Thread
from traceback import extract_tb

logger = logging.getLogger("diary")

_OUR_WORDS = ("diary", "uvicorn")  # loggers whose messages are known to be harmless
_MAX_FRAMES = 25
_MAX_EXCEPTIONS = 5
_MOST_BUFFERED = 1024 * 1024  # bytes, and as many that are being written
_CLOSE_SECONDS = 1.0  # for what is left when the process ends
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


class Pipe(logging.Handler):
    """Hands lines to a thread that writes them to a pipe or socket, whose reader may stall."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._changed = Condition()
        self._forget()
        os.register_at_fork(before=self._rest, after_in_child=self._forget)

    def _forget(self) -> None:
        """Nothing is to be written, and no thread is there: of a fork's, all that is the parent's."""
        self._changed = Condition()
        self._lines: list[bytes] = []
        self._size = self._dropped = 0
        self._writing = self._ending = False
        self._thread: Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Takes the line, or counts it where there is no room."""
        line = self.format(record).encode() + b"\n"
        with self._changed:
            if self._size + len(line) > _MOST_BUFFERED:
                self._dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
            if self._thread is None:
                self._ending = False
                self._thread = Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            elif not self._writing:
                self._changed.notify_all()

    def flush(self) -> None:
        """Waits until everything is written, a second at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._writing, _CLOSE_SECONDS)

    def close(self) -> None:
        """Ends the thread once everything is written, or a second later."""
        self._rest()
        super().close()

    def _rest(self) -> None:
        """Ends the thread until there is another line: a fork would take it amid its work."""
        self.flush()
        with self._changed:
            thread, self._ending = self._thread, True
            self._changed.notify_all()
        if thread:
            thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while lines := self._take():
            try:
                _write_whole(self._descriptor, b"".join(lines))
            except OSError:  # nobody is there to read
                continue

    def _take(self) -> list[bytes]:
        """The lines that wait, with one that tells how many were dropped; none once the thread is to end."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._lines or self._ending)
            lines, dropped = self._lines, self._dropped
            self._lines, self._size, self._dropped = [], 0, 0
            self._writing = bool(lines)
            if not lines:
                self._thread = None
        if dropped:
            on_dropped(dropped)
            record = logger.makeRecord(logger.name, logging.WARNING, "", 0, "log lines dropped", (), None)
            record.fields = {"count": dropped}
            lines.append(self.format(record).encode() + b"\n")
        return lines


def _not_counted(_lines: int) -> None:
    """What is told of dropped lines before somebody counts them."""


on_dropped: Callable[[int], object] = _not_counted


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
                "stdout": {"()": _to_stdout, "formatter": "json"},
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


def _to_stdout() -> logging.Handler:
    """A handler for standard output: files take a line as fast as a buffer would."""
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError):  # no file at all, as in tests
        return logging.StreamHandler(sys.stdout)
    return Pipe(sys.stdout.fileno()) if S_ISFIFO(mode) or S_ISSOCK(mode) else logging.StreamHandler(sys.stdout)


def _write_whole(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def info(event: str, **fields: object) -> None:
    """Logs that something happened, with fields that hold no personal data."""
    _write(logging.INFO, event, None, fields)


def error(event: str, exception: BaseException, **fields: object) -> None:
    """Logs a failure: the exception's type and frames, not its message."""
    _write(logging.ERROR, event, exception, fields)


def flush() -> None:
    """Waits until what was logged is written, a second at most: what the caller prints next is not amid a line."""
    for handler in logging.getLogger().handlers:
        handler.flush()


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
