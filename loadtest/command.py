"""``fanout swarm``: the swarm as a process, with its tally on the terminal and in a file."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest.swarm import SwarmConfig, Tally, run_swarm


async def run_swarm_command(config: SwarmConfig, key: bytes, json_file: Path | None) -> None:
    """Run a swarm until SIGINT or SIGTERM, showing its tally; the file is replaced a few times a second."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def tell(tally: Tally) -> None:
            if json_file is not None:
                write_tally(json_file, tally, final=False)
            if console.is_terminal:
                live.update(_table(tally), refresh=True)

        tally = await run_swarm(config, key, stop=stop, tell=tell)
    if json_file is not None:
        write_tally(json_file, tally, final=True)
    if sys.stderr.isatty():
        console.print(_table(tally))


def write_tally(path: Path, tally: Tally, *, final: bool) -> None:
    """Replace the file in one step, so that a reader never sees half of it; flips only in the last one."""
    figures = summary(tally)
    if final:
        figures["flips"] = {str(ms): count for ms, count in sorted(tally.flips.items())}
    draft = path.with_suffix(path.suffix + ".part")
    draft.write_text(json.dumps({**figures, "final": final}))
    draft.replace(path)


def summary(tally: Tally) -> dict[str, Any]:
    """Return the tally's figures, JSON-ready."""
    return {
        "devices": tally.devices,
        "connected": tally.connected,
        "ready": tally.ready,
        "activated": tally.activated,
        "flipped_twice": tally.flipped_twice,
        "origin_requests": tally.origin_requests,
        "flip_error_ms": percentiles(tally.errors_ms),
        "refused": {str(status): count for status, count in tally.refused.items()},
        "closes": {str(code): count for code, count in tally.closes.items()},
    }


def percentiles(counts: Counter[int]) -> dict[str, int]:
    """Return p50, p99 and max of values that occurred so many times; empty if there are none."""
    total = sum(counts.values())
    if not total:
        return {}
    found: dict[str, int] = {}
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            if seen >= share * total:
                found.setdefault(name, value)
    return {**found, "max": max(counts)}


def _table(tally: Tally) -> Table:
    table = Table("devices", "connected", "ready", "activated", "flip error p50/p99/max ms", "refused", "closes")
    errors = percentiles(tally.errors_ms)
    table.add_row(
        str(tally.devices),
        str(tally.connected),
        str(tally.ready),
        str(tally.activated),
        "/".join(str(errors[name]) for name in ("p50", "p99", "max")) if errors else "-",
        str(dict(tally.refused) or "-"),
        str(dict(tally.closes) or "-"),
    )
    return table
