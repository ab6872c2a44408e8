"""``make peers``: every server that is installed, in turn, by the same load generator on the same cores.

Installs nothing: what is missing is named, with how to get it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Final

import click
import httpx
import uvloop
from rich.console import Console

from loadtest.peers.brokers import Mosquitto, Nats, Nchan
from loadtest.peers.crowd import Lost, visit
from loadtest.peers.libraries import Picows, Stock
from loadtest.peers.peer import Peer
from loadtest.peers.processes import NotStarted, core
from loadtest.peers.product import Fanout
from loadtest.peers.report import Setting, Standing, as_json, show

KINDS: Final[tuple[type[Peer], ...]] = (Fanout, Nchan, Mosquitto, Nats, Stock, Picows)
# Of the open files, besides a socket for each subscriber: the warming ones, pipes, libraries.
_OTHER_FILES: Final = 700


async def run(setting: Setting, kinds: list[type[Peer]], console: Console) -> list[Standing]:
    """Visit every server in every round; one that fails is left out from then on."""
    standings = [Standing(kind) for kind in kinds]
    gc.disable()  # ours is the load generator; its collector must not fall into a measurement
    try:
        with core(setting.load_core):
            for number in range(1, setting.rounds + 1):
                for standing in standings:
                    if not standing.failed:
                        console.print(f"round {number} of {setting.rounds}: {standing.kind.name}", style="dim")
                        await _visit(standing, setting)
    finally:
        gc.enable()
    return standings


async def _visit(standing: Standing, setting: Setting) -> None:
    try:
        measured, standing.version = await visit(
            standing.kind, setting.server_core, setting.devices, setting.messages
        )
    except (NotStarted, Lost, OSError, TimeoutError, httpx.HTTPError) as exc:
        standing.failed = str(exc) or type(exc).__name__
    else:
        standing.visits.append(measured)


async def _until_told(setting: Setting, kinds: list[type[Peer]], console: Console) -> list[Standing]:
    """Run; a SIGTERM ends it as Ctrl-C does, servers first."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(setting, kinds, console)


@click.command(context_settings={"show_default": True})
@click.option("--devices", default=9_000, type=click.IntRange(min=10), help="Connections to each server.")
@click.option("--rounds", default=5, type=click.IntRange(min=1), help="Visits to each server, in turn.")
@click.option("--messages", default=10, type=click.IntRange(min=1), help="Messages on each visit, one after another.")
@click.option(
    "--only", multiple=True, type=click.Choice([kind.name for kind in KINDS]), help="Only this; may be repeated."
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write everything here.")
def main(devices: int, rounds: int, messages: int, only: tuple[str, ...], json_file: Path | None) -> None:
    """Measure the servers people would pick instead, beside the product."""
    if sys.platform != "linux":
        raise click.ClickException("processes are pinned and weighed as Linux does it; run it there")
    _room_for(devices)
    cores = sorted(os.sched_getaffinity(0))
    setting = Setting(devices, rounds, messages, server_core=cores[0], load_core=cores[-1])
    chosen = [kind for kind in KINDS if not only or kind.name in only]
    kinds = [kind for kind in chosen if kind.installed()]
    skipped = [kind for kind in chosen if kind not in kinds]
    console = Console()
    try:
        standings = uvloop.run(_until_told(setting, kinds, Console(stderr=True)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise click.ClickException("stopped; every server has been ended") from None
    show(setting, standings, skipped, console)
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(setting, standings, skipped), indent=2) + "\n")
    if any(standing.failed for standing in standings):
        sys.exit(1)


def _room_for(devices: int) -> None:
    """Raise the limit of open files as far as it goes, for us and the servers; refuse what it cannot hold."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = hard - _OTHER_FILES
    if devices > most:
        raise click.ClickException(
            f"{devices} connections need {devices + _OTHER_FILES} open files in one process, the limit is {hard}; "
            f"take --devices {most}, or raise the limit with ulimit -Hn"
        )


if __name__ == "__main__":
    main()
