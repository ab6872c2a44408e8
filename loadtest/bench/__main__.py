"""``make bench``: every benchmark, product and yardstick in turn within one run; medians and ratios.

Absolute figures of a shared machine mean little; the ratio to the yardstick beside them is what counts.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import click
import uvloop
from rich.console import Console

from loadtest.bench.bus import bus
from loadtest.bench.connections import connections
from loadtest.bench.fan_out import fan_out
from loadtest.bench.figures import Figure, Run, show, write_json, write_report
from loadtest.bench.flips import flips
from loadtest.bench.flood import flood
from loadtest.bench.foresight import foresight
from loadtest.bench.idle import idle
from loadtest.bench.simulator import simulator
from loadtest.bench.slow import slow
from loadtest.bench.stalls import stalls

# Devices and rounds in, figures out. Half of the devices for most: the stock server needs 13 KB a connection, and
# both servers' sockets are in this process.
BENCHMARKS: Final[Mapping[str, Callable[[int, int], Awaitable[list[Figure]]]]] = {
    "fan-out": fan_out,
    "connections": lambda devices, _: connections(devices // 2, 5),
    "stalls": lambda devices, _: stalls(devices // 2, 20),
    "flood": lambda devices, rounds: flood(devices // 2, rounds // 2),
    "idle": lambda devices, _: idle(devices // 2, 30),
    "flips": lambda devices, _: asyncio.to_thread(flips, devices * 4 // 3),
    "forecast": lambda devices, _: foresight(devices // 3),
    "bus": lambda devices, _: bus(devices // 15, 15),
    "slow": lambda devices, _: slow(devices // 6),
    "simulator": lambda devices, _: asyncio.to_thread(simulator, devices * 20_000 // 3),
}
DEVICES: Final = 15_000
_WHOLE_S_MAX: Final = 600.0


async def run(devices: int, rounds: int, only: tuple[str, ...]) -> Run:
    """Run the benchmarks asked for, one after the other."""
    gc.disable()  # ours is the load generator; its collector must not fall into a measurement
    figures: list[Figure] = []
    seconds: dict[str, float] = {}
    console = Console(stderr=True)
    for name in only or BENCHMARKS:
        began_s = time.monotonic()
        with console.status(name):
            figures += await BENCHMARKS[name](devices, rounds)
        seconds[name] = round(time.monotonic() - began_s, 1)
        gc.collect()
    if not only:
        figures.append(_whole(sum(seconds.values())))
    return Run(figures=figures, settings={"devices": devices, "rounds": rounds}, seconds=seconds)


def _whole(took_s: float) -> Figure:
    return Figure(
        name="whole-run",
        what="all of this",
        unit="s",
        value=took_s,
        budget=f"<= {_WHOLE_S_MAX:g}",
        kept=took_s <= _WHOLE_S_MAX,
    )


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--devices",
    default=DEVICES,
    type=click.IntRange(min=60),
    help="Sockets of the fan-out. Flips take 4/3 of it, the forecast a third, slow readers a sixth, the bus a "
    "fifteenth, the simulator 6,667 times as many, the others half.",
)
@click.option("--rounds", default=15, type=click.IntRange(min=2), help="Activations, alternating with the yardstick.")
@click.option("--only", multiple=True, type=click.Choice(tuple(BENCHMARKS)), help="Run this one; may be repeated.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write BENCH.md here, with plots.")
def main(devices: int, rounds: int, only: tuple[str, ...], json_file: Path | None, report: Path | None) -> None:
    """Measure the product beside its yardsticks; status 1 if a budget is missed."""
    if report is not None and only:
        raise click.UsageError("--report is the page of a whole run; leave out --only, or send --json instead")
    found = uvloop.run(run(devices, rounds, only))
    show(found.figures)
    if json_file is not None:
        write_json(json_file, found)
    if report is not None:
        write_report(report, found)
    for words in found.missed:
        click.echo(f"missed: {words}", err=True)
    sys.exit(1 if found.missed else 0)


if __name__ == "__main__":
    main()
