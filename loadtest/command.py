"""``fanout swarm``: checks the target, runs the swarm, shows it, and leaves its figures in a file."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import structs
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fanout.errors import InvalidInput
from loadtest.capacity import (
    check_files,
    check_memory,
    check_sources,
    choose_sources,
    memory_available_bytes,
    parse_sources,
    ports_per_source,
    raise_files_max,
)
from loadtest.crew import Crew, Outcome, RunConfig
from loadtest.swarm import SwarmConfig
from loadtest.tally import TIMINGS, Merged

# A run tells this often how far it is when nobody sees its terminal.
_LINE_S: Final = 5.0
_TIMING_NAMES: Final = {
    "connect": "connect → welcome",
    "delivery": "publication → receipt",
    "prefetch_delivery": "prefetch → receipt",
    "flip_error": "flip against its slot",
    "lag": "the swarm's own lag",
}


def planned(asked: Mapping[str, Any]) -> RunConfig:
    """Return the run that was asked for, with the addresses it connects from.

    Args:
        asked: Fields of `RunConfig` and `SwarmConfig`; ``sources`` as on the command line.
    Raises:
        InvalidInput: This machine cannot do that.
    """
    names = set(SwarmConfig.__struct_fields__)
    swarm = SwarmConfig(**{name: value for name, value in asked.items() if name in names})
    run = RunConfig(swarm=swarm, **{name: value for name, value in asked.items() if name not in names})
    check_hosts(swarm.urls)
    processes = min(run.processes, swarm.devices)
    check_files(swarm.devices, processes, raise_files_max())
    sources = choose_sources(swarm.devices, swarm.urls, parse_sources(swarm.sources), ports_per_source())
    check_sources(sources)
    check_memory(swarm.devices, processes, memory_available_bytes())
    return structs.replace(run, processes=processes, swarm=structs.replace(swarm, sources=sources))


def check_hosts(urls: Sequence[str]) -> None:
    """Hold that every gateway's host has an address, or each of its devices would look for one in vain.

    Raises:
        InvalidInput: One has none.
    """
    for url in urls:
        host = urlsplit(url).hostname
        try:
            socket.getaddrinfo(host, None)
        except OSError as exc:
            raise InvalidInput(f"--url is {url!r}, but {host} has no address: {exc.strerror}; send another") from exc


async def run_swarm_command(config: RunConfig, key: bytes, json_file: Path | None) -> int:
    """Run a swarm until it is over or SIGINT or SIGTERM comes; return the exit status.

    The file is replaced several times a second.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console = Console(stderr=True)
    crew, began_s = Crew(config, key), time.monotonic()
    told_s = began_s
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def tell(merged: Merged) -> None:
            nonlocal told_s
            figures = {"seconds": round(time.monotonic() - began_s, 1), **merged.summary()}
            if json_file is not None:
                write_figures(json_file, figures)
            if console.is_terminal:
                live.update(table(figures), refresh=True)
            elif time.monotonic() - told_s >= _LINE_S:
                told_s = time.monotonic()
                console.print(line(figures), highlight=False)

        outcome = await crew.run(stop, tell)
    figures = {
        "seconds": round(time.monotonic() - began_s, 1),
        "processes": config.processes,
        "sources": len(config.swarm.sources),
        "outcome": outcome.words,
        **crew.merged.summary(),
    }
    if json_file is not None:
        write_figures(json_file, figures, crew.merged.flips)
    _close(console, figures, outcome)
    return 0 if outcome.good else 1


def _close(console: Console, figures: dict[str, Any], outcome: Outcome) -> None:
    console.print(table(figures))
    console.print(outcome.words, style="" if outcome.good else "red", markup=False, highlight=False)


def write_figures(path: Path, figures: dict[str, Any], flips: Counter[int] | None = None) -> None:
    """Replace the file in one step, so that a reader never sees half of it; flips only in the last one."""
    told = {**figures, "final": flips is not None}
    if flips is not None:
        told["flips"] = {str(ms): count for ms, count in sorted(flips.items())}
    draft = path.with_suffix(path.suffix + ".part")
    draft.write_text(json.dumps(told))
    draft.replace(path)


def line(figures: dict[str, Any]) -> str:
    """Return how far a swarm is, in one line."""
    counts = ", ".join(f"{figures[name]} {name}" for name in ("connected", "ready", "activated"))
    return f"{figures['seconds']:g} s: of {figures['devices']} devices {counts}"


def table(figures: dict[str, Any]) -> Table:
    """Return the figures for people; empty ones are left out."""
    made = Table(title="swarm", show_header=False)
    for name in ("devices", "connected", "ready", "activated"):
        made.add_row(name, f"{figures[name]:,}")
    for name in TIMINGS:
        found = figures[f"{name}_ms"]
        if found:
            values = " / ".join(f"{found[each]:g}" for each in ("p50", "p99", "p999", "max"))
            made.add_row(f"{_TIMING_NAMES[name]}, p50 / p99 / p99.9 / max", f"{values} ms")
    for each in figures["publications"][-8:]:
        first, last = each["first_ms"], each["last_ms"]
        made.add_row(f"{each['kind']} {each['rev']}", f"{each['received']:,} in {first:g} to {last:g} ms")
    for name in ("slow", "refused", "closes"):
        if figures[name]:
            made.add_row(name, ", ".join(f"{key}: {count}" for key, count in figures[name].items()))
    for name in ("flipped_twice", "left", "origin_requests"):
        if figures[name]:
            made.add_row(name.replace("_", " "), f"{figures[name]:,}")
    made.add_row("memory", f"{figures['rss_bytes'] / 2**20:,.0f} MiB, {figures['bytes_per_device']:,} bytes a device")
    made.add_row("processor time", f"{figures['cpu_s']:,} s in {figures['seconds']:g} s")
    return made
