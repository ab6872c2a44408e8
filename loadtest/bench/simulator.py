"""The fleet simulator by its command, all policies: the time it takes, and the memory of all its processes."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from fanout.errors import FanoutError
from loadtest.bench.figures import Figure
from loadtest.bench.memory import descendants, proportional_bytes
from loadtest.bench.rig import child

_SECONDS_MAX: Final = 60.0
_BYTES_MAX: Final = 2e9
# A look at a process's pages stops it for some milliseconds.
_POLL_S: Final = 0.25


class SimulationFailed(FanoutError):
    """``fanout simulate`` has not ended well."""


def simulator(devices: int) -> list[Figure]:
    """Return seconds, and bytes at their highest.

    Raises:
        SimulationFailed: It ended with another status than 0.
    """
    with tempfile.TemporaryDirectory(prefix="fanout-bench-") as scratch:
        file = Path(scratch) / "simulated.json"
        began_s = time.monotonic()
        with child(["fanout.cli", "simulate", "--devices", str(devices), "--json", str(file)]) as process:
            most = _watched(process)
            seconds = time.monotonic() - began_s
        if process.returncode:
            raise SimulationFailed(f"fanout simulate of {devices:,} devices ended with status {process.returncode}")
        found = json.loads(file.read_text())
    seed, policies = found["scenario"]["seed"], len(found["policies"])
    return [
        Figure(
            name="simulator-time",
            what=f"fanout simulate, {devices:,} devices one by one, {policies} policies",
            unit="s",
            value=seconds,
            budget="<= 60 for 100,000,000",
            kept=seconds <= _SECONDS_MAX,
            seed=seed,
        ),
        Figure(
            name="simulator-memory",
            what="its memory at its peak, all processes",
            unit="MB",
            value=most / 1e6,
            budget="<= 2,000",
            kept=0 < most <= _BYTES_MAX,
            seed=seed,
        ),
    ]


def _watched(process: subprocess.Popen[str]) -> int:
    """Wait for its end; return the most its processes were seen to hold together, shared pages counted once."""
    most = 0
    while process.poll() is None:
        most = max(most, sum(map(proportional_bytes, (process.pid, *descendants(process.pid)))))
        try:
            # What it says of the result would fill the pipe.
            process.communicate(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            continue
    return most
