"""What passes over chunks find out: integer histograms and counts, and how they add up. Adding knows no order."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.simulation.gate import Counts

# Percentiles are the ends of these bins.
FLIP_BIN_S: Final = 0.01


class PolicyTally:
    """One policy's flips and requests.

    Attributes:
        flips: In each bin of `FLIP_BIN_S` after the press.
        never: Devices that did not.
        last_s: When the last one did.
        asked: Requests, wherever they were answered.
        attempts: Requests to the origin in each bin of the gate.
        served: How many of them it answered.
    """

    def __init__(self, end_s: float, bins: int) -> None:
        self.flips = np.zeros(math.ceil(end_s / FLIP_BIN_S), np.int64)
        self.never = 0
        self.last_s = 0.0
        self.asked = 0
        self.attempts: Counts = np.zeros(bins, np.int64)
        self.served: Counts = np.zeros(bins, np.int64)

    def count_flips(self, flips_s: NDArray[np.float32]) -> None:
        """Count every device once: in its bin, or, at infinity and beyond the end, as never."""
        bins = len(self.flips)
        numbers = np.minimum(flips_s * np.float32(1 / FLIP_BIN_S), np.float32(bins)).astype(np.int32)
        counted = np.bincount(numbers, minlength=bins + 1)
        self.flips += counted[:bins]
        self.never += int(counted[bins])
        inside = flips_s[numbers < bins]
        if len(inside):
            self.last_s = max(self.last_s, float(inside.max()))

    def add(self, other: PolicyTally) -> None:
        self.flips += other.flips
        self.never += other.never
        self.last_s = max(self.last_s, other.last_s)
        self.asked += other.asked
        self.attempts += other.attempts
        self.served += other.served


class Tally:
    """What some chunks add to the whole; a pass fills in what it is for.

    Attributes:
        devices: How many were looked at.
        outside: How many of them the activation is not for.
        connects: First handshakes in each bin of the gate.
        handshakes: All handshakes in each bin.
        admitted: How many of them were admitted.
        asks: By policy: first requests to the origin in each bin.
        prefetched: Requests to the origin in each second of the prefetch's window, of connected devices.
        policies: By policy: what came of it.
    """

    def __init__(self, bins: int, prefetch_s: int) -> None:
        self.devices = 0
        self.outside = 0
        self.connects: Counts = np.zeros(bins, np.int64)
        self.handshakes: Counts = np.zeros(bins, np.int64)
        self.admitted: Counts = np.zeros(bins, np.int64)
        self.asks: dict[str, Counts] = {}
        self.prefetched: Counts = np.zeros(prefetch_s, np.int64)
        self.policies: dict[str, PolicyTally] = {}

    def add(self, other: Tally) -> None:
        self.devices += other.devices
        self.outside += other.outside
        self.connects += other.connects
        self.handshakes += other.handshakes
        self.admitted += other.admitted
        self.prefetched += other.prefetched
        for name, counts in other.asks.items():
            self.asks[name] = self.asks[name] + counts if name in self.asks else counts
        for name, found in other.policies.items():
            if name in self.policies:
                self.policies[name].add(found)
            else:
                self.policies[name] = found
