"""``make soak``: churn, activations and faults for minutes, and whether every device ends in the newest stage."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fanout.errors import FanoutError
from loadtest.soak.run import Plan, Soak
from loadtest.soak.system import Size, system


async def run(plan: Plan, console: Console) -> dict[str, Any]:
    """Run a soak; return its figures. The first Ctrl-C ends it early, the second at once."""
    stop, loop, task = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    with tempfile.TemporaryDirectory(prefix="fanout-soak-") as scratch:
        async with system(Path(scratch), plan.size) as running:
            soak = Soak(running, plan, stop, lambda line: console.print(line, highlight=False))
            await soak.run()
        return await soak.figures()


def show(found: dict[str, Any], console: Console) -> None:
    """Print the figures for people."""
    size, presses, counted = found["size"], found["presses"], found["devices_counted"]
    table = Table(title=f"{size['devices']:,} devices for {found['seconds']:g} s, seed {found['seed']}")
    table.add_column("what")
    table.add_column("found")
    checkpoints = found["checkpoints"]
    slowest = max((each["seconds"] for each in checkpoints), default=0)
    table.add_row("quiet moments at which all had to show the newest stage", f"{len(checkpoints)}")
    table.add_row("devices that did not", f"{found['lost']:,}")
    table.add_row("longest until all did", f"{slowest:g} s (window 1 s)")
    table.add_row("flips; repeated or backward", f"{found['flips']:,}; {counted['flipped_twice']}")
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(presses["accepted"].items()))
    table.add_row("presses accepted", words)
    table.add_row("sent again for want of an answer", f"{presses['sent_again']}; slowest {presses['slowest_s']:g} s")
    table.add_row("activations taken back in time, which nobody may show", f"{found['taken_back']}")
    for name, count in sorted(found["faults"].items()):
        table.add_row(name, f"{count} times")
    table.add_row("devices that left and came back", f"{counted['left']:,}; {counted['welcomed']:,} welcomes")
    for name, sizes in found["memory"].items():
        mega = f"{sizes['first'] / 1e6:.1f} to {sizes['last'] / 1e6:.1f} MB"
        table.add_row(f"memory of a {name}", f"{mega}; last third ÷ first third {sizes['growth']:g}")
    table.add_row("processes left", f"{len(found['processes_left'])}")
    console.print(table)
    for line in found["broken"]:
        console.print(f"broken: {line}", style="bold red", markup=False, highlight=False)


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=10.0, type=click.FloatRange(0, 24 * 60, min_open=True), help="How long.")
@click.option("--devices", default=2_000, type=click.IntRange(10, 15_000), help="In one process.")
@click.option("--churn", default=0.1, type=click.FloatRange(0, 60), help="Share that leaves within a minute.")
@click.option("--seed", default=0, help="Of presses and faults; the same draws the same ones.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def main(minutes: float, devices: int, churn: float, seed: int, json_file: Path | None) -> None:
    """Press, break and reconnect for minutes; status 0 if nothing was lost, doubled, leaked or left."""
    console = Console(stderr=True)
    try:
        found = asyncio.run(run(Plan(minutes, Size(devices, churn), seed), console))
    except FanoutError as exc:
        raise click.ClickException(str(exc)) from exc
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(130)
    show(found, Console(width=max(120, console.width)))
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(1 if found["broken"] else 0)


if __name__ == "__main__":
    main()
