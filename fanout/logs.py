"""How every process of this project logs: one event a line, to standard error, JSON unless a person reads it.

Whoever writes it: what libraries log, what Python warns of and what ends a process or a thread are events too.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from types import TracebackType
from typing import Any, Final

import structlog
from structlog.types import EventDict, Processor

# structlog knows these levels and no others; a library may have its own between them.
_LEVELS: Final = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


def configure_logs(level: int = logging.INFO) -> None:
    """Set up the logs of this process: coloured lines on a terminal, JSON elsewhere.

    Args:
        level: The lowest that is written of ours; of libraries' it is no lower than a warning, unless this is DEBUG.
    """
    person = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_for_a_person() if person else _for_a_machine()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # A line's end in the same write as the line: print() would write it apart where Python does not buffer, as in
        # most containers, and a gateway's processes, which share one output, would write into each other's lines.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Forward()], level=level if level < logging.INFO else logging.WARNING)
    logging.captureWarnings(True)
    if not person:
        _log_crashes()


def _for_a_person() -> list[Processor]:
    # Not structlog's own choice, which shows local variables where it can: there are keys and tokens among them.
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


def _for_a_machine() -> list[Processor]:
    return [_add_pid, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _add_pid(logger: Any, method: str, line: EventDict) -> EventDict:
    """Say whose line it is: a gateway's processes share one output."""
    line.setdefault("pid", os.getpid())
    return line


class _Forward(logging.Handler):
    """Hands what libraries log to structlog: the first line is the event, for what follows names objects."""

    def emit(self, record: logging.LogRecord) -> None:
        first, _, rest = record.getMessage().partition("\n")
        level = next((level for level in _LEVELS if level <= record.levelno), logging.DEBUG)
        # Not kept: what is configured later (`fanout.storms`) is to hold for these lines too.
        log = structlog.get_logger()
        log.log(level, first, library=record.name, exc_info=record.exc_info, **({"detail": rest} if rest else {}))


def _log_crashes() -> None:
    """Have what ends a process or a thread, or is lost in a destructor, be an event, unless others see to it."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _crashed
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda args: _log_exception("a thread crashed", args.exc_value)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = lambda args: _log_exception("an exception was lost", args.exc_value)


def _crashed(kind: type[BaseException], exc: BaseException, traceback: TracebackType | None) -> None:
    if isinstance(exc, KeyboardInterrupt):
        sys.__excepthook__(kind, exc, traceback)
    else:
        _log_exception("crashed", exc)


def _log_exception(what: str, exc: BaseException | None) -> None:
    structlog.get_logger().critical(what, exc_info=exc)
