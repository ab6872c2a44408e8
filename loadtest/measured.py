"""What one gateway worker on one core, and the store's one thread, were measured to do; where each figure is from.

The planner and the simulator reckon with these. The defaults are `fanout.measured`'s; whoever has run
``make bench ARGS="--json BENCH.json"`` on hardware of their own hands that file in instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from fanout import measured as figures
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

    sends_per_s: float = figures.SENDS_PER_S
    handshakes_per_s: float = figures.HANDSHAKES_PER_S
    device_bytes: float = figures.DEVICE_BYTES
    kernel_bytes: float = figures.SOCKET_BYTES
    worker_bytes: float = figures.WORKER_BYTES
    idle_cpu_us_per_min: float = figures.IDLE_CPU_US_PER_MIN
    idle_bytes_per_min: float = figures.IDLE_BYTES_PER_MIN
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


class Store(Struct, frozen=True, kw_only=True):
    """What Redis or Valkey was measured to bear: of its one thread, in us.

    Attributes:
        worker_us_per_s: For everything a worker asks of it in a second: probes and a presence record.
        written_us_per_s: For what is left of that where the worker reads from a replica.
        read_us_per_s: For a worker that reads from it, on the replica.
        publish_us: For each subscriber of a publication.
        load_max: Share of that thread to plan with: at the moment itself it has to be free.
        sources: Which run each of these is from, by field.
    """

    worker_us_per_s: float = figures.STORE_WORKER_US_PER_S
    written_us_per_s: float = figures.STORE_WRITTEN_US_PER_S
    read_us_per_s: float = figures.STORE_READ_US_PER_S
    publish_us: float = figures.STORE_PUBLISH_US
    load_max: float = 0.5
    sources: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(_OF_STORE, "docs/operations.md"))

    def carries(self, us_per_s: float) -> int:
        """Return for how many workers a node has time."""
        return int(self.load_max * 1e6 / us_per_s)

    def source(self, name: str) -> str:
        """Return where a figure comes from."""
        return self.sources[name]


_Convert = Callable[[float, Mapping[str, Any]], float]


def _as_it_is(value: float, _: Mapping[str, Any]) -> float:
    return value


# Of BENCH.json: the figure's name there, and what it says of a worker. A broadcast is timed as a whole.
_FROM_BENCH: Final[Mapping[str, tuple[str, _Convert]]] = {
    "sends_per_s": ("fan-out", lambda ms, settings: settings["devices"] / ms * 1000),
    "handshakes_per_s": ("handshakes", _as_it_is),
    "device_bytes": ("memory", _as_it_is),
    "idle_cpu_us_per_min": ("idle-cpu", _as_it_is),
    "idle_bytes_per_min": ("idle-bytes", _as_it_is),
}
# And of the store.
_OF_STORE: Final[Mapping[str, tuple[str, _Convert]]] = {
    "worker_us_per_s": ("bus-worker", _as_it_is),
    "written_us_per_s": ("bus-worker-primary", _as_it_is),
    "read_us_per_s": ("bus-worker-replica", _as_it_is),
    "publish_us": ("bus-publish", _as_it_is),
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
    return calibrated(path)[0]


def calibrated(path: Path | None) -> tuple[Measured, Store]:
    """Return the same, and the store's.

    Raises:
        InvalidInput: It is none, or holds nothing of either.
    """
    worker, store = Measured(), Store()
    if path is None:
        return worker, store
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except (OSError, msgspec.DecodeError) as exc:
        raise InvalidInput(f"{path} holds no figures ({exc}); make it with: make bench ARGS='--json {path}'") from exc
    of_worker, of_store = (_taken(path, document, which) for which in (_FROM_BENCH, _OF_STORE))
    if not of_worker and not of_store:
        names = ", ".join(name for name, _ in (*_FROM_BENCH.values(), *_OF_STORE.values()))
        raise InvalidInput(f"{path} has none of the figures {names}; run make bench without --only")
    return (
        msgspec.structs.replace(
            worker, **of_worker, sources={**worker.sources, **dict.fromkeys(of_worker, path.name)}
        ),
        msgspec.structs.replace(store, **of_store, sources={**store.sources, **dict.fromkeys(of_store, path.name)}),
    )


def _taken(path: Path, document: _Document, which: Mapping[str, tuple[str, _Convert]]) -> dict[str, float]:
    found = {figure.name: figure.value for figure in document.figures}
    values: dict[str, float] = {}
    for name, (figure, convert) in which.items():
        if found.get(figure, 0.0) > 0:
            try:
                values[name] = convert(found[figure], document.settings)
            except KeyError as exc:
                raise InvalidInput(f"{path} has no setting {exc}; make it with make bench") from exc
    return values
