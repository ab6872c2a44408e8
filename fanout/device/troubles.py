"""What goes wrong on a device without stopping it: counted always, told and logged at a rate one can bear.

Knows nothing of why. A gateway that sends rubbish a thousand times a second must neither fill a television's
flash with log lines nor its app's time with callbacks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from fanout.device.events import Error, ErrorKind

log: Final = logging.getLogger("fanout.device")

# Of one kind. Whoever watches a counter sees it move; nobody needs it more often.
TELL_EVERY_MS: Final = 1_000.0
# Of one kind and place.
LOG_EVERY_MS: Final = 60_000.0
# The interesting part of a message comes first; what follows may be a megabyte of somebody's name.
DETAIL_CHARS_MAX: Final = 300

_NEVER: Final = float("-inf")


def printable(text: str) -> str:
    """Return the text fit for a log line: short, and without what moves a cursor or starts a line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:DETAIL_CHARS_MAX])


class Troubles:
    """Counts, tells and logs errors by their kind.

    Args:
        tell: Hands an error to the app; never raises, though it may note another.
        mono_ms: The monotonic timer, ms.
    """

    def __init__(self, tell: Callable[[Error], None], mono_ms: Callable[[], float]) -> None:
        self._tell = tell
        self._mono_ms = mono_ms
        self._counts: dict[ErrorKind, int] = {}
        self._told_ms: dict[ErrorKind, float] = {}  # when last told, by kind
        self._logged_ms: dict[tuple[ErrorKind, str], float] = {}  # when last logged, by kind and place

    def count(self, kind: ErrorKind) -> int:
        """Return how many errors of this kind there were."""
        return self._counts.get(kind, 0)

    def note(self, kind: ErrorKind, detail: str, *, place: str = "", cause: BaseException | None = None) -> None:
        """Take in that something went wrong.

        Args:
            kind: What.
            detail: In words; from a peer, perhaps.
            place: One of a few of this kind, each with its own line in the log.
            cause: Whose traceback helps the app's authors.
        """
        now_ms, detail = self._mono_ms(), printable(detail)
        count = self._counts[kind] = self.count(kind) + 1
        if now_ms - self._logged_ms.get((kind, place), _NEVER) >= LOG_EVERY_MS:
            self._logged_ms[kind, place] = now_ms
            log.warning("%s error (%d so far): %s", kind, count, detail, exc_info=cause)
        # Noted before it is told: an app that fails on being told is an error, too.
        if now_ms - self._told_ms.get(kind, _NEVER) >= TELL_EVERY_MS:
            self._told_ms[kind] = now_ms
            self._tell(Error(kind, detail, count))
