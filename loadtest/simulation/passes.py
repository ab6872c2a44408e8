"""The three passes over a chunk: who connects when, who asks the origin when, and what comes of it all.

Between them the gates work out what they let in. A pass computes a chunk's devices anew: memory is dearer than time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

from loadtest.simulation.crowd import Crowd, Places
from loadtest.simulation.gate import Rates, arrivals, bins_until, pass_through
from loadtest.simulation.hashing import F32
from loadtest.simulation.policies import POLICIES, Plan, retry_of
from loadtest.simulation.scenario import Scenario
from loadtest.simulation.tally import PolicyTally, Tally

Stage = Literal["connect", "ask", "flip"]


class Job(Struct, frozen=True):
    """A pass over some chunks.

    Attributes:
        scenario: The night.
        policies: Which are compared.
        stage: Which pass.
        admission: p of the gateways' admission in each bin, from the second pass on.
        origin: The same of the origin by policy, in the third.
    """

    scenario: Scenario
    policies: tuple[str, ...]
    stage: Stage
    admission: Rates | None = None
    origin: Mapping[str, Rates] = {}


def empty(scenario: Scenario) -> Tally:
    """Return a tally of nothing."""
    return Tally(bins_until(scenario.end_s), math.ceil(scenario.prefetch_window_s))


def run_chunks(job: Job, numbers: Sequence[int]) -> Tally:
    """Return what a pass finds in these chunks."""
    made = empty(job.scenario)
    for number in numbers:
        crowd = Crowd(job.scenario, number, job.admission)
        if job.stage == "connect":
            made.connects += arrivals(crowd.connects_s, len(made.connects))
        elif job.stage == "ask":
            _count_asks(crowd, job, made)
        else:
            _count_flips(crowd, job, made)
    return made


def _count_asks(crowd: Crowd, job: Job, made: Tally) -> None:
    for name in job.policies:
        plan = POLICIES[name].plan(crowd)
        cold = _cold(crowd, plan)
        counted = arrivals(_reaches_s(crowd, plan, cold), len(made.connects))
        made.asks[name] = made.asks[name] + counted if name in made.asks else counted


def _count_flips(crowd: Crowd, job: Job, made: Tally) -> None:
    made.devices += crowd.count
    made.outside += 0 if crowd.outside is None else int(crowd.outside.sum())
    if any(POLICIES[name].gateways for name in job.policies):
        made.handshakes += crowd.handshakes.attempts
        made.admitted += crowd.handshakes.admitted
    if any(POLICIES[name].prefetches for name in job.policies):
        wanted = crowd.cold & ~crowd.offline
        seconds = crowd.prefetch_slots_s[wanted].astype(np.int32)
        made.prefetched += np.bincount(seconds, minlength=len(made.prefetched))[: len(made.prefetched)]
    for name in job.policies:
        if name not in made.policies:
            made.policies[name] = PolicyTally(job.scenario.end_s, len(made.connects))
        flips_s = flips_of(crowd, name, job.origin[name], made.policies[name])
        made.policies[name].count_flips(flips_s if crowd.outside is None else flips_s[~crowd.outside])


def flips_of(crowd: Crowd, name: str, origin: Rates, made: PolicyTally) -> F32:
    """Return when each device flips, infinite if never, and count its requests.

    Args:
        crowd: The devices.
        name: The policy.
        origin: What the origin lets in.
        made: Where requests are counted.
    """
    plan = POLICIES[name].plan(crowd)
    cold = _cold(crowd, plan)
    made.asked += _asking(crowd, plan)
    # The others' edge has the content: there and back.
    if plan.askers is None:
        back_s = 2 * crowd.way_s
        back_s += plan.asks_s
        whose = cold
    else:
        back_s = plan.asks_s + 2 * crowd.way_s[plan.askers]
        whose = plan.askers[cold]
    tried = pass_through(_reaches_s(crowd, plan, cold), crowd.whims[whose], origin, retry_of(name, crowd.scenario))
    back_s[cold] = tried.admitted_s + crowd.way_s[whose]
    made.attempts += tried.attempts
    made.served += tried.admitted
    if plan.askers is None:
        return np.maximum(plan.due_s, back_s)
    flips_s = plan.due_s.copy()
    flips_s[plan.askers] = np.maximum(flips_s[plan.askers], back_s)
    return flips_s


def _cold(crowd: Crowd, plan: Plan) -> Places:
    """Return which of the askers, by their place among them, ask the origin."""
    cold = crowd.cold if crowd.outside is None else crowd.cold & ~crowd.outside
    return np.flatnonzero(cold if plan.askers is None else cold[plan.askers])


def _asking(crowd: Crowd, plan: Plan) -> int:
    """Return how many send a request at all; whom it is not for, and who never hears, does not."""
    sent = np.isfinite(plan.asks_s)
    if crowd.outside is not None:
        sent &= ~(crowd.outside if plan.askers is None else crowd.outside[plan.askers])
    return int(np.count_nonzero(sent))


def _reaches_s(crowd: Crowd, plan: Plan, cold: Places) -> F32:
    """Return when these requests reach the origin."""
    whose = cold if plan.askers is None else plan.askers[cold]
    return plan.asks_s[cold] + crowd.way_s[whose]
