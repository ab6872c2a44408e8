"""Is an activation as quick while everybody comes at once? To the last device, in a flood of handshakes and without.

The gateway admits what it does by default and refuses the rest: the flood brings more than that.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtest.bench.fan_out import activate
from loadtest.bench.figures import Figure
from loadtest.bench.rig import Product, Sink, ask, child, openings, prepare, product, said

# Nothing but the flood and the activations.
_FLAGS: Final = ("--beacon-s", "1000", "--ping-s", "3000", "--lifetime-s", "9000")
# The crowd itself comes at three quarters of the rate that is admitted.
_BATCH, _BATCH_S = 750, 0.25
# Until the flood is at its height, and until what it left behind is done with.
_SETTLE_S: Final = 1.0
_TO_LAST_MS_MAX: Final = 300.0


async def flood(devices: int, rounds: int) -> list[Figure]:
    """Return the time from an activation's publish call to the last device, in a flood and between two.

    The crowd is idle otherwise: the flood's visitors come and go beside it.
    """
    pairs: list[tuple[float, float]] = []
    answered: Counter[str] = Counter()
    flooded_s = 0.0
    with product(*_FLAGS) as running, _flooder(running) as flooding:
        sink = Sink()
        words = openings(running.url, devices, running.key)
        for first in range(0, devices, _BATCH):
            await sink.connect(running.url, words[first : first + _BATCH])
            await asyncio.sleep(_BATCH_S)
        await asyncio.to_thread(prepare, running)
        await sink.expect(2 * devices)  # the welcomes and the prefetch
        for number in range(rounds):
            quiet_ms = await _to_last_ms(running, sink, devices, 2 * number)
            await _turn(flooding, "flood")
            await asyncio.sleep(_SETTLE_S)
            pairs.append((await _to_last_ms(running, sink, devices, 2 * number + 1), quiet_ms))
            told = await _turn(flooding, "rest")
            answered.update(told["statuses"])
            flooded_s += told["seconds"]
            await asyncio.sleep(_SETTLE_S)
        lost = sink.lost
        sink.close()
    assert not lost, f"{lost} of the crowd were lost"
    let_in, refused = answered["101"] / flooded_s, answered["503"] / flooded_s
    value = statistics.median(during for during, _ in pairs)
    return [
        Figure(
            name="flood-to-last",
            what=f"publish call to last of {devices:,} devices, in a flood of {let_in + refused:,.0f} handshakes/s "
            f"({refused:,.0f} refused)",
            unit="ms",
            value=value,
            yardstick=statistics.median(quiet for _, quiet in pairs),
            against="the same without",
            ratio=statistics.median(during / quiet for during, quiet in pairs),
            budget=f"<= {_TO_LAST_MS_MAX:g}",
            kept=value <= _TO_LAST_MS_MAX and let_in > 0,
            rounds=pairs,
        )
    ]


@contextmanager
def _flooder(running: Product) -> Iterator[subprocess.Popen[str]]:
    with child(["loadtest.bench.flooder", running.url], FANOUT_DEVICE_KEY=running.key.decode()) as process:
        assert said(process) == "ready"
        yield process


async def _turn(flooding: subprocess.Popen[str], word: str) -> dict[str, Any]:
    return dict(json.loads(await asyncio.to_thread(ask, flooding, word)))


async def _to_last_ms(running: Product, sink: Sink, devices: int, number: int) -> float:
    sink.reset()
    pressed_s = time.time()
    await asyncio.to_thread(activate, running, number)
    await sink.expect(devices)
    return (sink.last_s - pressed_s) * 1000
