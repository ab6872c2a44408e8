"""``fanout plan``: what a fleet of a given size needs, with the formula behind every number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from fanout.cli.options import file_option
from fanout.errors import InvalidInput


@click.command()
@click.option("--devices", required=True, type=click.IntRange(min=1), help="Connected at once.")
@click.option("--window", "window_s", default=45.0, help="The activation's window, s.")
@click.option("--ahead", "ahead_s", default=10.0, help="From the press to the instant, s.")
@click.option("--zones", default=3, help="Failure domains of the gateways; one of them may be lost.")
@click.option("--recover", "recover_s", default=60.0, help="Until a lost zone's devices are back, s.")
@click.option("--roll", "roll_s", default=3600.0, help="How long a rolling restart of all gateways may take, s.")
@click.option("--workers", default=0, type=click.IntRange(min=0), help="Worker processes there are; 0 asks for them.")
@click.option("--workers-per-pod", default=4, help="Of one gateway, a core each.")
@click.option("--connections-max", default=100_000, help="Devices a worker takes at the most.")
@click.option("--load-max", default=0.5, help="Share of the measured rates to plan with.")
@click.option("--bundle-bytes", default=16_000, help="What a device prefetches, bytes.")
@click.option("--prefetch-window", "prefetch_window_s", default=3600.0, help="Over how long, s.")
@click.option("--miss-share", default=0.01, help="Devices without the bundle at the instant, 0..1.")
@click.option(
    "--calibrate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Figures of your own hardware: make bench ARGS='--json BENCH.json'.",
)
@file_option("Write the plan here.")
def plan(calibrate: Path | None, json_file: Path | None, **asked: Any) -> None:
    """Say how many gateways, cores, bytes and replicas a fleet needs, and which figure says so.

    Every line holds its formula. What cannot be is refused, with the number that forbids it.
    """
    from loadtest.measured import calibrated
    from loadtest.planner import Wish, plan

    figures, store = calibrated(calibrate)
    made = plan(Wish(**asked), figures, store)
    _show(made.workers, made.decided_by, made.lines)
    if json_file is not None:
        document = {**msgspec.to_builtins(made), "measured": msgspec.to_builtins(figures)}
        document["store"] = msgspec.to_builtins(store)
        try:
            json_file.write_text(json.dumps(document, indent=2) + "\n")
        except OSError as exc:
            raise InvalidInput(f"--json is {json_file}: {exc.strerror}; send a file that can be written") from exc


def _show(workers: int, decided_by: str, lines: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{workers:,} workers", box=None, show_header=False, padding=(0, 1))
    table.add_column(justify="right")
    for line in lines:
        bold = "bold" if line.name == decided_by else ""
        because = f"\n= {line.formula}" + (f"  [{line.source}]" if line.source else "")
        table.add_row(
            Text(_number(line.value), style=bold), line.unit, Text.assemble((line.what, bold), (because, "dim"))
        )
    console = Console()
    console.print(table)
    console.print("The bold line decides how many workers there are.")


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
