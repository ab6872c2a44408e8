"""Metrics on the hot path: counted in memory, and handed on to the real ones once in a while.

Among several processes each increment of a real one is a write to a mapped file and a look at the process id: some
15 us, which a handshake or a report should not pay. Knows no metric by name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally

from prometheus_client import Counter, Histogram


class Batched:
    """A counter with at most one label, kept in memory between two calls of `flush`."""

    def __init__(self, counter: Counter, *, labelled: bool = True) -> None:
        self._counter = counter
        self._labelled = labelled
        self._pending: Tally[str] = Tally()

    def inc(self, label: str = "", amount: int = 1) -> None:
        """Add to the count of this label."""
        self._pending[label] += amount

    def flush(self) -> None:
        """Hand on what has been counted since the last time."""
        pending, self._pending = self._pending, Tally()
        for label, amount in pending.items():
            counter = self._counter.labels(label) if self._labelled else self._counter
            counter.inc(amount)


class Tallied:
    """A histogram without labels, kept in memory between two calls of `flush`.

    The library takes one observation at a time; a second's worth is added to its buckets at once, which are
    internals of it. tests/gateway/test_batching.py holds that the outcome is the same.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds: list[float] = histogram._upper_bounds  # the last is infinity
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def flush(self) -> None:
        """Hand on what has been observed since the last time."""
        if not any(self._counts):
            return
        counts, self._counts = self._counts, [0] * len(self._bounds)
        total, self._sum = self._sum, 0.0
        for bucket, count in zip(self._histogram._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(total)
