"""What a policy costs in a month, roughly: processors, memory, bytes and requests, at the scenario's prices. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from loadtest.simulation.scenario import Scenario

_GB: Final = 1e9
_MINUTES_PER_HOUR: Final = 60.0


class Use(Struct, frozen=True, kw_only=True):
    """What a policy uses.

    Attributes:
        workers: Gateway workers, a core each.
        origin_requests_per_s_peak: In its busiest second; an origin that refuses nobody has cores for that.
        origin_bytes: From the origin, for one event.
        cdn_bytes: From the CDN, for one event.
        cdn_requests: For one event.
        gateway_bytes: From the gateways, for one event.
        polls_per_s: All the time.
    """

    workers: int
    origin_requests_per_s_peak: float
    origin_bytes: float
    cdn_bytes: float
    cdn_requests: float
    gateway_bytes: float
    polls_per_s: float = 0.0


class Cost(Struct, frozen=True, kw_only=True):
    """US dollars a month."""

    gateways_usd: float
    gateway_egress_usd: float
    origin_usd: float
    cdn_usd: float
    total_usd: float


def cost_of(scenario: Scenario, use: Use) -> Cost:
    """Return what this costs."""
    prices = scenario.prices
    hours, events = prices.hours_per_month, prices.events_per_month
    held_gb = scenario.devices * (scenario.device_bytes + scenario.socket_bytes) / _GB if use.workers else 0.0
    gateways = hours * (use.workers * prices.core_hour_usd + held_gb * prices.memory_gb_hour_usd)
    # Beacons, pings and headers of sockets that wait for the next event are most of it.
    idle = scenario.devices * scenario.idle_bytes_per_min * _MINUTES_PER_HOUR * hours if use.workers else 0.0
    egress = (use.gateway_bytes * events + idle) / _GB * prices.gateway_egress_gb_usd
    cores = use.origin_requests_per_s_peak / prices.origin_requests_per_core_s
    polled = use.polls_per_s * 3600 * hours
    origin = cores * prices.core_hour_usd * hours + use.origin_bytes * events / _GB * prices.origin_egress_gb_usd
    requests = use.cdn_requests * events + polled
    cdn_bytes = use.cdn_bytes * events + polled * scenario.poll_bytes
    cdn = requests / 1e6 * prices.cdn_million_requests_usd + cdn_bytes / _GB * prices.cdn_egress_gb_usd
    parts = [round(part, 2) for part in (gateways, egress, origin, cdn)]
    return Cost(
        gateways_usd=parts[0],
        gateway_egress_usd=parts[1],
        origin_usd=parts[2],
        cdn_usd=parts[3],
        total_usd=round(sum(parts), 2),
    )
