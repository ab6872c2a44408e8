"""What a connection costs: memory while idle, processor time to open, against the websockets library's server."""

from __future__ import annotations

import asyncio
import statistics

from fanout.wire import Activate, Prefetch
from loadtest.bench.fan_out import activate
from loadtest.bench.figures import Figure
from loadtest.bench.processor import cpu_seconds
from loadtest.bench.rig import (
    STILL,
    Product,
    Sink,
    child,
    openings,
    prepare,
    product,
    resident_bytes,
    said,
    until_welcomed_with,
)
from loadtest.lean import opening

_STOCK = "stock websockets server"


async def connections(devices: int, rounds: int) -> list[Figure]:
    """Return bytes per idle device and handshakes per core and second, the two servers in turn."""
    with product(*STILL) as running, child(["loadtest.bench.yardsticks", "stock"]) as stock:
        await asyncio.to_thread(_stand, running)
        await until_welcomed_with(running, Prefetch, Activate)
        stock_url = f"ws://127.0.0.1:{said(stock)}/"
        ours, theirs = Sink(), Sink()
        # Past the first few, memory pools have filled and grow with the devices.
        warm = max(1, devices // 10)
        await ours.connect(running.url, openings(running.url, warm, running.key, "warm"))
        await theirs.connect(stock_url, [opening(stock_url)] * warm)
        memory = resident_bytes(running.worker), resident_bytes(stock.pid)
        pairs: list[tuple[float, float]] = []
        share = devices // rounds
        for number in range(rounds):
            prepared = openings(running.url, share, running.key, f"round-{number}")
            mine = await _load(ours, running.worker, running.url, prepared)
            other = await _load(theirs, stock.pid, stock_url, [opening(stock_url)] * share)
            pairs.append((share / mine, share / other))
        opened = share * rounds
        grown = resident_bytes(running.worker) - memory[0], resident_bytes(stock.pid) - memory[1]
        ours.close()
        theirs.close()
    rate = statistics.median(mine for mine, _ in pairs)
    return [
        Figure(
            name="memory",
            what="resident memory per idle device",
            unit="bytes",
            value=grown[0] / opened,
            yardstick=grown[1] / opened,
            against=_STOCK,
            ratio=grown[0] / grown[1],
            budget="<= 2,000",
            kept=grown[0] / opened <= 2000,
        ),
        Figure(
            name="handshakes",
            what="handshakes with token, welcome and state (stock: without)",
            unit="per core and s",
            value=rate,
            yardstick=statistics.median(other for _, other in pairs),
            against=_STOCK,
            ratio=statistics.median(mine / other for mine, other in pairs),
            budget=">= 8,000",
            kept=rate >= 8000,
            rounds=pairs,
        ),
    ]


def _stand(running: Product) -> None:
    """Have a prefetch and an activation stand: what a device that comes during an event is told."""
    prepare(running)
    activate(running, 0)


async def _load(sink: Sink, pid: int, url: str, prepared: list[bytes]) -> float:
    """Connect everyone; return the server's processor time in seconds."""
    before = cpu_seconds(pid)
    await sink.connect(url, prepared)
    await asyncio.sleep(0)
    return cpu_seconds(pid) - before
