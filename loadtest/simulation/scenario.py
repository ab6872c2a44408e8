"""What is simulated: every number of a night, with its unit, its default and where that comes from.

A scenario refuses by itself what could not be, and says which number forbids it. It knows nothing of how anything is
computed. "Assumed" marks a default that nobody measured: set your own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from fanout import measured
from fanout.errors import InvalidInput
from fanout.limits import (
    ACTIVATE_WINDOW_MS_MAX,
    DEVICE_ID_CHARS_MAX,
    INLINE_BYTES_MAX,
    ORIGIN_PER_S_DEFAULT,
    PREFETCH_WINDOW_MS_MAX,
)

# Ten times the largest fleet anybody has; their numbers still fit the 32 bits that ids are made with.
DEVICES_MAX: Final = 1_000_000_000
# A thousand devices a worker of the largest fleet: nobody runs gateways that small.
WORKERS_MAX: Final = 1_000_000
# Two hours of bins of a hundredth of a second are 6 MB for each policy and process.
HORIZON_S_MAX: Final = 7_200.0
# A gateway says whole seconds, at least one; the gate's bins must be shorter than the shortest wait.
RETRY_AFTER_S_MIN: Final = 1.0


class Region(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some of the devices, and how far away they are: one way, lognormal."""

    name: str
    share: float
    median_ms: float
    p99_ms: float


class Prices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What things cost. All assumed: near the public list prices of large clouds, which large buyers do not pay."""

    core_hour_usd: float = 0.04
    memory_gb_hour_usd: float = 0.005
    gateway_egress_gb_usd: float = 0.02
    origin_egress_gb_usd: float = 0.02
    cdn_egress_gb_usd: float = 0.01
    cdn_million_requests_usd: float = 0.6
    # Of an origin that must refuse nobody in its busiest second.
    origin_requests_per_core_s: float = 1_000.0
    events_per_month: float = 30.0
    hours_per_month: float = 730.0


# Assumed: television at home, a phone network, and the other side of the world.
REGIONS: Final = (
    Region(name="near", share=0.6, median_ms=15.0, p99_ms=90.0),
    Region(name="mobile", share=0.3, median_ms=40.0, p99_ms=250.0),
    Region(name="far", share=0.1, median_ms=120.0, p99_ms=400.0),
)

_SHARES: Final = (
    "share", "offline_share", "late_share", "zone_share", "cdn_hit_ratio", "ready_share", "ready_gate",
)  # fmt: skip
_POSITIVE: Final = (
    "devices_per_worker", "connections_max", "files_max", "ports_per_source", "sends_per_s", "admit_per_s",
    "beacon_s", "prefetch_window_s", "origin_per_s", "horizon_s", "bundle_bytes",
)  # fmt: skip
_NOT_NEGATIVE: Final = (
    "seed", "rev", "prefetch_rev", "workers", "files_reserved", "balancer_sources", "publish_median_ms",
    "offline_s", "late_ms", "window_s", "inline_bytes", "message_bytes", "welcome_bytes", "poll_bytes",
    "idle_bytes_per_min", "device_bytes", "socket_bytes",
)  # fmt: skip
_HOUR_S: Final = 3_600.0
_BETWEEN: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "devices": (1, DEVICES_MAX),
        # Beyond it some workers would be empty.
        "skew": (0, 0.3),
        "clock_samples": (1, 64),
        "retry_after_s": (RETRY_AFTER_S_MIN, _HOUR_S),
        "backoff_base_ms": (1, _HOUR_S * 1000),
        "backoff_cap_ms": (1, _HOUR_S * 1000),
        "fetch_tries": (1, 64),
        "fetch_base_ms": (1, _HOUR_S * 1000),
        "fetch_cap_ms": (1, _HOUR_S * 1000),
        "poll_s": (1, _HOUR_S),
        "prefetch_window_s": (0.001, PREFETCH_WINDOW_MS_MAX / 1000),
        "window_s": (0, ACTIVATE_WINDOW_MS_MAX / 1000),
        "inline_bytes": (0, INLINE_BYTES_MAX),
        # What a longer one changes has been seen by then: everybody has heard long before.
        "ahead_s": (0, _HOUR_S),
    }
)


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fleet, a press, and what goes wrong. Instants of faults are seconds after the press of two-phase."""

    # --- Devices. Ids are `<prefix><number>`, as the swarm's; the slots are those of the real ids.
    devices: int = 100_000_000
    seed: int = 1
    prefix: str = "device-"
    rev: int = 1_795_000_900_123
    prefetch_rev: int = 1_795_000_000_123
    campaign: str = "final-2026"
    # Of the fleet that the activation is for: a canary.
    share: float = 1.0

    # --- Gateways. 0 workers: as many as give each the devices of the next line.
    workers: int = 0
    # Half of what a worker takes: room for a neighbour's devices.
    devices_per_worker: int = 50_000
    # fanout gateway --connections-max
    connections_max: int = 100_000
    # What containerd 2 gives a container; a worker keeps 512 for itself (docs/limits.md).
    files_max: int = 524_288
    files_reserved: int = 512
    # Addresses from which a load balancer that ends connections itself calls each worker; 0: it passes them through,
    # and a worker's one port serves them all. The range is Linux's ip_local_port_range.
    balancer_sources: int = 0
    ports_per_source: int = 28_232
    # fanout control --sends-per-s: half of what make bench finds on a busy machine.
    sends_per_s: float = 40_000.0
    # fanout gateway --admit-per-s
    admit_per_s: float = 4_000.0
    # Relative standard deviation of workers' loads. Assumed: a balancer that counts connections.
    skew: float = 0.05
    # From the press to a worker's first write. make bench: 7 ms with everything on one machine; the tail is assumed.
    publish_median_ms: float = 7.0
    publish_p99_ms: float = 50.0

    # --- Ways, clocks, timers.
    regions: tuple[Region, ...] = REGIONS
    # docs/protocol.md rule 5: the best of the last 8 to 16 samples.
    clock_samples: int = 8
    # Assumed: televisions that are being switched on for the event.
    offline_share: float = 0.005
    offline_s: float = 120.0
    # Assumed: a television busy with video; its timers are late by anything up to this.
    late_share: float = 0.01
    late_ms: float = 500.0
    # fanout gateway --beacon-s; after three silent ones nothing armed fires (rule 23).
    beacon_s: float = 25.0

    # --- Faults; None: none.
    gateway_dies_s: float | None = None
    zone_share: float = 0.0
    zone_dies_s: float | None = None
    # fanout gateway --backoff-base-ms, --backoff-cap-ms, --retry-after-s
    backoff_base_ms: float = 500.0
    backoff_cap_ms: float = 20_000.0
    retry_after_s: float = 5.0

    # --- The press.
    window_s: float = 45.0
    # From the press to the instant.
    ahead_s: float = 5.0
    # Content: assumed sizes and hit ratio; what the origin takes is what a campaign states by default.
    prefetch_window_s: float = 3_600.0
    # Of the connected devices, at the moment somebody wants to press, and when the gate lets them.
    ready_share: float = 0.97
    ready_gate: float = 0.995
    cdn_hit_ratio: float = 0.95
    origin_per_s: float = float(ORIGIN_PER_S_DEFAULT)
    # docs/protocol.md rule 10: five tries, 1 s x 2^tries.
    fetch_tries: int = 5
    fetch_base_ms: float = 1_000.0
    fetch_cap_ms: float = 32_000.0
    bundle_bytes: int = 48_000
    inline_bytes: int = 12_000
    message_bytes: int = 240
    welcome_bytes: int = 450
    poll_s: float = 60.0
    poll_bytes: int = 300
    # After the instant; who has not flipped by then never does.
    horizon_s: float = 600.0

    # --- Costs: bytes to an idle device, resident memory, the kernel's part.
    idle_bytes_per_min: float = measured.IDLE_BYTES_PER_MIN
    device_bytes: float = measured.DEVICE_BYTES
    socket_bytes: float = measured.SOCKET_BYTES
    prices: Prices = Prices()

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_regions(self.regions)
        _check_relations(self)

    @property
    def workers_planned(self) -> int:
        """How many gateway workers hold the fleet."""
        return self.workers or -(-self.devices // self.devices_per_worker)

    @property
    def end_s(self) -> float:
        """When the simulation ends, in seconds after the press."""
        return self.ahead_s + self.horizon_s

    @property
    def room(self) -> tuple[int, str]:
        """How many devices a worker has room for, and what says so."""
        limits = [
            (self.connections_max, f"connections_max is {self.connections_max}"),
            (
                self.files_max - self.files_reserved,
                f"files_max is {self.files_max}, of which a worker keeps {self.files_reserved} for itself",
            ),
        ]
        if self.balancer_sources:
            ports = self.balancer_sources * self.ports_per_source
            limits.append((ports, f"{self.balancer_sources} balancer sources have {ports} ports"))
        return min(limits)


def _check_numbers(asked: Scenario) -> None:
    rules = [(name, 0.0, 1.0, "0 to 1") for name in _SHARES]
    rules += [(name, math.ulp(0.0), sys.float_info.max, "more than 0") for name in _POSITIVE]
    rules += [(name, 0.0, sys.float_info.max, "0 or more") for name in _NOT_NEGATIVE]
    rules += [(name, least, most, f"{least:g} to {most:g}") for name, (least, most) in _BETWEEN.items()]
    faults = [name for name in ("gateway_dies_s", "zone_dies_s") if getattr(asked, name) is not None]
    rules += [(name, 0.0, HORIZON_S_MAX, f"0 to {HORIZON_S_MAX:g}, or null") for name in faults]
    for name, least, most, words in rules:
        value = getattr(asked, name)
        # No comparison holds for what is not a number.
        if not least <= value <= most:
            raise InvalidInput(f"{name} is {value}; send {words}")
    for name in Prices.__struct_fields__:
        value = getattr(asked.prices, name)
        if not 0 <= value < math.inf or (name == "origin_requests_per_core_s" and not value):
            raise InvalidInput(f"prices.{name} is {value}; send 0 or more, for what a core answers more than 0")
    if len(f"{asked.prefix}{asked.devices - 1}") > DEVICE_ID_CHARS_MAX:
        raise InvalidInput(f"prefix has {len(asked.prefix)} characters; ids may have {DEVICE_ID_CHARS_MAX}")


def _check_regions(regions: tuple[Region, ...]) -> None:
    total = sum(region.share for region in regions)
    if not all(0 <= region.share <= 1 for region in regions) or not math.isclose(total, 1.0, abs_tol=1e-6):
        raise InvalidInput(f"the regions' shares add up to {total:g}; send shares of 0 to 1 that add up to 1")
    for region in regions:
        check_lognormal(f"region {region.name}", region.median_ms, region.p99_ms)


def check_lognormal(what: str, median_ms: float, p99_ms: float) -> None:
    """Hold that there is such a distribution; a median of 0 is no delay at all."""
    if not 0 <= median_ms <= p99_ms < math.inf or (p99_ms > 0 and not median_ms):
        raise InvalidInput(
            f"{what}: median is {median_ms:g} ms, p99 {p99_ms:g} ms; send 0 < median <= p99, or 0 and 0"
        )


def _check_relations(asked: Scenario) -> None:
    check_lognormal("publish", asked.publish_median_ms, asked.publish_p99_ms)
    if asked.ready_gate < asked.ready_share:
        raise InvalidInput(
            f"ready_gate is {asked.ready_gate:g}, below the {asked.ready_share:g} that are ready already"
        )
    if not asked.window_s < asked.horizon_s <= HORIZON_S_MAX:
        raise InvalidInput(
            f"horizon_s is {asked.horizon_s:g}; send more than window_s {asked.window_s:g}, up to {HORIZON_S_MAX:g}"
        )
    if asked.workers_planned > min(asked.devices, WORKERS_MAX):
        raise InvalidInput(
            f"{asked.workers_planned} workers for {asked.devices} devices; send at most one each, and {WORKERS_MAX}"
        )
    if asked.offline_share + asked.late_share > 1:
        raise InvalidInput(
            f"offline_share {asked.offline_share:g} and late_share {asked.late_share:g} are more than all devices; "
            "send less"
        )
    room, reason = asked.room
    each = asked.devices / asked.workers_planned
    if each > room:
        raise InvalidInput(
            f"{asked.devices} devices on {asked.workers_planned} workers are {each:.0f} each, {reason}: "
            f"send workers={-(-asked.devices // max(room, 1))} or more"
        )
