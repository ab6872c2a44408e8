"""Is the forecast right? What it says just before the press, beside what the fleet and the origin then saw.

The press comes when half of the fleet holds the bundle, which is too large to travel inline; the others fetch it
at their slots of the prefetch, or when they should flip, whichever is sooner. The origin is the control plane
itself, whose counter of requests is read while they come.
"""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any, Final

from fanout.limits import INLINE_BYTES_MAX
from loadtest.bench.figures import Figure
from loadtest.bench.fleet import Fleet, fleet
from loadtest.bench.rig import STILL, TOPIC, Product, product

_WINDOW_S: Final = 20.0
_ARM_S: Final = 5.0
_PREFETCH_S: Final = 40.0
_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.1
_COUNTER: Final = "fanout_control_origin_requests_total"


async def foresight(devices: int) -> list[Figure]:
    """Return how far the forecast was off, for the time to 99 % and for the origin's busiest second."""
    found = await asyncio.to_thread(_run, devices)
    foreseen = found["forecast"]
    return [
        _figure(
            "forecast-time",
            f"until 99 % of {devices:,} devices have flipped, {foreseen['unready']:,} of them unready",
            "s",
            found["t99_s"],
            foreseen["t99_s"],
            0.10,
        ),
        _figure(
            "forecast-origin",
            "requests to the origin in its busiest second",
            "per s",
            found["origin_per_s"],
            foreseen["origin_per_s_peak"],
            0.20,
        ),
    ]


def _figure(name: str, what: str, unit: str, value: float, foreseen: float, within: float) -> Figure:
    ratio = value / foreseen
    return Figure(
        name=name,
        what=what,
        unit=unit,
        value=value,
        yardstick=foreseen,
        against="the forecast",
        ratio=ratio,
        budget=f"within {within:.0%} of the forecast",
        kept=abs(ratio - 1) <= within,
    )


def _run(devices: int) -> dict[str, Any]:
    with product(*STILL) as running, fleet(running, devices, "--origin", running.control_url) as crowd:
        crowd.until("connected", lambda tally: tally["connected"] >= devices, _PATIENCE_S)
        _half_prefetched(running, devices)
        query = f"window_s={_WINDOW_S:g}&in_s={_ARM_S:g}"
        foreseen = running.get(f"/v1/campaigns/bench/forecast?{query}")
        pressed = {"stage": "on", "window_s": _WINDOW_S, "in_s": _ARM_S, "force": True, "reason": "a benchmark"}
        activation = running.post("/v1/campaigns/bench/activate", pressed)["activation"]
        per_s = _busiest_second(running, activation["at"], devices, crowd)
        return {"forecast": foreseen, "origin_per_s": per_s, "t99_s": _t99_s(crowd.end(), activation["at"], devices)}


def _half_prefetched(running: Product, devices: int) -> None:
    """Prefetch, and return when half of the fleet is ready: the press falls into the prefetch."""
    content = {"stages": {"on": {"title": "x" * INLINE_BYTES_MAX}, "off": {"title": "off"}}}
    body = {"id": "bench", "title": "bench", "topic": TOPIC, "stages": ["on", "off"]}
    running.post("/v1/campaigns", {**body, "variants": [{"bundle": content}]})
    running.post("/v1/campaigns/bench/prefetch", {"window_s": _PREFETCH_S})
    deadline = time.monotonic() + _PATIENCE_S
    while running.get("/v1/campaigns/bench/readiness")["total"]["ready"] < devices / 2:
        assert time.monotonic() < deadline, "half of the fleet is not ready"
        time.sleep(_POLL_S)


def _busiest_second(running: Product, at: int, devices: int, crowd: Fleet) -> float:
    """Return the origin's requests in its busiest second, until everyone is active."""
    counts: list[tuple[float, float]] = []
    deadline = time.monotonic() + _ARM_S + _WINDOW_S + _PATIENCE_S
    while crowd.tally().get("activated", 0) < devices and time.monotonic() < deadline:
        counts.append((time.time(), _requests(running)))
        time.sleep(_POLL_S)
    # Per second, from samples a tenth apart: the rise between one and the first a second after it.
    rises = [
        (after - before) / (later - now)
        for (now, before), (later, after) in zip(counts, counts[round(1 / _POLL_S) :], strict=False)
    ]
    assert len(counts) > 1, "nothing was sampled"
    assert all(after >= before for (_, before), (_, after) in pairwise(counts)), "the counter ran backwards"
    return max(rises)


def _requests(running: Product) -> float:
    lines = running.api.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(_COUNTER))


def _t99_s(tally: dict[str, Any], at: int, devices: int) -> float:
    """Return the seconds from the instant until 99 % had flipped."""
    left = devices * 0.99
    for flipped_ms in sorted(tally["flips"], key=int):
        left -= tally["flips"][flipped_ms]
        if left <= 0:
            return (int(flipped_ms) - at) / 1000
    raise AssertionError(f"{left:.0f} devices too few have flipped")
