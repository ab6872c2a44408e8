"""Do devices flip when their slots say? The demo's own run, both phases, every device a real socket."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from loadtest.bench.figures import Figure


def flips(devices: int) -> list[Figure]:
    """Run the demo; return how far flips are from their slots, and how even they are."""
    with tempfile.TemporaryDirectory(prefix="fanout-bench-") as scratch:
        file = Path(scratch) / "demo.json"
        words = ["--headless", "--devices", str(devices), "--prefetch-window", "10", "--activate-window", "20"]
        subprocess.run(
            [sys.executable, "-m", "fanout.cli", "demo", *words, "--json", str(file)],
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=300,
        )
        found = json.loads(file.read_text())
    error, even, drawn = found["flip_error_ms"]["p99"], found["flip_rate_peak_to_mean"], found["slots_peak_to_mean"]
    return [
        Figure(
            name="flip-error",
            what=f"{devices:,} flips against their slots, 99th percentile",
            unit="ms",
            value=error,
            budget="<= 100",
            kept=error <= 100,
        ),
        Figure(
            name="flip-evenness",
            what="busiest second of flips against the mean second",
            unit="ratio",
            value=even,
            yardstick=drawn,
            against="the slots as drawn",
            ratio=even / drawn,
            budget="<= 1.25",
            kept=even <= 1.25,
        ),
    ]
