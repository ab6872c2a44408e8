"""What Prometheus is told of the control plane. One registry per app, so that several live in one process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from fanout import __version__
from fanout.campaign import Phase
from fanout.metering import Metering

# Of the open campaigns, those that come next; more at once is not an event but an archive nobody has closed.
CAMPAIGNS_MAX: Final = 50

_CAMPAIGN: Final = f"an open campaign's id, of at most {CAMPAIGNS_MAX}: those whose instant is next"
_HEALTH: Final = ("unready", "degraded", "ok")
_REACHED: Final = ("connected", "ready", "active")


class CampaignSample(Struct, frozen=True, kw_only=True):
    """One open campaign, now.

    Attributes:
        instant_ms: Of what is armed or planned next, Unix ms; None if nothing is.
        active_share: Active devices among those that the newest activation is for; None before its instant.
    """

    id: str
    phase: Phase
    threshold: float
    connected: int
    ready: int
    active: int
    coverage: float
    instant_ms: int | None
    active_share: float | None


class FleetSample(Struct, frozen=True, kw_only=True):
    """The fleet, now.

    Attributes:
        health: How many workers say so, by word.
        behind: Workers that have not applied the newest revision.
        bus_lag_ms: How long that revision has been out while some worker is behind.
        open_campaigns: All of them, shown or not.
    """

    connections: int
    health: dict[str, int]
    behind: int
    bus_lag_ms: int
    open_campaigns: int


class Metrics:
    """Everything one app counts, and what it has last seen of the fleet."""

    def __init__(self) -> None:
        self.metering = Metering()
        self.registry = self.metering.registry
        self._of_requests()
        self._of_the_process()
        self._of_the_fleet()
        self._of_campaigns()

    def _of_requests(self) -> None:
        self.requests = self.metering.counter(
            "fanout_control_requests_total",
            "requests",
            "HTTP requests by route and status.",
            # Never by path: ids must not become labels.
            {"route": "a path of the API as its OpenAPI document has it, or unmatched", "status": "an HTTP status"},
        )
        self.origin = self.metering.counter(  # the budget of the night: flat if devices flip from their caches
            "fanout_control_origin_requests_total",
            "requests",
            "Requests for bundles (GET, answered with 304 or not).",
        )
        self.publish = self.metering.histogram(  # from the press to "accepted", whoever vouches for it
            "fanout_control_publish_seconds",
            "From a press to its answer.",
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.scheduler_failures = self.metering.counter(
            "fanout_control_scheduler_failures_total",
            "tries",
            "Tries of the leader to do what is due that failed: a scheduled step refused or without an outcome, a "
            "look at the schedule or a flight's sample that broke. It tries again every tick.",
        )

    def _of_the_process(self) -> None:
        sampled = self.metering.sampled
        sampled(
            "fanout_control_info", "replicas", "1, with the version that runs.", {"version": "one, this replica's"}
        ).set({(__version__,): 1})
        self.leader = sampled(
            "fanout_control_leader",
            "replicas",
            "1 if this replica leads the schedule and the flight recorder, else 0.",
        )
        self.store_up = sampled(
            "fanout_control_store_up",
            "stores",
            "1 if the store answered this replica when it was last looked at, else 0; what is read from it is absent "
            "then.",
        )

    def _of_the_fleet(self) -> None:
        sampled = self.metering.sampled
        self._connections = sampled(
            "fanout_control_fleet_connections", "devices", "Devices connected, as all gateways together say."
        )
        self._workers = sampled(
            "fanout_control_fleet_workers",
            "workers",
            "Gateway workers by what they say of their health.",
            {"health": _HEALTH},
        )
        self._behind = sampled(
            "fanout_control_fleet_workers_behind",
            "workers",
            "Gateway workers that have not applied the newest revision.",
        )
        self._bus_lag = sampled(
            "fanout_control_fleet_bus_lag_seconds",
            "seconds",
            "How long the newest revision has been out while some worker is behind; 0 while none is.",
        )

    def _of_campaigns(self) -> None:
        sampled = self.metering.sampled
        self._open = sampled(
            "fanout_control_campaigns_open", "campaigns", "Campaigns that are not closed, whether shown below or not."
        )
        self._phase = sampled(
            "fanout_control_campaign_phase",
            "campaigns",
            "1 for the phase the campaign is in.",
            {"campaign": _CAMPAIGN, "phase": tuple(phase for phase in Phase if phase is not Phase.CLOSED)},
        )
        self._devices = sampled(
            "fanout_control_campaign_devices",
            "devices",
            "Devices the campaign has reached: connected to its topic, ready for its newest prefetch, active on its "
            "newest activation.",
            {"campaign": _CAMPAIGN, "reached": _REACHED},
        )
        self._coverage = sampled(
            "fanout_control_campaign_coverage_ratio",
            "ratio",
            "Ready devices among the connected ones; 0 while nobody is connected.",
            {"campaign": _CAMPAIGN},
        )
        self._active = sampled(
            "fanout_control_campaign_active_ratio",
            "ratio",
            "Active devices among those the newest activation is for, a canary's share of the connected ones; absent "
            "before its instant.",
            {"campaign": _CAMPAIGN},
        )
        self._threshold = sampled(
            "fanout_control_campaign_threshold_ratio",
            "ratio",
            "Coverage below which going live refuses.",
            {"campaign": _CAMPAIGN},
        )
        self._instant = sampled(
            "fanout_control_campaign_instant_timestamp_seconds",
            "seconds",
            "When the activation comes that is armed or planned next, Unix time by the store's clock; absent if none "
            "is.",
            {"campaign": _CAMPAIGN},
        )

    def of_fleet(self, fleet: FleetSample | None, campaigns: Iterable[CampaignSample], *, store_up: bool) -> None:
        """Show what the store has just said; None and no campaigns if that could not be had."""
        self.store_up.one(store_up)
        self._connections.one(None if fleet is None else fleet.connections)
        self._behind.one(None if fleet is None else fleet.behind)
        self._bus_lag.one(None if fleet is None else fleet.bus_lag_ms / 1000)
        self._open.one(None if fleet is None else fleet.open_campaigns)
        self._workers.set({} if fleet is None else {(word,): fleet.health.get(word, 0) for word in _HEALTH})
        shown = list(campaigns)
        self._phase.set({(c.id, c.phase.value): 1 for c in shown})
        self._devices.set({(c.id, reached): getattr(c, reached) for c in shown for reached in _REACHED})
        self._coverage.set({(c.id,): c.coverage for c in shown})
        self._active.set({(c.id,): c.active_share for c in shown if c.active_share is not None})
        self._threshold.set({(c.id,): c.threshold for c in shown})
        self._instant.set({(c.id,): c.instant_ms / 1000 for c in shown if c.instant_ms is not None})
