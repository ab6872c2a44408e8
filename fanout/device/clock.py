"""The server's clock, estimated on a device that trusts only its own monotonic timer. Pure.

The theory: a server says "it is `now`", and the device hears it some unknown delay later, so
`now - monotonic` is the true offset minus that delay. A delay is never negative, hence the largest sample is
the one with the least delay and the best estimate. Samples age (the two timers drift apart), so only the last
one to two spans of SPAN samples count, kept as two maxima instead of a list: a million devices fit in memory.

A server clock that steps forward gives a larger sample, which is believed at once. One that steps back looks
like a sudden, lasting delay: after STEP_SAMPLES samples in a row that are all more than STEP_MS below the
estimate, it is believed too.
"""

from __future__ import annotations

from typing import Final

# With a beacon every 10 s a span is 80 s: at 100 ppm of drift the estimate is off by at most 16 ms.
SPAN: Final = 8
# Larger than the queueing of a bad mobile network, smaller than any step worth making.
STEP_MS: Final = 1_000.0
STEP_SAMPLES: Final = 3

_NEVER: Final = float("-inf")


class ServerClock:
    """Offset between the server's clock (Unix ms) and a monotonic timer (ms)."""

    __slots__ = ("_best", "_count", "_low", "_low_count", "_previous")

    def __init__(self) -> None:
        self._best = _NEVER  # largest sample of the current span
        self._previous = _NEVER  # largest sample of the span before
        self._count = 0  # samples in the current span
        self._low = _NEVER  # largest of the samples that look like a step back
        self._low_count = 0  # how many of those came in a row

    @property
    def known(self) -> bool:
        """True after the first sample."""
        return self._count > 0

    @property
    def offset_ms(self) -> float:
        """Server's Unix ms minus monotonic ms. Only meaningful when `known`."""
        return max(self._best, self._previous)

    def server_ms(self, mono_ms: float) -> float:
        """Return the server's time, Unix ms, at this monotonic instant."""
        return mono_ms + self.offset_ms

    def mono_ms(self, server_ms: float) -> float:
        """Return the monotonic instant at which the server's clock shows ``server_ms``."""
        return server_ms - self.offset_ms

    def sample(self, now_ms: int, mono_ms: float) -> None:
        """Learn from a message.

        Args:
            now_ms: The server's clock as the message says, Unix ms.
            mono_ms: When the message arrived, on the monotonic timer.
        """
        offset = now_ms - mono_ms
        if offset < self.offset_ms - STEP_MS:
            self._low = max(self._low, offset)
            self._low_count += 1
            if self._low_count >= STEP_SAMPLES:
                self._restart(self._low)
            return
        self._low, self._low_count = _NEVER, 0
        if self._count >= SPAN:
            self._previous, self._best, self._count = self._best, _NEVER, 0
        self._best = max(self._best, offset)
        self._count += 1

    def _restart(self, offset: float) -> None:
        self._best, self._previous, self._count = offset, _NEVER, 1
        self._low, self._low_count = _NEVER, 0
