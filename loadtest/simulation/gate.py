"""Anything with a capacity: an origin, the admission of handshakes.

Time is cut into bins. Those who arrive in a bin beyond its capacity are refused, all attempts alike, so in a bin with
A arrivals and room for C each is let in with probability p = min(1, C / A). The refused come back after

    fixed_s + U(0, spread_s) + U(0, min(cap_s, base_s x 2^k))        k counts a device's refusals from 0

First the expectation: how many come when follows from first arrivals alone, bin after bin, for nobody comes back
within the bin it was refused in. That gives p of every bin. Then every device tries for itself against p.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from loadtest.simulation import draws
from loadtest.simulation.hashing import F32, U32

# Short against every wait there is (a second and more), long enough that a fleet's counts in it are steady.
BIN_S: Final = 0.1
# Refused devices' waits are computed this much finer than the bins.
_FINER: Final = 20

Counts = NDArray[np.int64]
Rates = NDArray[np.float64]


class Retry(Struct, frozen=True, kw_only=True):
    """When a refused device comes again; 0 tries: until the simulation ends."""

    fixed_s: float
    spread_s: float = 0.0
    base_s: float = 0.0
    cap_s: float = 0.0
    tries: int = 0

    def __post_init__(self) -> None:
        assert self.fixed_s >= BIN_S, "nobody comes back within its own bin"
        assert not 0 < self.base_s < 0.001, "a backoff is counted in whole milliseconds"

    def span_s(self, refusals: int) -> float:
        """Return over how many seconds the backoff is spread after so many earlier refusals."""
        return min(self.cap_s, self.base_s * 2.0 ** min(refusals, 64))

    @property
    def classes(self) -> int:
        """How many attempts differ: later ones are as the last of these."""
        doublings = math.ceil(math.log2(self.cap_s / self.base_s)) if self.cap_s > self.base_s > 0 else 0
        return self.tries or max(0, doublings) + 1


def admitted_shares(first: Counts, room: Rates, retry: Retry) -> Rates:
    """Return p of every bin.

    Args:
        first: First arrivals in each bin.
        room: How many each bin lets in.
        retry: What the refused do.
    """
    bins, classes = len(first), retry.classes
    coming = np.zeros((classes, bins))
    coming[0] = first
    waits = [_wait_shares(retry, number) for number in range(classes)]
    shares = np.ones(bins)
    for at in range(bins):
        arriving = coming[:, at]
        total = float(arriving.sum())
        if total <= room[at]:
            continue
        shares[at] = room[at] / total
        for number in np.flatnonzero(arriving):
            # Where tries have an end the last class has no next one; else it is its own.
            following = min(int(number) + 1, classes - 1) if not retry.tries else int(number) + 1
            if following < classes:
                wait = waits[number][: bins - at]
                coming[following, at : at + len(wait)] += arriving[number] * (1 - shares[at]) * wait
    return shares


def _wait_shares(retry: Retry, refusals: int) -> Rates:
    """Return which share of those refused in a bin comes back so many bins later."""
    step_s = BIN_S / _FINER
    density = np.ones(1)
    # Where in its bin a device was, the jitter of what it was told, its own jitter.
    for span_s in (BIN_S, retry.spread_s, retry.span_s(refusals)):
        density = _spread(density, max(1, round(span_s / step_s)))
    lead = round(retry.fixed_s / step_s)
    padded = np.concatenate([np.zeros(lead), density])
    padded = np.concatenate([padded, np.zeros(-len(padded) % _FINER)])
    return np.asarray(padded.reshape(-1, _FINER).sum(axis=1))


def _spread(density: Rates, steps: int) -> Rates:
    """Return the density when each point is spread evenly over so many steps."""
    reached = np.concatenate([np.zeros(steps), np.cumsum(density), np.full(steps - 1, density.sum())])
    return np.asarray((reached[steps:] - reached[:-steps]) / steps)


class Passage(Struct):
    """What happened to some devices at a gate.

    Attributes:
        admitted_s: When each was let in; infinite if never.
        attempts: In each bin.
        admitted: In each bin.
    """

    admitted_s: F32
    attempts: Counts
    admitted: Counts


def bins_until(end_s: float) -> int:
    """Return how many bins there are until then."""
    return math.ceil(end_s / BIN_S)


def arrivals(at_s: F32, bins: int) -> Counts:
    """Return how many of these instants lie in each bin; later ones are left out."""
    numbers = bin_numbers(at_s, bins)
    return np.bincount(numbers, minlength=bins + 1)[:bins]


def bin_numbers(at_s: F32, bins: int) -> NDArray[np.int32]:
    """Return each instant's bin; ``bins`` for all that are later."""
    return np.asarray(np.minimum(at_s * np.float32(1 / BIN_S), np.float32(bins)).astype(np.int32))


def pass_through(at_s: F32, whims: U32, shares: Rates, retry: Retry) -> Passage:
    """Let devices try, each for itself.

    Args:
        at_s: First attempts, seconds.
        whims: A random word of each device. All its chances follow from it, so they are the same whatever the gate
            lets in, and a wider gate lets in nobody later.
        shares: p of every bin.
        retry: What the refused do.
    """
    bins = len(shares)
    admitted_s = np.full(len(at_s), np.inf, np.float32)
    attempts, admitted = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    chances = shares.astype(np.float32)
    waiting = np.arange(len(at_s))
    at_s, tried = at_s.astype(np.float32), 0
    while True:
        numbers = bin_numbers(at_s, bins)
        inside = np.flatnonzero(numbers < bins)
        if len(inside) < len(numbers):
            numbers, at_s, whims, waiting = numbers[inside], at_s[inside], whims[inside], waiting[inside]
        if not len(waiting):
            break
        attempts += np.bincount(numbers, minlength=bins)
        good = draws.unit(draws.again(whims, 3 * tried)) < chances[numbers]
        admitted_s[waiting[good]] = at_s[good]
        admitted += np.bincount(numbers[good], minlength=bins)
        tried += 1
        if tried == retry.tries or good.all():
            break
        bad = np.flatnonzero(~good)
        waiting, whims = waiting[bad], whims[bad]
        wait = draws.unit(draws.again(whims, 3 * tried - 2)) * np.float32(retry.spread_s)
        wait += draws.unit(draws.again(whims, 3 * tried - 1)) * np.float32(retry.span_s(tried - 1))
        at_s = at_s[bad] + wait + np.float32(retry.fixed_s)
    return Passage(admitted_s, attempts, admitted)
