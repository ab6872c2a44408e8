"""Chance: each number is a function of (seed, chunk, purpose) and a device's place in its chunk, and of nothing else.

So a run gives the same answer in any order and in any number of processes, and two scenarios with one seed differ
only by what was changed: the laws that compare them hold device by device.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.simulation.hashing import F32, U32, finish
from loadtest.simulation.scenario import Region

# Of a table that turns 16 random bits into a delay: the rarest delay is that of one device in 130,000.
STEPS: Final = 65_536
_CLOCK_STEPS: Final = 4_096
_GOLDEN: Final = 0x9E3779B9
# The fleet's own draws, which belong to no chunk.
FLEET: Final = 2**64 - 1


class Purpose(IntEnum):
    """What a stream of random numbers is for. Adding one changes no other."""

    KIND = 1
    WAY = 2
    CLOCK = 3
    EDGE = 4
    WHIM = 5
    WORKERS = 6


def bits(seed: int, chunk: int, purpose: Purpose, count: int) -> NDArray[np.uint64]:
    """Return so many times 64 random bits."""
    stream = np.random.Philox(key=np.array([seed % 2**64, chunk], np.uint64), counter=[0, 0, 0, int(purpose)])
    return np.asarray(stream.random_raw(count), np.uint64)


def words(seed: int, chunk: int, purpose: Purpose, count: int) -> U32:
    """Return so many times 32 random bits."""
    return bits(seed, chunk, purpose, -(-count // 2)).view(np.uint32)[:count]


def halves(seed: int, chunk: int, purpose: Purpose, count: int) -> NDArray[np.uint16]:
    """Return so many times 16 random bits."""
    return bits(seed, chunk, purpose, -(-count // 4)).view(np.uint16)[:count]


def again(base: U32, salt: int) -> U32:
    """Return other random words for the same devices: the salt-th of each."""
    made = base + np.uint32(salt * _GOLDEN & 0xFFFFFFFF)
    finish(made, np.empty_like(made))
    return made


def unit(random_words: U32) -> F32:
    """Return them as numbers of 0 to just below 1."""
    # 24 bits are what a float32 holds exactly, so none is rounded up to 1.
    made = (random_words >> np.uint32(8)).astype(np.float32)
    made *= np.float32(2.0**-24)
    return made


def below(random_words: U32, share: float) -> NDArray[np.bool_]:
    """Tell for which devices an event of that probability happens."""
    limit = round(share * 2**32)
    # A share of all, or as good as all, has no word above it.
    return random_words < np.uint32(limit) if limit < 2**32 else np.ones(len(random_words), np.bool_)


@lru_cache(maxsize=1)
def normal_quantiles() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points of 0 to 1, and the standard normal distribution's quantiles there."""
    at = (np.arange(4 * _CLOCK_STEPS) + 0.5) / (4 * _CLOCK_STEPS)
    # Finer in the tails, where a delay of one in a hundred thousand differs much from one in ten thousand.
    tail = np.geomspace(1e-7, at[0], 200, endpoint=False)
    at = np.concatenate([tail, at, 1 - tail[::-1]])
    inverse = NormalDist().inv_cdf
    return at, np.array([inverse(float(each)) for each in at])


def lognormal_s(median_ms: float, p99_ms: float, quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the delays at these quantiles, in seconds."""
    if not median_ms:
        return np.zeros(len(quantiles))
    sigma = math.log(p99_ms / median_ms) / NormalDist().inv_cdf(0.99)
    return np.asarray(median_ms / 1000 * np.exp(sigma * np.interp(quantiles, *normal_quantiles())))


class Ways:
    """Tables of how far devices are from a gateway, one way, by region, and how late their clocks are."""

    def __init__(self, regions: tuple[Region, ...], clock_samples: int) -> None:
        edges = np.round(np.cumsum([0.0] + [region.share for region in regions]) * STEPS).astype(int)
        delay, number, clock = [], [], []
        for index, region in enumerate(regions):
            steps = int(edges[index + 1] - edges[index])
            delay.append(lognormal_s(region.median_ms, region.p99_ms, (np.arange(steps) + 0.5) / max(steps, 1)))
            number.append(np.full(steps, index * _CLOCK_STEPS, np.int32))
            # The least of n delays is above x if all are: 1 - (1 - F(x))^n.
            at = 1 - (1 - (np.arange(_CLOCK_STEPS) + 0.5) / _CLOCK_STEPS) ** (1 / clock_samples)
            clock.append(lognormal_s(region.median_ms, region.p99_ms, at))
        self._delay = np.concatenate(delay).astype(np.float32)
        self._number = np.concatenate(number)
        self._clock = np.concatenate(clock).astype(np.float32)

    def delays(self, random_halves: NDArray[np.uint16]) -> F32:
        """Return each device's way, in seconds: the bits choose its region and its place in it."""
        return np.asarray(self._delay.take(random_halves))

    def clocks(self, random_halves: NDArray[np.uint16], more: NDArray[np.uint16]) -> F32:
        """Return by how many seconds each device's clock is late: by the least delay of its samples."""
        at = self._number.take(random_halves)
        at += more >> np.uint16(4)
        return np.asarray(self._clock.take(at))
