"""One chunk of the fleet: what each of its devices is, when it hears, and when it comes back if it has to.

Everything is computed when it is first asked for, so a pass over the fleet pays for what it uses only. Times are
float32 seconds after the press: a tenth of a millisecond at ten minutes. Knows no policies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.simulation import draws
from loadtest.simulation.draws import Purpose, Ways
from loadtest.simulation.fleet import workers_of
from loadtest.simulation.gate import Passage, Rates, Retry, pass_through
from loadtest.simulation.hashing import F32, U32, Ids, slots_ms
from loadtest.simulation.scenario import Region, Scenario

# Small enough that a chunk's arrays stay near the processor, large enough that numpy's calls cost nothing. Part of
# what a seed means: another size is another fleet.
CHUNK: Final = 2**18
# Salts of a device's random word that the gate's attempts never reach.
_SALT_LATE: Final = 1_000_000
_SALT_FIRST: Final = 1_000_001
SALT_JITTER: Final = 1_000_002
SALT_PHASE: Final = 1_000_003

Places = NDArray[np.intp]


def chunks_of(scenario: Scenario) -> int:
    """Return how many chunks the fleet has."""
    return -(-scenario.devices // CHUNK)


def connecting(scenario: Scenario) -> Retry:
    """Return what a device does whose handshake was refused: Retry-After, half either way, and full jitter."""
    return Retry(
        fixed_s=scenario.retry_after_s / 2,
        spread_s=scenario.retry_after_s,
        base_s=scenario.backoff_base_ms / 1000,
        cap_s=scenario.backoff_cap_ms / 1000,
    )


@lru_cache(maxsize=2)
def _ways(regions: tuple[Region, ...], clock_samples: int) -> Ways:
    return Ways(regions, clock_samples)


class Crowd:
    """The devices of one chunk; arrays by device unless said otherwise.

    Args:
        scenario: The night.
        number: Which chunk.
        admission: p of the gateways' admission; None while it is not known yet.
    """

    def __init__(self, scenario: Scenario, number: int, admission: Rates | None) -> None:
        self.scenario = scenario
        self.first = number * CHUNK
        self.last = min(scenario.devices, self.first + CHUNK)
        self.count = self.last - self.first
        self._number = number
        self._admission = admission
        self._workers = workers_of(scenario)
        self._known: dict[str, F32] = {}

    # --- What they are

    @cached_property
    def _kinds(self) -> U32:
        return draws.words(self.scenario.seed, self._number, Purpose.KIND, self.count)

    @cached_property
    def offline(self) -> NDArray[np.bool_]:
        """Whether a device is away at the press."""
        return draws.below(self._kinds, self.scenario.offline_share)

    @cached_property
    def lateness_s(self) -> F32:
        """How late each device's timers are: not at all, but for those that are always late."""
        asked = self.scenario
        either = draws.below(self._kinds, asked.offline_share + asked.late_share)
        late = np.flatnonzero(either & ~self.offline)
        made = np.zeros(self.count, np.float32)
        made[late] = draws.unit(draws.again(self.whims[late], _SALT_LATE)) * np.float32(asked.late_ms / 1000)
        return made

    @cached_property
    def whims(self) -> U32:
        """A random word each, from which follows whatever few of them need."""
        return draws.words(self.scenario.seed, self._number, Purpose.WHIM, self.count)

    @cached_property
    def cold(self) -> NDArray[np.bool_]:
        """Whether a device's edge of the CDN lacks the content: its request goes to the origin."""
        edges = draws.words(self.scenario.seed, self._number, Purpose.EDGE, self.count)
        return draws.below(edges, 1 - self.scenario.cdn_hit_ratio)

    @cached_property
    def _regional(self) -> NDArray[np.uint16]:
        return draws.halves(self.scenario.seed, self._number, Purpose.WAY, self.count)

    @cached_property
    def way_s(self) -> F32:
        """One way between a device and whatever it talks to."""
        return _ways(self.scenario.regions, self.scenario.clock_samples).delays(self._regional)

    @cached_property
    def clock_s(self) -> F32:
        """By how much a device's clock is late."""
        more = draws.halves(self.scenario.seed, self._number, Purpose.CLOCK, self.count)
        return _ways(self.scenario.regions, self.scenario.clock_samples).clocks(self._regional, more)

    # --- What their ids say

    @cached_property
    def ids(self) -> Ids:
        return Ids(self.scenario.prefix, self.first, self.last)

    @cached_property
    def outside(self) -> NDArray[np.bool_] | None:
        """Whom the activation is not for; None if it is for all."""
        asked = self.scenario
        return None if asked.share >= 1 else self.ids.points(asked.campaign) >= asked.share

    @cached_property
    def hashes(self) -> U32:
        return self.ids.hashes(self.scenario.rev)

    @cached_property
    def slots_s(self) -> F32:
        """Where in the window each flips."""
        return seconds(slots_ms(self.hashes, round(self.scenario.window_s * 1000)))

    @cached_property
    def prefetch_slots_s(self) -> F32:
        """Where in the prefetch's window each fetches."""
        hashes = self.ids.hashes(self.scenario.prefetch_rev)
        return seconds(slots_ms(hashes, round(self.scenario.prefetch_window_s * 1000)))

    # --- When they come back, and when they hear

    @cached_property
    def sent_s(self) -> F32:
        """When its worker writes to a device, after a press, if both are there."""
        return self._workers.sent_s(self.first, self.last).astype(np.float32)

    @cached_property
    def dies_s(self) -> F32 | None:
        """When a device's worker dies; None if none of theirs does."""
        if not self._workers.any_dies(self.first, self.last):
            return None
        return self._workers.by_device(self._workers.dies_s, self.first, self.last).astype(np.float32)

    @cached_property
    def back(self) -> Places:
        """Which devices have to connect: those who were away, and those whose worker dies."""
        lost = self.offline if self.dies_s is None else self.offline | np.isfinite(self.dies_s)
        return np.flatnonzero(lost)

    @cached_property
    def connects_s(self) -> F32:
        """When each of ``back`` asks for its first handshake: as it wakes, or after its first backoff."""
        asked = self.scenario
        chance = draws.unit(draws.again(self.whims[self.back], _SALT_FIRST))
        made = chance * np.float32(asked.offline_s)
        if self.dies_s is not None:
            died = np.flatnonzero(~self.offline[self.back])
            span_s = np.float32(min(asked.backoff_base_ms, asked.backoff_cap_ms) / 1000)
            made[died] = self.dies_s[self.back[died]] + chance[died] * span_s
        return made

    @cached_property
    def handshakes(self) -> Passage:
        """What became of the handshakes of ``back``."""
        assert self._admission is not None, "who is admitted follows from when all of them come"
        return pass_through(self.connects_s, self.whims[self.back], self._admission, connecting(self.scenario))

    @cached_property
    def welcomed_s(self) -> F32:
        """When each of ``back`` reads its welcome; infinite if never."""
        return self.handshakes.admitted_s + self.way_s[self.back]

    def once(self, what: str, compute: Callable[[], F32]) -> F32:
        """Return what several policies need, computed for the first of them. Nobody may write into it."""
        if what not in self._known:
            self._known[what] = compute()
        return self._known[what]

    def heard_s(self, published_s: float) -> F32:
        """Return when each device knows of what is published then; infinite if it never does. Not to be written into.

        By the broadcast; from the welcome, if its worker died before its turn, or it was away.
        """
        return self.once(f"heard of {published_s}", lambda: self._heard_s(published_s))

    def _heard_s(self, published_s: float) -> F32:
        made = self.sent_s + self.way_s
        made += np.float32(published_s)
        if len(self.back):
            turn_s = self.sent_s[self.back] + np.float32(published_s)
            missed = self.offline[self.back]
            if self.dies_s is not None:
                missed |= self.dies_s[self.back] < turn_s
            # Who was back before there was anything to hear is written to by its new worker, in much the same place.
            missed &= self.welcomed_s >= np.float32(published_s)
            made[self.back[missed]] = self.welcomed_s[missed]
        return made


def seconds(ms: NDArray[np.float64]) -> F32:
    """Return milliseconds as seconds."""
    ms /= 1000
    return ms.astype(np.float32)
