"""What Prometheus is told of the control plane. One registry per app, so that several live in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class Metrics:
    """Counters and histograms of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(  # by the route's pattern, never by its path: ids must not become labels
            "fanout_control_requests_total",
            "HTTP requests by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.origin = Counter(  # the budget of the night: it stays flat if devices flip from their caches
            "fanout_origin_requests_total",
            "Requests for bundles (GET, answered with 304 or not).",
            registry=self.registry,
        )
        self.publish = Histogram(  # from the press to "accepted", whoever vouches for it
            "fanout_control_publish_seconds",
            "Seconds from a press to its answer.",
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
