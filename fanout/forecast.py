"""What will happen when the button is pressed: how long until the fleet has flipped, and what the origin is asked.

Pure. A device flips at its slot, or when the activation reaches it, whichever is later; one that has no bundle
fetches it at its slot of the prefetch if that is still to come, or else when it should flip. Slots are even over
their window, and so is a worker's broadcast over the time it takes, hence every figure here comes from a few
straight lines, and no device is simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from fanout.errors import InvalidInput
from fanout.wire import Miss

# A rate is counted in seconds, as an origin's owner counts it: whatever happens within one is one burst.
BURST_S: Final = 1.0
# Bisection halves the search until it is finer than a device's own timer.
_RESOLUTION_S: Final = 0.001
_POINTS_MAX: Final = 120
# Shares are floats: what differs by less is the same number of devices.
_EXACT: Final = 1e-9


class Load(Struct, frozen=True):
    """One gateway worker.

    Attributes:
        devices: Its connections that the activation is for.
        sends_per_s: How fast it writes to them, measured.
    """

    devices: int
    sends_per_s: float

    @property
    def delivery_s(self) -> float:
        """Seconds from the publication until its last device has been written to."""
        return self.devices / self.sends_per_s


class Question(Struct, frozen=True, kw_only=True):
    """A press that is being thought about.

    Attributes:
        workers: The fleet as it is now.
        ready_share: Of its devices, how many hold the bundle, 0..1.
        window_s: The activation's window.
        ahead_s: From the press to the activation's instant.
        share: Of the fleet, for a canary.
        miss: What a device without the bundle does.
        fetched_bytes: Size of what such a device fetches; 0 if the bundle travels inline.
        prefetch_left_s: Until when the prefetch goes on, so that some of them fetch before; 0 if it is over.
        origin_per_s: Requests a second the origin is allowed to see.
    """

    workers: Sequence[Load]
    ready_share: float
    window_s: float
    ahead_s: float = 0.0
    share: float = 1.0
    miss: Miss = "fetch"
    fetched_bytes: int = 0
    prefetch_left_s: float = 0.0
    origin_per_s: float

    def __post_init__(self) -> None:
        if any(load.devices < 0 or load.sends_per_s <= 0 for load in self.workers):
            raise InvalidInput("a worker has 0 or more devices, and sends more than 0 messages a second")
        if not 0 <= self.ready_share <= 1 or not 0 < self.share <= 1:
            raise InvalidInput(
                f"ready share is {self.ready_share} and share {self.share}; send 0..1, and more than 0 for share"
            )
        if min(self.window_s, self.ahead_s, self.prefetch_left_s) < 0 or self.origin_per_s <= 0:
            raise InvalidInput(
                f"window is {self.window_s} s, ahead {self.ahead_s} s, prefetch left {self.prefetch_left_s} s, "
                f"origin budget {self.origin_per_s} a second; send 0 or more for the times "
                "and more than 0 for the budget"
            )


class Forecast(Struct, frozen=True, kw_only=True):
    """What is expected. Times are seconds after the activation's instant; None: so many never flip.

    Attributes:
        devices: How many the activation is for.
        flips: How many of them will flip: all, unless a miss is silent.
        unready: How many come without the bundle.
        flips_per_s_peak: In the busiest second.
        origin_per_s_peak: Requests to the origin in its busiest second.
        origin_bytes_per_s_peak: The same in bytes.
        origin_per_s: The budget.
        within_budget: Whether the peak stays inside it.
        window_s: As asked.
        window_s_min: Below this the gateways' writing decides when devices flip, not their slots.
        window_s_safe: The smallest window that stays inside the budget and is not below that.
        curve: Devices flipped, at even steps of ``curve_step_s`` from the instant on; the last point is the end.
    """

    devices: int
    flips: int
    unready: int
    t50_s: float | None
    t99_s: float | None
    t100_s: float | None
    flips_per_s_peak: float
    origin_per_s_peak: float
    origin_bytes_per_s_peak: float
    origin_per_s: float
    within_budget: bool
    window_s: float
    window_s_min: float
    window_s_safe: float
    curve_step_s: float
    curve: tuple[int, ...]


def forecast(question: Question) -> Forecast:
    """Answer the question."""
    model = _Model(question)
    end_s = model.end_s()
    step_s = max(BURST_S, end_s / _POINTS_MAX)
    points = int(-(-end_s // step_s)) + 1
    curve = tuple(round(model.flipped(point * step_s)) for point in range(points))
    window_s_min, window_s_safe = model.window_s_min(), model.window_s_safe()
    return Forecast(
        devices=round(model.devices),
        flips=round(model.flips),
        unready=round(model.unready),
        t50_s=model.time_to(0.5),
        t99_s=model.time_to(0.99),
        t100_s=model.time_to(1.0),
        flips_per_s_peak=model.flips_per_s_peak(end_s),
        origin_per_s_peak=model.origin_per_s_peak(),
        origin_bytes_per_s_peak=model.origin_per_s_peak() * question.fetched_bytes,
        origin_per_s=question.origin_per_s,
        within_budget=model.origin_per_s_peak() <= question.origin_per_s * (1 + _EXACT),
        window_s=question.window_s,
        window_s_min=window_s_min,
        window_s_safe=window_s_safe,
        curve_step_s=step_s,
        curve=curve,
    )


def origin_per_s_peak(fetches: float, window_s: float) -> float:
    """Return the requests in the busiest second when so many fetch at even slots of the window."""
    return fetches / max(window_s, BURST_S)


class _Model:
    """The fleet's flips as a function of time; times are seconds after the instant."""

    def __init__(self, question: Question) -> None:
        self._asked = question
        self.devices = sum(load.devices for load in question.workers) * question.share
        self.unready = self.devices * (1 - question.ready_share)
        self.flips = self.devices - (self.unready if question.miss == "silent" else 0.0)
        self._asking = self.unready if question.miss == "fetch" and question.fetched_bytes else 0.0
        # How many of them are left when the instant comes.
        self._fetching = self._asking * (1 - self._prefetched_share(question.ahead_s))
        # An origin that is asked for more than it gives serves the rest later.
        self._fetched_s = max(question.window_s, self._fetching / question.origin_per_s)

    def flipped(self, at_s: float) -> float:
        """Return how many devices have flipped by then."""
        if not self.devices:
            return 0.0
        at_slot = self.flips - self._fetching
        due = at_slot * _even(at_s, self._asked.window_s) + self._fetching * _even(at_s, self._fetched_s)
        return due * self._delivered_share(at_s)

    def _delivered_share(self, at_s: float) -> float:
        """Return which share of the devices has been written to by then."""
        since_press_s = self._asked.ahead_s + at_s
        total = sum(load.devices for load in self._asked.workers)
        return sum(load.devices * _even(since_press_s, load.delivery_s) for load in self._asked.workers) / total

    def end_s(self) -> float:
        """Return when everyone who will flip has."""
        last_fetch_s = self._fetched_s if self._fetching else 0.0
        return max(self._asked.window_s, last_fetch_s, self.window_s_min())

    def time_to(self, share: float) -> float | None:
        """Return when this share of the devices has flipped, None if so many never will."""
        wanted = self.devices * share
        if not self.devices or wanted > self.flips * (1 + _EXACT):
            return None
        low_s, high_s = 0.0, self.end_s()
        if share == 1.0:
            return round(high_s, 3)
        while high_s - low_s > _RESOLUTION_S / 2:
            middle_s = (low_s + high_s) / 2
            if self.flipped(middle_s) < wanted:
                low_s = middle_s
            else:
                high_s = middle_s
        return round(high_s, 3)

    def flips_per_s_peak(self, end_s: float) -> float:
        """Return the flips of the busiest second."""
        seconds = int(-(-end_s // BURST_S)) or 1
        counts = [self.flipped(second * BURST_S) for second in range(seconds + 1)]
        # What flips at the instant itself flips in its first second.
        counts[0] = 0.0
        return max(after - before for before, after in pairwise(counts))

    def origin_per_s_peak(self) -> float:
        """Return the requests of the busiest second: the first after the press, or the first of the window."""
        # Within either stretch there are ever fewer left to ask.
        return max(self._asked_for(at_s + BURST_S) - self._asked_for(at_s) for at_s in (0.0, self._asked.ahead_s))

    def _asked_for(self, since_press_s: float) -> float:
        """Return how many requests the origin has seen by then."""
        by_flip = _even(since_press_s - self._asked.ahead_s, max(self._asked.window_s, BURST_S))
        return self._asking * (1 - (1 - self._prefetched_share(since_press_s)) * (1 - by_flip))

    def _prefetched_share(self, since_press_s: float) -> float:
        """Return which share of the unready have come to their slot of the prefetch by then."""
        left_s = self._asked.prefetch_left_s
        return _even(since_press_s, left_s) if left_s else 0.0

    def window_s_min(self) -> float:
        slowest_s = max((load.delivery_s for load in self._asked.workers), default=0.0)
        return max(0.0, slowest_s - self._asked.ahead_s)

    def window_s_safe(self) -> float:
        """Return the smallest window whose own requests fit into what the prefetch leaves of the budget."""
        left, budget = self._fetching, self._asked.origin_per_s
        prefetch_left_s = max(0.0, self._asked.prefetch_left_s - self._asked.ahead_s)
        if prefetch_left_s > BURST_S and left < budget * prefetch_left_s:
            # Of those who are left, some ask at their slot of the prefetch in the window's first second.
            left, budget = left * (1 - BURST_S / prefetch_left_s), budget - left / prefetch_left_s
        needed_s = left / budget
        # Even a budget that is never reached is asked for within one burst.
        return max(self.window_s_min(), needed_s if needed_s > BURST_S else 0.0)


def _even(at_s: float, over_s: float) -> float:
    """Return which share of what is even over 0..over_s is past at ``at_s``."""
    if at_s < 0:
        return 0.0
    return 1.0 if at_s >= over_s else at_s / over_s
