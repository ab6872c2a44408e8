"""What one gateway worker on one core was measured to do, and where each figure comes from.

The planner and the simulator reckon with these. The defaults are those of BENCH.md and docs/million.md; whoever has
run ``make bench ARGS="--json BENCH.json"`` on hardware of their own hands that file in instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from fanout.errors import InvalidInput


class Measured(Struct, frozen=True, kw_only=True):
    """One worker on one core.

    Attributes:
        sends_per_s: Messages it writes a second in a broadcast.
        handshakes_per_s: Devices it lets in a second, with token, welcome and state.
        device_bytes: Of its memory, for an idle device.
        kernel_bytes: Of the kernel's memory, for a device's socket: the gateway's end alone.
        worker_bytes: Of its memory, before its first device.
        idle_cpu_us_per_min: Of its core's time, for an idle device and minute.
        idle_bytes_per_min: To an idle device, headers included.
        sources: Which run each of these is from, by field.
    """

    sends_per_s: float = 79_400.0  # 15,000 in 189 ms
    handshakes_per_s: float = 10_700.0
    device_bytes: float = 1_424.0
    kernel_bytes: float = 5_151.0  # half of what both ends of a connection took
    worker_bytes: float = 11e6
    idle_cpu_us_per_min: float = 61.3
    idle_bytes_per_min: float = 197.0
    sources: Mapping[str, str] = field(
        default_factory=lambda: {
            **dict.fromkeys(_FROM_BENCH, "BENCH.md"),
            "kernel_bytes": "docs/million.md",
            "worker_bytes": "docs/million.md",
        }
    )

    def source(self, name: str) -> str:
        """Return where a figure comes from."""
        return self.sources[name]


# Of BENCH.json: the figure's name there, and what it says of a worker. A broadcast is timed as a whole.
_FROM_BENCH: Final[Mapping[str, tuple[str, Callable[[float, Mapping[str, Any]], float]]]] = {
    "sends_per_s": ("fan-out", lambda ms, settings: settings["devices"] / ms * 1000),
    "handshakes_per_s": ("handshakes", lambda value, _: value),
    "device_bytes": ("memory", lambda value, _: value),
    "idle_cpu_us_per_min": ("idle-cpu", lambda value, _: value),
    "idle_bytes_per_min": ("idle-bytes", lambda value, _: value),
}


class _Figure(Struct, frozen=True):
    name: str
    value: float


class _Document(Struct, frozen=True):
    figures: list[_Figure]
    settings: dict[str, float]


def measured(path: Path | None) -> Measured:
    """Return the figures of a BENCH.json, the defaults for what it does not hold.

    Raises:
        InvalidInput: It is none.
    """
    if path is None:
        return Measured()
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except (OSError, msgspec.DecodeError) as exc:
        raise InvalidInput(f"{path} holds no figures ({exc}); make it with: make bench ARGS='--json {path}'") from exc
    found = {figure.name: figure.value for figure in document.figures}
    usual = Measured()
    values: dict[str, float] = {}
    for name, (figure, convert) in _FROM_BENCH.items():
        if found.get(figure, 0.0) > 0:
            try:
                values[name] = convert(found[figure], document.settings)
            except KeyError as exc:
                raise InvalidInput(f"{path} has no setting {exc}; make it with make bench") from exc
    if not values:
        names = ", ".join(figure for figure, _ in _FROM_BENCH.values())
        raise InvalidInput(f"{path} has none of the figures {names}; run make bench without --only")
    sources = {**usual.sources, **dict.fromkeys(values, path.name)}
    return msgspec.structs.replace(usual, **values, sources=sources)
