"""Takes what a device costs on this machine from the figures of ``make bench``. Knows how those are named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import msgspec

from fanout.doctor.capacity import Costs
from fanout.errors import InvalidInput

_MAKE_ONE: Final = 'make one with: make bench ARGS="--json BENCH.json"'


def calibrated(path: Path) -> Costs:
    """Return costs with the figures of a benchmark in place of the built-in ones.

    Args:
        path: What ``make bench`` wrote with ``--json``.
    Raises:
        InvalidInput: It is no such file, or holds none of the figures, or one that cannot be.
    """
    try:
        document = json.loads(path.read_bytes())
        devices = _number(document["settings"]["devices"])
        found = [_cost(each["name"], each["value"], devices) for each in document["figures"]]
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}; {_MAKE_ONE}") from exc
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InvalidInput(f"{path} is no file of benchmark figures; {_MAKE_ONE}") from exc
    costs = dict(each for each in found if each is not None)
    if not costs:
        raise InvalidInput(f"{path} has no figure of memory, handshakes or fan-out; {_MAKE_ONE}")
    for name, value in costs.items():
        # Not more than any machine can do, not less than any would: else a unit was mistaken.
        if not 1 <= value <= 1e9:
            raise InvalidInput(f"{path} says {name} is {value:g}; it must be from 1 to 1e9; {_MAKE_ONE}")
    return msgspec.structs.replace(Costs(), **costs)


def _cost(name: str, value: Any, devices: float) -> tuple[str, float] | None:
    """Return which cost a figure of the benchmark is, and its value; None if it is none of them."""
    if name == "memory":
        return "device_bytes", _number(value)
    if name == "handshakes":
        return "connects_per_core_s", _number(value)
    if name == "fan-out":  # milliseconds for all devices
        return "sends_per_core_s", devices * 1000 / _number(value) if _number(value) > 0 else math.inf
    return None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"not a number: {value!r}")
    return float(value)
