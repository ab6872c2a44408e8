"""An activation to every socket of one worker, against a bare loop of ``send()`` over as many.

Both sides have a receiver process of their own that reads and throws away, so neither is favoured.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from fanout.wire import Activate, Encoding, encode
from loadtest.bench.figures import Figure
from loadtest.bench.rig import STILL, Product, Sink, ask, bare_server, openings, prepare, product
from loadtest.lean import BINARY


async def fan_out(devices: int, rounds: int) -> list[Figure]:
    """Return the time to fan out, and from the publish call to the first and the last device."""
    with product(*STILL) as running, bare_server(devices) as bare:
        sink = Sink()
        await sink.connect(running.url, openings(running.url, devices, running.key))
        await sink.expect(devices)  # the welcomes
        await asyncio.to_thread(prepare, running)
        await sink.expect(2 * devices)  # the prefetch
        frame = activation_frame()
        pairs: list[tuple[float, float]] = []
        first_ms: list[float] = []
        last_ms: list[float] = []
        for number in range(rounds):
            sink.reset()
            before = running.broadcast_seconds()
            pressed = time.time()
            await asyncio.to_thread(activate, running, number)
            await sink.expect(devices)
            ours_ms = (running.broadcast_seconds() - before) * 1000
            first_ms.append((sink.first_s - pressed) * 1000)
            last_ms.append((sink.last_s - pressed) * 1000)
            theirs_ms = float(await asyncio.to_thread(ask, bare, f"send {frame.hex()}")) * 1000
            pairs.append((ours_ms, theirs_ms))
        sink.close()
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    first, last = statistics.median(first_ms), statistics.median(last_ms)
    return [
        Figure(
            name="fan-out",
            what=f"fan-out of an activation to {devices:,} sockets",
            unit="ms",
            value=statistics.median(ours for ours, _ in pairs),
            yardstick=statistics.median(theirs for _, theirs in pairs),
            against="bare send() loop",
            ratio=ratio,
            budget="<= 1.15 x",
            kept=ratio <= 1.15,
            rounds=pairs,
        ),
        Figure(
            name="publish-to-first",
            what="publish call to first device",
            unit="ms",
            value=first,
            budget="<= 10",
            kept=first <= 10,
        ),
        Figure(
            name="publish-to-last",
            what=f"publish call to last of {devices:,} devices",
            unit="ms",
            value=last,
            budget="<= 300 for 15,000",
            kept=last <= 300,
        ),
    ]


def activate(running: Product, number: int) -> None:
    """Press the button; the stages alternate, so that every press is news."""
    stage = ("on", "off")[number % 2]
    # Sinks report nothing, so the gate has to be forced.
    body = {"stage": stage, "window_s": 0, "force": True, "reason": "benchmark"}
    running.post("/v1/campaigns/bench/activate", body)


def activation_frame() -> bytes:
    """Return bytes as long as the frame the product sends."""
    message = Activate("bench", 1_700_000_000_000, "off", "0" * 64, at=1_700_000_000_000, window_ms=0)
    payload = encode(message, Encoding.MSGPACK)
    return bytes((0x80 | BINARY, 126)) + len(payload).to_bytes(2, "big") + payload
