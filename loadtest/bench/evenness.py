"""How evenly devices flip: the busiest second of a window against its mean second. Pure.

A fleet's slots are drawn, so that even perfect flips have a busiest second: that of the slots is what they are
compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from loadtest.simulation.hashing import Ids, slots_ms

# What `fanout swarm` calls its devices; numbers from 0 on follow.
_PREFIX = "device-"


def peak_to_mean(flips: Mapping[int, int], at_ms: int, window_ms: int) -> float:
    """Return the busiest second against the window's mean second.

    Args:
        flips: How many there were, by the millisecond.
        at_ms: The instant at which the window begins.
        window_ms: Its width, > 0.
    Raises:
        ValueError: Nobody has flipped, or the window is none.
    """
    if not flips or window_ms <= 0:
        raise ValueError(f"{len(flips)} ms with flips, window {window_ms} ms; both must be more than 0")
    seconds: Counter[int] = Counter()
    for flipped_ms, count in flips.items():
        # A wall clock may put the first of them a moment before the instant.
        seconds[max(0, flipped_ms - at_ms) // 1000] += count
    return max(seconds.values()) / (seconds.total() / max(1.0, window_ms / 1000))


def drawn(devices: int, rev: int, window_ms: int) -> float:
    """Return the same of the slots of a swarm's devices, as the revision draws them."""
    slots = slots_ms(Ids(_PREFIX, 0, devices).hashes(rev), window_ms)
    return peak_to_mean(Counter(int(slot) for slot in slots), 0, window_ms)
