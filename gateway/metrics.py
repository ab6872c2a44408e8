"""Every metric of a gateway, in one place. Workers write most, the supervisor sums those up on its admin port.

What is not the same in every worker's place (the machine, the version, who has died) is the supervisor's own.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

from fanout.metering import Metering
from fanout.wire import CloseCode
from gateway.batching import Batched, Tallied

METERING: Final = Metering()
_counter, _gauge, _histogram = METERING.counter, METERING.gauge, METERING.histogram

# --- Who is connected, and who may come in.

CONNECTIONS: Final = _gauge("fanout_gateway_connections", "devices", "Devices connected.", over="livesum")
CONNECTIONS_LIMIT: Final = _gauge(
    "fanout_gateway_connections_limit",
    "devices",
    "Devices the workers take together: connections_max of each, or as many as it may open files.",
    over="livesum",
)
COHORTS: Final = _gauge("fanout_gateway_cohorts", "cohorts", "Cohorts with members.", over="livesum")
FOLDED: Final = Batched(
    _counter(
        "fanout_gateway_folded_total",
        "devices",
        "Devices put into a cohort without their attributes, for there were too many.",
    ),
    labelled=False,
)
HANDSHAKES: Final = Batched(
    _counter(
        "fanout_gateway_handshakes_total",
        "handshakes",
        "Handshakes by HTTP status; timeout: not done in time; crowded: gave way to a newer one; malformed: no "
        "request for a WebSocket at all.",
        {
            "status": (
                *("101", "400", "401", "403", "404", "405", "426", "500", "503", "505"),
                *("timeout", "crowded", "malformed"),
            )
        },
    )
)
HANDSHAKE_SECONDS: Final = Tallied(
    _histogram(
        "fanout_gateway_handshake_seconds",
        "From accepting a connection to writing its welcome, the device's own round trip in it.",
        # A neighbour's round trip, a continent's, and up to the ten seconds after which nobody is waited for.
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    )
)
ADMIT_RATE_LIMIT: Final = _gauge(
    "fanout_gateway_admit_rate_limit",
    "handshakes a second",
    "Handshakes a second the workers admit together; more are told to come back later.",
    over="livesum",
)
PAUSES: Final = _counter(
    "fanout_gateway_accept_pauses_total", "pauses", "Times no open file was left to accept with."
)
CLOSES: Final = _counter(
    "fanout_gateway_closes_total",
    "connections",
    "Connections closed by the gateway, by close code; 4000 is a slow consumer.",
    {"code": tuple(str(int(code)) for code in CloseCode)},
)

# --- What is said.

MESSAGES: Final = Batched(
    _counter(
        "fanout_gateway_messages_received_total",
        "messages",
        "Messages from devices by type; unknown: of a later version.",
        {"type": ("report", "sync", "subscribe", "unsubscribe", "unknown")},
    )
)
STALE_REPORTS: Final = _counter(
    "fanout_gateway_stale_reports_total",
    "reports",
    "Reports about a campaign or revision unknown here, or no longer the newest.",
)
SENDS: Final = Batched(
    _counter("fanout_gateway_sends_total", "frames", "Frames written by broadcasts."), labelled=False
)
BEACONS: Final = Batched(_counter("fanout_gateway_beacons_total", "frames", "Beacons written."), labelled=False)
POSTPONED: Final = _counter(
    "fanout_gateway_postponed_total",
    "times",
    "What was put off because a freeze or loop lag forbade it.",
    {"what": ("beacons", "lifetime")},
)
REBALANCED: Final = _counter(
    "fanout_gateway_rebalanced_total",
    "devices",
    "Devices asked to reconnect because their worker had more than its share.",
)
BROADCAST_SECONDS: Final = _histogram(
    "fanout_gateway_broadcast_seconds",
    "From taking a critical publication to its last write, in one worker.",
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20),
)
FLIP_LAG_SECONDS: Final = Tallied(
    _histogram(
        "fanout_gateway_flip_lag_seconds",
        "Between a device's slot and its flip, as devices reported it; those that resumed later are not in it.",
        # A good device is within a tenth; who was away flips minutes after, and an hour is the most that is told.
        (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
    )
)

# --- The bus.

BUS_LAG_SECONDS: Final = _histogram(
    "fanout_gateway_bus_lag_seconds",
    "From a publication's revision (the store's clock) to its arrival in a worker.",
    (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
BUS_PROBE_AGE_SECONDS: Final = _gauge(
    "fanout_gateway_bus_probe_age_seconds",
    "seconds",
    "Since the worker that heard its own probe the longest ago did: a wedged subscription, or no store.",
    over="livemax",
)
BUS_GAPS: Final = _counter(
    "fanout_gateway_bus_gaps_total", "gaps", "Times a worker missed entries and read them from the log."
)
BUS_RELOADS: Final = _counter(
    "fanout_gateway_bus_reloads_total", "reloads", "Times the chain was broken and a worker reloaded the state."
)
BUS_PUT_BACK: Final = _counter(
    "fanout_gateway_bus_put_back_total", "entries", "Entries that the store had lost and a worker restored."
)

# --- The processes.

HEALTH: Final = _gauge(
    "fanout_gateway_worker_health",
    "workers",
    "Workers by the state they are in.",
    {"state": ("unready", "degraded", "ok")},
    over="livesum",
)
LOOP_LAG_SECONDS: Final = Tallied(
    _histogram(
        "fanout_gateway_loop_lag_seconds",
        "How late a worker's loop was, four times a second.",
        # Above a quarter nobody is let in; a broadcast's slice is 3 ms.
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    )
)
LOOP_LAG_MAX: Final = _gauge(
    "fanout_gateway_loop_lag_max_seconds", "seconds", "How late the slowest worker's loop is.", over="livemax"
)
RESIDENT_MEMORY: Final = _gauge(
    "fanout_gateway_resident_memory_bytes",
    "bytes",
    "Resident memory of the workers, pages they share counted in each; 0 where there is no /proc.",
    over="livesum",
)


def flush() -> None:
    """Hand on what is kept in memory; the worker does it with every presence record."""
    for batched in (FOLDED, HANDSHAKES, MESSAGES, SENDS, BEACONS):
        batched.flush()
    for tallied in (HANDSHAKE_SECONDS, FLIP_LAG_SECONDS, LOOP_LAG_SECONDS):
        tallied.flush()


class SupervisorMetrics:
    """What the supervisor knows by itself.

    Args:
        version: Of this gateway.
        workers: How many there are to be.
        memory_limit_bytes: What they may take together, None where nobody knows.
    """

    def __init__(self, version: str, workers: int, memory_limit_bytes: int | None) -> None:
        self.metering = Metering()
        sampled = self.metering.sampled
        sampled(
            "fanout_gateway_info", "gateways", "1, with the version that runs.", {"version": "one, this gateway's"}
        ).set({(version,): 1})
        sampled("fanout_gateway_workers_expected", "workers", "Workers this gateway is to have.").one(workers)
        sampled(
            "fanout_gateway_memory_limit_bytes",
            "bytes",
            "Memory the gateway may take: its control group's limit, or all the machine has; absent if unknown.",
        ).one(memory_limit_bytes)
        self.draining = sampled(
            "fanout_gateway_draining",
            "gateways",
            "1 from the moment this gateway is told to leave, else 0: then its workers are unready on purpose.",
        )
        self.draining.one(0)
        self.restarts: Counter = self.metering.counter(
            "fanout_gateway_worker_restarts_total",
            "workers",
            "Workers that died, or could not start, and were followed by another.",
        )
