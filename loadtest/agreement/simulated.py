"""The simulator with the inputs of a real night: what is put in, and what it says of the same devices.

What goes in was decided before the press, or is measured of the gateway and of the machine; nothing of the flips is.
"""

from __future__ import annotations

from statistics import fmean, pstdev
from typing import Any, Final

import numpy as np
from msgspec import Struct, structs

from loadtest.agreement.compare import SHARES, Curve
from loadtest.agreement.night import Measured
from loadtest.simulation.crowd import Crowd, chunks_of
from loadtest.simulation.fleet import workers_of
from loadtest.simulation.policies import POLICIES
from loadtest.simulation.scenario import Region, Scenario
from loadtest.simulator import simulate

# The campaign's bundle is small, and travels through the gateways; the simulator calls that by this name.
_POLICY: Final = "inline"
# Whoever has not flipped so long after the window never does.
_AFTER_S: Final = 60.0
# Beyond it the simulator would have empty workers.
_SKEW_MAX: Final = 0.3
# The best of so many; more make no difference to a device (fanout.device.clock).
_SAMPLES_MAX: Final = 16
# As the swarms tell them.
_PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


class Simulated(Struct, frozen=True, kw_only=True):
    """A night of simulated devices.

    Attributes:
        put_in: Fields of the scenario that are not the simulator's defaults: name, value, where it is from.
        last_received_ms: When the last device has the activation, ms after the press.
        flip_error_ms: A flip against its device's own slot.
    """

    put_in: list[tuple[str, str, str]]
    curve: Curve
    last_received_ms: float
    flip_error_ms: dict[str, float]


def scenario_of(measured: Measured) -> tuple[Scenario, list[tuple[str, str, str]]]:
    """Return the scenario of a real night, and for every field that is set where its value is from."""
    workers, there = len(measured.connections), measured.connections
    here = Region(name="loopback", share=1.0, median_ms=measured.loopback.median_ms, p99_ms=measured.loopback.p99_ms)
    asked: list[tuple[str, Any, str]] = [
        ("devices", measured.devices, "the experiment"),
        ("prefix", measured.prefix, "the same ids, so the same slots"),
        ("rev", measured.rev, "the activation's, given by the store at the press"),
        ("ahead_s", measured.ahead_s, "the experiment"),
        ("window_s", measured.window_s, "the experiment"),
        ("workers", workers, "the experiment, or as many as open files ask for"),
        (
            "skew",
            min(_SKEW_MAX, round(pstdev(there) / fmean(there), 4)),
            "the workers' connections before the press, /v1/fleet",
        ),
        ("sends_per_s", measured.sends_per_s, "measured: devices by the gateway's clock of its broadcast, /metrics"),
        ("regions", (here,), "measured on idle loopback before the night, one way"),
        (
            "clock_samples",
            min(_SAMPLES_MAX, measured.clock_samples),
            "the welcome's, and beacons' before the instant",
        ),
        ("offline_share", 0.0, "every device is connected before the press"),
        ("late_share", 0.0, "nothing is put in of how late the engine's timers are"),
        ("ready_share", 1.0, "everybody is ready before the press"),
        ("ready_gate", 1.0, "likewise"),
        ("horizon_s", measured.window_s + _AFTER_S, "the window, and a minute for whoever is late"),
    ]
    told = [(name, _words(value), source) for name, value, source in asked]
    return Scenario(**{name: value for name, value, _ in asked}), told


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        (region,) = value
        return f"median {region.median_ms:g} ms, p99 {region.p99_ms:g} ms"
    return str(value)


def simulated(measured: Measured) -> Simulated:
    """Return the simulator's word on a real night."""
    scenario, put_in = scenario_of(measured)
    workers = workers_of(scenario)
    last_s = float((workers.hears_s + workers.devices / scenario.sends_per_s).max())
    return Simulated(
        put_in=put_in,
        curve=_curve(scenario),
        last_received_ms=round(last_s * 1000, 1),
        flip_error_ms=_errors(scenario),
    )


def others(measured: Measured, prefix: str) -> Curve:
    """Return the curve of as many devices with other ids: what differs is chance alone."""
    scenario, _ = scenario_of(measured)
    return _curve(structs.replace(scenario, prefix=prefix))


def fleet_of(measured: Measured, devices: int) -> Curve:
    """Return the curve of a fleet in a real night's place: as many devices a worker, the same rate and windows."""
    scenario, _ = scenario_of(measured)
    workers = max(1, round(devices * len(measured.connections) / measured.devices))
    return _curve(structs.replace(scenario, devices=devices, workers=workers), processes=0)


def _curve(scenario: Scenario, processes: int = 1) -> Curve:
    (found,) = simulate(scenario, (_POLICY,), processes=processes).policies
    times = (found.t50_s, found.t99_s, found.t999_s, found.t100_s)
    return Curve(found.flipped, found.flips_per_s, dict(zip(SHARES, times, strict=True)))


def _errors(scenario: Scenario) -> dict[str, float]:
    """Return percentiles of how late each simulated device is, ms."""
    late_s: list[Any] = []
    for number in range(chunks_of(scenario)):
        crowd = Crowd(scenario, number, None)
        late_s.append(POLICIES[_POLICY].plan(crowd).due_s - crowd.slots_s - np.float32(scenario.ahead_s))
    late_ms = np.concatenate(late_s) * 1000
    found = {name: float(np.percentile(late_ms, percent)) for name, percent in _PERCENTILES.items()}
    return {name: round(value, 3) for name, value in {**found, "max": float(late_ms.max())}.items()}
