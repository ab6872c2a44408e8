"""``make agreement``: runs the experiment, compares, writes the report; status 1 if a bound is missed."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
from rich.console import Console

from fanout.errors import FanoutError, InvalidInput
from loadtest.agreement import experiment, report
from loadtest.agreement.experiment import Experiment
from loadtest.agreement.night import night, workers_for
from loadtest.agreement.result import Document, Fleet, Result, result_of
from loadtest.agreement.simulated import fleet_of
from loadtest.bench.figures import about


class _Refused(click.ClickException):
    """This machine, or any, cannot do that. A missed bound is status 1."""

    exit_code = 2


class _Failed(click.ClickException):
    """A night did not get to its end."""

    exit_code = 3


def run(asked: Experiment, keep: Path | None, console: Console) -> Document:
    """Run every size of the experiment, one after the other.

    Args:
        asked: The experiment.
        keep: Where the engines' own figures go, with every flip by the millisecond.
        console: To tell how far it is.
    Raises:
        InvalidInput: This machine cannot hold one of the sizes; nothing has been started then.
        FleetFailed: A night did not get to its end.
    """
    nights = []
    for devices in asked.sizes:
        name, engine = asked.engine_for(devices)
        nights.append((devices, name, engine, workers_for(name, engine, devices)))
    results: list[Result] = []
    for devices, name, engine, workers in nights:
        words = f"{devices:,} devices by {name}, {workers} gateway worker{'s' if workers > 1 else ''}"
        console.print(words, highlight=False)
        measured, whole = night(name, engine, devices, workers, console)
        if keep is not None:
            _keep(keep / f"{name}-{devices}.json", {"flips": measured.ended.flips, "figures": whole})
        results.append(result_of(engine, measured))
    fleet = None
    if asked.fleet:
        console.print(f"{asked.fleet:,} devices by the simulator", highlight=False)
        fleet = Fleet(asked.fleet, measured.window_s, fleet_of(measured, asked.fleet))
    return Document(about(), all(each.comparison.kept for each in results), results, fleet)


def _keep(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found), "utf-8")


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--experiment", "file", default=experiment.FILE, type=click.Path(path_type=Path), help="The experiment."
)
@click.option("--sizes", help="Numbers of devices, comma-separated, instead of the experiment's.")
@click.option(
    "--report",
    "page",
    default=Path("docs/agreement.md"),
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the page goes; its pictures go into a directory of that name.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep the engines' own figures here.")
@click.option(
    "--from",
    "earlier",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write the page of a run whose --json this is, and run nothing.",
)
def main(
    file: Path, sizes: str | None, page: Path, json_file: Path | None, keep: Path | None, earlier: Path | None
) -> None:
    """Run one experiment by real devices and by the simulator; status 0 if they agree within its bounds, 1 if not."""
    # Whoever ends this, and from wherever it was started, its processes end in order first.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=True)
    try:
        if earlier is None:
            document = run(experiment.read(file, sizes), keep, console)
        else:
            document = msgspec.json.decode(earlier.read_bytes(), type=Document)
    except msgspec.DecodeError as exc:
        raise _Refused(f"--from is {str(earlier)!r}, not what --json writes: {exc}") from exc
    except InvalidInput as exc:
        raise _Refused(str(exc)) from exc
    except (FanoutError, httpx.HTTPError) as exc:
        raise _Failed(str(exc)) from exc
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    report.write(document, page)
    Console(width=max(140, console.width)).print(report.shown(document.results))
    console.print(f"{page} is written", highlight=False)
    sys.exit(0 if document.kept else 1)


if __name__ == "__main__":
    main()
