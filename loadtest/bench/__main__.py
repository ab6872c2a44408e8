"""``make bench``: every benchmark, product and yardstick in turn within one run; medians and ratios.

Absolute figures of a shared machine mean little; the ratio to the yardstick beside them is what counts.
"""

from __future__ import annotations

import asyncio
import gc
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
import uvloop
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from fanout.wire import Activate, Encoding, encode
from loadtest.bench.rig import (
    TOPIC,
    Product,
    Sink,
    ask,
    child,
    cpu_seconds,
    openings,
    product,
    resident_bytes,
    said,
)
from loadtest.lean import BINARY, open_socket, opening

# No beacon falls into a measurement, and no handshake is refused: these are measured by other means.
_STILL: Final = ("--beacon-s", "1000", "--ping-s", "3000", "--lifetime-s", "9000", "--admit-per-s", "100000")


class Figure(Struct, frozen=True):
    """One line of the table.

    Attributes:
        budget: What the product promises, in words.
        ratio: Product ÷ yardstick.
    """

    what: str
    unit: str
    product: float
    yardstick: float | None
    against: str
    ratio: float | None
    budget: str


async def fan_out(devices: int, rounds: int) -> list[Figure]:
    """An activation to every socket against a bare loop of ``send()`` over as many."""
    with product(*_STILL) as running, child(["loadtest.bench.yardsticks", "bare"]) as bare:
        sink, plain = Sink(), Sink()
        bare_url = f"ws://127.0.0.1:{said(bare)}/"
        await sink.connect(running.url, openings(running.url, devices, running.key))
        for _ in range(devices):
            await _plain_socket(plain, bare_url)
        await sink.expect(devices)  # the welcomes
        _prepare(running)
        await sink.expect(2 * devices)  # the prefetch
        frame = _activation_frame()
        ours: list[float] = []
        theirs: list[float] = []
        first_ms: list[float] = []
        last_ms: list[float] = []
        for number in range(rounds):
            sink.reset()
            before, _ = running.broadcast_seconds()
            pressed = time.time()
            await asyncio.to_thread(_activate, running, number)
            await sink.expect(devices)
            ours.append(running.broadcast_seconds()[0] - before)
            first_ms.append((sink.first_s - pressed) * 1000)
            last_ms.append((sink.last_s - pressed) * 1000)
            theirs.append(float(await asyncio.to_thread(ask, bare, f"send {frame.hex()}")))
        sink.close()
        plain.close()
    product_s, bare_s = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    first, last = statistics.median(first_ms), statistics.median(last_ms)
    return [
        Figure(f"fan-out to {devices}", "ms", product_s * 1000, bare_s * 1000, "bare send() loop", ratio, "<= 1.15"),
        Figure("publish call to first device", "ms", first, None, "", None, "<= 10"),
        Figure(f"publish call to last of {devices}", "ms", last, None, "", None, "<= 300 for 15k"),
    ]


async def _plain_socket(sink: Sink, url: str) -> None:
    """Open a socket that only receives; the bare server never answers a handshake."""
    sink.sockets.append(await open_socket(url, sink, b"\n"))


def _prepare(running: Product) -> None:
    content = {"stages": {"on": {"title": "on"}, "off": {"title": "off"}}}
    body = {"id": "bench", "title": "bench", "topic": TOPIC, "stages": ["on", "off"],
            "variants": [{"match": {}, "bundle": content}]}  # fmt: skip
    running.post("/v1/campaigns", body)
    running.post("/v1/campaigns/bench/prefetch", {"window_s": 0})


def _activate(running: Product, number: int) -> None:
    stage = ("on", "off")[number % 2]
    # Sinks report nothing, so the gate has to be forced.
    body = {"stage": stage, "window_s": 0, "force": True, "reason": "benchmark"}
    running.post("/v1/campaigns/bench/activate", body)


def _activation_frame() -> bytes:
    """Return bytes as long as the frame the product sends."""
    message = Activate("bench", 1_700_000_000_000, "off", "0" * 64, at=1_700_000_000_000, window_ms=0)
    payload = encode(message, Encoding.MSGPACK)
    return bytes((0x80 | BINARY, 126)) + len(payload).to_bytes(2, "big") + payload


async def connections(devices: int) -> list[Figure]:
    """Memory of an idle device, and processor time of a handshake, against the websockets library's server."""
    with product(*_STILL) as running, child(["loadtest.bench.yardsticks", "stock"]) as stock:
        stock_url = f"ws://127.0.0.1:{said(stock)}/"
        ours, theirs = Sink(), Sink()
        # Past the first few, memory pools have filled and grow with the devices.
        warm = min(500, devices // 10)
        await ours.connect(running.url, openings(running.url, warm, running.key, "warm"))
        await theirs.connect(stock_url, [opening(stock_url)] * warm)
        mine = await _load(ours, running.worker, running.url, openings(running.url, devices, running.key))
        other = await _load(theirs, stock.pid, stock_url, [opening(stock_url)] * devices)
        ours.close()
        theirs.close()
    against = "stock websockets server"
    per_core, other_per_core = devices / mine[1], devices / other[1]
    return [
        Figure("resident memory per idle device", "bytes", mine[0] / devices, other[0] / devices, against,
               mine[0] / other[0], "<= 2,000"),
        Figure("handshakes (ours with token, welcome)", "per core and s", per_core, other_per_core, against,
               per_core / other_per_core, ">= 8,000"),
    ]  # fmt: skip


async def _load(sink: Sink, pid: int, url: str, prepared: list[bytes]) -> tuple[int, float]:
    """Connect everyone; return the growth of the server's memory and the processor time it took."""
    memory, cpu = resident_bytes(pid), cpu_seconds(pid)
    await sink.connect(url, prepared)
    return resident_bytes(pid) - memory, cpu_seconds(pid) - cpu


async def run(devices: int, rounds: int) -> list[Figure]:
    """Run all benchmarks."""
    gc.disable()  # ours is the load generator; its collector must not fall into a measurement
    return [*await fan_out(devices, rounds), *await connections(devices)]


@click.command(context_settings={"show_default": True})
@click.option(
    "--devices", default=9_000, help="Sockets on each side; both sides and the yardstick share this process."
)
@click.option("--rounds", default=15, help="Activations, alternating with the yardstick.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def main(devices: int, rounds: int, json_file: Path | None) -> None:
    """Measure the product beside its yardsticks."""
    figures = uvloop.run(run(devices, rounds))
    table = Table("what", "unit", "product", "yardstick", "against", "ratio", "budget")
    for each in figures:
        table.add_row(each.what, each.unit, _number(each.product), _number(each.yardstick), each.against,
                      _number(each.ratio), each.budget)  # fmt: skip
    Console().print(table)
    if json_file is not None:
        about: dict[str, Any] = {"python": sys.version.split()[0], "machine": platform.machine()}
        figures_json = [{name: getattr(each, name) for name in each.__struct_fields__} for each in figures]
        json_file.write_text(json.dumps({**about, "figures": figures_json}, indent=2))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    main()
