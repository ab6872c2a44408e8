"""What a fleet costs while nothing happens: beacons, presence and the worker's tick, per device and minute."""

from __future__ import annotations

import asyncio

from loadtest.bench.figures import Figure
from loadtest.bench.processor import cpu_seconds
from loadtest.bench.rig import Sink, openings, product

# IPv4 and TCP with timestamps: what every small frame costs on the wire besides itself.
_OVERHEAD_BYTES = 20 + 32


async def idle(devices: int, seconds: float) -> list[Figure]:
    """Watch an idle fleet with the product's default beacons."""
    with product("--admit-per-s", "100000") as running:
        sink = Sink()
        await sink.connect(running.url, openings(running.url, devices, running.key))
        await sink.expect(devices)
        sink.reset()
        before = cpu_seconds(running.worker)
        await asyncio.sleep(seconds)
        cpu = cpu_seconds(running.worker) - before
        frames, payload = sink.messages, sink.message_bytes
        sink.close()
    minutes = seconds / 60
    cpu_us = cpu * 1e6 / devices / minutes
    sent = (payload + frames * (2 + _OVERHEAD_BYTES)) / devices / minutes
    return [
        Figure(
            name="idle-cpu",
            what=f"processor time of {devices:,} idle devices",
            unit="us per device and minute",
            value=cpu_us,
            budget="100,000 on a quarter of a core: <= 150",
            kept=cpu_us <= 150,
        ),
        Figure(
            name="idle-bytes",
            what="bytes to an idle device, headers included",
            unit="per device and minute",
            value=sent,
            budget="<= 300",
            kept=sent <= 300,
        ),
    ]
