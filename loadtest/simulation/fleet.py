"""The gateway workers: how many devices each has, when it hears of a publication, when it dies, what it sends.

Workers hold runs of device numbers. Slots and everything drawn are independent of a number, so a run is as good as
any other choice, and which device is written to when is a matter of arithmetic. Knows no policies.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fanout.errors import InvalidInput
from loadtest.simulation import draws
from loadtest.simulation.draws import Purpose, lognormal_s
from loadtest.simulation.scenario import Scenario

# However uneven the balancing, no worker has less than this part of the mean.
_LOAD_MIN: Final = 0.1


class Workers:
    """All workers, as arrays by worker.

    Attributes:
        edges: Worker w has the devices edges[w] to edges[w + 1] - 1.
        devices: How many those are.
        hears_s: From the press to its first write.
        dies_s: Seconds after the press; infinite if it lives.
    """

    def __init__(self, scenario: Scenario) -> None:
        count = scenario.workers_planned
        random_words = draws.words(scenario.seed, draws.FLEET, Purpose.WORKERS, 2 * count)
        places = (random_words.astype(np.float64) + 0.5) * 2.0**-32
        loads = np.maximum(1 + scenario.skew * _normal(places[:count]), _LOAD_MIN)
        self.edges = np.round(np.cumsum(np.concatenate([[0.0], loads])) / loads.sum() * scenario.devices).astype(
            np.int64
        )
        self.devices = np.diff(self.edges)
        self.hears_s = lognormal_s(scenario.publish_median_ms, scenario.publish_p99_ms, places[count:])
        self.dies_s = np.full(count, np.inf)
        if scenario.zone_dies_s is not None:
            self.dies_s[: round(count * scenario.zone_share)] = scenario.zone_dies_s
        if scenario.gateway_dies_s is not None:
            # The last one: no zone short of all has it.
            self.dies_s[-1] = min(self.dies_s[-1], scenario.gateway_dies_s)
        self._sends_per_s = scenario.sends_per_s
        self._admit_per_s = scenario.admit_per_s

    def sent_s(self, first: int, last: int) -> NDArray[np.float64]:
        """Return when each of these devices is written to, in seconds after the press."""
        low, high, counts = self._runs(first, last)
        # A device's place in the broadcast is its place among its worker's.
        begins = self.hears_s[low:high] - (self.edges[low:high] - 0.5) / self._sends_per_s
        return np.repeat(begins, counts) + np.arange(first, last) / self._sends_per_s

    def by_device(self, values: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
        """Return for each of these devices what holds for its worker."""
        low, high, counts = self._runs(first, last)
        return np.repeat(values[low:high], counts)

    def any_dies(self, first: int, last: int) -> bool:
        """Tell whether one of these devices' workers does."""
        low, high, _ = self._runs(first, last)
        return bool(np.isfinite(self.dies_s[low:high]).any())

    def _runs(self, first: int, last: int) -> tuple[int, int, NDArray[np.int64]]:
        low = int(np.searchsorted(self.edges, first, side="right")) - 1
        high = int(np.searchsorted(self.edges, last, side="left"))
        return low, high, np.diff(np.clip(self.edges[low : high + 1], first, last))

    def admit_per_s(self, instants_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many handshakes a second all living workers admit, at these instants."""
        deaths = np.sort(self.dies_s)
        alive = len(deaths) - np.searchsorted(deaths, instants_s, side="right")
        return np.asarray(alive * self._admit_per_s)

    def sends_per_s(self, seconds: int) -> NDArray[np.float64]:
        """Return how many devices are written to in each second after the press."""
        begins = self.hears_s
        ends = np.minimum(begins + self.devices / self._sends_per_s, self.dies_s)
        seconds_written = [np.clip(np.minimum(at, ends) - begins, 0, None).sum() for at in range(seconds + 1)]
        return np.asarray(np.diff(seconds_written) * self._sends_per_s)


def _normal(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.interp(places, *draws.normal_quantiles())


@lru_cache(maxsize=2)
def workers_of(scenario: Scenario) -> Workers:
    """Return the scenario's workers, holding that they can do it.

    Raises:
        InvalidInput: The fullest has no room, or nobody would be left.
    """
    made = Workers(scenario)
    room, reason = scenario.room
    fullest = int(made.devices.max())
    if fullest > room:
        raise InvalidInput(
            f"the fullest of {len(made.devices)} workers has {fullest} devices (skew {scenario.skew:g}), {reason}: "
            "send more workers, or less skew"
        )
    left = int(np.isinf(made.dies_s).sum())
    if scenario.devices > left * room:
        raise InvalidInput(
            f"{left} of {len(made.devices)} workers are left in the end and have room for {left * room} devices of "
            f"{scenario.devices}, {reason}: send more workers"
        )
    return made


def window_s_min(scenario: Scenario) -> float:
    """Return the shortest window in which slots, and not the gateways' writing, decide when devices flip."""
    slowest_s = float(workers_of(scenario).devices.max()) / scenario.sends_per_s
    return max(0.0, slowest_s - scenario.ahead_s)
