"""``fanout doctor``: its options, and the way from them to an answer. What a gateway takes by default it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from fanout.errors import InvalidInput

_GATEWAY: Final = "FANOUT_GATEWAY"  # where the gateway's own settings are, so that both read the same
_COUNT: Final = click.IntRange(min=1)


def doctor_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `examine`."""
    options = (
        click.option("--devices", default=None, type=_COUNT, help="Ask whether so many fit; exit 1 if not."),
        click.option("--with-swarm", is_flag=True, help="Ask it of gateway and swarm together on this machine."),
        click.option(
            "--workers",
            default=None,
            type=_COUNT,
            envvar=f"{_GATEWAY}_WORKERS",
            help="Gateway processes; by default one a core.",
        ),
        click.option("--processes", default=None, type=_COUNT, help="Swarm processes; by default one a core."),
        click.option(
            "--connections-max",
            default=None,
            type=_COUNT,
            envvar=f"{_GATEWAY}_CONNECTIONS_MAX",
            help="Devices a gateway's worker takes; by default as the gateway.",
        ),
        click.option(
            "--admit-per-s",
            default=None,
            type=float,
            envvar=f"{_GATEWAY}_ADMIT_PER_S",
            help="Handshakes a second and worker; by default as the gateway.",
        ),
        click.option(
            "--calibrate",
            default=None,
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="BENCH.json",
            help="Count with the figures of this machine: what make bench wrote with --json.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Say it as JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def examine(
    connections_max_usual: int,
    admit_per_s_usual: float,
    *,
    devices: int | None,
    with_swarm: bool,
    workers: int | None,
    processes: int | None,
    connections_max: int | None,
    admit_per_s: float | None,
    calibrate: Path | None,
    as_json: bool,
) -> None:
    """Print what this machine can hold.

    Args:
        connections_max_usual: What a gateway takes by default, devices a worker.
        admit_per_s_usual: Likewise, handshakes a second and worker.
    Raises:
        InvalidInput: ``devices`` do not fit, or the file of figures is none.
    """
    from fanout.doctor import capacity, report
    from fanout.doctor.calibration import calibrated
    from fanout.doctor.machine import read_limits

    # Written so that NaN, which compares to nothing, is refused too.
    if admit_per_s is not None and not 0 < admit_per_s < 1e9:
        raise InvalidInput(f"--admit-per-s is {admit_per_s:g}; send handshakes a second, such as 4000")
    costs = calibrated(calibrate) if calibrate else capacity.Costs()
    limits = read_limits()
    crew = capacity.one_a_core(limits)
    plan = capacity.Plan(
        workers=workers or crew,
        processes=processes or crew,
        connections_max=connections_max or connections_max_usual,
        admit_per_s=admit_per_s or admit_per_s_usual,
    )
    case = report.case_of(limits, plan, costs)
    refusal = report.refusal(case, devices, with_swarm=with_swarm) if devices else None
    if as_json:
        asked = {"devices": devices, "with_swarm": with_swarm, "fits": refusal is None} if devices else None
        click.echo(json.dumps({**report.as_json(case), "asked": asked}))
    else:
        report.show(case)
    if refusal:
        raise InvalidInput(refusal)
