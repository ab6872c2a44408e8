"""Do devices flip when their slots say? A run like the million's, smaller: both phases, every device a socket."""

from __future__ import annotations

from typing import Final

from rich.console import Console

from loadtest.bench.figures import Figure
from loadtest.bench.million import Windows, run, size_of
from loadtest.capacity import raise_files_max

_WINDOWS: Final = Windows(prefetch_s=5.0, arm_s=5.0, activate_s=20.0)


def flips(devices: int) -> list[Figure]:
    """Return how far flips are from their slots, and how even they are.

    Raises:
        FleetFailed: Not every device got as far as that.
    """
    found = run(size_of(devices, raise_files_max()), _WINDOWS, 0.0, Console(quiet=True))
    assert found["activated"] == devices, found
    assert not found["flipped_twice"], found
    error, even, drawn = found["flip_error_ms"]["p99"], found["flips_peak_to_mean"], found["slots_peak_to_mean"]
    return [
        Figure(
            name="flip-error",
            what=f"{devices:,} flips against their slots, 99th percentile",
            unit="ms",
            value=error,
            budget="<= 100",
            kept=error <= 100,
            seed=found["activation"]["rev"],
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
            seed=found["activation"]["rev"],
        ),
    ]
