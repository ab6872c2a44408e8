"""Small fleets, simulated whole, with every device's own flip to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct, structs

from loadtest.simulation.crowd import CHUNK, Crowd
from loadtest.simulation.gate import Rates, bins_until
from loadtest.simulation.hashing import F32
from loadtest.simulation.passes import Job, flips_of, run_chunks
from loadtest.simulation.scenario import Region, Scenario
from loadtest.simulation.tally import PolicyTally
from loadtest.simulator import admission_of, origin_of

HERE = (Region(name="here", share=1.0, median_ms=0.0, p99_ms=0.0),)
# Nothing goes wrong, nothing takes time but what a test asks for; everyone is ready.
QUIET = Scenario(
    devices=20_000,
    devices_per_worker=5_000,
    skew=0.0,
    publish_median_ms=0.0,
    publish_p99_ms=0.0,
    regions=HERE,
    offline_share=0.0,
    late_share=0.0,
    ready_share=1.0,
    ready_gate=1.0,
    cdn_hit_ratio=0.0,
    origin_per_s=1e6,
    horizon_s=120.0,
)


def quiet(**changed: Any) -> Scenario:
    """Return that scenario with changes."""
    return structs.replace(QUIET, **changed)


class Night(Struct):
    """One policy's night on a fleet of one chunk.

    Attributes:
        flips_s: By device, after the press; infinite if never.
    """

    crowd: Crowd
    admission: Rates
    origin: Rates
    flips_s: F32
    tally: PolicyTally


def night(scenario: Scenario, name: str) -> Night:
    """Simulate one policy, as `simulate` does."""
    assert scenario.devices <= CHUNK
    admission = admission_of(scenario, run_chunks(Job(scenario, (name,), "connect"), [0]).connects)
    origin = origin_of(scenario, name, run_chunks(Job(scenario, (name,), "ask", admission), [0]).asks[name])
    crowd = Crowd(scenario, 0, admission)
    tally = PolicyTally(scenario.end_s, bins_until(scenario.end_s))
    return Night(crowd, admission, origin, flips_of(crowd, name, origin, tally), tally)


def quantile_s(flips_s: F32, share: float) -> float:
    """Return when this share has flipped; infinite if so many never do."""
    return float(np.sort(flips_s)[int(np.ceil(len(flips_s) * share)) - 1])
