"""What a fleet of a given size needs: workers, memory, admission, the store, time to roll. Pure.

Every line of a plan holds its formula with the numbers in it, and the benchmark's figure it rests on, so that it can
be argued with. A fleet is as large as the largest of four needs: to be told in time, to come back in time after a
zone is lost, to fit, and to be kept alive while nothing happens.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct

from fanout.errors import InvalidInput
from fanout.limits import ACTIVATE_WINDOW_MS_MAX, BUNDLE_BYTES_MAX, INLINE_BYTES_MAX
from loadtest.measured import Measured, Store

DEVICES_MAX: Final = 10_000_000_000


class Wish(Struct, frozen=True, kw_only=True):
    """What is planned for.

    Attributes:
        devices: Connected at once.
        window_s: The activation's window.
        ahead_s: From the press to the instant: time in which everyone can be told.
        message_bytes: An activation on the wire, with frame and TCP/IP headers.
        bundle_bytes: What a device prefetches.
        prefetch_window_s: Over how long.
        zones: Failure domains the gateways are spread over; one of them may be lost.
        recover_s: Until when the devices of a lost zone are to be back.
        roll_s: How long a rolling restart of all gateways may take.
        workers_per_pod: Worker processes of one gateway, a core each.
        connections_max: Devices a worker takes at the most (`fanout gateway --connections-max`).
        load_max: Share of the measured rates to plan with; the rest is for noise, and for what was not foreseen.
        idle_load_max: Share of a core that beacons and pings may take.
        miss_share: Devices that come to the instant without the bundle.
        workers: How many there are to be; 0 asks the plan.
    """

    devices: int
    window_s: float = 45.0
    ahead_s: float = 10.0
    message_bytes: int = 330
    bundle_bytes: int = 16_000
    prefetch_window_s: float = 3600.0
    zones: int = 3
    recover_s: float = 60.0
    roll_s: float = 3600.0
    workers_per_pod: int = 4
    connections_max: int = 100_000
    load_max: float = 0.5
    idle_load_max: float = 0.25
    miss_share: float = 0.01
    workers: int = 0

    def __post_init__(self) -> None:
        whole = {"devices": DEVICES_MAX, "workers_per_pod": 1024, "connections_max": 1_000_000, "zones": 100}
        for name, most in whole.items():
            _within(name, getattr(self, name), 2 if name == "zones" else 1, most)
        for name in ("load_max", "idle_load_max"):
            _within(name, getattr(self, name), 0.01, 1)
        _within("miss_share", self.miss_share, 0, 1)
        _within("window_s", self.window_s, 0.1, ACTIVATE_WINDOW_MS_MAX / 1000)
        _within("bundle_bytes", self.bundle_bytes, 0, BUNDLE_BYTES_MAX)
        for name in ("recover_s", "roll_s", "prefetch_window_s"):
            _within(name, getattr(self, name), 1, 7 * 24 * 3600)
        _within("ahead_s", self.ahead_s, 0, 7 * 24 * 3600)
        _within("workers", self.workers, 0, DEVICES_MAX)


class Line(Struct, frozen=True):
    """One line of a plan.

    Attributes:
        name: For machines.
        what: For people.
        value: In ``unit``.
        formula: How it comes about, with the numbers.
        source: Whose figure it rests on; empty for arithmetic.
    """

    name: str
    what: str
    value: float
    unit: str
    formula: str
    source: str = ""


class Plan(Struct, frozen=True):
    """Everything, and which need decides the number of workers."""

    wish: Wish
    workers: int
    decided_by: str
    lines: list[Line]


def plan(wish: Wish, measured: Measured | None = None, store: Store | None = None) -> Plan:
    """Return what is needed.

    Raises:
        InvalidInput: The number of workers that was asked for cannot do it; the message holds what forbids it.
    """
    measured, store = measured or Measured(), store or Store()
    needs = _needs(wish, measured)
    largest = max(needs, key=lambda need: need.value)
    if wish.workers and wish.workers < largest.value:
        raise InvalidInput(
            f"workers is {wish.workers:,}, but {largest.what} takes {largest.value:,.0f} ({largest.formula}); "
            "plan with more workers, or ask for less"
        )
    workers = wish.workers or int(largest.value)
    sized = _Sized(wish, measured, store, workers)
    return Plan(wish, workers, largest.name, [*needs, *sized.gateways(), *sized.store(), *sized.night()])


def _needs(wish: Wish, measured: Measured) -> list[Line]:
    """Return how many workers each need takes by itself."""
    sends = measured.sends_per_s * wish.load_max
    tell_s = wish.ahead_s + wish.window_s
    admit = measured.handshakes_per_s * wish.load_max
    idle = wish.idle_load_max * 60e6 / measured.idle_cpu_us_per_min
    # Of a zone with so many workers: each zone loses 1/zones of the devices to the workers of the others.
    back = wish.devices / wish.zones / (admit * wish.recover_s * (wish.zones - 1))
    return [
        Line(
            "workers_to_tell",
            "telling everyone before the window is over",
            _up(wish.devices / (sends * tell_s)),
            "workers",
            f"{wish.devices:,} / ({sends:,.0f} sends/s x {tell_s:g} s)",
            measured.source("sends_per_s"),
        ),
        Line(
            "workers_to_recover",
            f"having a lost zone's devices back within {wish.recover_s:g} s",
            _up(back) * wish.zones,
            "workers",
            f"{wish.devices:,} / {wish.zones} zones / ({admit:,.0f} handshakes/s x {wish.recover_s:g} s x "
            f"{wish.zones - 1} zones that are left), in every zone",
            measured.source("handshakes_per_s"),
        ),
        Line(
            "workers_to_hold",
            "holding them, with a zone lost",
            _up(wish.devices / wish.connections_max / (wish.zones - 1)) * wish.zones,
            "workers",
            f"{wish.devices:,} / {wish.connections_max:,} connections_max x {wish.zones}/{wish.zones - 1}",
            "fanout gateway --connections-max",
        ),
        Line(
            "workers_to_idle",
            "keeping them alive while nothing happens",
            _up(wish.devices / idle),
            "workers",
            f"{wish.devices:,} x {measured.idle_cpu_us_per_min:g} us a minute / {wish.idle_load_max:.0%} of a core",
            measured.source("idle_cpu_us_per_min"),
        ),
    ]


class _Sized:
    """A fleet whose number of workers is decided."""

    def __init__(self, wish: Wish, measured: Measured, store: Store, workers: int) -> None:
        self._wish, self._measured, self._store_figures, self._workers = wish, measured, store, workers
        self._each = wish.devices / workers

    def gateways(self) -> list[Line]:
        """Return what the gateways are made of."""
        wish, measured, each = self._wish, self._measured, self._each
        pods = _up(self._workers / wish.workers_per_pod)
        full = min(wish.connections_max, each * wish.zones / (wish.zones - 1))
        pod_bytes = wish.workers_per_pod * (
            measured.worker_bytes + full * (measured.device_bytes + measured.kernel_bytes)
        )
        per_socket = f"{measured.device_bytes:,.0f} + {measured.kernel_bytes:,.0f} bytes"
        return [
            Line(
                "gateways",
                "gateways (pods)",
                pods,
                "pods",
                f"{self._workers:,} / {wish.workers_per_pod} workers each",
            ),
            Line("cores", "cores", float(self._workers), "cores", "one a worker"),
            Line(
                "devices_per_worker", "devices of a worker", each, "devices", f"{wish.devices:,} / {self._workers:,}"
            ),
            Line(
                "memory_per_gateway",
                "memory of a gateway that has taken its part of a lost zone, kernel included",
                pod_bytes / 1e9,
                "GB",
                f"{wish.workers_per_pod} x ({measured.worker_bytes / 1e6:g} MB + {full:,.0f} x ({per_socket}))",
                f"{measured.source('device_bytes')}, {measured.source('kernel_bytes')}",
            ),
            Line(
                "files_per_worker",
                "open files of a worker",
                full + 512,
                "files",
                f"{full:,.0f} sockets + 512 of its own",
            ),
            Line(
                "admit_per_s",
                "admission of a worker (--admit-per-s)",
                measured.handshakes_per_s * wish.load_max,
                "handshakes/s",
                f"{measured.handshakes_per_s:,.0f} x {wish.load_max:.0%}",
                measured.source("handshakes_per_s"),
            ),
            Line(
                "recovered_after",
                "a lost zone's devices are back after",
                wish.devices / wish.zones / (self._left() * measured.handshakes_per_s * wish.load_max),
                "s",
                f"{wish.devices / wish.zones:,.0f} / ({self._left():,} workers x admission)",
            ),
            Line(
                "drain_s",
                "a gateway's drain (--drain-s), for all to be replaced in time",
                wish.roll_s / pods,
                "s",
                f"{wish.roll_s:g} s / {pods:,.0f} gateways, one after the other; "
                f"{wish.devices / wish.roll_s:,.0f} handshakes/s over all others",
            ),
        ]

    def _left(self) -> int:
        return self._workers - math.ceil(self._workers / self._wish.zones)

    def store(self) -> list[Line]:
        """Return what the store has to bear: a primary alone as long as it can, then replicas to read from."""
        figures, workers = self._store_figures, self._workers
        alone = workers <= figures.carries(figures.worker_us_per_s)
        each = figures.worker_us_per_s if alone else figures.written_us_per_s
        most = figures.carries(each)
        if workers > most:
            raise InvalidInput(
                f"{workers:,} workers are more than one primary carries ({most:,}: {figures.load_max:.0%} of its "
                f"thread at {each:g} us a worker and second); split the fleet over several stores, or take larger "
                "workers (--connections-max); docs/operations.md says what else there is"
            )
        replicas = 0 if alone else math.ceil(workers / figures.carries(figures.read_us_per_s))
        readers = workers / (replicas or 1)
        return [
            Line(
                "store_load",
                "of the primary's one thread, while nothing happens",
                workers * each / 1e6,
                "cores",
                f"{workers:,} workers x {each:g} us a second; {figures.load_max:.0%} of a core carries {most:,}",
                figures.source("worker_us_per_s" if alone else "written_us_per_s"),
            ),
            Line(
                "store_replicas",
                "replicas that gateways read from (--redis-read-url), beside those for failover",
                float(replicas),
                "nodes",
                "a primary alone is enough"
                if alone
                else f"{workers:,} workers / {figures.carries(figures.read_us_per_s):,} each "
                f"({figures.read_us_per_s:g} us a second)",
                "" if alone else figures.source("read_us_per_s"),
            ),
            Line(
                "doorbell_ms",
                "until a publication has left the store for the last worker",
                readers * figures.publish_us / 1000,
                "ms",
                f"{readers:,.0f} subscribers of a node x {figures.publish_us:g} us",
                figures.source("publish_us"),
            ),
        ]

    def night(self) -> list[Line]:
        """Return what the night itself brings."""
        wish, measured = self._wish, self._measured
        told_s = self._each / (measured.sends_per_s * wish.load_max)
        inline = wish.bundle_bytes <= INLINE_BYTES_MAX
        prefetch = wish.devices * wish.bundle_bytes * 8 / wish.prefetch_window_s
        return [
            Line(
                "told_after",
                "everyone has been told after",
                told_s,
                "s",
                f"{self._each:,.0f} devices / ({measured.sends_per_s:,.0f} sends/s x {wish.load_max:.0%})",
                measured.source("sends_per_s"),
            ),
            Line(
                "window_min",
                "the smallest window in which slots decide, not the gateways' writing",
                max(0.0, told_s - wish.ahead_s),
                "s",
                f"{told_s:.2f} s - {wish.ahead_s:g} s ahead",
            ),
            Line(
                "flips_per_s",
                "flips a second",
                wish.devices / wish.window_s,
                "flips/s",
                f"{wish.devices:,} / {wish.window_s:g} s",
            ),
            Line(
                "told_gbit_per_s",
                "leaving all gateways while they tell",
                wish.devices * wish.message_bytes * 8 / max(told_s, 1.0) / 1e9,
                "Gbit/s",
                f"{wish.devices:,} x {wish.message_bytes} bytes in {max(told_s, 1.0):.1f} s",
            ),
            Line(
                "idle_gbit_per_s",
                "leaving them while nothing happens",
                wish.devices * measured.idle_bytes_per_min * 8 / 60 / 1e9,
                "Gbit/s",
                f"{wish.devices:,} x {measured.idle_bytes_per_min:g} bytes a minute",
                measured.source("idle_bytes_per_min"),
            ),
            Line(
                "prefetch_gbit_per_s",
                "of bundles, inline through the gateways" if inline else "of bundles, from the CDN",
                prefetch / 1e9,
                "Gbit/s",
                f"{wish.devices:,} x {wish.bundle_bytes:,} bytes over {wish.prefetch_window_s:g} s",
            ),
            Line(
                "origin_per_s",
                "requests to the origin at the instant, of those without the bundle",
                wish.devices * wish.miss_share / wish.window_s,
                "requests/s",
                f"{wish.devices:,} x {wish.miss_share:.1%} / {wish.window_s:g} s",
            ),
        ]


def _up(value: float) -> float:
    # What differs from a whole number by a rounding error is that number.
    return float(max(1, math.ceil(value - 1e-9)))


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidInput(f"{name} is {value:,.10g}; send {least:,.10g} to {most:,.10g}")
