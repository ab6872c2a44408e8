"""Everything an operator may set on a gateway, with its unit, its default and its reason. Frozen; read once.

Secrets are not here: the device key comes from the environment or a file (`gateway.tokens`).
"""

from __future__ import annotations

from typing import Annotated, get_type_hints

from msgspec import Meta, Struct

from fanout import limits


class GatewayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gateway's settings; every worker gets the same. The descriptions are the command line's help."""

    redis_url: Annotated[str, Meta(description="The store: redis://, rediss:// or unix://.")]
    host: Annotated[str, Meta(description="Address devices connect to.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port devices connect to; 0 takes a free one.")] = 8081
    workers: Annotated[int, Meta(ge=1, description="Processes; one a core.")] = 1
    # Beyond this a worker's death makes a larger herd than its neighbours can admit in a minute.
    connections_max: Annotated[int, Meta(ge=1, description="Devices a worker takes.")] = 100_000
    # About half of what a core can do; the rest is for live fan-out.
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
    handshake_bytes_max: Annotated[int, Meta(ge=1024, description="Longest request, bytes.")] = 16_384
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
    # So that new gateways fill up, and nobody's connection outlives a deployment's day.
    lifetime_s: Annotated[
        float, Meta(gt=0, description="Age, plus or minus a tenth, at which a device is told to reconnect, s.")
    ] = 1_800.0
    # The wheel has spread them already; this only takes the edge off.
    lifetime_spread_ms: Annotated[int, Meta(ge=1, description="What that reconnect spreads over, ms.")] = 10_000
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
    # Cohorts are the unit of fan-out and must stay few.
    cohorts_max: Annotated[
        int, Meta(ge=1, description="Combinations of topics and attributes; beyond, attributes are folded away.")
    ] = 4_096
    probe_interval_s: Annotated[float, Meta(gt=0, description="Seconds between probes of the bus.")] = 1.0
    probe_timeout_s: Annotated[float, Meta(gt=0, description="Until when a probe must be back, s.")] = 2.0
    presence_interval_s: Annotated[float, Meta(gt=0, description="Seconds between presence records.")] = 1.0

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


def describe(name: str) -> str:
    """Return what a setting means, for the command line's help."""
    hint = get_type_hints(GatewayConfig, include_extras=True)[name]
    return str(next(each.description for each in hint.__metadata__ if isinstance(each, Meta)))
