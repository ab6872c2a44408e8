"""Everything an operator may set on a gateway, with its unit, its default and its reason. Frozen; read once.

Secrets are not here: the device key comes from the environment or a file (`gateway.tokens`).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from fanout import limits


class GatewayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gateway's settings; every worker gets the same. The descriptions are the command line's help."""

    redis_url: Annotated[str, Meta(description="The store: redis://, rediss://, unix:// or redis+sentinel://.")]
    # One primary carries some thousands of workers (docs/operations.md); beyond, their reading moves to replicas.
    redis_read_url: Annotated[
        str, Meta(description="A replica to read publications from; empty: the store itself. Writes go to the store.")
    ] = ""
    host: Annotated[str, Meta(description="Address devices connect to.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port devices connect to; 0 takes a free one.")] = 8081
    workers: Annotated[int, Meta(ge=1, description="Processes; one a core.")] = 1
    # Beyond this a worker's death makes a larger herd than its neighbours can admit in a minute.
    connections_max: Annotated[int, Meta(ge=1, description="Devices a worker takes.")] = 100_000
    # Half of what a core of the machine in BENCH.md does when it does nothing else; the rest is for live fan-out.
    # There, in a flood of 6,000 a second, an activation came to the last device 1.8 times as late, within its budget.
    admit_per_s: Annotated[float, Meta(gt=0, description="Handshakes a second and worker.")] = 4_000.0
    loop_lag_max_ms: Annotated[
        float, Meta(gt=0, description="Above this loop lag new devices are told to come back later, ms.")
    ] = 250.0
    retry_after_s: Annotated[
        float, Meta(gt=0, description="Middle of the jittered Retry-After of a refused handshake, s.")
    ] = 5.0
    # A handshake is one round trip; slower than this is a slowloris, or a network no event can be shown on.
    handshake_timeout_s: Annotated[float, Meta(gt=0, description="Until when a handshake must be done, s.")] = 10.0
    # A request of ours is about 600 bytes, plus a token of up to 4 KB and 32 digests of 65 bytes.
    # Who goes on after its first bytes may say no more in all before it is answered.
    handshake_bytes_max: Annotated[int, Meta(ge=1024, description="Longest request, bytes.")] = 16_384
    # A device has a report or two for a publication and asks once after a silence. After a reconnect it may have two
    # reports for each open campaign: a hundred of those fit.
    messages_burst: Annotated[
        int, Meta(ge=1, description="Frames a device may send at once; who sends more is closed with 1008.")
    ] = 200
    messages_per_s: Annotated[
        float, Meta(gt=0, description="And how many of them it is given back every second.")
    ] = 10.0
    message_bytes_max: Annotated[int, Meta(ge=128, description="Longest message from a device, bytes.")] = (
        limits.MESSAGE_BYTES_MAX
    )
    # More than the largest welcome with inline bundles; a device this far behind is not reading at all.
    write_buffer_bytes_max: Annotated[
        int, Meta(ge=1, description="Unsent bytes after which a device is closed as a slow consumer.")
    ] = 512 * 1024
    close_timeout_s: Annotated[float, Meta(gt=0, description="How long a peer gets to answer a close, s.")] = 5.0
    beacon_s: Annotated[
        float, Meta(gt=0, description="Seconds between beacons; devices resync after three silent ones.")
    ] = 25.0
    ping_s: Annotated[
        float, Meta(gt=0, description="Silence after which a device is pinged, s; after two it is closed.")
    ] = 120.0
    tcp_user_timeout_ms: Annotated[
        int, Meta(ge=1, description="Unacknowledged bytes for this long end a half-open connection, ms.")
    ] = 60_000
    # One inline bundle. Measured, a device that had stopped reading pinned 54 KB of the kernel at the most; without
    # it 0.7 MB, over loopback 3.9 MB. It costs on long ways: over 200 ms a welcome of 64 KB takes 0.73 s instead of
    # 0.69, one of 256 KB 1.6 s instead of 1.1. Above net.core.wmem_max the kernel cuts it without a word.
    tcp_send_buffer_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            description="SO_SNDBUF of a device's socket, bytes (doubled by the kernel); more waits in the worker.",
        ),
    ] = 16_384
    # So that new gateways fill up, and nobody's connection outlives a deployment's day.
    lifetime_s: Annotated[
        float, Meta(gt=0, description="Age, plus or minus a tenth, at which a device is told to reconnect, s.")
    ] = 1_800.0
    # The wheel has spread them already; this only takes the edge off.
    lifetime_spread_ms: Annotated[int, Meta(ge=1, description="What that reconnect spreads over, ms.")] = 10_000
    # Devices choose at random when they come back, so who starts last, in a rolling restart, ends with nobody. Rounds
    # are no closer than the wheel turns and devices take to move, or one would judge what it has already mended.
    rebalance_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds between two looks at whether this worker has more devices than the others; 0: none. "
            "Never less than beacon_s and lifetime_spread_ms together.",
        ),
    ] = 60.0
    # The last of four restarted gateways is filled to nine tenths if the others give away what is beyond 3 percent.
    rebalance_tolerance: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Share over the average from which it asks devices to move; the square root of the average, "
            "which is chance, is always left alone.",
        ),
    ] = 0.02
    # A tenth of what a worker admits: moving is housekeeping.
    rebalance_per_s: Annotated[float, Meta(gt=0, description="How many it asks to move a second, at the most.")] = (
        400.0
    )
    freeze_lead_s: Annotated[
        float, Meta(ge=0, description="Before an instant, what is not critical waits this long, s.")
    ] = 30.0
    freeze_tail_s: Annotated[float, Meta(ge=0, description="And after its window, s.")] = 10.0
    # About 3 ms at 100,000 sends a second, so a handshake never waits long.
    slice_sends: Annotated[int, Meta(ge=1, description="Sends of a broadcast between two yields.")] = 256
    sends_per_s_max: Annotated[
        float, Meta(ge=0, description="Limit of a broadcast's rate, sends/s; 0 is as fast as the kernel takes it.")
    ] = 0.0
    drain_s: Annotated[
        float, Meta(ge=0, description="On SIGTERM, seconds over which devices are told to reconnect.")
    ] = 20.0
    drain_close_s: Annotated[float, Meta(ge=0, description="And over which the rest is closed, s.")] = 5.0
    backoff_base_ms: Annotated[int, Meta(ge=1, description="Devices' first backoff, ms.")] = 500
    backoff_cap_ms: Annotated[int, Meta(ge=1, description="Devices' longest backoff, ms.")] = 20_000
    origins: Annotated[
        tuple[str, ...],
        Meta(description="Browser Origin that may connect; may be repeated, '*' is all. Without Origin, all may."),
    ] = ()
    audience: Annotated[str, Meta(description="What tokens must have in 'aud'.")] = "fanout"
    attr_keys: Annotated[tuple[str, ...], Meta(description="Attribute taken from tokens; may be repeated.")] = (
        limits.ATTR_KEYS_DEFAULT
    )
    # Each adds groups to every presence record.
    presence_attrs: Annotated[
        tuple[str, ...], Meta(description="Attribute the control room groups devices by; may be repeated.")
    ] = ("platform", "region")
    # Cohorts are the unit of fan-out and must stay few. Topics cannot be folded away, or their messages would be
    # missed; but it is the operator who signs which ones a device may combine, so the second limit is a fuse.
    cohorts_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Combinations of topics and attributes in a worker. Beyond, attributes are folded away; at "
            "twice as many, who needs yet another set of topics is refused: 503, or 1013 when connected already.",
        ),
    ] = 4_096
    log_lines_max: Annotated[
        int, Meta(ge=1, description="Lines of one kind a worker logs in a period; the rest is counted.")
    ] = 5
    log_period_s: Annotated[float, Meta(gt=0, description="That period, s; at its end the counts are logged.")] = 10.0
    probe_interval_s: Annotated[float, Meta(gt=0, description="Seconds between probes of the bus.")] = 1.0
    # Both together are how long a silence may last unnoticed.
    probe_timeout_s: Annotated[float, Meta(gt=0, description="Until when a probe must be back, s.")] = 1.0
    presence_interval_s: Annotated[float, Meta(gt=0, description="Seconds between presence records.")] = 1.0
    # Long enough for a store that is started at the same time; what comes later is an outage, and lived through.
    store_wait_s: Annotated[
        float, Meta(ge=0, description="How long to wait for the store at the start, s; then it exits.")
    ] = 30.0

    def __post_init__(self) -> None:
        """Hold the relations between limits. Raises ValueError, which names both settings."""
        if self.beacon_s >= self.ping_s:
            raise ValueError(f"beacon_s is {self.beacon_s:g}, it must be shorter than ping_s ({self.ping_s:g})")
        if self.write_buffer_bytes_max <= limits.INLINE_BYTES_PER_PUBLICATION_MAX:
            raise ValueError(
                f"write_buffer_bytes_max is {self.write_buffer_bytes_max}, it must be more than "
                f"{limits.INLINE_BYTES_PER_PUBLICATION_MAX}, or a device is cut off by its own welcome"
            )
        if self.lifetime_s <= self.beacon_s:
            raise ValueError(
                f"lifetime_s is {self.lifetime_s:g}, it must be longer than beacon_s ({self.beacon_s:g})"
            )
