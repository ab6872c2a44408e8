"""Every metric of a gateway, in one place. Workers write, the supervisor sums them up on its admin port."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Final

from prometheus_client import Counter, Gauge, Histogram


class Batched:
    """A counter with at most one label, kept in memory between two calls of `flush`.

    Among several processes each increment of the real one is a write to a mapped file and a look at the
    process id: some 15 us, which a handshake or a report should not pay.
    """

    def __init__(self, counter: Counter, *, labelled: bool = True) -> None:
        self._counter = counter
        self._labelled = labelled
        self._pending: Tally[str] = Tally()

    def inc(self, label: str = "", amount: int = 1) -> None:
        """Add to the count of this label."""
        self._pending[label] += amount

    def flush(self) -> None:
        """Hand on what has been counted since the last time."""
        pending, self._pending = self._pending, Tally()
        for label, amount in pending.items():
            counter = self._counter.labels(label) if self._labelled else self._counter
            counter.inc(amount)


CONNECTIONS: Final = Gauge("fanout_gateway_connections", "Devices connected.", multiprocess_mode="livesum")
COHORTS: Final = Gauge("fanout_gateway_cohorts", "Cohorts with members.", multiprocess_mode="livesum")
FOLDED: Final = Batched(
    Counter("fanout_gateway_folded", "Devices put into a cohort without their attributes, for there were too many."),
    labelled=False,
)
PAUSES: Final = Counter("fanout_gateway_accept_pauses", "Times no open file was left to accept with.")
HANDSHAKES: Final = Batched(
    Counter(
        "fanout_gateway_handshakes",
        "Handshakes by HTTP status; timeout: not done in time; crowded: gave way to a newer one.",
        ["status"],
    )
)
MESSAGES: Final = Batched(Counter("fanout_gateway_messages_received", "Messages from devices by type.", ["type"]))
SENDS: Final = Batched(Counter("fanout_gateway_sends", "Frames written by broadcasts."), labelled=False)
BEACONS: Final = Batched(Counter("fanout_gateway_beacons", "Beacons written."), labelled=False)
CLOSES: Final = Counter("fanout_gateway_closes", "Connections closed by the gateway, by close code.", ["code"])
STALE_REPORTS: Final = Counter(
    "fanout_gateway_stale_reports", "Reports about a campaign or revision unknown here, or no longer the newest."
)
POSTPONED: Final = Counter(
    "fanout_gateway_postponed", "What was put off because a freeze or loop lag forbade it.", ["what"]
)
REBALANCED: Final = Counter(
    "fanout_gateway_rebalanced", "Devices asked to reconnect because this worker had more than its share."
)
BROADCAST_SECONDS: Final = Histogram(
    "fanout_gateway_broadcast_seconds",
    "From taking a critical publication to its last write.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20),
)
BUS_LAG_SECONDS: Final = Histogram(
    "fanout_gateway_bus_lag_seconds",
    "From a publication's revision (the store's clock) to its arrival here.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
BUS_GAPS: Final = Gauge(
    "fanout_gateway_bus_gaps", "Times entries were missed and read from the log.", multiprocess_mode="livesum"
)
BUS_RELOADS: Final = Gauge(
    "fanout_gateway_bus_reloads",
    "Times the chain was broken and state reloaded.",
    multiprocess_mode="livesum",
)
BUS_PUT_BACK: Final = Gauge(
    "fanout_gateway_bus_put_back", "Entries restored to the store.", multiprocess_mode="livesum"
)
HEALTH: Final = Gauge(
    "fanout_gateway_worker_health",
    "1 for the state each worker is in.",
    ["state"],
    multiprocess_mode="livesum",
)
LOOP_LAG_SECONDS: Final = Gauge(
    "fanout_gateway_loop_lag_seconds", "How late the slowest worker's loop runs.", multiprocess_mode="livemax"
)


def flush() -> None:
    """Hand on what the batched counters hold; the worker does it with every presence record."""
    for batched in (FOLDED, HANDSHAKES, MESSAGES, SENDS, BEACONS):
        batched.flush()
