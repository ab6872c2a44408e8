"""Does a broadcast hold anybody up? Handshakes and beacons beside it, against the same without.

A prober process of its own opens one connection after another and notes how long each took; another keeps a
few open and notes how late their beacons are.
"""

from __future__ import annotations

import asyncio
import json

from loadtest.bench.fan_out import activate
from loadtest.bench.figures import Figure
from loadtest.bench.rig import Product, Sink, ask, openings, prepare, prober, product

_BEACON_S = 2.0
_STALL_MS_MAX = 50.0
_FLAGS = ("--beacon-s", str(_BEACON_S), "--ping-s", "3000", "--lifetime-s", "9000", "--admit-per-s", "100000")


async def stalls(devices: int, broadcasts: int) -> list[Figure]:
    """Return the slowest handshakes and the latest beacons while activations go out."""
    with product(*_FLAGS) as running, prober(running, _BEACON_S) as probing:
        sink = Sink()
        await sink.connect(running.url, openings(running.url, devices, running.key))
        await asyncio.to_thread(prepare, running)
        quiet = await _probe(probing, broadcasts * 0.5)
        measured = asyncio.create_task(_probe(probing, broadcasts * 0.5))
        await _broadcast(running, broadcasts, measured)
        busy = await measured
        sink.close()
    return [
        Figure(
            name="handshake-stall",
            what=f"the slowest of {busy['handshakes']:,.0f} handshakes during broadcasts to {devices:,}",
            unit="ms",
            value=busy["handshake_max_ms"],
            yardstick=quiet["handshake_max_ms"],
            against="the same without",
            ratio=busy["handshake_max_ms"] / quiet["handshake_max_ms"],
            budget="no stall over 50",
            kept=busy["handshake_max_ms"] <= _STALL_MS_MAX,
        ),
        Figure(
            name="handshake-p99",
            what="the same, 99th percentile",
            unit="ms",
            value=busy["handshake_p99_ms"],
            yardstick=quiet["handshake_p99_ms"],
            against="the same without",
            ratio=busy["handshake_p99_ms"] / quiet["handshake_p99_ms"],
            budget="<= 50",
            kept=busy["handshake_p99_ms"] <= _STALL_MS_MAX,
        ),
        Figure(
            name="beacon-lateness",
            what="beacon during broadcasts, 99th percentile of lateness",
            unit="ms",
            value=busy["beacon_p99_ms"],
            yardstick=quiet["beacon_p99_ms"],
            against="the same without",
            ratio=busy["beacon_p99_ms"] / max(1.0, quiet["beacon_p99_ms"]),
            budget="a fraction of a beacon period",
            kept=busy["beacon_p99_ms"] <= _BEACON_S * 1000 / 2,
        ),
    ]


async def _broadcast(running: Product, broadcasts: int, measured: asyncio.Task[dict[str, float]]) -> None:
    """Press one activation after another until the prober is done."""
    for number in range(broadcasts * 20):
        if measured.done():
            return
        await asyncio.to_thread(activate, running, number)


async def _probe(probing: object, seconds: float) -> dict[str, float]:
    return dict(json.loads(await asyncio.to_thread(ask, probing, f"probe {seconds}")))  # type: ignore[arg-type]
