"""``make million``: a whole fleet and all that serves it on one machine, through both phases.

Every device is a real socket with its own token, and everything is the product: the gateways and the control
plane by their commands, the fleet by ``fanout swarm``, the buttons by the API. On a machine that cannot hold so
many, ``fanout doctor`` says how many it can, and the run takes those.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from fanout.errors import FanoutError
from loadtest.bench.evenness import drawn, peak_to_mean
from loadtest.bench.figures import about
from loadtest.bench.fleet import Fleet, FleetFailed, fleet
from loadtest.bench.memory import Memory, descendants, memory
from loadtest.bench.processor import cpu_seconds
from loadtest.bench.rig import Product, prepare, product
from loadtest.capacity import raise_files_max

# Files a process keeps for itself; and the kernel deals connections to workers at random, so some get more.
_OWN_FILES: Final = 512
_FILES_SHARE: Final = 0.96
_DELIVERY_BUDGET_S: Final = 20.0
# A hundred processes on two cores wait for each other: that is no reason to turn devices away, or to take the bus
# for dead. And beacons that a hundred machines' cores would not notice, for a million devices and at both ends, are
# more than two of them can do: a beacon every 120 s took a whole one.
_GATEWAY: Final = (
    *("--beacon-s", "600", "--ping-s", "3000", "--lifetime-s", "7200", "--drain-close-s", "0"),
    *("--admit-per-s", "100000", "--loop-lag-max-ms", "10000", "--handshake-timeout-s", "60"),
    *("--probe-interval-s", "5", "--probe-timeout-s", "20", "--presence-interval-s", "2"),
)
# A phase that takes longer than this, beside its window, has failed.
_PATIENCE_S: Final = 120.0
_DEVICES_PER_S_MIN: Final = 500
_CONNECTS_PER_S: Final = 5_000
_POLL_S: Final = 1.0
_TOLD_S: Final = 10.0


class Size(Struct, frozen=True):
    """How large the run is: devices, and how many processes on each side hold them, the gateway's and the swarm's."""

    devices: int
    workers: int


class Windows(Struct, frozen=True):
    """What the phases spread over, and how far ahead of its instant the activation is pressed; seconds."""

    prefetch_s: float
    arm_s: float
    activate_s: float


def size_of(devices: int, files: int) -> Size:
    """Return the processes for so many devices, where each may have so many open files."""
    return Size(devices, ceil(devices / ((files - _OWN_FILES) * _FILES_SHARE)))


def fitting(asked: int, console: Console) -> Size:
    """Return the size of the run: what was asked for, or what ``fanout doctor`` says this machine holds."""
    files = raise_files_max()
    size = size_of(asked, files)
    found = first = _examined(size)
    while (fits := found["total"]) is not None and fits < size.devices:
        # Fewer devices need fewer processes, which leave more memory: half as many may fit where none did.
        size = size_of(max(fits, size.devices // 2), files)
        if size.devices < 1:
            raise FleetFailed("not a single device fits on this machine; fanout doctor says why")
        found = _examined(size)
    if size.devices < asked:
        bound = next(each for each in first["bounds"] if each["limit"] == first["binds"])
        console.print(
            f"{asked:,} devices do not fit on this machine, {size.devices:,} do: {bound['title']} is "
            f"{bound['value']:,}. For more: {bound.get('for_twice', 'a larger machine')}",
            highlight=False,
        )
    return size


def _examined(size: Size) -> dict[str, Any]:
    """Ask ``fanout doctor`` how many devices so many processes hold here."""
    words = ["--with-swarm", "--workers", str(size.workers), "--processes", str(size.workers), "--json"]
    done = subprocess.run(_cli("doctor", *words), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout)["with_swarm"]["devices"])


class Run:
    """One run.

    Args:
        running: The product.
        devices: Its fleet.
        size: Of the run.
        console: To tell how far it is.
    """

    def __init__(self, running: Product, devices: Fleet, size: Size, console: Console) -> None:
        self._product = running
        self._devices = devices
        self._size = size
        self._console = console
        self._told_s = 0.0
        self.activation: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.cpu_s: dict[str, dict[str, float]] = {}
        self.memory: dict[str, Memory] = {}

    def note(self, name: str) -> None:
        """Keep what everything takes of the memory now, and has taken of the processors."""
        gateways, swarm = sum(map(cpu_seconds, self._product.workers)), self._devices.tally().get("cpu_s", 0)
        self.cpu_s[name] = {"gateways": round(gateways, 2), "swarm": float(swarm)}
        self.memory[name] = memory(self._product.workers, descendants(self._devices.pid))

    def phase(self, name: str, served: Callable[[], int], limit_s: float) -> None:
        """Wait until both ends, the devices and the control plane, have counted everyone.

        Raises:
            FleetFailed: They have not within the limit, or the swarm has ended.
        """
        began = self._told_s = time.monotonic()

        def reached(tally: dict[str, Any]) -> bool:
            counts = int(tally[name]), served()
            if time.monotonic() - self._told_s >= _TOLD_S:
                self._told_s = time.monotonic()
                self._say(f"  {name}: {counts[0]:,} by the devices' count, {counts[1]:,} by the control plane's")
            return min(counts) >= self._size.devices

        self._devices.until(name, reached, limit_s, poll_s=_POLL_S)
        self.seconds[name] = round(time.monotonic() - began, 1)
        self.note(name)
        self._say(f"{name}: all {self._size.devices:,} in {self.seconds[name]:g} s")

    def drive(self, windows: Windows) -> None:
        """Connect, prefetch, activate."""
        self.note("empty")
        served, path = self._product.get, "/v1/campaigns/bench"
        self.phase("connected", lambda: int(served("/v1/fleet")["devices"]), self._patience_s())
        prepare(self._product, windows.prefetch_s)
        limit_s = windows.prefetch_s + self._patience_s()
        self.phase("ready", lambda: int(served(f"{path}/readiness")["total"]["ready"]), limit_s)
        pressed = {"stage": "on", "window_s": windows.activate_s, "in_s": windows.arm_s}
        self.activation = dict(self._product.post(f"{path}/activate", pressed)["activation"])
        limit_s = windows.arm_s + windows.activate_s + self._patience_s()
        self.phase("activated", lambda: int(served(f"{path}/readiness")["total"]["active"]), limit_s)

    def _patience_s(self) -> float:
        return _PATIENCE_S + self._size.devices / _DEVICES_PER_S_MIN

    def _say(self, words: str) -> None:
        self._console.print(words, highlight=False)


def figures_of(run: Run, size: Size, tally: dict[str, Any]) -> dict[str, Any]:
    """Return what the run and its devices have found, JSON-ready."""
    before = run.memory["empty"]
    delivered = next(each for each in tally["publications"] if each["kind"] == "activate")
    told = {name: int(run.activation[name]) for name in ("rev", "at", "window_ms")}
    return {
        **about(),
        **msgspec.to_builtins(size),
        **{name: tally[name] for name in ("connected", "ready", "activated", "flipped_twice")},
        "seconds": run.seconds,
        "activation": told,
        **_evenness(size.devices, told, tally["flips"]),
        "delivered": delivered,
        **{name: tally[name] for name in ("connect_ms", "delivery_ms", "flip_error_ms", "lag_ms")},
        **{name: tally[name] for name in ("slow", "refused", "closes")},
        "swarm_device_bytes": tally["bytes_per_device"],
        "memory_empty": msgspec.to_builtins(before),
        "memory": {name: msgspec.to_builtins(each.since(before)) for name, each in run.memory.items()},
        "cpu_s": run.cpu_s,
        "kept": delivered["last_ms"] <= _DELIVERY_BUDGET_S * 1000,
    }


def _evenness(devices: int, told: dict[str, int], flips: dict[str, int]) -> dict[str, float | None]:
    """Return the busiest second of flips against the window's mean second, and the same of the slots as drawn."""
    if not told["window_ms"] or not flips:
        return {"flips_peak_to_mean": None, "slots_peak_to_mean": None}
    happened = peak_to_mean({int(ms): count for ms, count in flips.items()}, told["at"], told["window_ms"])
    slots = drawn(devices, told["rev"], told["window_ms"])
    return {"flips_peak_to_mean": round(happened, 3), "slots_peak_to_mean": round(slots, 3)}


def shortcomings(found: dict[str, Any]) -> list[str]:
    """Return in words what a run does not hold of all that is promised; nothing if it was good."""
    devices, received, last_s = found["devices"], found["delivered"]["received"], found["delivered"]["last_ms"] / 1000
    wrong = {
        f"{found['activated']:,} of {devices:,} devices flipped": found["activated"] != devices,
        f"{found['flipped_twice']:,} flipped twice": found["flipped_twice"] != 0,
        f"{received:,} of {devices:,} heard the activation as it was published": received != devices,
        f"the last heard it after {last_s:.1f} s, the budget is {_DELIVERY_BUDGET_S:g} s": not found["kept"],
    }
    return [words for words, holds in wrong.items() if holds]


def show(found: dict[str, Any], console: Console) -> None:
    """Print the figures for people."""
    devices, delivered = found["devices"], found["delivered"]
    table = Table(title=f"{devices:,} devices on {found['cores']} cores", show_header=False)
    table.add_row(
        "connected, ready, activated", " / ".join(f"{found[n]:,}" for n in ("connected", "ready", "activated"))
    )
    table.add_row("flipped twice", str(found["flipped_twice"]))
    if found["flips_peak_to_mean"] is not None:
        words = f"{found['flips_peak_to_mean']:.2f} (of the slots as drawn: {found['slots_peak_to_mean']:.2f})"
        table.add_row("busiest second of flips / mean second", words)
    for name, seconds in found["seconds"].items():
        table.add_row(f"until all were {name}", f"{seconds:g} s")
    verdict = "kept" if found["kept"] else "[bold red]missed[/]"
    table.add_row("activation to the first", f"{delivered['first_ms'] / 1000:.2f} s")
    table.add_row(
        "activation to the last", f"{delivered['last_ms'] / 1000:.2f} s (budget {_DELIVERY_BUDGET_S:g} s: {verdict})"
    )
    for name, what in (("delivery_ms", "activation"), ("flip_error_ms", "flip against its slot"), ("lag_ms", "lag")):
        values = found[name]
        table.add_row(f"{what}, p50 / p99 / max", " / ".join(f"{values[n]:g}" for n in ("p50", "p99", "max")) + " ms")
    for name, taken in found["memory"].items():
        if name != "empty":
            words = ", ".join(f"{part} {taken[part] / devices:,.0f}" for part in ("gateways", "swarm", "kernel"))
            total = taken["available"] / 1e9
            table.add_row(f"memory a device, {name}", f"{words} bytes; {total:.1f} GB less available")
    empty = found["memory_empty"]
    each = f"{empty['gateways'] / found['workers'] / 1e6:.0f} MB"
    table.add_row("memory of a worker without devices", f"{each} ({found['workers']} workers)")
    before = found["cpu_s"]["empty"]
    for name in found["seconds"]:
        now = found["cpu_s"][name]
        words = ", ".join(f"{part} {(now[part] - before[part]) / devices * 1e6:,.0f}" for part in now)
        table.add_row(f"processor time a device, until {name}", f"{words} us")
        before = now
    console.print(table)


def run(size: Size, windows: Windows, slow_share: float, console: Console) -> dict[str, Any]:
    """Run everything once; return the figures."""
    # A real fleet has a processor for each device to think on; this one shares two cores with the gateways.
    flags = ["--processes", str(size.workers), "--connects-per-s", str(_CONNECTS_PER_S)]
    flags += ["--act-after-s", str(windows.arm_s / 3)]
    flags += ["--slow-share", str(slow_share)]
    with (
        product("--workers", str(size.workers), *_GATEWAY) as running,
        fleet(running, size.devices, *flags) as devices,
    ):
        made = Run(running, devices, size, console)
        made.drive(windows)
        return figures_of(made, size, devices.end())


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--devices", default=1_000_000, type=click.IntRange(min=1), help="How many; fewer if they do not fit.")
@click.option("--prefetch-window", "prefetch_s", default=90.0, help="Seconds the prefetch spreads over.")
@click.option("--arm", "arm_s", default=90.0, help="Seconds from the press to the activation's instant.")
@click.option("--activate-window", "activate_s", default=120.0, help="Seconds the activation spreads over.")
@click.option("--slow-share", default=0.0, type=click.FloatRange(0, 1), help="Share that stops reading at first.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def main(
    devices: int,
    prefetch_s: float,
    arm_s: float,
    activate_s: float,
    slow_share: float,
    json_file: Path | None,
) -> None:
    """Connect, prefetch and activate a whole fleet on this machine.

    Status 0 if everyone heard the activation within its budget and flipped, once; else 1, and what went wrong.
    """
    console = Console(stderr=True)
    try:
        size = fitting(devices, console)
        console.print(f"{size.devices:,} devices, {size.workers} gateway workers, as many swarm processes")
        found = run(size, Windows(prefetch_s, arm_s, activate_s), slow_share, console)
    except FanoutError as exc:
        raise click.ClickException(str(exc)) from exc
    show(found, Console(width=max(120, console.width)))
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n")
    wrong = shortcomings(found)
    for words in wrong:
        console.print(words, style="red", highlight=False)
    sys.exit(1 if wrong else 0)


def _cli(*words: str) -> list[str]:
    return [sys.executable, "-m", "fanout.cli", *words]


if __name__ == "__main__":
    main()
