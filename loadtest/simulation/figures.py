"""From tallies to figures: percentiles, peaks, bytes, curves. Times are seconds after the instant."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from loadtest.simulation.costs import Cost, Use, cost_of
from loadtest.simulation.fleet import workers_of
from loadtest.simulation.gate import BIN_S, Rates
from loadtest.simulation.policies import POLICIES, held_s, ready_of
from loadtest.simulation.scenario import Scenario
from loadtest.simulation.tally import FLIP_BIN_S, PolicyTally, Tally

# How much of what came before the instant the origin's curve shows.
LEAD_S: Final = 60
_PER_S: Final = round(1 / BIN_S)
_FLIPS_PER_S: Final = round(1 / FLIP_BIN_S)


class Figures(Struct, frozen=True, kw_only=True):
    """One policy's night.

    Attributes:
        policy: Its name.
        words: For people.
        audience: Devices it is for: each of them flipped, or never did.
        held_s: How long the readiness gate held the press.
        t50_s: When half of the audience had flipped; None if so many never do. Likewise the others.
        flips_per_s_peak: In the busiest second.
        flip_rate_peak_to_mean: That second against the mean one until 99 % have flipped.
        origin_requests_per_s_peak: In the busiest second from `LEAD_S` before the instant on, tries again included.
        prefetch_requests_per_s_peak: In the busiest second of the whole prefetch.
        origin_requests: From the press on.
        origin_refused: How many of them.
        gateway_sends_per_s_peak: Of the broadcast, over all workers.
        handshakes_per_s_peak: Attempts, over all workers.
        handshakes_refused: In all.
        origin_egress_bytes: For this event, prefetch included. Likewise the others.
        workers_needed: Gateway workers for such a fleet and window.
        cost_per_month: Rough.
        flips_per_s: Second by second from the instant on.
        origin_requests_per_s: Second by second from ``LEAD_S`` seconds before the instant on.
    """

    policy: str
    words: str
    audience: int
    flipped: int
    never: int
    held_s: float
    t50_s: float | None
    t99_s: float | None
    t999_s: float | None
    t100_s: float | None
    flips_per_s_peak: int
    flip_rate_peak_to_mean: float | None
    origin_requests_per_s_peak: float
    prefetch_requests_per_s_peak: float
    origin_requests: int
    origin_refused: int
    gateway_sends_per_s_peak: float
    handshakes_per_s_peak: int
    handshakes_refused: int
    origin_egress_bytes: int
    cdn_egress_bytes: int
    gateway_egress_bytes: int
    workers_needed: int
    cost_per_month: Cost
    flips_per_s: list[int]
    origin_requests_per_s: list[float]


def figures_of(scenario: Scenario, name: str, tally: Tally, origin: Rates) -> Figures:
    """Return what became of one policy."""
    policy, found = POLICIES[name], tally.policies[name]
    audience = tally.devices - tally.outside
    flips = by_second(found.flips, scenario.ahead_s, _FLIPS_PER_S)
    asked = _origin_curve(scenario, name, tally, found)
    requests, refused = int(found.attempts.sum()), int(found.attempts.sum() - found.served.sum())
    if name == "polling":
        # Pollers go on when they have flipped; the tally follows each only so far.
        requests = round(asked[0] * scenario.horizon_s)
        refused = round(requests * (1 - float(origin[0])))
    prefetched = tally.prefetched if policy.prefetches else np.zeros(1, np.int64)
    handshakes = tally.handshakes if policy.gateways else np.zeros_like(tally.handshakes)
    t99_s = _reached_s(found, audience, 0.99, scenario.ahead_s)
    use = _use(scenario, name, tally, max(float(asked.max()), float(prefetched.max())))
    return Figures(
        policy=name,
        words=policy.words,
        audience=audience,
        flipped=int(found.flips.sum()),
        never=found.never,
        held_s=round(held_s(name, scenario), 3),
        t50_s=_reached_s(found, audience, 0.5, scenario.ahead_s),
        t99_s=t99_s,
        t999_s=_reached_s(found, audience, 0.999, scenario.ahead_s),
        t100_s=round(max(0.0, found.last_s - scenario.ahead_s), 3) if audience and not found.never else None,
        flips_per_s_peak=int(flips.max(initial=0)),
        flip_rate_peak_to_mean=_peak_to_mean(int(flips.max(initial=0)), audience, t99_s),
        origin_requests_per_s_peak=float(asked.max()),
        prefetch_requests_per_s_peak=float(prefetched.max()),
        origin_requests=requests,
        origin_refused=refused,
        gateway_sends_per_s_peak=_sends_peak(scenario) if policy.gateways else 0.0,
        handshakes_per_s_peak=int(by_second(handshakes, 0.0, _PER_S).max()),
        handshakes_refused=int(handshakes.sum() - tally.admitted.sum()) if policy.gateways else 0,
        origin_egress_bytes=int(use.origin_bytes),
        cdn_egress_bytes=int(use.cdn_bytes),
        gateway_egress_bytes=int(use.gateway_bytes),
        workers_needed=use.workers,
        cost_per_month=cost_of(scenario, use),
        flips_per_s=[int(count) for count in np.trim_zeros(flips, "b")],
        origin_requests_per_s=[round(float(rate), 1) for rate in np.trim_zeros(asked, "b")],
    )


def _peak_to_mean(peak: int, audience: int, t99_s: float | None) -> float | None:
    return round(peak * max(t99_s, 1.0) / (0.99 * audience), 3) if t99_s is not None and audience else None


def by_second(counts: NDArray[np.int64], from_s: float, per_s: int) -> NDArray[np.int64]:
    """Return counts by second from an instant on; what is earlier counts as its first second."""
    start = round(from_s * per_s)
    later = counts[start:].copy()
    later[0] += counts[:start].sum()
    padded = np.concatenate([later, np.zeros(-len(later) % per_s, np.int64)])
    return np.asarray(padded.reshape(-1, per_s).sum(axis=1))


def _reached_s(found: PolicyTally, audience: int, share: float, ahead_s: float) -> float | None:
    """Return the end of the bin in which this share of the audience has flipped, or when the last one did."""
    wanted = math.ceil(audience * share)
    reached = np.cumsum(found.flips)
    if not audience or reached[-1] < wanted:
        return None
    end_s = (int(np.searchsorted(reached, wanted)) + 1) * FLIP_BIN_S
    return round(max(0.0, min(end_s, found.last_s) - ahead_s), 3)


def _origin_curve(scenario: Scenario, name: str, tally: Tally, found: PolicyTally) -> Rates:
    """Return requests to the origin, second by second from `LEAD_S` before the instant on."""
    if name == "polling":
        steady = tally.devices * (1 - scenario.cdn_hit_ratio) / scenario.poll_s
        return np.full(LEAD_S + math.ceil(scenario.horizon_s), steady)
    lead = LEAD_S * _PER_S
    curve = found.attempts.astype(np.float64)
    ahead = round(scenario.ahead_s * _PER_S)
    before = np.zeros(0)
    if POLICIES[name].prefetches:
        # What is left of the prefetch after the press is among the attempts.
        past = round(ready_of(name, scenario) * scenario.prefetch_window_s * _PER_S)
        before = np.repeat(tally.prefetched / _PER_S, _PER_S)[:past]
    curve = np.concatenate([np.zeros(lead), before, curve])
    curve = curve[lead + len(before) + ahead - lead :]
    padded = np.concatenate([curve, np.zeros(-len(curve) % _PER_S)])
    return np.asarray(padded.reshape(-1, _PER_S).sum(axis=1))


def _sends_peak(scenario: Scenario) -> float:
    workers = workers_of(scenario)
    slowest_s = float((workers.hears_s + workers.devices / scenario.sends_per_s).max())
    return round(float(workers.sends_per_s(math.ceil(slowest_s) + 1).max()), 1)


def _use(scenario: Scenario, name: str, tally: Tally, peak: float) -> Use:
    """Return what the policy used for this event."""
    policy, found = POLICIES[name], tally.policies[name]
    told = int(tally.admitted.sum()) * scenario.welcome_bytes + tally.devices * scenario.message_bytes
    if policy.prefetches or policy.inline:
        told += tally.devices * (scenario.message_bytes + (scenario.inline_bytes if policy.inline else 0))
    prefetched = round(tally.devices * ready_of(name, scenario)) if policy.prefetches else 0
    from_origin = int(found.served.sum()) + (int(tally.prefetched.sum()) if policy.prefetches else 0)
    return Use(
        workers=workers_needed(scenario) if policy.gateways else 0,
        origin_requests_per_s_peak=peak,
        origin_bytes=from_origin * scenario.bundle_bytes,
        cdn_bytes=(prefetched + found.asked) * scenario.bundle_bytes,
        cdn_requests=prefetched + found.asked,
        gateway_bytes=told if policy.gateways else 0,
        polls_per_s=tally.devices / scenario.poll_s if name == "polling" else 0.0,
    )


def workers_needed(scenario: Scenario) -> int:
    """Return the fewest workers with room for the fleet, each done with its broadcast when the window is."""
    written = scenario.sends_per_s * (scenario.ahead_s + max(scenario.window_s, 1.0))
    return math.ceil(scenario.devices / min(scenario.room[0], written))
