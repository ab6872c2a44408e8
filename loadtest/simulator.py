"""The fleet simulator: every device of a fleet by itself, as arrays, chunk by chunk, for several policies at once.

`simulate` passes over the fleet three times and works out the gates in between: who has to connect and when; who asks
the origin and when; what comes of it. The formulas are in docs/simulator.md. A scenario gives the same answer in any
number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from fanout.errors import InvalidInput
from loadtest.simulation.crowd import chunks_of, connecting
from loadtest.simulation.engine import BATCH_CHUNKS, PROCESSES_MAX, cores, sweeper
from loadtest.simulation.figures import LEAD_S, Figures, figures_of
from loadtest.simulation.fleet import window_s_min, workers_of
from loadtest.simulation.gate import BIN_S, Counts, Rates, admitted_shares
from loadtest.simulation.passes import Job
from loadtest.simulation.policies import POLICIES, fetching
from loadtest.simulation.scenario import Scenario

_PASSES: Final = 3


class Outcome(Struct, frozen=True, kw_only=True):
    """A scenario, and what each policy makes of it.

    Attributes:
        window_s_min: Below this the gateways' writing would decide when devices flip.
        workers: Gateway workers that hold the fleet.
        fullest_worker_devices: On the fullest of them.
        origin_from_s: Where the origin's curves begin; the curves of flips begin at the instant.
    """

    scenario: Scenario
    window_s_min: float
    workers: int
    fullest_worker_devices: int
    origin_from_s: int = -LEAD_S
    policies: list[Figures]


def simulate(
    scenario: Scenario,
    policies: Sequence[str] = tuple(POLICIES),
    *,
    processes: int = 0,
    tell: Callable[[int, int], None] | None = None,
    batch_chunks: int = BATCH_CHUNKS,
) -> Outcome:
    """Simulate a night under each policy.

    Args:
        scenario: The night.
        policies: Names out of `POLICIES`.
        processes: That share the work; 1 does it in this one, 0 is one a core.
        tell: Called with the chunks that are done and the chunks there are, over all passes.
        batch_chunks: Chunks a process does at a time; the answer does not depend on it.
    Raises:
        InvalidInput: No fleet could do that; the message holds the number that forbids it.
    """
    check(scenario, policies)
    if not 0 <= processes <= PROCESSES_MAX or batch_chunks < 1:
        raise InvalidInput(f"processes is {processes}; send 1 to {PROCESSES_MAX}, or 0 for one a core")
    names = tuple(name for name in POLICIES if name in policies)
    finished, all_chunks = 0, _PASSES * chunks_of(scenario)

    def done(count: int) -> None:
        nonlocal finished
        finished += count
        if tell is not None:
            tell(finished, all_chunks)

    with sweeper(scenario, processes or cores(), batch_chunks, done) as sweep:
        connects = sweep(Job(scenario, names, "connect")).connects
        admission = admission_of(scenario, connects)
        asks = sweep(Job(scenario, tuple(name for name in names if POLICIES[name].asks), "ask", admission)).asks
        nobody = np.zeros_like(connects)
        origin = {name: origin_of(scenario, name, asks.get(name, nobody)) for name in names}
        found = sweep(Job(scenario, names, "flip", admission, origin))
    workers = workers_of(scenario)
    return Outcome(
        scenario=scenario,
        window_s_min=round(window_s_min(scenario), 3),
        workers=len(workers.devices),
        fullest_worker_devices=int(workers.devices.max()),
        policies=[figures_of(scenario, name, found, origin[name]) for name in names],
    )


def check(scenario: Scenario, policies: Sequence[str]) -> None:
    """Hold that a fleet can do that under these policies.

    Raises:
        InvalidInput: It cannot.
    """
    unknown = sorted(set(policies) - set(POLICIES))
    if unknown or not policies:
        raise InvalidInput(f"policy {', '.join(unknown) or 'none'}; send one or more of {', '.join(POLICIES)}")
    chosen = [POLICIES[name] for name in policies]
    least_s = window_s_min(scenario)
    if any(each.prefetches or each.inline for each in chosen) and scenario.window_s < least_s:
        raise InvalidInput(
            f"window_s is {scenario.window_s:g}; the fullest worker writes to {workers_of(scenario).devices.max()} "
            f"devices at {scenario.sends_per_s:g} a second, until {least_s:.2f} s after the instant: send that or "
            "more, a longer ahead_s, or more workers"
        )
    prefetch_per_s = scenario.devices * (1 - scenario.cdn_hit_ratio) / scenario.prefetch_window_s
    if any(each.prefetches for each in chosen) and prefetch_per_s > scenario.origin_per_s:
        needed_s = prefetch_per_s * scenario.prefetch_window_s / scenario.origin_per_s
        raise InvalidInput(
            f"prefetch_window_s is {scenario.prefetch_window_s:g}; the prefetch would ask the origin for "
            f"{prefetch_per_s:,.0f} a second, it gives {scenario.origin_per_s:g}: send {needed_s:.0f} or more"
        )


def admission_of(scenario: Scenario, connects: Counts) -> Rates:
    """Return which share of handshakes the gateways admit in each bin, when so many first ones come."""
    room = workers_of(scenario).admit_per_s(np.arange(len(connects), dtype=np.float64) * BIN_S) * BIN_S
    return admitted_shares(connects, room, connecting(scenario))


def origin_of(scenario: Scenario, name: str, asks: Counts) -> Rates:
    """Return which share of a policy's requests the origin answers in each bin, when so many first ones come."""
    if name == "polling":
        # Everyone polls on, also when it has flipped: the same number comes in every bin, for ever.
        coming_per_s = scenario.devices * (1 - scenario.cdn_hit_ratio) / scenario.poll_s
        return np.full(len(asks), min(1.0, scenario.origin_per_s / coming_per_s) if coming_per_s else 1.0)
    return admitted_shares(asks, np.full(len(asks), scenario.origin_per_s * BIN_S), fetching(scenario))
