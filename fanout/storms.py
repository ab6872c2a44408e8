"""Log storms: of the lines that are alike, a few are written and the rest is counted.

Ten thousand connections that fail in the same way are one piece of news. A line's kind is its event; what varies
belongs into its fields. The count of what was left out is written when the period is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from structlog.types import EventDict

log = structlog.get_logger(__name__)

# Beyond so many kinds in a period all others are one. Some two dozen are in use.
KINDS_MAX: Final = 100
_OTHERS: Final = "others"
# A line with this field says what was left out, and is never left out itself.
_COUNT: Final = "left_out"
_LOOK_S: Final = 1.0


class Storms:
    """What was logged in this period. Pure: time is an argument.

    Args:
        lines_max: Written of each kind.
        period_s: Its length.
    """

    def __init__(self, lines_max: int, period_s: float) -> None:
        self._lines_max = lines_max
        self._period_s = period_s
        self._lines: dict[str, int] = {}
        self._ends_s = 0.0

    def passes(self, kind: str) -> bool:
        """Count a line; tell whether it may be written."""
        if kind not in self._lines and len(self._lines) >= KINDS_MAX:
            kind = _OTHERS
        self._lines[kind] = lines = self._lines.get(kind, 0) + 1
        return lines <= self._lines_max

    def over(self, now_s: float) -> dict[str, int]:
        """Return how many lines of each kind were left out in the period that ends now, if one does."""
        if now_s < self._ends_s:
            return {}
        self._ends_s = now_s + self._period_s
        lines, self._lines = self._lines, {}
        return {kind: count - self._lines_max for kind, count in lines.items() if count > self._lines_max}

    def __call__(self, logger: Any, method: str, line: EventDict) -> EventDict:
        """Drop a line beyond the limit: the first of structlog's processors, for it spares the others their work."""
        if _COUNT not in line and not self.passes(str(line["event"])):
            raise structlog.DropEvent
        return line


def install(storms: Storms) -> None:
    """Bound the log of this process, whoever writes it. Logs are configured already."""
    structlog.configure(processors=[storms, *structlog.get_config()["processors"]])


def flush(storms: Storms) -> None:
    """Write what was left out, if a period is over."""
    for kind, count in storms.over(time.monotonic()).items():
        log.warning("log lines like others", of=kind, **{_COUNT: count})


@asynccontextmanager
async def bounded(storms: Storms) -> AsyncIterator[None]:
    """Bound the log of this process from now on, and say what was left out while the context lasts."""
    install(storms)
    flushing = asyncio.create_task(_keep_flushing(storms))
    try:
        yield
    finally:
        flushing.cancel()


async def _keep_flushing(storms: Storms) -> None:
    while True:
        flush(storms)
        await asyncio.sleep(_LOOK_S)
