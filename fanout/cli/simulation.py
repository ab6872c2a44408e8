"""``fanout simulate``: a fleet of any size, device by device, without a socket."""

from __future__ import annotations

from pathlib import Path

import click

from fanout.cli.options import file_option, writable
from fanout.errors import InvalidInput

# What `loadtest.simulation.policies` knows; named here too, so that --help needs no numpy. A test compares them.
POLICIES = ("polling", "trigger", "trigger-jitter", "two-phase-unready", "two-phase", "inline")
_EXTRA = ("numpy", "matplotlib")


@click.command()
@click.option("--devices", default=None, type=click.IntRange(min=1), help="How many; by default 100,000,000.")
@click.option("--window", "window_s", default=None, type=click.FloatRange(min=0), help="Seconds; by default 45.")
@click.option("--seed", default=None, type=click.IntRange(min=0), help="Of all chance; by default 1.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice(POLICIES),
    help="Compare this one; may be repeated. By default all.",
)
@click.option(
    "--scenario",
    "scenario_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.yaml",
    help="Fields of the scenario (docs/simulator.md).",
)
@click.option(
    "--set", "words", multiple=True, metavar="FIELD=VALUE", help="One field of the scenario; may be repeated."
)
@click.option(
    "--calibrate",
    "bench_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="BENCH.json",
    help="Count with measured figures: what make bench wrote with --json.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable,
    help="Draw it here, as .png, .svg or .pdf.",
)
@file_option("Write the figures here.")
@click.option("--processes", default=0, type=click.IntRange(0, 512), help="That share the work; 0: one a core.")
def simulate(
    devices: int | None,
    window_s: float | None,
    seed: int | None,
    policies: tuple[str, ...],
    scenario_file: Path | None,
    words: tuple[str, ...],
    bench_file: Path | None,
    plot_file: Path | None,
    json_file: Path | None,
    processes: int,
) -> None:
    """Simulate a press to a whole fleet, every device by itself, and compare ways to tell it.

    Polling, a trigger that makes everyone fetch, and two-phase: how long until all have flipped, what the origin and
    the gateways see, what it costs.
    """
    try:
        from loadtest.simulation.command import run_simulation

        run_simulation(
            asked={"devices": devices, "window_s": window_s, "seed": seed},
            policies=policies,
            scenario_file=scenario_file,
            words=words,
            bench_file=bench_file,
            plot_file=plot_file,
            json_file=json_file,
            processes=processes,
        )
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] not in _EXTRA:
            raise
        name = exc.name.partition(".")[0]
        raise InvalidInput(f"{name} is not installed; install it with: pip install 'fanout[loadtest]'") from exc
