"""``make bench``: every benchmark, product and yardstick in turn within one run; medians and ratios.

Absolute figures of a shared machine mean little; the ratio to the yardstick beside them is what counts.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import uvloop
from rich.console import Console

from loadtest.bench.bus import bus
from loadtest.bench.connections import connections
from loadtest.bench.fan_out import fan_out
from loadtest.bench.figures import Figure, show, write_json, write_report
from loadtest.bench.flips import flips
from loadtest.bench.foresight import foresight
from loadtest.bench.idle import idle
from loadtest.bench.slow import slow
from loadtest.bench.stalls import stalls


async def run(devices: int, rounds: int, only: tuple[str, ...]) -> list[Figure]:
    """Run the benchmarks asked for, one after the other."""
    gc.disable()  # ours is the load generator; its collector must not fall into a measurement
    # The stock server needs 13 KB a connection, and both servers' sockets are in this process.
    half = devices // 2
    benchmarks: dict[str, Callable[[], Awaitable[list[Figure]]]] = {
        "fan-out": lambda: fan_out(devices, rounds),
        "connections": lambda: connections(half, 5),
        "stalls": lambda: stalls(half, 20),
        "idle": lambda: idle(half, 30),
        "flips": lambda: asyncio.to_thread(flips, half),
        "forecast": lambda: foresight(devices // 3),
        "bus": lambda: bus(devices // 15, 15),
        "slow": lambda: slow(devices // 6),
    }
    figures: list[Figure] = []
    console = Console(stderr=True)
    for name, benchmark in benchmarks.items():
        if not only or name in only:
            with console.status(name):
                figures += await benchmark()
            gc.collect()
    return figures


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--devices",
    default=15_000,
    help="Sockets of the fan-out; others take half, the forecast a third, slow readers a sixth, the bus a fifteenth.",
)
@click.option("--rounds", default=15, help="Activations, alternating with the yardstick.")
@click.option("--only", multiple=True, help="Benchmark to run; may be repeated.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write BENCH.md here, with plots.")
def main(devices: int, rounds: int, only: tuple[str, ...], json_file: Path | None, report: Path | None) -> None:
    """Measure the product beside its yardsticks."""
    figures = uvloop.run(run(devices, rounds, only))
    show(figures)
    settings = {"devices": devices, "rounds": rounds}
    if json_file is not None:
        write_json(json_file, figures, settings)
    if report is not None:
        write_report(report, figures, settings)


if __name__ == "__main__":
    main()
