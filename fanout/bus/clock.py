"""The store's clock, as seen from here. Pure.

Revisions and instants are on the store's clock, and gateways hand it on to devices, so a gateway whose own
wall clock is wrong misleads nobody.
"""

from __future__ import annotations

from collections import deque
from typing import Final

# Of the last few samples the one with the shortest round trip is the truest; old ones leave, so that a
# store that fails over to a host with another clock is followed within a minute of probes.
SAMPLES: Final = 30


class StoreClock:
    """Estimates the store's clock from the answers to TIME.

    Args:
        wall_ms: This host's wall clock at monotonic 0, used until the first sample.

    Attributes:
        offset_ms: Store's clock minus our monotonic clock; every handshake and beacon reads it.
    """

    __slots__ = ("_samples", "offset_ms")

    def __init__(self, wall_ms: float) -> None:
        self.offset_ms = wall_ms
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)  # round trip ms, offset ms

    def sample(self, sent_ms: float, received_ms: float, store_ms: float) -> None:
        """Take one answer: monotonic ms when asked and when answered, and what the store said."""
        middle = (sent_ms + received_ms) / 2
        self._samples.append((received_ms - sent_ms, store_ms - middle))
        self.offset_ms = min(self._samples)[1]

    def now_ms(self, monotonic_ms: float) -> int:
        """Return the store's clock, Unix ms, at this monotonic instant."""
        return int(monotonic_ms + self.offset_ms)
