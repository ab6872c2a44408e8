"""The timers a device reads, and how it notices that they jumped. Knows nothing of what follows from that.

A monotonic timer stands still while a machine sleeps, and every timer of the event loop with it. Beside it runs
a clock that goes on; when the two have moved apart, the device slept, and what it has armed may have been cancelled.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

# Less is a busy machine, a clock that is slewed, or a leap second; a sleep is longer.
JUMP_MS: Final = 2_000.0
# Suspended time included, and no one can set it: better than the wall clock, where there is one (Linux, Android).
_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class Clock(Protocol):
    """Two timers in ms, whose difference is constant as long as nothing jumps."""

    def mono_ms(self) -> float:
        """Return the monotonic timer: what instants are kept by."""
        ...

    def outer_ms(self) -> float:
        """Return a clock that goes on while the machine sleeps. Its value means nothing, its pace does."""
        ...


class SystemClock:
    """The machine's own."""

    def mono_ms(self) -> float:
        return time.monotonic() * 1000

    def outer_ms(self) -> float:
        return (time.time() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)) * 1000


class Jumps:
    """Notices that the two timers of a clock have moved apart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._apart_ms = clock.outer_ms() - clock.mono_ms()  # when last looked

    def look(self) -> bool:
        """Return whether time has jumped since the last look, forwards or back."""
        before, self._apart_ms = self._apart_ms, self._clock.outer_ms() - self._clock.mono_ms()
        return abs(self._apart_ms - before) > JUMP_MS
