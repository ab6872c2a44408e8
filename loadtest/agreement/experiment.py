"""The experiment as a file says it: sizes, engines, windows, bounds. Knows no processes."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml
from msgspec import Struct

from fanout.errors import InvalidInput
from fanout.limits import ACTIVATE_WINDOW_MS_MAX, PREFETCH_WINDOW_MS_MAX
from loadtest.capacity import PROCESSES_MAX
from loadtest.simulation.scenario import DEVICES_MAX

Name = Literal["locust", "swarm"]

FILE: Final = Path(__file__).with_name("experiment.yaml")
# An experiment is a page; whoever names another file by mistake should not have it read into memory.
_FILE_BYTES_MAX: Final = 100_000
# Fewer seconds than these have no curve to compare.
_WINDOW_S_MIN: Final = 2.0
# As `fanout campaign activate --in` takes it.
_AHEAD_S_MAX: Final = 3_600.0
# As a gateway takes it.
_BEACON_S_MAX: Final = 3_600.0


class Bounds(Struct, frozen=True, forbid_unknown_fields=True):
    """How far simulator and real devices may be apart, as shares.

    Attributes:
        t99: Of the simulated time until 99 % have flipped.
        flips_per_s: Of the mean second's flips, in each whole second of the window.
    """

    t99: float
    flips_per_s: float


class Engine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What drives the real devices, and through which night.

    Attributes:
        devices_max: The most it is for.
        workers: Of the gateway, and processes of the swarm; 0: as many as open files ask for.
        connects_per_s: Pace of connecting.
        beacon_s: Between the gateway's beacons to a device: each is a sample of the clock.
        prefetch_window_s: What the prefetch spreads over.
        ahead_s: From the press to the instant.
        window_s: What the activation spreads over.
    """

    devices_max: int
    workers: int
    connects_per_s: float
    beacon_s: float
    prefetch_window_s: float
    ahead_s: float
    window_s: float
    bounds: Bounds


class Experiment(Struct, frozen=True, forbid_unknown_fields=True):
    """What is run.

    Attributes:
        sizes: Of real devices, each simulated again.
        fleet: Devices that are simulated alone, in the night of the last size; 0: none.
        engines: In the order in which they are asked.
    """

    sizes: tuple[int, ...]
    fleet: int
    engines: dict[Name, Engine]

    def engine_for(self, devices: int) -> tuple[Name, Engine]:
        """Return the first engine that is for so many devices.

        Raises:
            InvalidInput: None is.
        """
        for name, engine in self.engines.items():
            if devices <= engine.devices_max:
                return name, engine
        most = max((engine.devices_max for engine in self.engines.values()), default=0)
        raise InvalidInput(f"--sizes has {devices}, no engine of the experiment is for more than {most}; send fewer")


def read(path: Path, sizes: str | None = None) -> Experiment:
    """Return a file's experiment, with other sizes if some are named.

    Args:
        path: YAML, as `FILE`.
        sizes: Comma-separated numbers of devices.
    Raises:
        InvalidInput: It holds none, or one that cannot be.
    """
    try:
        with path.open("rb") as opened:
            found = msgspec.convert(yaml.safe_load(opened.read(_FILE_BYTES_MAX)), Experiment)
    except OSError as exc:
        raise InvalidInput(f"--experiment is {str(path)!r}: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, msgspec.ValidationError) as exc:
        raise InvalidInput(f"{path} is no experiment: {' '.join(str(exc).split())}; {FILE.name} is one") from exc
    if sizes is not None:
        found = msgspec.structs.replace(found, sizes=_sizes(sizes))
    for name, engine in found.engines.items():
        _check(name, engine)
    for devices in found.sizes:
        found.engine_for(devices)
    if not 0 <= found.fleet <= DEVICES_MAX:
        raise InvalidInput(f"fleet is {found.fleet}; send 0 to {DEVICES_MAX}")
    if not found.sizes or min(found.sizes) < 1 or len(set(found.sizes)) < len(found.sizes):
        raise InvalidInput(f"sizes are {list(found.sizes)}; send different ones of 1 or more")
    return found


def _sizes(words: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError as exc:
        raise InvalidInput(f"--sizes is {words!r}; send numbers such as 5000,200000") from exc


def _check(name: str, engine: Engine) -> None:
    """Hold that such a night can be."""
    rules: tuple[tuple[str, float, float, float], ...] = (
        ("devices_max", engine.devices_max, 1, 2**24),
        ("workers", engine.workers, 0, PROCESSES_MAX),
        ("connects_per_s", engine.connects_per_s, 1, 1e6),
        ("beacon_s", engine.beacon_s, 1, _BEACON_S_MAX),
        ("prefetch_window_s", engine.prefetch_window_s, 0, PREFETCH_WINDOW_MS_MAX / 1000),
        ("ahead_s", engine.ahead_s, 0, _AHEAD_S_MAX),
        ("window_s", engine.window_s, _WINDOW_S_MIN, ACTIVATE_WINDOW_MS_MAX / 1000),
        ("bounds.t99", engine.bounds.t99, 0, 1),
        ("bounds.flips_per_s", engine.bounds.flips_per_s, 0, 1),
    )
    for field, value, least, most in rules:
        if not least <= value <= most:  # no comparison holds for what is not a number
            raise InvalidInput(f"{field} of {name} is {value}; send {least:g} to {most:g}")
