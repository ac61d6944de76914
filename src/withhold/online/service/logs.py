"""Log lines on stderr, one JSON document each; never an image, a file's name, a label or a token."""

import io
import logging
import sys
import traceback
from typing import TextIO

import structlog

from withhold.errors import RunStopped
from withhold.online.service.problems import Problem
from withhold.progress import Silent


def context_of(**fields: str) -> None:
    """Say what all lines belong to that this task writes from now on, and the tasks that it starts; nothing else."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**fields)


class Log:
    """Writes log lines. It configures nothing that others use.

    Args:
        stream: Where they go; what is stderr at that time if absent.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            structlog.PrintLogger(stream or sys.stderr),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        )

    def event(self, name: str, **fields: object) -> None:
        """Write what happened; fields that are None are left out."""
        self._logger.info(name, **{key: value for key, value in fields.items() if value is not None})

    def failure(self, problem: Problem, error: BaseException, **fields: object) -> None:
        """Write where an error of the service comes from; an error's own text may quote a client and is left out."""
        if not problem.internal:
            return
        frames = traceback.extract_tb(error.__traceback__)
        self._logger.error(
            "failed",
            error=type(error).__name__,
            said=str(error) if isinstance(error, RunStopped) else None,
            frames=[f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
            **fields,
        )


class Notes(Silent):
    """A reporter whose sentences become log lines."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def say(self, text: str) -> None:
        """Write a sentence."""
        self._log.event("note", text=text)


class ToLog(logging.Handler):
    """Hands the messages of a library's logger over, without tracebacks, as events of one name."""

    def __init__(self, log: Log, name: str) -> None:
        super().__init__()
        self._log, self._event = log, name

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        error = record.exc_info[0] if record.exc_info else None
        message = record.getMessage().strip()
        self._log.event(self._event, message=message, error=None if error is None else error.__name__)


class Printed(io.TextIOBase):
    """A stream for what a library prints: each piece becomes an event, all of one name."""

    def __init__(self, log: Log, name: str) -> None:
        self._log, self._event = log, name

    def write(self, text: str) -> int:
        """Write a piece; white space alone, such as the end of a line, is left out."""
        if message := text.strip():
            self._log.event(self._event, message=message)
        return len(text)
