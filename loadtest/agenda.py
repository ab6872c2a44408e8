"""What has to be done when, for very many: one heap, one timer of the event loop. Knows nothing of what it is.

An entry is one whole number, ticks of 1/16 ms | for whom | what: a tuple would take four times the memory, and
each device has at least one.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from math import ceil
from typing import Final

_TICKS_PER_MS: Final = 16
_NUMBER_BITS: Final = 24
_WHAT_BITS: Final = 2
_NUMBER_MASK: Final = (1 << _NUMBER_BITS) - 1
_WHAT_MASK: Final = (1 << _WHAT_BITS) - 1
# Longest work before sockets get their turn: a herd of devices that are due at once is no reason not to read.
_TURN_MS: Final = 20.0
# Later than any entry.
NEVER: Final = 1 << 80


def mono_ms() -> float:
    """Return the timer that devices read."""
    return time.monotonic() * 1000


class Agenda:
    """Entries, and the timer that works them off once `start` is called.

    Args:
        do: Called with each entry that is due, its number, what, and the time (monotonic ms).
        late: Called with how late the timer was, ms.
        failed: Called with what ``do`` raises; nothing is done any more then.
    """

    def __init__(
        self,
        do: Callable[[int, int, int, float], None],
        late: Callable[[float], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._do = do
        self._late = late
        self._failed = failed
        self._epoch_ms = mono_ms()
        self._heap: list[int] = []
        self._alarm = -1  # the entry the timer waits for; -1: nobody is to set the timer
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to work."""
        self._set_timer()

    def stop(self) -> None:
        """Do nothing any more."""
        self._alarm = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def entry(self, at_ms: float, number: int, what: int) -> int:
        """Return what to `push` for an instant (monotonic ms), for whom (< 2**24) and what (< 4)."""
        ticks = max(0, ceil((at_ms - self._epoch_ms) * _TICKS_PER_MS))
        return (ticks << _NUMBER_BITS | number) << _WHAT_BITS | what

    def push(self, entry: int) -> None:
        """Have this done at its time."""
        heapq.heappush(self._heap, entry)
        if entry < self._alarm:
            self._set_timer()

    def _at_ms(self, entry: int) -> float:
        return (entry >> (_NUMBER_BITS + _WHAT_BITS)) / _TICKS_PER_MS + self._epoch_ms

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._alarm = self._heap[0] if self._heap else NEVER
        if self._heap:
            # The loop's timer counts whole milliseconds: less than one would spin until the instant has come.
            wait_ms = max(1, ceil(self._at_ms(self._alarm) - mono_ms()))
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._ring)

    def _ring(self) -> None:
        self._late(mono_ms() - self._at_ms(self._alarm))
        self._timer, self._alarm = None, -1
        try:
            self._work()
        except Exception as exc:  # noqa: BLE001 - a bug must end the run, not one callback of the loop
            self._failed(exc)
            return
        self._set_timer()

    def _work(self) -> None:
        heap, now = self._heap, mono_ms()
        until_ms = now + _TURN_MS
        while heap and self._at_ms(heap[0]) <= now < until_ms:
            entry = heapq.heappop(heap)
            what = entry & _WHAT_MASK
            self._do(entry, entry >> _WHAT_BITS & _NUMBER_MASK, what, now)
            now = mono_ms()
